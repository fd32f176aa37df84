package pipeline

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/weft-dev/weft/logging/pipeline/fluentd"
)

// fluentdGrace is how long the outputs of a Fluentd configuration may take for what waits at the end, unless the command line says otherwise.
const fluentdGrace = 10 * time.Second

// fluentd makes the engine of a configuration of Fluentd. Monitoring and the time of grace come from the command line, whose service section stands
// behind the file's.
func (b *builder) fluentd() {
	e := b.engine
	b.service()
	grace := fluentdGrace
	if b.serviceValue("grace") != "" {
		grace = e.service.grace
	}
	o := fluentd.Options{Log: b.options.Log, Env: b.options.Env, Now: b.options.Now, Positions: b.options.Positions, Stdout: os.Stdout, Grace: grace,
		Records: b.options.Records, Catch: b.options.Catch, Tap: b.options.Tap,
		Logger: func(part, level string) *slog.Logger {
			return partLogger(b.options.Log, part, strings.Replace(level, "fatal", "error", 1))
		}}
	if o.Env == nil {
		o.Env = os.LookupEnv
	}
	if b.options.Level != nil {
		o.Level = func(name string) {
			if level, err := ParseLevel(strings.Replace(name, "fatal", "error", 1)); err == nil {
				b.options.Level.Set(level)
			}
		}
	}
	made, err := fluentd.New(b.file, o)
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		b.faults = append(b.faults, joined.Unwrap()...)
		return
	}
	e.fluentd = made
}

// runFluentd runs a configuration of Fluentd, and looks at its health meanwhile.
func (e *Engine) runFluentd(ctx context.Context) error {
	e.health.start(e, e.now())
	watching, stop := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		ticker := time.NewTicker(time.Second)
		defer ticker.Stop()
		for {
			select {
			case <-watching.Done():
				return
			case <-ticker.C:
				e.health.sample(e, e.now())
			}
		}
	})
	defer watch.Wait()
	defer stop()
	return e.fluentd.Run(ctx)
}

// fluentdMetrics are the figures of a configuration of Fluentd, under the names that those of Fluent Bit have.
func (e *Engine) fluentdMetrics(add, gauge func(name, help, label, part string, value int64)) {
	if e.fluentd == nil {
		return
	}
	for _, p := range e.fluentd.Parts() {
		switch p.Kind {
		case "input":
			add("fluentbit_input_records_total", "Number of input records.", "name", p.Name, p.Records)
			add("fluentbit_input_bytes_total", "Number of input bytes.", "name", p.Name, p.Bytes)
		case "filter":
			add("fluentbit_filter_records_total", "Total number of new records processed.", "name", p.Name, p.Records)
			add("fluentbit_filter_bytes_total", "Total number of new bytes processed.", "name", p.Name, p.Bytes)
			add("fluentbit_filter_add_records_total", "Total number of new added records.", "name", p.Name, p.Added)
			add("fluentbit_filter_drop_records_total", "Total number of dropped records.", "name", p.Name, p.Dropped)
		case "output":
			add("fluentbit_output_proc_records_total", "Number of processed output records.", "name", p.Name, p.Added)
			add("fluentbit_output_proc_bytes_total", "Number of processed output bytes.", "name", p.Name, p.Bytes)
			add("fluentbit_output_errors_total", "Number of output errors.", "name", p.Name, p.Errors)
			add("fluentbit_output_retries_total", "Number of output retries.", "name", p.Name, p.Retries)
			add("fluentbit_output_retries_failed_total", "Number of abandoned batches because the maximum number of re-tries was reached.", "name", p.Name, p.RetriesFailed)
			add("fluentbit_output_dropped_records_total", "Number of dropped records.", "name", p.Name, p.Dropped)
			gauge("fluentbit_output_waiting_chunks", "Number of chunks that wait for the output.", "name", p.Name, int64(p.WaitingChunks))
			gauge("fluentbit_output_waiting_bytes", "Bytes of chunks that wait for the output.", "name", p.Name, p.WaitingBytes)
		}
	}
	add("fluentbit_unrouted_records_total", "Records that no output takes.", "", "", e.fluentd.Unrouted())
}
