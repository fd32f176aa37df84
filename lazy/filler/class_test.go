package filler

import (
	"context"
	"testing"
	"time"
)

// TestOrder lets the less urgent wait for the more urgent, and not the other way round.
func TestOrder(t *testing.T) {
	begins := func(o *Order, c Class) func() {
		short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond) // what may begin does so whatever the time
		defer cancel()
		leave, err := o.enter(short, c, 1)
		if err != nil {
			return nil
		}
		return leave
	}
	limited := NewOrder(1 << 40)
	if _, err := limited.enter(t.Context(), Demand, 1); err != nil {
		t.Fatal(err)
	}
	if begins(limited, Prefetch) != nil {
		t.Error("with a limit prefetch began beside a demand")
	}
	o := NewOrder(0)
	leave, err := o.enter(t.Context(), Demand, 1)
	if err != nil {
		t.Fatal(err)
	}
	one, two := begins(o, Prefetch), begins(o, Prefetch)
	if one == nil || two == nil {
		t.Fatal("prefetch leaves the line idle while a reader waits for an answer")
	}
	if begins(o, Prefetch) != nil {
		t.Error("three requests of prefetch began beside a demand")
	}
	if begins(o, Background) != nil {
		t.Error("background began beside a demand")
	}
	one()
	two()
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
