package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Recovered is what became of an operation whose end nobody had written down.
type Recovered struct {
	Operation Operation
	Outcome   string // a sentence
}

// readBackTimeout bounds reading back what a failed or cancelled operation led to.
const readBackTimeout = 30 * time.Second

// Recover looks for each operation that was begun and not ended, because the process was killed, what it led to, and
// takes that into the state. An operation that cannot be read back stays pending; the error names it.
func (e *Engine) Recover(ctx context.Context) ([]Recovered, error) {
	var all []Recovered
	var errs []error
	pending := e.state.Pending()
	for _, id := range sortedKeys(pending) {
		op := pending[id]
		d, err := e.driver(op.Record.Type)
		if err == nil {
			var outcome string
			if outcome, err = e.readBack(ctx, d, op, ""); err == nil {
				all = append(all, Recovered{*op, outcome})
				continue
			}
		}
		errs = append(errs, &Problem{Resource: id, Cause: err, Msg: fmt.Sprintf(
			"its last operation (%s, begun %s) was interrupted, and what it led to cannot be read back: %v", op.Action, op.Begun.Format(time.RFC3339), err)})
	}
	return all, errors.Join(errs...)
}

// failed takes in what a failed operation led to. If that cannot be found out the operation stays pending.
func (e *Engine) failed(ctx context.Context, d Driver, op *Operation, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readBackTimeout)
	defer cancel()
	if _, err := e.readBack(ctx, d, op, cause.Error()); err != nil {
		return fmt.Errorf("%w (what it led to is not known: %w)", cause, err)
	}
	return cause
}

// readBack asks the driver what exists and writes the end of the operation accordingly.
func (e *Engine) readBack(ctx context.Context, d Driver, op *Operation, cause string) (outcome string, err error) {
	before := e.state.Record(op.ID)
	if op.Action == DeleteDeposed {
		before = op.Record
	}
	asked := before
	if op.Action == CreateReplacement {
		asked = nil // the new one is looked for, not the old one
	}
	object, err := d.Read(ctx, Request{ID: op.ID, Inputs: op.Record.Inputs, Record: asked})
	if err != nil {
		return "", err
	}
	en := &entry{Op: "end", ID: op.ID, Action: op.Action, Error: cmp.Or(cause, "interrupted")}
	switch op.Action {
	case Delete, DeleteDeposed:
		outcome = "it was deleted"
		if object != nil && (before == nil || object.Identity == before.Identity) {
			outcome, en.Record = "it was not deleted yet", unsure(before)
		}
	default:
		switch {
		case object == nil && op.Action == CreateReplacement:
			outcome, en.Record = "the replacement was not made yet", before
		case object == nil:
			outcome = "it was not made"
		case op.Action == CreateReplacement && before != nil && object.Identity == before.Identity:
			outcome, en.Record = "the replacement was not made yet", before
		default:
			outcome, en.Record = "it exists and is looked at again", unsure(op.Record)
			e.state.learn(en.Record, object, op.Record.Inputs)
			if op.Action == CreateReplacement {
				en.Error = "" // the old one is deposed, as after a success
			}
		}
	}
	return outcome, e.state.append(en)
}

// unsure copies a record without its fingerprint, so that the next plan compares all of it.
func unsure(r *Record) *Record {
	if r == nil {
		return nil
	}
	c := *r
	c.Fingerprint = ""
	return &c
}

func sortedKeys[V any](m map[ID]V) []ID { return slices.Sorted(maps.Keys(m)) }
