// Package fluentd runs configurations of Fluentd: sources hand records to filters and outputs by the patterns of their sections and by labels, outputs
// keep them in buffers, in memory or in files, until they are delivered. Records are MessagePack as in package pipeline, whose inputs, parsers
// and transports it uses. Ruby is not run: what would need it is refused when the configuration is read.
package fluentd

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/weft-dev/weft/logging/pipeline/flow"
	"github.com/weft-dev/weft/logging/pipeline/input"
	"github.com/weft-dev/weft/logging/pipeline/tap"
)

// Engine is a pipeline that was made of a configuration. It runs once.
type Engine struct {
	log       *slog.Logger
	now       func() time.Time
	grace     time.Duration
	positions *input.Positions
	tap       *tap.Hub
	stdout    sync.Mutex
	events    *logEvents
	logTo     *router // takes the events of the log; nil if nothing does

	workers []*worker
	routers []*router
	parts   []*part
	sources []*source
	buffers []*buffered
}

// source is an input with where its records go.
type source struct {
	*part
	input input.Input
	to    *router
	full  fullPolicy
}

// fullPolicy says what an input does while a buffer takes nothing.
type fullPolicy int

const (
	refuse  fullPolicy = iota // whoever sent the records is told
	wait                      // the input stands still
	discard                   // the records are dropped
)

// pauseFull is how long an input stands still before it tries again.
const pauseFull = 200 * time.Millisecond

// Append takes what the input brings.
func (s *source) Append(ctx context.Context, b flow.Batch) error {
	if b.Count == 0 {
		return ctx.Err()
	}
	s.records.Add(int64(b.Count))
	s.bytes.Add(int64(len(b.Data)))
	s.show(b.Tag, b.Data)
	for told := false; ; {
		err := s.to.emit(ctx, b)
		switch {
		case err == nil || ctx.Err() != nil || s.full == refuse:
			return err
		case s.full == discard:
			s.dropped.Add(int64(b.Count))
			s.log.Warn("emit transaction failed; the records are dropped", "error", err, "records", b.Count)
			return nil
		case !told:
			told = true
			s.log.Warn("the input waits: an output takes nothing", "error", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pauseFull):
		}
	}
}

// Run runs until ctx ends, or an input ends the pipeline or fails.
func (e *Engine) Run(ctx context.Context) error {
	if e.tap != nil {
		var points []tap.Point
		for _, p := range e.parts {
			points = append(points, p.point())
		}
		e.tap.SetPoints(points)
	}
	for i, o := range e.buffers {
		if err := o.open(ctx); err != nil {
			for _, opened := range e.buffers[:i] {
				opened.leave()
			}
			return err
		}
	}
	outputs, stopOutputs := context.WithCancel(context.WithoutCancel(ctx))
	defer stopOutputs()
	var delivering sync.WaitGroup
	for _, o := range e.buffers {
		delivering.Go(func() { o.run(outputs) })
	}
	stopEvents := func() {}
	if e.logTo != nil {
		stopEvents = e.events.run(outputs, e.logTo)
	}
	e.log.Info("fluentd worker is now running", "worker", 0)
	sources := make([]input.Source, 0, len(e.sources))
	for _, s := range e.sources {
		sources = append(sources, input.Source{Input: s.input, Sink: s, Log: s.log, Name: s.name})
	}
	failed := input.Bring(ctx, sources)
	e.log.Info("fluentd worker is now stopping", "worker", 0)
	stopEvents()
	for _, o := range e.buffers {
		o.end()
	}
	done := make(chan struct{})
	go func() {
		delivering.Wait()
		close(done)
	}()
	grace := time.NewTimer(e.grace)
	defer grace.Stop()
	select {
	case <-done:
	case <-grace.C:
		stopOutputs()
		<-done
	}
	for _, o := range e.buffers {
		o.leave()
	}
	if err := e.positions.Save(); err != nil {
		e.log.Error("positions are not saved", "error", err)
	}
	return failed
}

// Part is what an engine counted for one of its parts.
type Part struct {
	Kind, Plugin, Name             string
	Records, Bytes, Added, Dropped int64
	Errors, Retries, RetriesFailed int64
	WaitingBytes                   int64
	WaitingChunks, WaitingRecords  int
}

// Parts are the parts of the engine with their counts.
func (e *Engine) Parts() []Part {
	waiting := map[*part]*buffered{}
	for _, o := range e.buffers {
		waiting[o.part] = o
	}
	var all []Part
	for _, p := range e.parts {
		x := Part{Kind: p.kind, Plugin: p.plugin, Name: p.name, Records: p.records.Load(), Bytes: p.bytes.Load(), Added: p.added.Load(), Dropped: p.dropped.Load(),
			Errors: p.errors.Load(), Retries: p.retries.Load(), RetriesFailed: p.retriesFailed.Load()}
		if o := waiting[p]; o != nil {
			x.WaitingBytes, x.WaitingRecords, x.WaitingChunks = o.waiting()
		}
		all = append(all, x)
	}
	return all
}

// Unrouted are the records that no match took.
func (e *Engine) Unrouted() int64 {
	n := int64(0)
	for _, r := range e.routers {
		n += r.part.dropped.Load()
	}
	return n
}

// caught gives records to a test instead of an output.
type caught struct {
	*part
	catch func(string, flow.Batch)
}

func (c *caught) emit(_ context.Context, b flow.Batch) error {
	c.records.Add(int64(b.Count))
	c.catch(c.name, b)
	return nil
}
