package input

import (
	"context"
	"time"

	"github.com/weft-dev/weft/logging/pipeline/flow"
	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/pipeline/record"
)

// metrics is the input fluentbit_metrics: the pipeline's own figures, for outputs that take metrics.
type metrics struct {
	host     Host
	interval time.Duration
	onStart  bool
}

// firstScrape is when scrape_on_start brings the first figures.
const firstScrape = 5 * time.Second

func newMetrics(o *options.Set, h Host) Input {
	m := &metrics{host: h, interval: o.Duration("scrape_interval"), onStart: o.Bool("scrape_on_start")}
	if m.interval < time.Second {
		o.Failf("scrape_interval", "scrape_interval must be a second or more")
	}
	return m
}

func (m *metrics) Run(ctx context.Context, sink flow.Sink) error {
	scrape := func() error {
		now := m.host.Now()
		body := record.AppendString(record.AppendString(record.AppendMapHead(nil, 1), flow.MetricsKey), m.host.Metrics(now))
		return sink.Append(ctx, flow.Batch{Tag: m.host.Tag, Data: record.AppendEvent(nil, record.TimeOf(now), nil, body), Count: 1, Metrics: true})
	}
	if m.onStart && m.interval > 2*time.Second { // with a shorter one the first figures come soon
		first := time.NewTimer(firstScrape)
		defer first.Stop()
		select {
		case <-ctx.Done():
			return nil
		case <-first.C:
		case <-time.After(m.interval): // it is shorter than the wait
		}
		if err := scrape(); err != nil {
			return err
		}
	}
	ticker := time.NewTicker(m.interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if err := scrape(); err != nil {
			return err
		}
	}
}
