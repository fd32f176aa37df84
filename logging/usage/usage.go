// Package usage tells from the figures that agents serve which namespaces go over their quotas. It reads the metrics of Fluent Bit and of logagent, which have the
// same names, and compares two moments. It knows neither clusters nor clocks: who asks whom, and how often, is told elsewhere.
package usage

import (
	"fmt"
	"io"
	"slices"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/weft-dev/weft/logging/route"
)

// MaxBytes is how much of an agent's metrics is read: an agent with a thousand inputs says 1.5 MB.
const MaxBytes = 16 << 20

// Counters are the figures of one input at one moment.
type Counters struct {
	Limited bool    // it waits because of its rate
	Full    bool    // it waits because of its buffer
	Pauses  float64 // how often it waited since it began
	Dropped float64 // bytes that it forgot since it began
}

// Read reads an agent's metrics, in the text format of Prometheus: the figures of each input by the input's name.
func Read(r io.Reader) (map[string]Counters, error) {
	limited := &io.LimitedReader{R: r, N: MaxBytes + 1}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(limited)
	if limited.N <= 0 {
		return nil, fmt.Errorf("the metrics are longer than %d bytes", MaxBytes)
	}
	if err != nil {
		return nil, fmt.Errorf("the metrics cannot be read: %w", err)
	}
	inputs := map[string]Counters{}
	for name, set := range map[string]func(*Counters, float64){
		"fluentbit_input_rate_gate_limited":    func(c *Counters, v float64) { c.Limited = v > 0 },
		"fluentbit_input_storage_overlimit":    func(c *Counters, v float64) { c.Full = v > 0 },
		"fluentbit_input_pauses_total":         func(c *Counters, v float64) { c.Pauses = v },
		"fluentbit_input_memrb_dropped_bytes":  func(c *Counters, v float64) { c.Dropped = v },
		"fluentbit_input_records_total":        func(*Counters, float64) {}, // every input has it, so that every input is known
		"fluentbit_input_storage_memory_bytes": func(*Counters, float64) {},
	} {
		for _, m := range families[name].GetMetric() {
			input := label(m, "name")
			c := inputs[input]
			set(&c, value(m))
			inputs[input] = c
		}
	}
	return inputs, nil
}

func label(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}

// value is the figure whatever kind of metric it is declared to be.
func value(m *dto.Metric) float64 {
	return m.GetCounter().GetValue() + m.GetGauge().GetValue() + m.GetUntyped().GetValue()
}

// Excess is in what an input went over its quota between two moments.
type Excess struct {
	Rate    bool // it waited
	Full    bool // its buffer is full
	Dropped bool // it forgot records
}

// Between compares two moments. An agent that started again in between has counted from zero.
func Between(before, now Counters) Excess {
	if now.Pauses < before.Pauses || now.Dropped < before.Dropped {
		before = Counters{}
	}
	dropped := now.Dropped > before.Dropped
	return Excess{Rate: now.Limited || now.Pauses > before.Pauses && !now.Full && !dropped, Full: now.Full, Dropped: dropped}
}

// Or joins the excesses of several inputs.
func (e Excess) Or(o Excess) Excess {
	return Excess{e.Rate || o.Rate, e.Full || o.Full, e.Dropped || o.Dropped}
}

// Namespace is what is known of one namespace under a quota.
type Namespace struct {
	Quota  route.Quota
	Nodes  map[string]Excess // by the node's name; a node where nothing is over the quota is there too
	Silent map[string]string // nodes whose agent did not answer, with the reason
}

// Condition is what is told of the namespace: a status (True, False or Unknown), a reason and a message.
func (n *Namespace) Condition() (status, reason, message string) {
	over := func(is func(Excess) bool) []string {
		var nodes []string
		for name, e := range n.Nodes {
			if is(e) {
				nodes = append(nodes, name)
			}
		}
		return nodes
	}
	var told []string
	for _, x := range []struct {
		reason, message string
		nodes           []string
	}{
		{"RecordsDropped", "more than " + route.Size(n.Quota.Buffer) + " bytes waited for outputs, the oldest records are forgotten", over(func(e Excess) bool { return e.Dropped })},
		{"BufferFull", route.Size(n.Quota.Buffer) + " bytes wait for outputs, its files are not read on", over(func(e Excess) bool { return e.Full && !e.Dropped })},
		{"OverRate", "it writes more than " + rate(n.Quota) + ", its files are read no faster", over(func(e Excess) bool { return e.Rate })},
	} {
		if len(x.nodes) == 0 {
			continue
		}
		if reason == "" {
			reason = x.reason
		}
		told = append(told, x.message+" ("+list(x.nodes)+")")
	}
	switch {
	case len(told) > 0:
		return "False", reason, strings.Join(told, "; ")
	case len(n.Nodes) == 0 && len(n.Silent) == 0:
		return "Unknown", "NotMeasured", "no agent that keeps the quota runs"
	case len(n.Nodes) > 0:
		return "True", "WithinQuota", "the quota of " + n.Quota.String() + " on each node is kept"
	}
	var nodes []string
	why := ""
	for name, err := range n.Silent {
		nodes = append(nodes, name)
		if why == "" || err < why {
			why = err
		}
	}
	return "Unknown", "NotMeasured", fmt.Sprintf("no agent tells its figures (%s): %s", list(nodes), why)
}

func rate(q route.Quota) string {
	var parts []string
	if q.Records > 0 {
		parts = append(parts, fmt.Sprintf("%d records/s", q.Records))
	}
	if q.Bytes > 0 {
		parts = append(parts, route.Size(q.Bytes)+" bytes/s")
	}
	return strings.Join(parts, " or ")
}

// list names nodes, a few of them if they are many.
func list(nodes []string) string {
	slices.Sort(nodes)
	word := "node "
	if len(nodes) > 1 {
		word = "nodes "
	}
	if more := len(nodes) - 5; more > 0 {
		return word + strings.Join(nodes[:5], ", ") + fmt.Sprintf(" and %d more", more)
	}
	return word + strings.Join(nodes, ", ")
}
