package pipeline

import (
	"fmt"
	"net/http"
	"os"
	"runtime"
	"strings"
	"time"
)

// metric is one figure of one part.
type metric struct {
	name, help, kind string
	label, part      string
	more             string // further labels
	value            int64
}

// metrics are all figures under the names of Fluent Bit's version 2 interface.
func (e *Engine) metrics() []metric {
	var all []metric
	add := func(name, help, label, part string, value int64) {
		all = append(all, metric{name: name, help: help, kind: "counter", label: label, part: part, value: value})
	}
	gauge := func(name, help, label, part string, value int64) {
		all = append(all, metric{name: name, help: help, kind: "gauge", label: label, part: part, value: value})
	}
	for _, in := range e.parts() {
		add("fluentbit_input_records_total", "Number of input records.", "name", in.title(), in.records.Load())
		add("fluentbit_input_bytes_total", "Number of input bytes.", "name", in.title(), in.size.Load())
		if in.plugin == "fluentbit_metrics" {
			add("fluentbit_input_metrics_scrapes_total", "Number of total metrics scrapes", "name", in.title(), in.records.Load())
		}
		gauge("fluentbit_input_ingestion_paused", "Is the input paused or not?", "name", in.title(), truth(in.paused.Load() || in.rate != nil && in.rate.limited.Load()))
		add("fluentbit_input_pauses_total", "Number of times the input was paused.", "name", in.title(), in.pauses.Load())
		if in.rate != nil {
			gauge("fluentbit_input_rate_gate_limited", "Is the input paused because of its rate limit?", "name", in.title(), truth(in.rate.limited.Load()))
		}
		if in.ring {
			add("fluentbit_input_memrb_dropped_chunks", "Number of memrb dropped chunks.", "name", in.title(), in.ringChunks.Load())
			add("fluentbit_input_memrb_dropped_bytes", "Number of memrb dropped bytes.", "name", in.title(), in.ringBytes.Load())
		}
		gauge("fluentbit_input_storage_memory_bytes", "Bytes of this input in memory.", "name", in.title(), in.bytes.Load())
		gauge("fluentbit_input_storage_overlimit", "Is the input memory usage overlimit?", "name", in.title(), truth(in.over()))
	}
	for _, f := range e.filters {
		add("fluentbit_filter_records_total", "Total number of new records processed.", "name", f.title(), f.records.Load())
		add("fluentbit_filter_bytes_total", "Total number of new bytes processed.", "name", f.title(), f.bytes.Load())
		add("fluentbit_filter_add_records_total", "Total number of new added records.", "name", f.title(), f.added.Load())
		add("fluentbit_filter_drop_records_total", "Total number of dropped records.", "name", f.title(), f.removed.Load())
	}
	for _, o := range e.outputs {
		add("fluentbit_output_proc_records_total", "Number of processed output records.", "name", o.title(), o.records.Load())
		add("fluentbit_output_proc_bytes_total", "Number of processed output bytes.", "name", o.title(), o.bytes.Load())
		add("fluentbit_output_errors_total", "Number of output errors.", "name", o.title(), o.errors.Load())
		add("fluentbit_output_retries_total", "Number of output retries.", "name", o.title(), o.retried.Load())
		add("fluentbit_output_retries_failed_total", "Number of abandoned batches because the maximum number of re-tries was reached.", "name", o.title(), o.retriesFailed.Load())
		add("fluentbit_output_dropped_records_total", "Number of dropped records.", "name", o.title(), o.dropped.Load())
		o.mu.Lock()
		waiting, bytes := len(o.queue)+len(o.timers)+o.busy, o.size
		o.mu.Unlock()
		gauge("fluentbit_output_waiting_chunks", "Number of chunks that wait for the output.", "name", o.title(), int64(waiting))
		gauge("fluentbit_output_waiting_bytes", "Bytes of chunks that wait for the output.", "name", o.title(), bytes)
	}
	e.fluentdMetrics(add, gauge)
	gauge("fluentbit_storage_fs_chunks", "Total number of filesystem chunks.", "", "", e.down.Load())
	gauge("fluentbit_storage_fs_chunks_up", "Total number of filesystem chunks up in memory.", "", "", e.up.Load())
	if e.fluentd == nil {
		add("fluentbit_unrouted_records_total", "Records that no output takes.", "", "", e.unrouted.Load())
	}
	host, _ := os.Hostname() // a label that may be empty
	add("fluentbit_hot_reloaded_times", "Number of hot reloads.", "hostname", host, int64(e.service.reloads))
	gauge("fluentbit_process_start_time_seconds", "Start time of the process since unix epoch in seconds.", "hostname", host, e.began.Unix())
	all = append(all, metric{name: "fluentbit_build_info", help: "Build version information.", kind: "gauge", label: "hostname", part: host,
		more: `,version=` + label(Version) + `,os=` + label(runtime.GOOS), value: e.began.Unix()})
	add("fluentbit_uptime", "Number of seconds that Fluent Bit has been running.", "hostname", host, int64(e.now().Sub(e.began).Seconds()))
	return all
}

// metricsText are all figures in the form in which Fluent Bit prints metrics (lib/cmetrics/src/cmt_encode_text.c): counters before gauges, a line each. The
// time is that of reading; Fluent Bit has there when the figure changed last.
func (e *Engine) metricsText(now time.Time) string {
	all := e.metrics()
	at := now.UTC().Format("2006-01-02T15:04:05.000000000Z")
	var b strings.Builder
	for _, kind := range []string{"counter", "gauge"} {
		for _, m := range all {
			switch {
			case m.kind != kind:
			case m.label == "":
				fmt.Fprintf(&b, "%s %s = %d\n", at, m.name, m.value)
			default:
				fmt.Fprintf(&b, "%s %s{%s=\"%s\"%s} = %d\n", at, m.name, m.label, m.part, m.more, m.value)
			}
		}
	}
	return b.String()
}

func truth(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

func (e *Engine) prometheusV2(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	byName := map[string][]metric{}
	var order []string
	for _, m := range e.metrics() {
		if byName[m.name] == nil {
			order = append(order, m.name)
		}
		byName[m.name] = append(byName[m.name], m)
	}
	var b strings.Builder
	for _, name := range order {
		first := byName[name][0]
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n", name, first.help, name, first.kind)
		for _, m := range byName[name] {
			if m.label == "" {
				fmt.Fprintf(&b, "%s %d\n", name, m.value)
				continue
			}
			fmt.Fprintf(&b, "%s{%s=%s%s} %d\n", name, m.label, label(m.part), m.more, m.value)
		}
	}
	fmt.Fprint(w, b.String())
}

func (e *Engine) prometheusV1(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	var b strings.Builder
	for _, m := range e.metrics() {
		if m.label != "name" || m.kind != "counter" {
			continue
		}
		fmt.Fprintf(&b, "%s{name=%s} %d\n", m.name, label(m.part), m.value)
	}
	fmt.Fprint(w, b.String())
}

func (e *Engine) metricsV1(w http.ResponseWriter, _ *http.Request) {
	inputs, filters, outputs := map[string]any{}, map[string]any{}, map[string]any{}
	for _, in := range e.parts() {
		inputs[in.title()] = map[string]int64{"records": in.records.Load(), "bytes": in.size.Load()}
	}
	for _, f := range e.filters {
		filters[f.title()] = map[string]int64{"drop_records": f.removed.Load(), "add_records": f.added.Load()}
	}
	for _, o := range e.outputs {
		outputs[o.title()] = map[string]int64{"proc_records": o.records.Load(), "proc_bytes": o.bytes.Load(), "errors": o.errors.Load(),
			"retries": o.retried.Load(), "retries_failed": o.retriesFailed.Load(), "dropped_records": o.dropped.Load(), "retried_records": 0}
	}
	answer(w, http.StatusOK, map[string]any{"input": inputs, "filter": filters, "output": outputs})
}

func (e *Engine) storageV1(w http.ResponseWriter, _ *http.Request) {
	inputs := map[string]any{}
	for _, in := range e.parts() {
		inputs[in.title()] = map[string]any{
			"status": map[string]any{"overlimit": in.over(), "mem_size": in.bytes.Load(), "mem_limit": in.limit},
		}
	}
	answer(w, http.StatusOK, map[string]any{
		"storage_layer": map[string]any{"chunks": map[string]int64{"fs_chunks": e.down.Load(), "fs_chunks_up": e.up.Load(), "fs_chunks_down": e.down.Load() - e.up.Load()}},
		"input_chunks":  inputs,
	})
}
