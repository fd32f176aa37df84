// Package flow holds what moves between the stages of a pipeline: batches of records with their tag, and the acknowledgement that
// tells an input when its records are safe. It knows no plugins and no engine.
package flow

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"
)

// Batch is records with one tag on their way through filters into a chunk. Data belongs to the caller: who keeps it copies it.
type Batch struct {
	Tag   string
	Data  []byte // events of package record
	Count int    // of events
	Ack   *Ack   // may be nil
	Depth int    // how many times filters have sent these records anew under another tag
	// Metrics says that these are no records of logs: each event holds figures in their text form under MetricsKey. Filters do not see them, and outputs
	// that take no metrics do not get them.
	Metrics bool
}

// MetricsKey is where an event of metrics holds their text.
const MetricsKey = "metrics"

// Sink takes batches. Append waits while the pipeline is full; it fails when ctx ends.
type Sink interface {
	Append(ctx context.Context, b Batch) error
}

// Ack counts the holders of a batch's records and tells when the last one lets go: records are then delivered, dropped on purpose, or
// kept on disk.
type Ack struct {
	holders atomic.Int64
	done    func()
}

// NewAck makes an acknowledgement with one holder.
func NewAck(done func()) *Ack {
	a := &Ack{done: done}
	a.holders.Store(1)
	return a
}

// Hold adds a holder. It gives the acknowledgement itself, nil for nil.
func (a *Ack) Hold() *Ack {
	if a != nil {
		a.holders.Add(1)
	}
	return a
}

// Release takes one holder away.
func (a *Ack) Release() {
	if a != nil && a.holders.Add(-1) == 0 {
		a.done()
	}
}

// Host is what an engine offers the parts that run in it.
type Host struct {
	Log *slog.Logger
	Now func() time.Time
	// Emitter makes an input of its own for a filter that sends records anew. Records from it do not pass that filter again.
	Emitter func(name string, memLimit int64, filesystem bool) Sink
}
