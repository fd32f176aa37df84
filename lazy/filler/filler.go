package filler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weft-dev/weft/image/chunk"
	"github.com/weft-dev/weft/lazy/cache"
	"github.com/weft-dev/weft/registry"
)

// Options of a filler. The zero value is useful.
type Options struct {
	Ahead    int           // bytes of the blob that one request for a far source gets beyond what was asked for; 0 means 256 KiB, less none
	Deadline time.Duration // for one fill; 0 means 30 s
	Order    *Order        // nil: no limits
	Known    *atomic.Int32 // while it is not 0 what is read next is known and fetched, so nothing is added to requests; nil: it is never
}

// Counters say what fillers did. They may be shared.
type Counters struct {
	Fetched  [classes]atomic.Int64 // bytes that came from sources
	Requests atomic.Int64
	Failures atomic.Int64 // fills that failed
}

// Filler fills one device. It is safe for use by several goroutines.
type Filler struct {
	dev      *cache.Device
	options  Options
	counters *Counters
	ctx      context.Context //nolint:containedctx // fills belong to the filler, not to the first reader who waits for them
	stop     context.CancelFunc
	running  sync.WaitGroup

	extents []extent // by their place in the blob
	members []uint32 // the chunks of all extents, one extent after the other
	of      []uint32 // which extent a chunk is in

	mu      sync.Mutex
	sources []Source
	flights map[uint32]*flight // by extent
	last    uint32             // the extent after the last one that a reader's request got
	ahead   int
	whole   *flight // the device being read from its beginning, where a source gives no parts
}

// extent is a run of bytes of the blob that is decoded as a whole.
type extent struct {
	at     int64
	stored uint32
	first  uint32 // of its members
	n      uint32
}

// flight is an extent on its way.
type flight struct {
	done chan struct{}
	err  error
}

// ErrNoSource says that nobody has a blob.
var ErrNoSource = errors.New("there is no source for the blob")

// New makes a filler of a device. Close must be called.
func New(dev *cache.Device, o Options, counters *Counters, sources ...Source) *Filler {
	if o.Ahead == 0 {
		o.Ahead = 256 << 10
	}
	if o.Deadline == 0 {
		o.Deadline = 30 * time.Second
	}
	if o.Order == nil {
		o.Order = NewOrder(0)
	}
	f := &Filler{dev: dev, options: o, counters: counters, sources: sources, flights: map[uint32]*flight{}, ahead: max(o.Ahead, 0)}
	f.ctx, f.stop = context.WithCancel(context.Background())
	f.index()
	return f
}

// index finds the extents of the device.
func (f *Filler) index() {
	chunks := f.dev.Device().Chunks
	f.members, f.of = make([]uint32, len(chunks)), make([]uint32, len(chunks))
	for i := range f.members {
		f.members[i] = uint32(i)
	}
	slices.SortFunc(f.members, func(a, b uint32) int {
		x, y := &chunks[a], &chunks[b]
		if x.At != y.At {
			return int(min(max(x.At-y.At, -1), 1))
		}
		return int(x.Inner) - int(y.Inner)
	})
	for i, m := range f.members {
		c := &chunks[m]
		if n := len(f.extents); n > 0 && sameExtent(&chunks[f.members[f.extents[n-1].first]], c) {
			f.extents[n-1].n++
		} else {
			f.extents = append(f.extents, extent{at: c.At, stored: c.Stored, first: uint32(i), n: 1})
		}
		f.of[m] = uint32(len(f.extents) - 1)
	}
}

func sameExtent(a, b *chunk.Chunk) bool {
	return a.At == b.At && a.Stored == b.Stored && a.Extent == b.Extent
}

// Device is the device that is filled.
func (f *Filler) Device() *cache.Device { return f.dev }

// AddSource adds a source, unless one of its name is there, which it then takes the place of.
func (f *Filler) AddSource(s Source) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.sources {
		if f.sources[i].Name() == s.Name() {
			f.sources = slices.Clone(f.sources)
			f.sources[i] = s
			return
		}
	}
	f.sources = append(slices.Clone(f.sources), s)
}

// Close stops all fills and waits for their ends. The device stays open.
func (f *Filler) Close() {
	f.stop()
	f.running.Wait()
}

// Ensure returns when the bytes of the device from offset on are present, or says why they are not. What is asked for beyond the device
// counts as present.
func (f *Filler) Ensure(ctx context.Context, offset, n int64, class Class) error {
	var last error
	for range 3 { // a flight that someone else began may fail for reasons that do not concern these bytes
		if f.dev.Has(offset, n) {
			return nil
		}
		wait, here, own := f.claim(offset, n, class)
		if here != nil {
			f.fetch(here, class)
		}
		for _, w := range wait {
			select {
			case <-w.done:
				if w.err != nil {
					last = w.err
				}
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		if own && last != nil {
			break
		}
	}
	if f.dev.Has(offset, n) {
		return nil
	}
	if last == nil {
		last = errors.New("no chunk of the image lies there")
	}
	return last
}

// claim finds the missing extents of a part of the device and begins to fetch those that nobody fetches yet. Own says that all are. What is near
// is left to the caller to fetch: it takes less time than another goroutine does to begin.
func (f *Filler) claim(offset, n int64, class Class) (wait []*flight, here *run, own bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var fresh []uint32
	own = true
	for _, e := range f.missing(offset, n) {
		if w, ok := f.flights[e]; ok {
			wait, own = append(wait, w), false
			continue
		}
		fresh = append(fresh, e)
	}
	for _, r := range f.runs(fresh, class) {
		if here == nil && f.near() && f.ctx.Err() == nil {
			here = &r
			wait = append(wait, f.launch(here)...)
			continue
		}
		wait = append(wait, f.begin(r, class)...)
	}
	return wait, here, own
}

// missing lists the extents, in their order, that have chunks which are missing in a part of the device.
func (f *Filler) missing(offset, n int64) []uint32 {
	d := f.dev.Device()
	var list []uint32
	for i := d.Find(offset); i < len(d.Chunks) && d.Chunks[i].Offset < offset+n; i++ {
		if c := &d.Chunks[i]; !f.dev.Has(c.Offset, int64(c.Size)) {
			list = append(list, f.of[i])
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// run is extents that follow each other in the blob; those from number wanted on were not asked for.
type run struct {
	extents []uint32
	wanted  int
	flights []*flight
}

const (
	// maxRun is the most that one request gets, in bytes of the blob.
	maxRun = 4 << 20
	// maxGap is what a request gets for nothing between two extents rather than being two requests.
	maxGap = 16 << 10
)

// runs makes requests of extents. To what a reader asks for in a far source it adds what follows: more if readers go on where they were.
func (f *Filler) runs(list []uint32, class Class) []run {
	var runs []run
	for _, e := range list {
		if n := len(runs); n > 0 && f.follows(runs[n-1].extents, e) {
			runs[n-1].extents = append(runs[n-1].extents, e)
			continue
		}
		runs = append(runs, run{extents: []uint32{e}})
	}
	for i := range runs {
		r := &runs[i]
		r.wanted = len(r.extents)
		if class == Demand && i == len(runs)-1 && !f.near() {
			f.extend(r)
		}
	}
	return runs
}

func (f *Filler) follows(list []uint32, e uint32) bool {
	first, last, next := f.extents[list[0]], f.extents[list[len(list)-1]], f.extents[e]
	return next.at-(last.at+int64(last.stored)) <= maxGap && next.at+int64(next.stored)-first.at <= maxRun
}

func (f *Filler) near() bool { return len(f.sources) > 0 && f.sources[0].Near() }

// extend adds what follows and is missing.
func (f *Filler) extend(r *run) {
	if f.options.Ahead < 0 || f.options.Known != nil && f.options.Known.Load() != 0 {
		return
	}
	if r.extents[0] == f.last {
		f.ahead = min(f.ahead*2, 4*f.options.Ahead)
	} else {
		f.ahead = f.options.Ahead
	}
	start := f.extents[r.extents[0]].at
	for e := r.extents[len(r.extents)-1] + 1; int(e) < len(f.extents); e++ {
		x := f.extents[e]
		if x.at+int64(x.stored)-start > int64(f.ahead) || f.present(e) || f.flights[e] != nil || !f.follows(r.extents, e) {
			break
		}
		r.extents = append(r.extents, e)
	}
	f.last = r.extents[len(r.extents)-1] + 1
}

// present says whether all chunks of an extent are there.
func (f *Filler) present(e uint32) bool {
	x := f.extents[e]
	for _, m := range f.members[x.first : x.first+x.n] {
		if c := &f.dev.Device().Chunks[m]; !f.dev.Has(c.Offset, int64(c.Size)) {
			return false
		}
	}
	return true
}

// begin starts to fetch a run and returns the flights of what was asked for.
func (f *Filler) begin(r run, class Class) []*flight {
	wait := f.launch(&r)
	go f.fetch(&r, class)
	return wait
}

// launch makes the flights of a run, which must then be fetched, and returns those of what was asked for.
func (f *Filler) launch(r *run) []*flight {
	r.flights = make([]*flight, len(r.extents))
	for i, e := range r.extents {
		r.flights[i] = &flight{done: make(chan struct{})}
		f.flights[e] = r.flights[i]
	}
	f.running.Add(1)
	return r.flights[:r.wanted]
}

// land ends a flight.
func (f *Filler) land(e uint32, w *flight, err error) {
	f.mu.Lock()
	delete(f.flights, e)
	f.mu.Unlock()
	w.err = err
	close(w.done)
}

// fetch gets a run from the first source that has it. The deadline is of far sources: reading from this machine's disks cannot be ended.
func (f *Filler) fetch(r *run, class Class) {
	defer f.running.Done()
	pending := make([]error, len(r.extents)) // why each is not there yet
	f.mu.Lock()
	sources := f.sources
	f.mu.Unlock()
	none := fmt.Errorf("%s: %w", f.dev.Device().Name(), ErrNoSource)
	for i := range pending {
		pending[i] = none
	}
	far := slices.IndexFunc(sources, func(s Source) bool { return !s.Near() })
	if far < 0 {
		far = len(sources)
	}
	if !f.fromOne(f.ctx, sources[:far], r, pending, class) && far < len(sources) {
		ctx, cancel := context.WithTimeoutCause(f.ctx, f.options.Deadline, fmt.Errorf("it took longer than %s: %w", f.options.Deadline, context.DeadlineExceeded))
		defer cancel()
		f.fromOne(ctx, sources[far:], r, pending, class)
	}
	for i, e := range r.extents {
		if pending[i] != nil {
			f.counters.Failures.Add(1)
		}
		f.finish(r, i, e, pending[i])
	}
}

// fromOne tries sources one after the other; it says whether nothing is pending any more.
func (f *Filler) fromOne(ctx context.Context, sources []Source, r *run, pending []error, class Class) bool {
	for _, s := range sources {
		if f.from(ctx, s, r, pending, class) {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
	}
	return false
}

// finish ends the flight of an extent, once.
func (f *Filler) finish(r *run, i int, e uint32, err error) {
	if w := r.flights[i]; w != nil {
		r.flights[i] = nil
		f.land(e, w, err)
	}
}

// from tries a source; it says whether nothing is pending any more.
func (f *Filler) from(ctx context.Context, s Source, r *run, pending []error, class Class) bool {
	named := func(err error) error {
		if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
			err = fmt.Errorf("%w (%w)", err, cause)
		}
		return fmt.Errorf("%s: %w", s.Name(), err)
	}
	err := f.part(ctx, s, r, 0, len(r.extents), pending, class)
	if err != nil && len(r.extents) > r.wanted && ctx.Err() == nil && !errors.Is(err, registry.ErrNoRanges) {
		// The fault may lie in what nobody asked for.
		err = f.part(ctx, s, r, 0, r.wanted, pending, class)
	}
	if errors.Is(err, registry.ErrNoRanges) {
		err = f.all(ctx, s, class)
		for i, e := range r.extents {
			if f.present(e) {
				pending[i] = nil
			}
		}
	}
	done := true
	for i := range pending {
		if pending[i] != nil {
			done = false
			if err != nil {
				pending[i] = named(err)
			}
		}
	}
	return done
}

// part gets the extents from number first up to end that are pending.
func (f *Filler) part(ctx context.Context, s Source, r *run, first, end int, pending []error, class Class) error {
	for first < end && pending[first] == nil {
		first++
	}
	if first == end {
		return nil
	}
	start := f.extents[r.extents[first]].at
	last := f.extents[r.extents[end-1]]
	p := make([]byte, last.at+int64(last.stored)-start)
	paid := len(p)
	if s.Near() {
		paid = 0 // the limit is of what comes over the network
	}
	leave, err := f.options.Order.enter(ctx, class, paid)
	if err != nil {
		return err
	}
	defer leave()
	f.counters.Requests.Add(1)
	if err := s.ReadAt(ctx, f.dev.Device(), p, start); err != nil {
		return err
	}
	f.counters.Fetched[class].Add(int64(len(p)))
	for i := first; i < end; i++ {
		if pending[i] == nil {
			continue
		}
		x := f.extents[r.extents[i]]
		pending[i] = f.put(x, p[x.at-start:][:x.stored])
		if pending[i] == nil {
			f.finish(r, i, r.extents[i], nil)
		} else {
			pending[i] = fmt.Errorf("%s: %w", s.Name(), pending[i])
		}
	}
	return nil
}

// put decodes an extent and puts its chunks into the device. A chunk that is wrong does not keep others out.
func (f *Filler) put(x extent, stored []byte) error {
	d := f.dev.Device()
	list := f.members[x.first : x.first+x.n]
	decoded, err := d.Extent(&d.Chunks[list[0]], stored)
	if err != nil {
		return fmt.Errorf("blob %s at %d: %w", d.Name(), x.at, err)
	}
	for _, m := range list {
		c := &d.Chunks[m]
		if e := f.dev.Put(c, decoded[c.Inner:c.Inner+c.Size]); e != nil {
			err = errors.Join(err, fmt.Errorf("blob %s at %d: %w", d.Name(), x.at, e))
		}
	}
	return err
}
