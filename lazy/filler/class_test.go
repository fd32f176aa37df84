package filler

import (
	"context"
	"testing"
	"time"
)

// TestOrder lets the less urgent wait for the more urgent, and not the other way round.
func TestOrder(t *testing.T) {
	o := NewOrder(0)
	leave, err := o.enter(t.Context(), Demand, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []Class{Prefetch, Background} {
		short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		if _, err := o.enter(short, c, 1); err == nil {
			t.Errorf("%s began beside a demand", c)
		}
		cancel()
	}
	entered := make(chan func(), 1)
	go func() {
		less, err := o.enter(t.Context(), Background, 1)
		if err != nil {
			t.Error(err)
		}
		entered <- less
	}()
	leave()
	less := <-entered
	leave, err = o.enter(t.Context(), Demand, 1)
	if err != nil {
		t.Fatalf("a demand waits for the background: %v", err)
	}
	leave()
	less()
}

// TestLimit refuses what cannot be got within the time under a limit.
func TestLimit(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for limit, fits := range map[int64]bool{1: false, 1 << 40: true, 0: true} {
		leave, err := NewOrder(limit).enter(ctx, Demand, 4*step)
		if (err == nil) != fits {
			t.Errorf("%d bytes within a minute at %d bytes per second: %v", 4*step, limit, err)
		}
		if err == nil {
			leave()
		}
	}
}
