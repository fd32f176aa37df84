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

// Join makes one table of several. Devices of the same blob become one. The result's second part says, for each table, the new number of
// its devices; both count from 1, and Renumber applies it. Tables with different digests cannot be joined.
func Join(tables ...*Table) (*Table, [][]uint32, error) {
	out := &Table{Algorithm: Blake3}
	numbers := make([][]uint32, len(tables))
	seen := map[[32]byte]uint32{}
	for i, t := range tables {
		numbers[i] = make([]uint32, len(t.Devices)+1)
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
			} else if len(out.Devices[n-1].Chunks) != len(d.Chunks) {
				return nil, nil, fmt.Errorf("%w: two images say different things about blob %s", ErrTable, d.Name())
			}
			numbers[i][j+1] = n
		}
	}
	return out, numbers, nil
}

// Renumber gives a chunk's Ref under new numbers of devices.
func (r Ref) Renumber(numbers []uint32) Ref {
	if r.Hole() {
		return r
	}
	return Ref{numbers[r.Device], r.Index}
}
