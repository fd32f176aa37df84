// Package tap shows live records at points of a running pipeline to those who watch. A watcher never holds the pipeline up: what it does not read in
// time, or what is above its rate, is left out and counted. It knows no plugins and no engine.
package tap

import (
	"bytes"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weft-dev/weft/logging/pipeline/record"
)

// Point is a place where records can be watched: behind an input, behind a filter, or before an output.
type Point struct {
	Kind  string `json:"kind"`            // input, filter or output
	Name  string `json:"name"`            // tail.0
	Alias string `json:"alias,omitempty"` // of the configuration
}

func (p Point) String() string {
	if p.Alias != "" {
		return p.Kind + "/" + p.Alias
	}
	return p.Kind + "/" + p.Name
}

// is tells whether a text names the point: its name or alias, with or without its kind before a slash.
func (p Point) is(text string) bool {
	if kind, name, ok := strings.Cut(text, "/"); ok && kind == p.Kind {
		text = name
	}
	return text == p.Name || text == p.Alias && text != ""
}

// Query says what a watcher wants to see.
type Query struct {
	Point string            // "" for all
	Tag   func(string) bool // nil for all
	Where []Condition       // all have to hold
	Rate  int               // records a second, at least 1
}

// Condition asks for a value of a record, as text.
type Condition struct {
	Path  record.Path
	Value string
}

func (c Condition) holds(body []byte) bool {
	v, ok := c.Path.Find(body)
	if !ok {
		return false
	}
	if text, isText := record.Text(v); isText {
		return string(text) == c.Value
	}
	var room [64]byte
	return bytes.Equal(record.AppendText(room[:0], v), []byte(c.Value))
}

// Seen is one record at a point.
type Seen struct {
	Point Point
	Tag   string
	Event []byte // of package record
}

// Hub is where points meet watchers. The zero value is ready, and costs the pipeline one load while nobody watches.
type Hub struct {
	watchers atomic.Pointer[[]*Watcher]
	mu       sync.Mutex
	points   []Point
}

// SetPoints says which points there are, in the order of the pipeline; after a reload anew.
func (h *Hub) SetPoints(points []Point) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.points = points
}

// Points are those that text names, all for "".
func (h *Hub) Points(text string) []Point {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(h.points), func(p Point) bool { return text != "" && !p.is(text) })
}

// Watching tells whether anybody watches; it may be asked of a nil hub.
func (h *Hub) Watching() bool { return h != nil && h.watchers.Load() != nil }

// waiting is how many records wait for a slow watcher, and heldBytes how large they may be together.
const (
	waiting   = 1024
	heldBytes = 16 << 20
)

// Watcher gets records until it is closed.
type Watcher struct {
	hub     *Hub
	query   Query
	records chan Seen
	held    atomic.Int64
	slow    atomic.Int64
	fast    atomic.Int64

	mu     sync.Mutex
	second time.Time
	passed int
}

// Watch begins to watch.
func (h *Hub) Watch(q Query) *Watcher {
	w := &Watcher{hub: h, query: q, records: make(chan Seen, waiting)}
	h.change(func(all []*Watcher) []*Watcher { return append(all, w) })
	return w
}

func (h *Hub) change(how func([]*Watcher) []*Watcher) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []*Watcher
	if now := h.watchers.Load(); now != nil {
		all = slices.Clone(*now)
	}
	if all = how(all); len(all) == 0 {
		h.watchers.Store(nil)
		return
	}
	h.watchers.Store(&all)
}

// Close ends watching.
func (w *Watcher) Close() {
	w.hub.change(func(all []*Watcher) []*Watcher {
		return slices.DeleteFunc(all, func(x *Watcher) bool { return x == w })
	})
}

// Records is where they come. Free must be called for each.
func (w *Watcher) Records() <-chan Seen { return w.records }

// Free gives the memory of a record back.
func (w *Watcher) Free(s Seen) { w.held.Add(-int64(len(s.Event))) }

// Dropped is how many records were left out so far: those that the watcher was too slow for, and those above its rate.
func (w *Watcher) Dropped() (slow, fast int64) { return w.slow.Load(), w.fast.Load() }

// Offer shows a batch to those who watch the point. It does not wait, and keeps nothing of data.
func (h *Hub) Offer(p Point, tag string, data []byte) {
	all := h.watchers.Load()
	if all == nil {
		return
	}
	for _, w := range *all {
		if (w.query.Point == "" || p.is(w.query.Point)) && (w.query.Tag == nil || w.query.Tag(tag)) {
			w.offer(p, tag, data)
		}
	}
}

func (w *Watcher) offer(p Point, tag string, data []byte) {
	room, over := w.room(time.Now()), int64(0)
	for r := record.NewReader(data); r.Next(); {
		if !w.wants(r.Body) {
			continue
		}
		if room == 0 {
			over++
			continue
		}
		room--
		w.took()
		if w.held.Load() > heldBytes {
			w.slow.Add(1)
			continue
		}
		seen := Seen{p, tag, bytes.Clone(r.Raw)}
		select {
		case w.records <- seen:
			w.held.Add(int64(len(seen.Event)))
		default:
			w.slow.Add(1)
		}
	}
	w.fast.Add(over)
}

func (w *Watcher) wants(body []byte) bool {
	for _, c := range w.query.Where {
		if !c.holds(body) {
			return false
		}
	}
	return true
}

// room is how many records more may be shown in this second.
func (w *Watcher) room(now time.Time) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now.Sub(w.second) >= time.Second || now.Before(w.second) {
		w.second, w.passed = now, 0
	}
	return max(w.query.Rate-w.passed, 0)
}

func (w *Watcher) took() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.passed++
}
