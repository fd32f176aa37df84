package usage

import (
	"bytes"
	"strings"
	"testing"

	"github.com/weft-dev/weft/logging/route"
)

const figures = `# HELP fluentbit_input_records_total Number of input records.
# TYPE fluentbit_input_records_total counter
fluentbit_input_records_total{name="tail.a"} 12
fluentbit_input_records_total{name="tail.b"} 7
# TYPE fluentbit_input_rate_gate_limited gauge
fluentbit_input_rate_gate_limited{name="tail.a"} 1
# TYPE fluentbit_input_storage_overlimit gauge
fluentbit_input_storage_overlimit{name="tail.b"} 1
# TYPE fluentbit_input_pauses_total counter
fluentbit_input_pauses_total{name="tail.a"} 3
# TYPE fluentbit_input_memrb_dropped_bytes counter
fluentbit_input_memrb_dropped_bytes{name="tail.b"} 4096
fluentbit_uptime{hostname="x"} 5
`

func TestRead(t *testing.T) {
	got, err := Read(strings.NewReader(figures))
	if err != nil {
		t.Fatal(err)
	}
	if want := (Counters{Limited: true, Pauses: 3}); got["tail.a"] != want {
		t.Errorf("%+v", got["tail.a"])
	}
	if want := (Counters{Full: true, Dropped: 4096}); got["tail.b"] != want {
		t.Errorf("%+v", got["tail.b"])
	}
	if _, there := got["tail.c"]; there {
		t.Error("an input that nobody named")
	}
	for _, text := range []string{"a{b=\"c\" 1\n", "{", "a 1\n# TYPE a gauge x\n"} {
		if _, err := Read(strings.NewReader(text)); err == nil {
			t.Errorf("%q was read", text)
		}
	}
	if _, err := Read(strings.NewReader(strings.Repeat("#", MaxBytes+1))); err == nil || !strings.Contains(err.Error(), "longer") {
		t.Errorf("endless metrics: %v", err)
	}
}

func TestBetween(t *testing.T) {
	for _, c := range []struct {
		before, now Counters
		want        Excess
	}{
		{Counters{Pauses: 3}, Counters{Pauses: 3}, Excess{}},
		{Counters{Pauses: 3}, Counters{Pauses: 4}, Excess{Rate: true}},
		{Counters{Pauses: 3}, Counters{Pauses: 3, Limited: true}, Excess{Rate: true}},
		{Counters{Pauses: 3}, Counters{Pauses: 4, Full: true}, Excess{Full: true}},
		{Counters{Dropped: 5}, Counters{Dropped: 5}, Excess{}},
		{Counters{Dropped: 5}, Counters{Dropped: 6}, Excess{Dropped: true}},
		{Counters{Dropped: 50, Pauses: 9}, Counters{}, Excess{}},                        // it started again
		{Counters{Dropped: 50, Pauses: 9}, Counters{Dropped: 6}, Excess{Dropped: true}}, // and dropped since
	} {
		if got := Between(c.before, c.now); got != c.want {
			t.Errorf("%+v, then %+v: %+v", c.before, c.now, got)
		}
	}
}

func TestCondition(t *testing.T) {
	quota := route.Quota{Records: 5, Bytes: 1 << 20, Buffer: 64 << 20}
	for _, c := range []struct {
		n    Namespace
		want string
	}{
		{Namespace{}, "Unknown NotMeasured: no agent that keeps the quota runs"},
		{Namespace{Quota: quota, Nodes: map[string]Excess{"n1": {}}, Silent: map[string]string{"n2": "refused"}}, "True WithinQuota: the quota of 5 records/s, 1M bytes/s, 64M bytes buffered on each node is kept"},
		{Namespace{Quota: quota, Nodes: map[string]Excess{"n2": {Rate: true}, "n1": {Rate: true, Full: true}}},
			"False BufferFull: 64M bytes wait for outputs, its files are not read on (node n1); it writes more than 5 records/s or 1M bytes/s, its files are read no faster (nodes n1, n2)"},
		{Namespace{Quota: quota, Nodes: map[string]Excess{"n1": {Dropped: true, Full: true}}}, "False RecordsDropped: more than 64M bytes waited for outputs, the oldest records are forgotten (node n1)"},
		{Namespace{Quota: quota, Silent: map[string]string{"n2": "refused", "n1": "late"}}, "Unknown NotMeasured: no agent tells its figures (nodes n1, n2): late"},
		{Namespace{Quota: route.Quota{Records: 5}, Nodes: map[string]Excess{"1": {Rate: true}, "2": {Rate: true}, "3": {Rate: true}, "4": {Rate: true}, "5": {Rate: true}, "6": {Rate: true}, "7": {Rate: true}}},
			"False OverRate: it writes more than 5 records/s, its files are read no faster (nodes 1, 2, 3, 4, 5 and 2 more)"},
	} {
		status, reason, message := c.n.Condition()
		if got := status + " " + reason + ": " + message; got != c.want {
			t.Errorf("got\n%s\nwant\n%s", got, c.want)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(figures))
	f.Add([]byte("fluentbit_input_pauses_total{name=\"a\"} NaN\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := Read(bytes.NewReader(data))
		if err != nil {
			return
		}
		for _, now := range a {
			n := Namespace{Nodes: map[string]Excess{"n": Between(Counters{}, now)}}
			if status, reason, message := n.Condition(); status == "" || reason == "" || message == "" {
				t.Errorf("%+v: %q %q %q", now, status, reason, message)
			}
		}
	})
}
