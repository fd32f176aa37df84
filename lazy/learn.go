package lazy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/weft-dev/weft/image/chunk"
	"github.com/weft-dev/weft/lazy/cache"
	"github.com/weft-dev/weft/lazy/filler"
	"github.com/weft-dev/weft/lazy/trace"
)

// order is in which order parts of a device were asked for since it was opened, together with those of all other devices of the service.
type order struct {
	mu    sync.Mutex
	list  []asked
	count int64 // of all, recorded or not
}

type asked struct {
	key           cache.Key
	offset, count int64
}

// maxAsked bounds what is recorded.
const maxAsked = 1 << 16

func (o *order) add(a asked) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.count++
	if len(o.list) < maxAsked {
		o.list = append(o.list, a)
	}
}

func (o *order) since(n int) []asked {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]asked(nil), o.list[min(n, len(o.list)):]...)
}

func (o *order) total() int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.count
}

func (o *order) len() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.list)
}

// asked records that a reader wants a part of a device that may not be there.
func (s *Service) asked(d *device, offset, count int64) {
	d.reads.events.Add(1)
	d.filler.Device().MarkRead(offset, count)
	s.asks.add(asked{d.key, offset, count})
}

func (s *Service) traceFile(id string) string { return filepath.Join(s.root, "traces", id+".json") }

// readTrace is what an earlier start of an image read; nil if nothing is known.
func (s *Service) readTrace(im *Image) (*trace.Trace, error) {
	f, err := os.Open(s.traceFile(im.id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, trace.MaxSize+1))
	if err != nil {
		return nil, err
	}
	t, err := trace.Decode(b, im.id)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return t, nil
}

func (s *Service) writeTrace(t *trace.Trace) error {
	if err := os.MkdirAll(filepath.Dir(s.traceFile(t.Image)), 0o700); err != nil {
		return err
	}
	return cache.Replace(s.traceFile(t.Image), t.Encode())
}

// together is how many requests for what an earlier start read are under way at once: while one is answered or decoded, the line has another.
const together = 3

// prefetch gets what an earlier start read, in its order.
func (s *Service) prefetch(ctx context.Context, im *Image, t *trace.Trace) {
	s.prefetching.Add(1)
	defer s.prefetching.Add(-1)
	began := time.Now()
	groups := make(chan trace.Group)
	var fetching sync.WaitGroup
	for range together {
		fetching.Go(func() {
			for group := range groups {
				if err := s.prefetchGroup(ctx, im, group); err != nil && ctx.Err() == nil {
					s.log.Warn("what an earlier start read is not there yet", "image", im.Name(), "error", err)
				}
			}
		})
	}
	for _, group := range t.Groups(1 << 20) {
		if ctx.Err() != nil {
			break
		}
		groups <- group
	}
	close(groups)
	fetching.Wait()
	if ctx.Err() == nil {
		s.log.Info("fetched what an earlier start read", "image", im.Name(), "bytes", t.Bytes(), "duration", time.Since(began))
	}
}

func (s *Service) prefetchGroup(ctx context.Context, im *Image, group trace.Group) error {
	if int(group.Device) >= len(im.record.Devices) || im.record.Stored[group.Device] != "" || im.completeOnDisk(int(group.Device)) {
		return nil
	}
	d, err := im.device(int(group.Device))
	if err != nil {
		return err
	}
	return d.filler.Fill(ctx, group.Ranges(), filler.Prefetch)
}

// prefetchEarly begins to get what an earlier start read of an image that will be mounted: its manifest and configuration are still being read then.
func (s *Service) prefetchEarly(im *Image) {
	if s.Mode() != Fanotify || s.options.Learn < 0 || len(im.mounts()) > 0 {
		return
	}
	known, err := s.readTrace(im)
	if err != nil || known == nil {
		return // it is told when the image is mounted
	}
	// The keeper knows the devices before they are filled, as it does when a reader is the first.
	if err := s.guard.expect(im); err != nil {
		s.log.Warn("what an earlier start read is fetched only when the image is mounted", "image", im.Name(), "error", err)
		return
	}
	im.mu.Lock()
	defer im.mu.Unlock()
	if im.early != nil {
		return
	}
	done := make(chan struct{})
	im.early = done
	s.running.Go(func() {
		defer close(done)
		s.prefetch(s.ctx, im, known)
	})
}

// takeEarly is what was asked for before the mount, once; nil if nothing was.
func (im *Image) takeEarly() chan struct{} {
	im.mu.Lock()
	defer im.mu.Unlock()
	early := im.early
	im.early = nil
	return early
}

// learning is the record of a start being made.
type learning struct{ stop, done chan struct{} }

// beginLearning records what is read within the first time after a mount, unless that is going on.
func (s *Service) beginLearning(im *Image, known *trace.Trace) {
	im.mu.Lock()
	defer im.mu.Unlock()
	if im.learning != nil {
		return
	}
	l := &learning{make(chan struct{}), make(chan struct{})}
	im.learning = l
	from := s.asks.len()
	s.running.Go(func() {
		defer close(l.done)
		s.learn(im, known, from, l.stop)
		im.mu.Lock()
		defer im.mu.Unlock()
		im.learning = nil
	})
}

// learned ends the record of a start, if one is being made.
func (im *Image) learned() {
	im.mu.Lock()
	l := im.learning
	im.learning = nil
	im.mu.Unlock()
	if l != nil {
		close(l.stop)
		<-l.done
	}
}

// learn waits, adds what was read to what is known, and shares it.
func (s *Service) learn(im *Image, known *trace.Trace, from int, stop <-chan struct{}) {
	select {
	case <-time.After(s.options.Learn):
	case <-stop:
	case <-s.ctx.Done():
	}
	t := s.traceOf(im, from, known)
	if t == nil {
		return
	}
	if err := s.writeTrace(t); err != nil {
		s.log.Warn("what a start reads cannot be kept", "image", im.Name(), "error", err)
		return
	}
	if s.options.Share && s.ctx.Err() == nil {
		if err := s.shareTrace(s.ctx, im, t); err != nil {
			s.log.Info("what a start reads is not pushed beside the image", "image", im.Name(), "error", err)
		}
	}
}

// beside is how much of what was read before and behind a part that was asked for comes with it into a trace, in blocks: 1 MiB.
const beside = 1 << 20 / chunk.Block

// withBeside widens a part of a device by what was read beside it. That was there when it was read, since a request had got more than was asked for, and
// so nobody knows when; most likely it was then. If it came last, those who read along it would overtake the prefetch and wait for each piece.
func withBeside(read cache.Bits, blocks, first, end int64) (from, to int64) {
	from, to = first, end
	for from > 0 && first-from < beside && read.All(from-1, from) {
		from--
	}
	for to < blocks && to-end < beside && read.All(to, to+1) {
		to++
	}
	return from, to
}

// traceOf makes the trace of a start: what was asked for, in that order, each part with what was read beside it, and at the end what else was read
// because it was there already. Nil if nothing is new.
func (s *Service) traceOf(im *Image, from int, known *trace.Trace) *trace.Trace {
	t := trace.New(im.id)
	number := map[cache.Key]int{}
	for i, k := range im.record.Devices {
		if key, err := cache.ParseKey(k); err == nil {
			number[key] = i
		}
	}
	if known != nil {
		t.Append(known)
	}
	before := t.Bytes()
	devices := map[cache.Key]*cache.Device{}
	for _, d := range s.opened() {
		devices[d.key] = d.filler.Device()
	}
	for _, a := range s.asks.since(from) {
		i, ok := number[a.key]
		if !ok {
			continue
		}
		first, end := a.offset/chunk.Block, (a.offset+a.count+chunk.Block-1)/chunk.Block
		if dev := devices[a.key]; dev != nil {
			first, end = withBeside(dev.Read(), dev.Space()/chunk.Block, first, end)
		}
		t.Add(uint32(i), first, end)
	}
	for key, i := range number {
		dev := devices[key]
		if dev == nil {
			continue
		}
		dev.Read().Runs(dev.Space()/chunk.Block, func(first, end int64) { t.Add(uint32(i), first, end) })
	}
	if t.Bytes() == before {
		return nil
	}
	return t
}
