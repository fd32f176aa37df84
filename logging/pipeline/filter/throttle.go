package filter

import (
	"context"
	"sync"
	"time"

	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/pipeline/flow"
	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/pipeline/record"
)

// throttle lets so many records pass per interval on the average over a window of intervals.
type throttle struct {
	host     Host
	rate     float64
	interval time.Duration
	status   bool

	mu     sync.Mutex
	slots  []int64
	at     int
	total  int64
	since  time.Time
	passed int64
	cut    int64
}

func newThrottle(o *options.Set, h Host) Filter {
	t := &throttle{host: h, rate: o.Number("rate"), status: o.Bool("print_status"), slots: make([]int64, min(max(o.Int("window"), 1), 1<<16))}
	seconds, err := config.ParseTime(o.String("interval"))
	if err != nil || seconds <= 0 {
		o.Failf("interval", "Interval must be a span of time above 0, such as 1s")
		seconds = 1
	}
	t.interval = time.Duration(seconds * float64(time.Second))
	if t.rate <= 0 {
		o.Failf("rate", "Rate must be above 0")
	}
	return t
}

// turn moves the window to now. A clock that jumps back begins a new slot.
func (t *throttle) turn(now time.Time) {
	if t.since.IsZero() || now.Before(t.since) {
		t.since = now
		return
	}
	steps := int64(now.Sub(t.since) / t.interval)
	for range min(steps, int64(len(t.slots))) {
		t.at = (t.at + 1) % len(t.slots)
		t.total -= t.slots[t.at]
		t.slots[t.at] = 0
	}
	if steps > 0 {
		t.since = t.since.Add(time.Duration(steps) * t.interval)
		if t.status {
			t.host.Log.Info("throttled", "passed", t.passed, "dropped", t.cut, "rate", t.rate)
		}
	}
}

func (t *throttle) Apply(_ context.Context, dst []byte, b flow.Batch) ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.turn(t.host.Now())
	return selectEvents(dst, b.Data, func(*record.Event) bool {
		if float64(t.total)/float64(len(t.slots)) >= t.rate {
			t.cut++
			return false
		}
		t.slots[t.at]++
		t.total++
		t.passed++
		return true
	})
}
