// Package pipeline runs log pipelines: the configurations of Fluent Bit, classic and YAML, and of Fluentd (package fluentd), in one process. Inputs hand over batches of records,
// filters change them, and chunks of one tag go to the outputs whose pattern takes the tag, are tried again, and are kept on disk if so
// configured. Records are MessagePack from the input to the output (package record). It knows nothing of Kubernetes' resources.
package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weft-dev/weft/logging/pipeline/filter"
	"github.com/weft-dev/weft/logging/pipeline/flow"
	"github.com/weft-dev/weft/logging/pipeline/fluentd"
	"github.com/weft-dev/weft/logging/pipeline/input"
	"github.com/weft-dev/weft/logging/pipeline/storage"
	"github.com/weft-dev/weft/logging/pipeline/tap"
)

// Engine is a pipeline that was made of a configuration. It runs once.
type Engine struct {
	log     *slog.Logger
	now     func() time.Time
	service service
	inputs  []*inputPart
	filters []*filterPart
	outputs []*outputPart
	router  router

	folder   *storage.Folder
	maxUp    int64 // chunks of the folder in memory
	up, down atomic.Int64
	base     time.Duration
	cap      time.Duration
	rejected string // folder for chunks that no output took

	rejectedLimit int64 // bytes of that folder, 0 for any number
	backlogLimit  int64 // bytes in memory of what an earlier run left, 0 for the bound of all inputs
	removeDamaged bool  // chunks that cannot be read are not kept

	unrouted atomic.Int64
	made     atomic.Int64 // chunks
	hidden   sync.Mutex   // of inputs: emitters are added while filters are made

	began     time.Time
	positions *input.Positions
	tap       *tap.Hub
	health    health
	fluentd   *fluentd.Engine // of a configuration of Fluentd: all that is below the service
}

// Run runs the pipeline until ctx ends: then inputs stop, what waits is delivered within the time of grace, and what is left stays on disk or is
// counted as lost. It returns the first failure of an input that cannot go on.
func (e *Engine) Run(ctx context.Context) error {
	server, err := e.serve()
	if err != nil {
		return err
	}
	defer server.close()
	if e.fluentd != nil {
		return e.runFluentd(ctx)
	}
	outputs, stopOutputs := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stopOutputs(nil)
	var delivering sync.WaitGroup
	for _, o := range e.outputs {
		for range o.workers {
			delivering.Go(func() { o.run(outputs) })
		}
	}
	if err := e.backlog(); err != nil {
		return err
	}
	e.health.start(e, e.now())
	if e.tap != nil {
		e.tap.SetPoints(e.points())
	}

	filters, stopFilters := context.WithCancel(context.WithoutCancel(ctx))
	defer stopFilters()
	var holding sync.WaitGroup
	for _, f := range e.filters {
		if r, ok := f.filter.(filter.Runner); ok {
			holding.Go(func() {
				if err := r.Run(filters); err != nil {
					f.log.Error("stopped", "error", err)
				}
			})
		}
	}
	failed := e.bring(ctx)
	stopFilters()
	holding.Wait()
	e.finish(&delivering, stopOutputs)
	return failed
}

// bring runs the inputs and flushes at intervals until all inputs have ended.
func (e *Engine) bring(ctx context.Context) error {
	var sources []input.Source
	for _, in := range e.inputs {
		if in.input != nil { // not an emitter
			sources = append(sources, input.Source{Input: in.input, Sink: in, Log: in.log, Name: in.title()})
		}
	}
	ended := make(chan error, 1)
	go func() { ended <- input.Bring(ctx, sources) }()
	ticker := time.NewTicker(e.service.flush)
	defer ticker.Stop()
	for {
		select {
		case failed := <-ended:
			return failed
		case <-ticker.C:
			e.flush()
			e.health.sample(e, e.now())
		}
	}
}

func (e *Engine) flush() {
	e.hidden.Lock()
	inputs := e.inputs
	e.hidden.Unlock()
	for _, in := range inputs {
		in.flush()
	}
}

// finish delivers what waits, for the time of grace at most.
func (e *Engine) finish(delivering *sync.WaitGroup, stopOutputs context.CancelCauseFunc) {
	e.flush()
	for _, in := range e.inputs {
		in.mu.Lock()
		in.closed = true
		in.mu.Unlock()
	}
	for _, o := range e.outputs {
		o.hurry()
	}
	done := make(chan struct{})
	go func() {
		delivering.Wait()
		close(done)
	}()
	grace := time.NewTimer(e.service.grace)
	defer grace.Stop()
	select {
	case <-done:
	case <-grace.C:
		stopOutputs(errGrace)
		<-done
	}
	e.leave()
	if err := e.positions.Save(); err != nil {
		e.log.Error("positions are not saved", "error", err)
	}
	for _, o := range e.outputs {
		if err := o.output.Close(); err != nil {
			o.log.Error("closing", "error", err)
		}
	}
}

// leave tells what was not delivered. Chunks with a file stay on the disk; records of others come again if their input can bring them again.
func (e *Engine) leave() {
	for _, o := range e.outputs {
		kept, lost := 0, 0
		for _, d := range o.abandon() {
			if d.chunk.file != nil {
				kept += d.chunk.count
			} else {
				lost += d.chunk.count
			}
		}
		if kept > 0 {
			o.log.Warn("records wait on the disk for the next start", "records", kept)
		}
		if lost > 0 {
			o.log.Warn("records were not delivered within the time of grace; inputs that keep positions bring them again", "records", lost)
		}
	}
}

// backlog queues the chunks that an earlier run left on the disk.
func (e *Engine) backlog() error {
	if e.folder == nil {
		return nil
	}
	left, err := e.folder.Left()
	if err != nil {
		return fmt.Errorf("reading storage.path: %w", err)
	}
	if len(left) == 0 {
		return nil
	}
	in := e.newInput("storage_backlog", "storage_backlog.0")
	in.filesystem, in.backlog = true, true
	if e.backlogLimit > 0 {
		in.limit = e.backlogLimit
	}
	records := 0
	for _, file := range left {
		tag, data, count, err := file.Read()
		if err != nil {
			e.discard(e.log, file, err)
			continue
		}
		if count == 0 {
			if err := file.Remove(); err != nil {
				e.log.Error("removing an empty chunk", "error", err)
			}
			continue
		}
		c := &chunk{tag: tag, input: in, route: e.router.find(tag), size: int64(len(data)), count: count, file: file, order: e.made.Add(1)}
		e.down.Add(1)
		records += count
		if len(c.route.outputs) == 0 {
			e.log.Warn("no output takes a chunk on the disk; it stays", "file", file.Name(), "tag", tag)
			e.down.Add(-1)
			continue
		}
		e.dispatch(c)
	}
	e.log.Info("records of an earlier run are sent", "records", records, "chunks", len(left))
	return nil
}

// discard takes a chunk that cannot be read out of the way.
func (e *Engine) discard(log *slog.Logger, file *storage.File, cause error) {
	out, what := file.SetAside, "it is set aside"
	if e.removeDamaged && errors.Is(cause, storage.ErrDamaged) { // not what only cannot be read just now
		out, what = file.Remove, "it is removed, as storage.delete_irrecoverable_chunks asks for"
	}
	log.Error("a chunk on the disk cannot be read; "+what, "file", file.Name(), "error", cause)
	if err := out(); err != nil {
		log.Error("taking a damaged chunk out of the way", "error", err)
	}
}

func (e *Engine) newInput(plugin, name string) *inputPart {
	in := &inputPart{engine: e, name: name, plugin: plugin, open: map[string]*chunk{}, limit: defaultBound}
	in.freed = sync.NewCond(&in.gate)
	in.log = partLogger(e.log, "input:"+plugin+":"+name, "")
	return in
}

// emitter makes an input for a filter that sends records anew.
func (e *Engine) emitter(owner *filterPart, name string, limit int64, filesystem bool) flow.Sink {
	in := e.newInput("emitter", name)
	in.skip = owner
	if limit > 0 {
		in.limit = limit
	}
	in.filesystem = filesystem && e.folder != nil
	e.hidden.Lock()
	defer e.hidden.Unlock()
	e.inputs = append(e.inputs[:len(e.inputs):len(e.inputs)], in)
	return in
}
