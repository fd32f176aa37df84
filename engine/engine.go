package engine

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
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
	Rollback OnFailure = "rollback" // nothing more is begun, then the last revision that came out well is applied again
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
	// Wait has a run wait until what it made is ready, before it deletes anything and before it ends.
	Wait bool
	// WaitTimeout bounds that; default is Timeout.
	WaitTimeout time.Duration
	// Resolve reads a value that is kept elsewhere; needed if there are any.
	Resolve func(ctx context.Context, v External) (any, error)
	// Operation is what revisions are called; default "apply". By says who runs it.
	Operation, By string
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

	external  sync.Mutex
	externals map[string]any // values read so far, by reference; each is read once, so that what is applied is what was planned
}

// New returns an engine.
func New(state *State, opts Options) (*Engine, error) {
	opts.Workers = cmp.Or(max(opts.Workers, 0), 10)
	opts.Timeout = cmp.Or(opts.Timeout, 10*time.Minute)
	opts.Refresh = cmp.Or(opts.Refresh, RefreshAll)
	opts.OnFailure = cmp.Or(opts.OnFailure, Stop)
	opts.WaitTimeout = cmp.Or(opts.WaitTimeout, opts.Timeout)
	opts.Operation = cmp.Or(opts.Operation, "apply")
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
	case Stop, Continue, Rollback:
	default:
		return nil, fmt.Errorf("on failure %q is none of stop, continue, rollback", opts.OnFailure)
	}
	return &Engine{state: state, opts: opts, externals: map[string]any{}}, nil
}

func (e *Engine) event(ev Event) {
	if e.opts.Progress == nil {
		return
	}
	e.tell.Lock()
	defer e.tell.Unlock()
	e.opts.Progress(ev)
}

// reveal copies inputs with the values that are kept elsewhere.
func (e *Engine) reveal(ctx context.Context, inputs map[string]any) (map[string]any, error) {
	if !HasExternal(inputs) {
		return inputs, nil
	}
	tree, err := mapExternals(inputs, func(v External) (any, error) { return e.readExternal(ctx, v) })
	full, _ := tree.(map[string]any)
	return full, err
}

func (e *Engine) readExternal(ctx context.Context, v External) (any, error) {
	if e.opts.Resolve == nil {
		return nil, fmt.Errorf("%s cannot be read: there is no store of secrets", v.URL)
	}
	store, err := json.Marshal(v.Store)
	if err != nil {
		return nil, err
	}
	key := v.URL + "\x00" + string(store)
	e.external.Lock()
	defer e.external.Unlock()
	if value, ok := e.externals[key]; ok {
		return value, nil
	}
	value, err := e.opts.Resolve(ctx, v)
	if err != nil {
		return nil, fmt.Errorf("%s cannot be read: %w", v.URL, err)
	}
	e.externals[key] = value
	return value, nil
}

// withoutSecrets takes the values that were read from elsewhere out of a text.
func (e *Engine) withoutSecrets(text string) string {
	e.external.Lock()
	defer e.external.Unlock()
	for _, v := range e.externals {
		for _, secret := range secretsIn(Sensitive{v}) {
			text = strings.ReplaceAll(text, secret, "(sensitive)")
		}
	}
	return text
}

// problem places what a driver found wrong with a step, each part where its field was written.
func (e *Engine) problem(s Step, during string, err error) error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok && during == "" {
		var all []error
		for _, one := range joined.Unwrap() {
			all = append(all, e.problem(s, during, one))
		}
		return errors.Join(all...)
	}
	origin := s.Origin
	var fielded interface{ FieldPath() string }
	if s.resource.Locate != nil && errors.As(err, &fielded) && fielded.FieldPath() != "" {
		if place, _ := s.resource.Locate(fielded.FieldPath()); place != "" {
			origin = place
		}
	}
	text := err.Error()
	for _, secret := range secretsIn(s.full) {
		text = strings.ReplaceAll(text, secret, "(sensitive)")
	}
	if during != "" {
		text = during + ": " + text
	}
	return &Problem{Origin: origin, Resource: s.ID, Msg: text, Cause: err}
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

// Outputs returns values that may refer to resources, with what those put out. Sensitive ones stay marked.
func (e *Engine) Outputs(tree map[string]any) (map[string]any, error) {
	resolved, err := substitute(tree, e.output)
	m, _ := resolved.(map[string]any)
	return m, err
}
