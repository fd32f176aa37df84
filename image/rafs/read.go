package rafs

import (
	"context"
	"fmt"
	"io"
	"math/bits"
	"sort"

	"github.com/weft-dev/weft/image/chunk"
	"github.com/weft-dev/weft/image/erofs"
	"github.com/weft-dev/weft/image/tree"
)

// Bootstrap is a bootstrap being read.
type Bootstrap struct {
	Super    Super
	Blobs    []Blob
	Entries  []Entry // the chunk table
	Prefetch []uint32
	Image    *erofs.Image
	size     int64
}

// Is says whether an image of which head are the first 4096 bytes is RAFS v6.
func Is(head []byte) bool {
	s, err := decodeEROFS(head)
	return err == nil && s.Compat&erofs.CompatRAFS != 0
}

func decodeEROFS(head []byte) (*erofs.Superblock, error) {
	if len(head) < block {
		return nil, fmt.Errorf("%w: it has only %d bytes", ErrFormat, len(head))
	}
	return erofs.DecodeSuperblock(head[superOffset:])
}

// Open reads the tables of a bootstrap of size bytes. Devices are the decoded blobs, in order; they may be missing if only metadata is read.
func Open(r io.ReaderAt, size int64, devices ...io.ReaderAt) (*Bootstrap, error) {
	head := make([]byte, min(size, block))
	if n, err := r.ReadAt(head, 0); n < len(head) {
		return nil, fmt.Errorf("%w: its first block: %w", ErrFormat, err)
	}
	super, err := decodeEROFS(head)
	if err != nil {
		return nil, err
	}
	if super.Compat&erofs.CompatRAFS == 0 {
		return nil, fmt.Errorf("%w: it is plain EROFS, without RAFS's extended superblock", ErrFormat)
	}
	b := &Bootstrap{Super: decodeSuper(head[extOffset:]), size: size}
	if b.Super.Flags&FlagTarfs != 0 {
		return nil, fmt.Errorf("%w: RAFS in tarfs mode", ErrUnsupported)
	}
	if b.Image, err = erofs.Open(r, size, devices...); err != nil {
		return nil, err
	}
	if err := b.check(); err != nil {
		return nil, err
	}
	for _, read := range []func(io.ReaderAt) error{b.readBlobs, b.readChunks, b.readPrefetch} {
		if err := read(r); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func (b *Bootstrap) check() error {
	s := &b.Super
	if n := bits.OnesCount64(s.Flags & (FlagNone | FlagLZ4 | FlagGZip | FlagZstd)); n != 1 {
		return fmt.Errorf("%w: %d compressors in the flags %#x", ErrFormat, n, s.Flags)
	}
	if n := bits.OnesCount64(s.Flags & (FlagBlake3 | FlagSHA256)); n != 1 {
		return fmt.Errorf("%w: %d digests in the flags %#x", ErrFormat, n, s.Flags)
	}
	if s.ChunkSize < chunk.MinSize || s.ChunkSize > chunk.MaxSize || s.ChunkSize&(s.ChunkSize-1) != 0 {
		return fmt.Errorf("%w: chunks of %d bytes", ErrFormat, s.ChunkSize)
	}
	return nil
}

// part reads a table of the bootstrap.
func (b *Bootstrap) part(r io.ReaderAt, what string, at, size uint64, unit uint64) ([]byte, error) {
	if size == 0 {
		return nil, nil
	}
	if at > uint64(b.size) || size > uint64(b.size)-at || size%unit != 0 {
		return nil, fmt.Errorf("%w: a %s of %d bytes at byte %d of %d", ErrFormat, what, size, at, b.size)
	}
	p := make([]byte, size)
	if n, err := r.ReadAt(p, int64(at)); n < len(p) {
		return nil, fmt.Errorf("%w: the %s: %w", ErrFormat, what, err)
	}
	return p, nil
}

func (b *Bootstrap) readBlobs(r io.ReaderAt) error {
	p, err := b.part(r, "blob table", b.Super.BlobTable, uint64(b.Super.BlobTableSize), blobSize)
	if err != nil {
		return err
	}
	for i := 0; i*blobSize < len(p); i++ {
		blob := decodeBlob(p[i*blobSize:])
		if err := blob.check(i); err != nil {
			return err
		}
		b.Blobs = append(b.Blobs, blob)
	}
	if len(b.Blobs) != len(b.Image.Slots) {
		return fmt.Errorf("%w: %d blobs and %d devices", ErrFormat, len(b.Blobs), len(b.Image.Slots))
	}
	return nil
}

func (b *Bootstrap) readChunks(r io.ReaderAt) error {
	p, err := b.part(r, "chunk table", b.Super.ChunkTable, b.Super.ChunkTableSize, chunkEntrySize)
	if err != nil {
		return err
	}
	b.Entries = make([]Entry, 0, len(p)/chunkEntrySize)
	for ; len(p) > 0; p = p[chunkEntrySize:] {
		e := decodeEntry(p)
		if int64(e.Blob) >= int64(len(b.Blobs)) {
			return fmt.Errorf("%w: chunk %s lies in blob %d of %d", ErrFormat, e.Digest, e.Blob, len(b.Blobs))
		}
		b.Entries = append(b.Entries, e)
	}
	return nil
}

func (b *Bootstrap) readPrefetch(r io.ReaderAt) error {
	if b.Super.Prefetch == 0 {
		return nil // older images without files have a size and no table
	}
	p, err := b.part(r, "prefetch table", b.Super.Prefetch, uint64(b.Super.PrefetchSize), 4)
	if err != nil {
		return err
	}
	for ; len(p) > 0; p = p[4:] {
		b.Prefetch = append(b.Prefetch, le.Uint32(p))
	}
	return nil
}

// NeedsMeta says whether the chunks of a blob can only be found with the table in the blob itself.
func (b *Blob) NeedsMeta() bool { return b.Features&(Batch|ZRan) != 0 }

// Table is the chunks that the bootstrap knows: those of its files. Metas are the tables of blobs by their index, as ReadMeta gives them;
// they are needed for blobs with batches, whose chunks otherwise have no place in the blob (Stored is 0).
func (b *Bootstrap) Table(metas map[int]*Meta) (*chunk.Table, error) {
	t := &chunk.Table{Algorithm: b.Super.Algorithm(), Devices: make([]chunk.Device, len(b.Blobs))}
	for i := range b.Blobs {
		blob := &b.Blobs[i]
		t.Devices[i] = chunk.Device{Blob: blob.digest(), Size: int64(blob.Size), Space: align(int64(blob.Space), block), Codec: blob.Codec}
	}
	for i := range b.Entries {
		e := &b.Entries[i]
		c := chunk.Chunk{Digest: e.Digest, Offset: int64(e.Offset), At: int64(e.At), Size: e.Size, Stored: e.Stored, Extent: e.Size, Number: e.Index}
		if e.Flags&chunkEncrypted != 0 {
			c.Flags |= chunk.Encrypted
		}
		if m := metas[int(e.Blob)]; m != nil {
			if err := m.locate(&c, e.Index); err != nil {
				return nil, fmt.Errorf("blob %d: %w", e.Blob, err)
			}
		}
		if c.Offset < 0 || c.Offset%block != 0 || c.Size == 0 || c.Size > chunk.MaxSize {
			return nil, fmt.Errorf("%w: chunk %s has %d bytes at %d", ErrFormat, e.Digest, c.Size, c.Offset)
		}
		d := &t.Devices[e.Blob]
		d.Chunks = append(d.Chunks, c)
	}
	whole := true
	for i := range t.Devices {
		d := &t.Devices[i]
		sort.Slice(d.Chunks, func(x, y int) bool { return d.Chunks[x].Offset < d.Chunks[y].Offset })
		for j := range d.Chunks {
			whole = whole && d.Chunks[j].Stored > 0
			if j > 0 && d.Chunks[j].Offset < d.Chunks[j-1].End() {
				return nil, fmt.Errorf("%w: chunks of blob %d lie on top of each other at %d", ErrFormat, i, d.Chunks[j].Offset)
			}
			if d.Chunks[j].End() > d.Space {
				return nil, fmt.Errorf("%w: a chunk of blob %d ends at %d, after its end", ErrFormat, i, d.Chunks[j].End())
			}
		}
	}
	if whole {
		return t, t.Check()
	}
	return t, nil
}

// Tree reads the whole tree and checks it as erofs.Image.Tree does. Files refer to the chunks of the table.
func (b *Bootstrap) Tree(ctx context.Context, table *chunk.Table) (*tree.Node, error) {
	return b.Image.Walk(ctx, func(in *erofs.Inode, n *tree.Node) error { return b.chunks(in, n, table) })
}

// chunks reads the index of a file, which is one of chunks of the superblock's size whatever the inode says.
func (b *Bootstrap) chunks(in *erofs.Inode, n *tree.Node, table *chunk.Table) error {
	size := int64(b.Super.ChunkSize)
	count := (n.Size + size - 1) / size
	index, err := in.RawIndex(count)
	if err != nil {
		return err
	}
	n.ChunkSize, n.Chunks = int(size), make([]chunk.Ref, count)
	for i, x := range index {
		if x.Hole() {
			continue
		}
		device, want := uint32(x.Device&0xff), min(size, n.Size-int64(i)*size)
		ref, ok := table.At(device, int64(x.Block)*block)
		if !ok {
			return fmt.Errorf("%w: chunk %d (blob %d, block %d) is not in the chunk table", ErrFormat, i, int(device)-1, x.Block)
		}
		if c, err := table.Chunk(ref); err != nil || int64(c.Size) != want {
			return fmt.Errorf("%w: chunk %d should have %d bytes, the chunk table says otherwise", ErrFormat, i, want)
		}
		n.Chunks[i] = ref
	}
	return together(in, index, size)
}

// together checks a file whose inode says that it is one large chunk: the kernel reads it from the first index alone.
func together(in *erofs.Inode, index []erofs.Index, size int64) error {
	if in.ChunkSize() == size {
		return nil
	}
	if in.ChunkSize() < int64(in.Size) {
		return fmt.Errorf("%w: chunks of %d bytes in an image with chunks of %d", ErrFormat, in.ChunkSize(), size)
	}
	for i, x := range index {
		if x.Device&0xff != index[0].Device&0xff || int64(x.Block) != int64(index[0].Block)+int64(i)*size/block {
			return fmt.Errorf("%w: its inode says that its chunks follow each other, and chunk %d does not", ErrFormat, i)
		}
	}
	return nil
}

// Options are those with which Write makes a bootstrap like this one, from what Table and Tree gave.
func (b *Bootstrap) Options(table *chunk.Table) (Options, error) {
	entries := map[chunk.Ref]Entry{}
	for _, e := range b.Entries {
		if ref, ok := table.At(e.Blob+1, int64(e.Offset)); ok {
			entries[ref] = e
		}
	}
	paths, err := b.PrefetchPaths()
	return Options{
		ChunkSize: int(b.Super.ChunkSize), Codec: b.Super.Codec(), NoOwners: b.Super.Flags&FlagOwners == 0, Prefetch: paths,
		Entry: func(r chunk.Ref) (Entry, bool) { e, ok := entries[r]; return e, ok },
	}, err
}

// PrefetchPaths are the paths that the prefetch table means, in its order. Of a file with several names it is the first.
func (b *Bootstrap) PrefetchPaths() ([]string, error) {
	if len(b.Prefetch) == 0 {
		return nil, nil
	}
	first := map[uint64]string{}
	err := b.Image.Inodes(func(p string, in *erofs.Inode) error {
		if _, ok := first[in.NID]; !ok {
			first[in.NID] = p
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, nid := range b.Prefetch {
		p, ok := first[uint64(nid)]
		if !ok {
			return nil, fmt.Errorf("%w: its prefetch table names inode %d, which has no path", ErrFormat, nid)
		}
		paths = append(paths, p)
	}
	return paths, nil
}
