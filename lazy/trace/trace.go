// Package trace is the record of which parts of an image's devices a start reads, and in which order, so that the next start has them before it
// asks. It must not know how parts are fetched.
package trace

import (
	"encoding/json"
	"errors"
	"fmt"
	"sort"

	"github.com/weft-dev/weft/image/chunk"
)

// MediaType is that of a trace in a registry, and the artifact type of the manifest that has it as its layer and the image as its subject.
const MediaType = "application/vnd.weft.image.trace.v1+json"

// MaxSize is the greatest trace that is read, in bytes.
const MaxSize = 4 << 20

const (
	version    = 1
	maxDevices = 1 << 16
	maxBlocks  = 1 << 32
)

// ErrTrace says that bytes are not a trace, or that of another image.
var ErrTrace = errors.New("the record of a start is not usable")

// Part is a run of blocks of 4 KiB of a device.
type Part struct {
	Device     uint32 // in the image's table, from 0
	First, End int64  // blocks
}

// Trace is the parts that a start reads, in the order of their first reading. Each block is in it once.
type Trace struct {
	Image string // the digest of the image's metadata, in hexadecimal
	Parts []Part

	covered map[uint32][]Part // sorted, not touching each other
	blocks  int64
}

// New makes an empty trace of an image.
func New(image string) *Trace { return &Trace{Image: image, covered: map[uint32][]Part{}} }

// file is a trace as JSON.
type file struct {
	Version int        `json:"version"`
	Image   string     `json:"image"`
	Parts   [][3]int64 `json:"parts"` // device from 0, first block, blocks
}

// Decode reads a trace of an image.
func Decode(b []byte, image string) (*Trace, error) {
	if len(b) > MaxSize {
		return nil, fmt.Errorf("%w: it has more than %d bytes", ErrTrace, MaxSize)
	}
	var f file
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTrace, err)
	}
	if f.Version != version {
		return nil, fmt.Errorf("%w: format version %d, this program reads version %d", ErrTrace, f.Version, version)
	}
	if f.Image != image {
		return nil, fmt.Errorf("%w: it is of the image %.80q, not of %s", ErrTrace, f.Image, image)
	}
	t := New(image)
	for i, p := range f.Parts {
		if p[0] < 0 || p[0] >= maxDevices || p[1] < 0 || p[2] <= 0 || p[1] > maxBlocks || p[2] > maxBlocks {
			return nil, fmt.Errorf("%w: parts[%d] is %v: a device, its first block and a number of blocks were expected", ErrTrace, i, p)
		}
		t.Add(uint32(p[0]), p[1], p[1]+p[2])
	}
	return t, nil
}

// Encode writes a trace.
func (t *Trace) Encode() []byte {
	f := file{Version: version, Image: t.Image, Parts: make([][3]int64, len(t.Parts))}
	for i, p := range t.Parts {
		f.Parts[i] = [3]int64{int64(p.Device), p.First, p.End - p.First}
	}
	b, err := json.Marshal(f)
	if err != nil { // numbers and a string always have a form
		return nil
	}
	return b
}

// Add adds what is not in the trace yet of the blocks from first up to end.
func (t *Trace) Add(device uint32, first, end int64) {
	list := t.covered[device]
	i := sort.Search(len(list), func(i int) bool { return list[i].End > first })
	for at := first; at < end; {
		stop := end
		if i < len(list) && list[i].First <= at {
			at = list[i].End
			i++
			continue
		}
		if i < len(list) {
			stop = min(stop, list[i].First)
		}
		t.put(Part{device, at, stop})
		at = stop
	}
	t.cover(device, first, end)
}

// put appends a part, to the last one if it goes on there.
func (t *Trace) put(p Part) {
	t.blocks += p.End - p.First
	if n := len(t.Parts); n > 0 && t.Parts[n-1].Device == p.Device && t.Parts[n-1].End == p.First {
		t.Parts[n-1].End = p.End
		return
	}
	t.Parts = append(t.Parts, p)
}

// cover remembers that blocks are in the trace.
func (t *Trace) cover(device uint32, first, end int64) {
	if first >= end {
		return
	}
	list := t.covered[device]
	i := sort.Search(len(list), func(i int) bool { return list[i].End >= first })
	j := i
	for ; j < len(list) && list[j].First <= end; j++ {
		first, end = min(first, list[j].First), max(end, list[j].End)
	}
	merged := append(append(append([]Part(nil), list[:i]...), Part{device, first, end}), list[j:]...)
	t.covered[device] = merged
}

// Append adds the parts of another trace.
func (t *Trace) Append(o *Trace) {
	for _, p := range o.Parts {
		t.Add(p.Device, p.First, p.End)
	}
}

// Bytes is how much is in the trace.
func (t *Trace) Bytes() int64 { return t.blocks * chunk.Block }

// Group is parts of one device that are fetched together.
type Group struct {
	Device uint32
	Parts  []Part
}

// Ranges are the parts as offsets and numbers of bytes.
func (g Group) Ranges() [][2]int64 {
	list := make([][2]int64, len(g.Parts))
	for i, p := range g.Parts {
		list[i] = [2]int64{p.First * chunk.Block, (p.End - p.First) * chunk.Block}
	}
	return list
}

// Groups divides the trace into groups of about size bytes, in its order.
func (t *Trace) Groups(size int64) []Group {
	var list []Group
	left := int64(0)
	for _, p := range t.Parts {
		for p.First < p.End {
			if n := len(list); n == 0 || list[n-1].Device != p.Device || left <= 0 {
				list, left = append(list, Group{Device: p.Device}), max(size/chunk.Block, 1)
			}
			end := min(p.End, p.First+left)
			g := &list[len(list)-1]
			g.Parts = append(g.Parts, Part{p.Device, p.First, end})
			left -= end - p.First
			p.First = end
		}
	}
	return list
}
