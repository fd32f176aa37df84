package chunk

import "fmt"

// Dict finds chunks that lie somewhere already. It is used by one goroutine.
type Dict struct {
	refs map[Digest]Ref
}

// NewDict makes a dictionary of all chunks of a table. Of chunks with one digest the first counts.
func NewDict(t *Table) *Dict {
	d := &Dict{refs: map[Digest]Ref{}}
	if t == nil {
		return d
	}
	for i := range t.Devices {
		for j := range t.Devices[i].Chunks {
			if c := &t.Devices[i].Chunks[j]; c.Flags&Encrypted == 0 {
				d.add(c.Digest, Ref{uint32(i + 1), uint32(j)})
			}
		}
	}
	return d
}

func (d *Dict) add(digest Digest, r Ref) {
	if _, ok := d.refs[digest]; !ok {
		d.refs[digest] = r
	}
}

// Find gives the chunk with a digest.
func (d *Dict) Find(digest Digest) (Ref, bool) {
	r, ok := d.refs[digest]
	return r, ok
}

// Numbers says for the Refs of one table what they are in another.
type Numbers struct {
	devices []uint32   // by device, from 1
	chunks  [][]uint32 // by device, then by index; nil where all stay
}

// Drop makes the Numbers of a table whose devices are left out where keep is false, counted from 0.
func Drop(keep []bool) Numbers {
	n := Numbers{devices: make([]uint32, len(keep)+1), chunks: make([][]uint32, len(keep)+1)}
	next := uint32(0)
	for i, stays := range keep {
		if stays {
			next++
			n.devices[i+1] = next
		}
	}
	return n
}

// Device is the new number of a device; both count from 1. It is 0 if it was left out.
func (n Numbers) Device(old uint32) uint32 {
	if int64(old) >= int64(len(n.devices)) {
		return 0
	}
	return n.devices[old]
}

// Ref is the new Ref of a chunk.
func (n Numbers) Ref(r Ref) (Ref, error) {
	if r.Hole() {
		return r, nil
	}
	to := Ref{n.Device(r.Device), r.Index}
	if to.Device == 0 {
		return to, fmt.Errorf("%w: device %d is gone", ErrTable, r.Device)
	}
	if c := n.chunks[r.Device]; c != nil {
		if int64(r.Index) >= int64(len(c)) {
			return to, fmt.Errorf("%w: it has no chunk %d of device %d", ErrTable, r.Index, r.Device)
		}
		to.Index = c[r.Index]
	}
	return to, nil
}

// Join makes one table of several. Devices of the same blob become one, with the chunks of all of them. The result's second part has for each
// table what became of its Refs. Tables with different digests cannot be joined.
func Join(tables ...*Table) (*Table, []Numbers, error) {
	out := &Table{Algorithm: Blake3}
	numbers := make([]Numbers, len(tables))
	seen := map[[32]byte]uint32{}
	for i, t := range tables {
		numbers[i] = Numbers{make([]uint32, len(t.Devices)+1), make([][]uint32, len(t.Devices)+1)}
		if len(t.Devices) > 0 {
			if len(out.Devices) > 0 && out.Algorithm != t.Algorithm {
				return nil, nil, fmt.Errorf("images with chunk digests of %s and of %s cannot be put together: build them with the same", out.Algorithm, t.Algorithm)
			}
			out.Algorithm = t.Algorithm
		}
		for j := range t.Devices {
			d := &t.Devices[j]
			n, ok := seen[d.Blob]
			if !ok {
				out.Devices = append(out.Devices, *d)
				n = uint32(len(out.Devices))
				seen[d.Blob] = n
			} else if err := out.Devices[n-1].unite(d); err != nil {
				return nil, nil, err
			}
			numbers[i].devices[j+1] = n
		}
	}
	for i, t := range tables {
		for j := range t.Devices {
			numbers[i].chunks[j+1] = t.Devices[j].indexesIn(&out.Devices[numbers[i].devices[j+1]-1])
		}
	}
	return out, numbers, nil
}

// unite adds the chunks that another description of the same blob has.
func (d *Device) unite(other *Device) error {
	var all []Chunk
	i, j := 0, 0
	for i < len(d.Chunks) || j < len(other.Chunks) {
		switch {
		case j == len(other.Chunks) || i < len(d.Chunks) && d.Chunks[i].Offset < other.Chunks[j].Offset:
			all = append(all, d.Chunks[i])
			i++
		case i == len(d.Chunks) || other.Chunks[j].Offset < d.Chunks[i].Offset:
			all = append(all, other.Chunks[j])
			j++
		default:
			if d.Chunks[i].Digest != other.Chunks[j].Digest || d.Chunks[i].Size != other.Chunks[j].Size {
				return fmt.Errorf("%w: two images say different things about blob %s at %d", ErrTable, d.Name(), d.Chunks[i].Offset)
			}
			all = append(all, d.Chunks[i])
			i, j = i+1, j+1
		}
	}
	d.Chunks = all
	return nil
}

// indexesIn gives the indexes of the device's chunks in a device that has them all; nil if they are the same.
func (d *Device) indexesIn(all *Device) []uint32 {
	if len(d.Chunks) == len(all.Chunks) {
		return nil
	}
	to := make([]uint32, len(d.Chunks))
	i := 0
	for j := range d.Chunks {
		for all.Chunks[i].Offset < d.Chunks[j].Offset {
			i++
		}
		to[j] = uint32(i)
	}
	return to
}
