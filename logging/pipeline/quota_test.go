package pipeline

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/weft-dev/weft/logging/config"
)

// In any ten seconds no more comes through than the limit, and one second's worth that had been saved.
func TestGate(t *testing.T) {
	for _, c := range []struct {
		maxRecords, maxBytes float64
		records, bytes       int
	}{{1000, 0, 100, 5000}, {0, 50000, 100, 5000}, {1000, 1e9, 100, 5000}, {1000, 0, 2500, 1}} {
		g := &gate{records: c.maxRecords, bytes: c.maxBytes, window: time.Second}
		now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
		end, passed := now.Add(10*time.Second), 0
		for {
			now = now.Add(g.reserve(now, c.records, c.bytes))
			if now.After(end) {
				break
			}
			passed += c.records
		}
		if passed < 10000 || passed > 11000+c.records {
			t.Errorf("%+v: %d records in ten seconds", c, passed)
		}
		// a clock that jumps back does not stop the input
		if wait := g.reserve(now.Add(-24*time.Hour), 1, 1); wait > 0 {
			t.Errorf("after the clock jumped back it waits %s", wait)
		}
	}
}

func build(t *testing.T, text string) *Engine {
	t.Helper()
	file, err := config.Parse("test.conf", []byte(text), config.Options{})
	if err != nil {
		t.Fatal(err)
	}
	e, err := New(file, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func running(t *testing.T, e *Engine) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited for " + what)
		}
	}
}

// An input over its rate waits, and says so.
func TestRateGatePauses(t *testing.T) {
	e := build(t, "[SERVICE]\n  Flush 0.05\n[INPUT]\n  Name dummy\n  Rate 1000\n  rate_gate on\n  rate_gate.max_records 5\n[INPUT]\n  Name dummy\n  Rate 1000\n[OUTPUT]\n  Name null\n  Match *\n")
	running(t, e)
	in, free := e.inputs[0], e.inputs[1]
	await(t, "the pause", func() bool { return in.pauses.Load() > 0 })
	await(t, "records after the pause", func() bool { return in.records.Load() >= 8 && free.records.Load() >= 400 })
	if n, others := in.records.Load(), free.records.Load(); n > others/2 {
		t.Errorf("%d records, beside %d of an input without a rate", n, others)
	}
}

// With storage.type memrb the oldest records make room for new ones while the output is away; the newest arrive when it is back.
func TestRingDropsTheOldest(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "out")
	e := build(t, fmt.Sprintf("[SERVICE]\n  Flush 0.02\n  scheduler.base 1\n  scheduler.cap 1\n[INPUT]\n  Name dummy\n  Rate 2000\n  storage.type memrb\n  Mem_Buf_Limit 20K\n[OUTPUT]\n  Name file\n  Match *\n  Path %s\n  File got\n  Retry_Limit no_limits\n", folder))
	running(t, e)
	in := e.inputs[0]
	most := int64(0)
	await(t, "dropped records", func() bool {
		most = max(most, in.bytes.Load())
		return in.ringChunks.Load() > 20
	})
	if most > in.limit {
		t.Errorf("%d bytes in memory, the limit is %d", most, in.limit)
	}
	if in.pauses.Load() > 0 {
		t.Error("the input paused")
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	await(t, "records in the output", func() bool {
		info, err := os.Stat(filepath.Join(folder, "got"))
		return err == nil && info.Size() > 0
	})
}
