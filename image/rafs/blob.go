package rafs

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/klauspost/compress/zstd"

	"github.com/weft-dev/weft/image/chunk"
)

// Output makes Nydus's data blobs of what a chunk.Writer writes: it adds the table of chunks and, if asked, digests, bootstrap and table of
// contents (builder/src/core/blob.rs).
type Output struct {
	To        chunk.Output
	ChunkSize int
	Batch     bool // the Writer puts small chunks together
	TOC       bool // with digests and a table of contents
	// Inline makes the bootstrap that lies in the blob itself, of which b is the entry. Nil: none does.
	Inline func(d *chunk.Device, b Blob) ([]byte, error)

	Algorithm chunk.Algorithm
	Blobs     []Blob // of what was written, in order
}

// Create begins a blob.
func (o *Output) Create() (chunk.Blob, error) {
	to, err := o.To.Create()
	if err != nil {
		return nil, err
	}
	return &blobWriter{Blob: to, o: o}, nil
}

type blobWriter struct {
	chunk.Blob
	o     *Output
	at    int64
	parts []Part
	entry Blob
}

// Write writes chunks.
func (b *blobWriter) Write(p []byte) (int, error) {
	n, err := b.Blob.Write(p)
	b.at += int64(n)
	return n, err
}

// Commit adds what follows the chunks.
func (b *blobWriter) Commit(d *chunk.Device) error {
	if len(d.Chunks) > maxChunks {
		return fmt.Errorf("%d chunks in one blob: RAFS v6 holds at most %d; use larger chunks", len(d.Chunks), maxChunks)
	}
	o := b.o
	features := Aligned | CapTarTOC
	if o.Inline != nil {
		features |= InlinedMeta | TarHeader
	}
	if o.TOC {
		features |= HasTOC | TarHeader | InlinedDigest
	}
	if o.Batch {
		features |= Batch | ChunkInfoV2
	}
	if len(d.Chunks) == 0 {
		features &^= InlinedDigest
	}
	b.entry = Blob{
		ID: Itself, ChunkSize: uint32(o.ChunkSize), ChunkCount: uint32(len(d.Chunks)), Codec: d.Codec, Features: features, Space: uint64(d.Space),
	}
	if o.Algorithm == chunk.SHA256 {
		b.entry.Algorithm = 1
	}
	if len(d.Chunks) > 0 {
		if err := b.tables(d); err != nil {
			return err
		}
	}
	if o.Inline != nil {
		if err := b.inline(d); err != nil {
			return err
		}
	}
	if o.TOC {
		if err := b.contents(); err != nil {
			return err
		}
	}
	if err := b.Blob.Commit(d); err != nil {
		return err
	}
	d.Size = b.at
	b.entry.ID, b.entry.Size = hex.EncodeToString(d.Blob[:]), uint64(b.at)
	o.Blobs = append(o.Blobs, b.entry)
	return nil
}

// headed writes a tar header, in blobs that have them.
func (b *blobWriter) headed(name string, size int64) error {
	if b.entry.Features&TarHeader == 0 {
		return nil
	}
	_, err := b.Write(tarHeader(name, size))
	return err
}

func (b *blobWriter) part(name string, codec chunk.Codec, decoded []byte, at, stored int64) {
	b.parts = append(b.parts, Part{Name: name, Codec: codec, Digest: sha256.Sum256(decoded), At: uint64(at), Stored: uint64(stored), Size: uint64(len(decoded))})
}

// tables writes the table of chunks, its header and the digests.
func (b *blobWriter) tables(d *chunk.Device) error {
	data := b.at
	if err := b.headed(partBlob, data); err != nil {
		return err
	}
	// The digest of the data is not known without hashing it twice; readers take zeros for "not said".
	b.parts = append(b.parts, Part{Name: partBlob, Stored: uint64(data), Size: uint64(d.Space)})
	header, raw := encodeMeta(d, b.entry.Features)
	stored, err := d.Codec.Encode(raw)
	if err != nil {
		return fmt.Errorf("the table of chunks: %w", err)
	}
	codec := d.Codec
	if len(stored) == len(raw) {
		codec = chunk.None
	}
	at := b.at
	le.PutUint32(header[8:], uint32(codec))
	le.PutUint64(header[16:], uint64(at))
	le.PutUint64(header[24:], uint64(len(stored)))
	le.PutUint64(header[32:], uint64(len(raw)))
	b.entry.MetaCodec, b.entry.MetaOffset, b.entry.MetaStored, b.entry.MetaSize = codec, uint64(at), uint64(len(stored)), uint64(len(raw))
	if _, err := b.Write(stored); err != nil {
		return err
	}
	if _, err := b.Write(header); err != nil {
		return err
	}
	if err := b.headed(partMeta, int64(len(stored)+len(header))); err != nil {
		return err
	}
	b.part(partMeta, codec, raw, at, int64(len(stored)))
	b.part(partMetaHeader, chunk.None, header, at+int64(len(stored)), int64(len(header)))
	if !b.o.TOC {
		return nil
	}
	digests := make([]byte, 0, 32*len(d.Chunks))
	for i := range d.Chunks {
		digests = append(digests, d.Chunks[i].Digest[:]...)
	}
	at = b.at
	if _, err := b.Write(digests); err != nil {
		return err
	}
	b.part(partDigests, chunk.None, digests, at, int64(len(digests)))
	return b.headed(partDigests, int64(len(digests)))
}

func (b *blobWriter) inline(d *chunk.Device) error {
	b.entry.Size = uint64(b.at)
	bootstrap, err := b.o.Inline(d, b.entry)
	if err != nil {
		return err
	}
	stored, codec := bootstrap, chunk.None
	if b.o.TOC {
		z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
		if err != nil {
			return err
		}
		stored, codec = z.EncodeAll(bootstrap, nil), chunk.Zstd
	}
	at := b.at
	if _, err := b.Write(stored); err != nil {
		return err
	}
	b.part(partBootstrap, codec, bootstrap, at, int64(len(stored)))
	return b.headed(partBootstrap, int64(len(stored)))
}

func (b *blobWriter) contents() error {
	var toc []byte
	for i := range b.parts {
		toc = append(toc, b.parts[i].encode()...)
	}
	toc = append(toc, tarHeader(partTOC, int64(len(toc)))...)
	b.entry.TOCDigest, b.entry.TOCSize = sha256.Sum256(toc), uint32(len(toc))
	_, err := b.Write(toc)
	return err
}

// OnlyBootstrap writes a blob that holds nothing but a bootstrap, of a tree without content.
func OnlyBootstrap(to chunk.Output, toc bool, bootstrap []byte) (chunk.Device, error) {
	o := &Output{To: to, TOC: toc, ChunkSize: DefaultChunkSize, Inline: func(*chunk.Device, Blob) ([]byte, error) { return bootstrap, nil }}
	w, err := o.Create()
	if err != nil {
		return chunk.Device{}, err
	}
	var d chunk.Device
	if err := w.Commit(&d); err != nil {
		w.Abort()
		return d, err
	}
	return d, nil
}
