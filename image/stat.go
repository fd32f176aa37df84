package image

import (
	"github.com/weft-dev/weft/image/chunk"
	"github.com/weft-dev/weft/image/tree"
)

// Stat is what an image consists of. Bytes of chunks are decoded unless their name says stored.
type Stat struct {
	Image        string `json:"image"`
	Format       Format `json:"format"`
	Dirs         int    `json:"dirs"`
	Files        int    `json:"files"`
	Symlinks     int    `json:"symlinks"`
	Others       int    `json:"others"`    // devices, fifos, sockets
	HardLinks    int    `json:"hardLinks"` // names beyond the first of a file
	FileBytes    int64  `json:"fileBytes"`
	InlineBytes  int64  `json:"inlineBytes"` // in the metadata
	HoleBytes    int64  `json:"holeBytes"`
	Metadata     int64  `json:"metadataBytes"`
	Blobs        int    `json:"blobs"`
	BlobBytes    int64  `json:"blobBytes"`    // stored
	Chunks       int64  `json:"chunks"`       // of all files
	ChunkBytes   int64  `json:"chunkBytes"`   // of all files
	UniqueChunks int64  `json:"uniqueChunks"` // each once
	UniqueBytes  int64  `json:"uniqueBytes"`
	UniqueStored int64  `json:"uniqueStoredBytes"` // of extents, each once
}

// Stats are those of several images, and what they have together.
type Stats struct {
	Images      []Stat `json:"images"`
	ChunkBytes  int64  `json:"chunkBytes"`  // of all files of all images
	UniqueBytes int64  `json:"uniqueBytes"` // each chunk once, by its digest
	Unique      int64  `json:"uniqueChunks"`
	BlobBytes   int64  `json:"blobBytes"` // stored, each blob once
}

// Saved is which part of the files' bytes need not be stored, from 0 to 1, before compression.
func (s *Stats) Saved() float64 {
	if s.ChunkBytes == 0 {
		return 0
	}
	return 1 - float64(s.UniqueBytes)/float64(s.ChunkBytes)
}

// Count counts what images consist of and what they share.
func Count(images ...*Opened) *Stats {
	all := &Stats{Images: []Stat{}}
	seen, blobs := map[chunk.Digest]bool{}, map[[32]byte]bool{}
	for _, o := range images {
		s := o.count(func(c *chunk.Chunk) {
			if !seen[c.Digest] {
				seen[c.Digest] = true
				all.Unique++
				all.UniqueBytes += int64(c.Size)
			}
		})
		for i := range o.Table.Devices {
			if d := &o.Table.Devices[i]; !blobs[d.Blob] {
				blobs[d.Blob] = true
				all.BlobBytes += d.Size
			}
		}
		all.ChunkBytes += s.ChunkBytes
		all.Images = append(all.Images, s)
	}
	return all
}

func (o *Opened) count(each func(*chunk.Chunk)) Stat {
	s := Stat{Image: o.Name, Format: o.Format, Metadata: int64(len(o.Metadata)), Blobs: len(o.Table.Devices)}
	for i := range o.Table.Devices {
		s.BlobBytes += o.Table.Devices[i].Size
	}
	nodes, refs, extents := map[*tree.Node]bool{}, map[chunk.Ref]bool{}, map[[2]int64]bool{}
	for _, n := range o.Root.All() {
		if nodes[n] {
			s.HardLinks++
			continue
		}
		nodes[n] = true
		switch n.Type() {
		case tree.Dir:
			s.Dirs++
		case tree.Symlink:
			s.Symlinks++
		case tree.Regular:
			s.Files++
			s.FileBytes += n.Size
			s.InlineBytes += int64(len(n.Inline))
			for i, r := range n.Chunks {
				if r.Hole() {
					s.HoleBytes += min(int64(n.ChunkSize), n.Size-int64(i)*int64(n.ChunkSize))
					continue
				}
				c := &o.Table.Devices[r.Device-1].Chunks[r.Index]
				each(c)
				s.Chunks++
				s.ChunkBytes += int64(c.Size)
				if refs[r] {
					continue
				}
				refs[r] = true
				s.UniqueChunks++
				s.UniqueBytes += int64(c.Size)
				if at := [2]int64{int64(r.Device), c.At}; !extents[at] {
					extents[at] = true
					s.UniqueStored += int64(c.Stored)
				}
			}
		default:
			s.Others++
		}
	}
	return s
}
