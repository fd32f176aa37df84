package input

import (
	"context"
	"time"

	"github.com/weft-dev/weft/logging/pipeline/flow"
	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/pipeline/record"
)

// dummy makes the same record again and again.
type dummy struct {
	host           Host
	body, meta     []byte
	interval       time.Duration
	samples        int
	copies         int
	start          record.Time
	started, fixed bool
	atOnce         bool
}

func newDummy(o *options.Set, h Host) Input {
	d := &dummy{host: h, samples: o.Int("samples"), copies: o.Int("copies"), fixed: o.Bool("fixed_timestamp"), atOnce: o.Bool("flush_on_startup")}
	d.body = jsonMap(o, "dummy")
	d.meta = jsonMap(o, "metadata")
	rate := max(o.Int("rate"), 1)
	d.interval = time.Second / time.Duration(rate)
	if sec, nsec := o.Int("interval_sec"), o.Int("interval_nsec"); sec > 0 || nsec > 0 {
		d.interval = time.Duration(sec)*time.Second + time.Duration(nsec)
	}
	sec, nsec := o.Int("start_time_sec"), o.Int("start_time_nsec")
	if sec >= 0 || nsec >= 0 {
		d.started = true
		d.start = record.Time{Sec: int64(max(sec, 0)), Nsec: uint32(max(nsec, 0))}
	}
	o.Pass("test_hang_on_exit")
	if d.copies < 1 {
		o.Failf("copies", "copies must be 1 or more")
	}
	return d
}

// jsonMap reads an option that is a JSON object.
func jsonMap(o *options.Set, key string) []byte {
	text := o.String(key)
	body, _, err := record.FromJSON(nil, []byte(text))
	if err != nil || record.KindOf(body) != record.Map {
		o.Failf(key, "%s must be a JSON object such as {\"message\":\"dummy\"}: %v", key, err)
		return record.EmptyMap
	}
	return body
}

func (d *dummy) Run(ctx context.Context, sink flow.Sink) error {
	began := d.host.Now()
	sent := 0
	var batch []byte
	tag := d.host.Tag
	send := func() error {
		now := d.host.Now()
		t := record.TimeOf(now)
		if d.started {
			t = d.start
			if !d.fixed {
				t = record.TimeOf(d.start.Std().Add(now.Sub(began)))
			}
		}
		batch = batch[:0]
		for range d.copies {
			batch = record.AppendEvent(batch, t, d.meta, d.body)
		}
		sent++
		return sink.Append(ctx, flow.Batch{Tag: tag, Data: batch, Count: d.copies})
	}
	if d.atOnce {
		if err := send(); err != nil {
			return err
		}
	}
	ticker := time.NewTicker(d.interval)
	defer ticker.Stop()
	for d.samples == 0 || sent < d.samples {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if err := send(); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return nil
}
