package filler

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"slices"
)

// all reads a blob from its beginning to its end, for sources that give no parts; one goroutine does it for all that want it.
func (f *Filler) all(ctx context.Context, s Source, class Class) error {
	f.mu.Lock()
	w, own := f.whole, false
	if w == nil {
		w, own = &flight{done: make(chan struct{})}, true
		f.whole = w
	}
	f.mu.Unlock()
	if own {
		f.running.Add(1)
		go func() {
			defer f.running.Done()
			// It may take longer than the one fill that began it.
			w.err = f.stream(f.ctx, s, class)
			f.mu.Lock()
			f.whole = nil
			f.mu.Unlock()
			close(w.done)
		}()
	}
	select {
	case <-w.done:
		return w.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (f *Filler) stream(ctx context.Context, s Source, class Class) error {
	leave, err := f.options.Order.enter(ctx, class, 0)
	if err != nil {
		return err
	}
	defer leave()
	f.counters.Requests.Add(1)
	body, err := s.Stream(ctx, f.dev.Device())
	if err != nil {
		return err
	}
	defer body.Close()
	r := bufio.NewReaderSize(body, 256<<10)
	at := int64(0)
	var first error
	for _, x := range f.extents {
		if x.at < at {
			continue // extents that overlap: what is left is an error of those who read it
		}
		if err := f.options.Order.pay(ctx, class, int(x.at-at)+int(x.stored)); err != nil {
			return err
		}
		if _, err := io.CopyN(io.Discard, r, x.at-at); err != nil {
			return fmt.Errorf("the blob is shorter than its image says: %w", err)
		}
		p := make([]byte, x.stored)
		if _, err := io.ReadFull(r, p); err != nil {
			return fmt.Errorf("the blob is shorter than its image says: %w", err)
		}
		at = x.at + int64(x.stored)
		f.counters.Fetched[class].Add(int64(x.stored))
		if err := f.put(x, p); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// Rest fills everything that is missing, in requests of at most 1 MiB. It goes on after a failure and returns the first.
func (f *Filler) Rest(ctx context.Context, class Class) error {
	const part = 1 << 20
	var first error
	chunks := f.dev.Device().Chunks
	for i := 0; i < len(f.members); {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		c := &chunks[f.members[i]]
		if f.dev.Has(c.Offset, int64(c.Size)) {
			i++
			continue
		}
		list, size := []uint32{}, int64(0)
		for ; i < len(f.members) && size < part; i++ {
			m := f.members[i]
			if f.dev.Has(chunks[m].Offset, int64(chunks[m].Size)) {
				break
			}
			list = append(list, m)
			size += int64(chunks[m].Size)
		}
		if err := f.chunks(ctx, list, class); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// Fill fills ranges of the device, given as offset and number of bytes, in as few requests as they allow.
func (f *Filler) Fill(ctx context.Context, ranges [][2]int64, class Class) error {
	d := f.dev.Device()
	var list []uint32
	for _, r := range ranges {
		for i := d.Find(r[0]); i < len(d.Chunks) && d.Chunks[i].Offset < r[0]+r[1]; i++ {
			if c := &d.Chunks[i]; !f.dev.Has(c.Offset, int64(c.Size)) {
				list = append(list, uint32(i))
			}
		}
	}
	slices.SortFunc(list, func(a, b uint32) int { return int(f.of[a]) - int(f.of[b]) })
	return f.chunks(ctx, list, class)
}

// chunks fills chunks of the device.
func (f *Filler) chunks(ctx context.Context, list []uint32, class Class) error {
	f.mu.Lock()
	var fresh []uint32
	var wait []*flight
	for _, m := range list {
		e := f.of[m]
		if n := len(fresh); n > 0 && fresh[n-1] == e {
			continue
		}
		if w, ok := f.flights[e]; ok {
			wait = append(wait, w)
		} else {
			fresh = append(fresh, e)
		}
	}
	for _, r := range f.runs(fresh, class) {
		wait = append(wait, f.begin(r, class)...)
	}
	f.mu.Unlock()
	var first error
	for _, w := range wait {
		select {
		case <-w.done:
			if w.err != nil && first == nil {
				first = w.err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return first
}
