package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Refresh says which resources are read before they are planned.
type Refresh string

// The ways to refresh. A resource that the state does not know is always read.
const (
	RefreshAll     Refresh = "all"     // everything: finds what was changed outside
	RefreshChanged Refresh = "changed" // what the state does not know to be as wanted
	RefreshNone    Refresh = "none"    // nothing: the state is believed
)

// OnFailure says what happens to the rest when an operation fails.
type OnFailure string

// The ways to go on. What depends on a failed resource is never begun.
const (
	Stop     OnFailure = "stop"     // nothing more is begun, what runs is finished
	Continue OnFailure = "continue" // everything that does not depend on it goes on
)

// Options are for one run.
type Options struct {
	Drivers   map[string]Driver
	Workers   int // default 10
	Refresh   Refresh
	OnFailure OnFailure
	// Targets limits a run to these resources and what they need; others are left as they are.
	Targets []ID
	// Timeout bounds an operation whose resource gives none; default 10 minutes.
	Timeout time.Duration
	// Retries is how often an operation that failed with a temporary error (one with a method Temporary() bool that says
	// so) is tried again, after 1 s, 2 s, 4 s and so on up to 30 s; default 4, negative for none.
	Retries int
	// Drain, when closed, lets what runs finish and begins nothing more. Cancelling the context cancels what runs.
	Drain <-chan struct{}
	// Progress is told what happens, one call at a time; may be nil.
	Progress func(Event)
	// Crash is called between the steps of an operation, with the step's name; tests kill the process in it.
	Crash func(point string)
}

// Event is one piece of progress.
type Event struct {
	ID      ID            `json:"id"`
	Action  Action        `json:"action"`
	State   string        `json:"state"` // begun, done, failed, skipped, retried
	Error   string        `json:"error,omitempty"`
	Elapsed time.Duration `json:"elapsed,omitempty"` // nanoseconds
}

// Engine plans and applies against one state. The caller holds the state's lock.
type Engine struct {
	state *State
	opts  Options
	tell  sync.Mutex
}

// New returns an engine.
func New(state *State, opts Options) (*Engine, error) {
	opts.Workers = cmp.Or(max(opts.Workers, 0), 10)
	opts.Timeout = cmp.Or(opts.Timeout, 10*time.Minute)
	opts.Refresh = cmp.Or(opts.Refresh, RefreshAll)
	opts.OnFailure = cmp.Or(opts.OnFailure, Stop)
	opts.Retries = cmp.Or(opts.Retries, 4)
	if opts.Crash == nil {
		opts.Crash = func(string) {}
	}
	switch opts.Refresh {
	case RefreshAll, RefreshChanged, RefreshNone:
	default:
		return nil, fmt.Errorf("refresh %q is none of all, changed, none", opts.Refresh)
	}
	switch opts.OnFailure {
	case Stop, Continue:
	default:
		return nil, fmt.Errorf("on failure %q is none of stop, continue", opts.OnFailure)
	}
	return &Engine{state: state, opts: opts}, nil
}

func (e *Engine) event(ev Event) {
	if e.opts.Progress == nil {
		return
	}
	e.tell.Lock()
	defer e.tell.Unlock()
	e.opts.Progress(ev)
}

func (e *Engine) driver(typ string) (Driver, error) {
	if d, ok := e.opts.Drivers[typ]; ok {
		return d, nil
	}
	return nil, fmt.Errorf("there is no driver for the type %q", typ)
}

// attempt does one operation of a driver within the time it has, again after temporary errors.
func attempt[T any](ctx context.Context, e *Engine, id ID, action Action, timeout time.Duration, do func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(timeout, e.opts.Timeout))
	defer cancel()
	delay := time.Second
	for i := 0; ; i++ {
		got, err := do(ctx)
		if err == nil || i >= e.opts.Retries || ctx.Err() != nil || !temporary(err) {
			if errors.Is(ctx.Err(), context.DeadlineExceeded) && err != nil {
				err = fmt.Errorf("not done after %s: %w", cmp.Or(timeout, e.opts.Timeout), err)
			}
			return got, err
		}
		e.event(Event{ID: id, Action: action, State: "retried", Error: err.Error()})
		select {
		case <-ctx.Done():
			return got, errors.Join(err, ctx.Err())
		case <-time.After(delay):
		}
		delay = min(2*delay, 30*time.Second)
	}
}

func temporary(err error) bool {
	var t interface{ Temporary() bool }
	return errors.As(err, &t) && t.Temporary()
}
