package buffer

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/weft-dev/weft/logging/pipeline/flow"
	"github.com/weft-dev/weft/logging/pipeline/record"
	"github.com/weft-dev/weft/logging/pipeline/storage"
)

func events(n int, size int) []byte {
	var b []byte
	text := make([]byte, size)
	for range n {
		b = record.AppendEvent(b, record.Time{Sec: 1}, nil, record.AppendString(record.AppendString([]byte{0x81}, "k"), text))
	}
	return b
}

func piece(tag string, n, size int) Piece {
	return Piece{Key: Key{Tag: tag}, Data: events(n, size), Count: n}
}

func newBuffer(l Limits, folder *storage.Folder) *Buffer {
	return New(l, folder, time.Now, func() {})
}

func TestChunksAreSplitAtTheirLimits(t *testing.T) {
	one := int64(len(events(1, 10)))
	b := newBuffer(Limits{Chunk: 3 * one, Full: 0.95, Total: 100 * one}, nil)
	large, err := b.Write([]Piece{piece("a", 7, 10), piece("b", 1, 10)}, false)
	if err != nil || len(large) > 0 {
		t.Fatal(large, err)
	}
	first := b.Take()
	if b.Back(first); first == nil || b.Take() != first {
		t.Error("a chunk that comes back is not the first again")
	}
	b.Back(first)
	for _, want := range []int{3, 3} {
		if c := b.Take(); c == nil || c.Count != want || c.Key.Tag != "a" {
			t.Errorf("got %+v, want %d records of a", c, want)
		}
	}
	if c := b.Take(); c != nil {
		t.Errorf("%+v is ready", c)
	}
	b.EnqueueAll()
	if x, y := b.Take(), b.Take(); x == nil || y == nil || x.Count+y.Count != 2 {
		t.Errorf("got %v and %v", x, y)
	}

	b = newBuffer(Limits{Chunk: 1000, Records: 2, Full: 1, Total: 10_000}, nil)
	if _, err := b.Write([]Piece{piece("a", 5, 1)}, false); err != nil {
		t.Fatal(err)
	}
	if _, _, chunks, ready := b.Waiting(); chunks != 3 || ready != 2 {
		t.Errorf("%d chunks, %d ready; want 3 and 2", chunks, ready)
	}
}

// What was made first is delivered first, also when the clock stands still.
func TestChunksKeepTheirOrder(t *testing.T) {
	b := New(Limits{Chunk: 1000, Full: 0.95, Total: 100_000}, nil, func() time.Time { return time.Unix(1, 0) }, func() {})
	for c := 'z'; c >= 'a'; c-- {
		if _, err := b.Write([]Piece{piece(string(c), 1, 10)}, false); err != nil {
			t.Fatal(err)
		}
	}
	b.EnqueueAll()
	for want := 'z'; want >= 'a'; want-- {
		if c := b.Take(); c == nil || c.Key.Tag != string(want) {
			t.Fatalf("got %+v, want the chunk of %c", c, want)
		}
	}
}

func TestTooLargeEventsAreGivenBack(t *testing.T) {
	b := newBuffer(Limits{Chunk: 100, Full: 0.95, Total: 1000}, nil)
	p := piece("a", 1, 10)
	p.Data = append(p.Data, events(1, 200)...)
	p.Data = append(p.Data, events(1, 10)...)
	p.Count = 3
	large, err := b.Write([]Piece{p}, true)
	if err != nil || len(large) != 1 || large[0].Count != 1 {
		t.Fatalf("%d large, %v", len(large), err)
	}
	if _, records, _, _ := b.Waiting(); records != 2 {
		t.Errorf("%d records wait, want 2", records)
	}
}

func TestFullBufferTakesNothingUntilAChunkLeaves(t *testing.T) {
	b := newBuffer(Limits{Chunk: 200, Full: 0.5, Total: 100}, nil)
	released := 0
	p := piece("a", 1, 90)
	p.Ack = flow.NewAck(func() { released++ })
	if _, err := b.Write([]Piece{p}, true); err != nil {
		t.Fatal(err)
	}
	p.Ack.Release()
	if _, err := b.Write([]Piece{piece("a", 1, 90)}, true); !errors.Is(err, ErrFull) {
		t.Fatalf("got %v", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	stop()
	if err := b.Room(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	c := b.Take()
	b.Back(c)
	if released != 0 || b.Take() != c {
		t.Error("the chunk is not the first again, or was acknowledged")
	}
	if err := b.Done(c); err != nil || released != 1 {
		t.Errorf("%v, released %d times", err, released)
	}
	if err := b.Room(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestFilesComeBack(t *testing.T) {
	dir := t.TempDir()
	open := func() *Buffer {
		folder, err := storage.Open(dir, false)
		if err != nil {
			t.Fatal(err)
		}
		return newBuffer(Limits{Chunk: 1000, Full: 0.95, Total: 10_000, Queued: 1}, folder)
	}
	first := open()
	timed := Piece{Key: Key{Time: 3600, Timed: true, Tag: "t", Vars: map[string]string{"a": "b"}}, Data: events(2, 5), Count: 2}
	if _, err := first.Write([]Piece{piece("x", 3, 5), timed}, false); err != nil {
		t.Fatal(err)
	}
	// no Close: the process was killed, in the middle of a write
	names, err := filepath.Glob(filepath.Join(dir, "chunks", "*"))
	if err != nil || len(names) != 2 {
		t.Fatal(names, err)
	}
	f, err := os.OpenFile(names[0], os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte{9, 0, 0, 0, 1}); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := os.WriteFile(filepath.Join(dir, "chunks", "bad.chunk"), []byte("no chunk"), 0o600); err != nil {
		t.Fatal(err)
	}
	again := open()
	records, damaged, err := again.Resume()
	if err != nil || records != 5 || len(damaged) != 1 {
		t.Fatalf("%d records, %v damaged, %v", records, damaged, err)
	}
	c := again.Take()
	if c == nil || c.Key.Tag != "x" || c.Count != 3 {
		t.Fatalf("got %+v", c)
	}
	if data, err := c.Content(); err != nil || record.Count(data) != 3 {
		t.Error(record.Count(data), err)
	}
	if err := again.Done(c); err != nil {
		t.Error(err)
	}
	if again.Take() != nil {
		t.Error("a chunk whose time is not over is ready")
	}
	again.EnqueueAll()
	if c := again.Take(); c == nil || c.Key.Time != 3600 || c.Key.Vars["a"] != "b" {
		t.Errorf("got %+v", c)
	}
}

func TestRetryIntervals(t *testing.T) {
	start := time.Unix(1000, 0)
	steps := func(p Policy, n int) []int {
		r := NewRetry(p, start, func() float64 { return 0.5 })
		at, all := start, []int(nil)
		for range n {
			all = append(all, int(r.Next.Sub(at).Seconds()))
			at = r.Next
			r.Failed(at)
			if r.Exhausted() {
				return append(all, -1)
			}
		}
		return all
	}
	for name, c := range map[string]struct {
		p    Policy
		n    int
		want []int
	}{
		"exponential":  {Policy{Wait: time.Second, Base: 2, Timeout: 72 * time.Hour, MaxTimes: -1, Randomize: true}, 5, []int{1, 2, 4, 8, 16}},
		"max interval": {Policy{Wait: time.Second, Base: 2, MaxInterval: 3 * time.Second, Timeout: 72 * time.Hour, MaxTimes: -1}, 5, []int{1, 2, 3, 3, 3}},
		"periodic":     {Policy{Periodic: true, Wait: 5 * time.Second, Timeout: 72 * time.Hour, MaxTimes: -1}, 3, []int{5, 5, 5}},
		"max times":    {Policy{Periodic: true, Wait: time.Second, Timeout: 72 * time.Hour, MaxTimes: 3}, 9, []int{1, 1, 1, -1}},
		"timeout":      {Policy{Wait: time.Second, Base: 2, Timeout: 10 * time.Second, MaxTimes: -1}, 9, []int{1, 2, 4, 3, -1}},
		"forever":      {Policy{Periodic: true, Forever: true, Wait: time.Second, Timeout: time.Second, MaxTimes: 1}, 4, []int{1, 1, 1, 1}},
	} {
		got := steps(c.p, c.n)
		if len(got) != len(c.want) {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
			continue
		}
		for i := range got {
			if got[i] != c.want[i] {
				t.Errorf("%s: got %v, want %v", name, got, c.want)
				break
			}
		}
	}
	r := NewRetry(Policy{Periodic: true, Wait: time.Second, Timeout: 10 * time.Second, MaxTimes: -1, Secondary: true, Threshold: 0.5}, start, func() float64 { return 0.5 })
	if r.InSecondary(start.Add(4*time.Second)) || !r.InSecondary(start.Add(5*time.Second)) {
		t.Error("the secondary does not take over at half of the time")
	}
}

func FuzzDecodeKey(f *testing.F) {
	f.Add(`{"time":3600,"timed":true,"tag":"a","keys":{"b":"c"}}`)
	f.Fuzz(func(t *testing.T, text string) {
		k, err := DecodeKey(text)
		if err != nil {
			return
		}
		again, err := k.Encode()
		if err != nil {
			return
		}
		if back, err := DecodeKey(again); err != nil || back.Tag != k.Tag || back.Time != k.Time || len(back.Vars) != len(k.Vars) {
			t.Errorf("%q becomes %q", text, again)
		}
	})
}
