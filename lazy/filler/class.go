package filler

import (
	"context"
	"sync"

	"golang.org/x/time/rate"
)

// Class says how urgent bytes are.
type Class int

// The classes. Whoever is more urgent goes first: less urgent requests begin only when none of the more urgent ones is under way. Two of those for what will
// probably be wanted soon begin all the same, unless there is a limit to share: a reader asks for little at a time, and while it waits for the answer the line
// would be idle.
const (
	Demand     Class = iota // somebody waits for them
	Prefetch                // somebody will probably want them soon
	Background              // the rest of an image
	classes
)

// String is the class's name.
func (c Class) String() string { return [...]string{"demand", "prefetch", "background"}[c] }

// slots are how many requests of a class are under way at the same time.
var slots = [classes]int{Demand: 64, Prefetch: 4, Background: 2}

// beside is how many requests of prefetch begin while somebody waits for others.
const beside = 2

// Order decides who may fetch now. One is shared by all fillers of a machine.
type Order struct {
	limit *rate.Limiter // nil: none

	mu     sync.Mutex
	active [classes]int
	wake   chan struct{} // closed when something ended
}

// step is how many bytes the limit lets pass at a time.
const step = 64 << 10

// NewOrder makes an order with a limit in bytes per second that all classes share; 0 is none.
func NewOrder(limit int64) *Order {
	o := &Order{wake: make(chan struct{})}
	if limit > 0 {
		o.limit = rate.NewLimiter(rate.Limit(limit), step)
	}
	return o
}

// enter waits until a request of a class with that many bytes may begin. The result must be called at its end.
func (o *Order) enter(ctx context.Context, c Class, n int) (func(), error) {
	for {
		o.mu.Lock()
		wake := o.wake
		if o.free(c) {
			o.active[c]++
			o.mu.Unlock()
			break
		}
		o.mu.Unlock()
		select {
		case <-wake:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	if err := o.pay(ctx, c, n); err != nil {
		o.leave(c)
		return nil, err
	}
	return func() { o.leave(c) }, nil
}

func (o *Order) free(c Class) bool {
	if c == Prefetch && o.limit == nil && o.active[Prefetch] < beside {
		return true
	}
	for more := range c {
		if o.active[more] > 0 {
			return false
		}
	}
	return o.active[c] < slots[c]
}

func (o *Order) leave(c Class) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.active[c]--
	close(o.wake)
	o.wake = make(chan struct{})
}

// pay takes bytes from the limit. The others wait behind whoever is in demand, because they begin only when no demand is under way.
func (o *Order) pay(ctx context.Context, _ Class, n int) error {
	if o.limit == nil {
		return nil
	}
	for ; n > 0; n -= step {
		if err := o.limit.WaitN(ctx, min(n, step)); err != nil {
			return err
		}
	}
	return nil
}
