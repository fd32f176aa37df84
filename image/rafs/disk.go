package rafs

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/weft-dev/weft/image/chunk"
)

// ErrFormat says that a bootstrap or blob is damaged, or not RAFS v6.
var ErrFormat = errors.New("the RAFS v6 image is not valid")

// ErrUnsupported says that it uses a feature that is not read here.
var ErrUnsupported = errors.New("not supported")

var le = binary.LittleEndian

// Sizes and places of the format.
const (
	block          = 4096
	superOffset    = 1024
	extOffset      = 1152
	extSize        = 256
	deviceOffset   = 1408
	deviceSize     = 128
	blobSize       = 256
	chunkEntrySize = 80
	slot           = 32
	maxBlobs       = 254
	maxChunks      = 1<<24 - 1
	// DefaultChunkSize is that of Nydus, in bytes.
	DefaultChunkSize = 1 << 20
)

// Flags of the extended superblock (RafsSuperFlags).
const (
	FlagNone          = 0x1
	FlagLZ4           = 0x2
	FlagBlake3        = 0x4
	FlagSHA256        = 0x8
	FlagOwners        = 0x10
	FlagXattrs        = 0x20
	FlagGZip          = 0x40
	FlagZstd          = 0x80
	FlagInlinedDigest = 0x100
	FlagTarfs         = 0x200
	FlagNotEncrypted  = 0x1000000
	FlagEncrypted     = 0x2000000
)

var codecFlags = map[chunk.Codec]uint64{chunk.None: FlagNone, chunk.LZ4: FlagLZ4, chunk.GZip: FlagGZip, chunk.Zstd: FlagZstd}

// Features of a blob (BlobFeatures).
type Features uint32

// The features.
const (
	Aligned       Features = 0x1
	InlinedMeta   Features = 0x2
	ChunkInfoV2   Features = 0x4
	ZRan          Features = 0x8
	Separate      Features = 0x10
	InlinedDigest Features = 0x20
	Tarfs         Features = 0x40
	Batch         Features = 0x80
	EncryptedBlob Features = 0x100
	ChunkDict     Features = 0x200
	PrefetchBlob  Features = 0x400
	External      Features = 0x800
	TarHeader     Features = 0x10000000
	HasTOC        Features = 0x20000000
	CapTarTOC     Features = 0x40000000
)

var featureNames = []struct {
	bit  Features
	name string
}{
	{Aligned, "aligned"}, {InlinedMeta, "inlined-meta"}, {ChunkInfoV2, "chunk-v2"}, {ZRan, "zran"}, {Separate, "separate"},
	{InlinedDigest, "inlined-digest"}, {Tarfs, "tarfs"}, {Batch, "batch"}, {EncryptedBlob, "encrypted"}, {ChunkDict, "chunkdict"},
	{PrefetchBlob, "prefetch"}, {External, "external"}, {TarHeader, "tar-header"}, {HasTOC, "toc"}, {CapTarTOC, "cap-tar-toc"},
}

// String lists the names.
func (f Features) String() string {
	var names []string
	for _, n := range featureNames {
		if f&n.bit != 0 {
			names = append(names, n.name)
			f &^= n.bit
		}
	}
	if f != 0 {
		names = append(names, fmt.Sprintf("%#x", uint32(f)))
	}
	return strings.Join(names, " ")
}

// Super is the extended superblock.
type Super struct {
	Flags          uint64
	BlobTable      uint64 // byte
	BlobTableSize  uint32
	ChunkSize      uint32
	ChunkTable     uint64
	ChunkTableSize uint64
	Prefetch       uint64
	PrefetchSize   uint32
}

func (s *Super) encode() []byte {
	b := make([]byte, extSize)
	le.PutUint64(b, s.Flags)
	le.PutUint64(b[8:], s.BlobTable)
	le.PutUint32(b[16:], s.BlobTableSize)
	le.PutUint32(b[20:], s.ChunkSize)
	le.PutUint64(b[24:], s.ChunkTable)
	le.PutUint64(b[32:], s.ChunkTableSize)
	le.PutUint64(b[40:], s.Prefetch)
	le.PutUint32(b[48:], s.PrefetchSize)
	return b
}

func decodeSuper(b []byte) Super {
	return Super{
		Flags: le.Uint64(b), BlobTable: le.Uint64(b[8:]), BlobTableSize: le.Uint32(b[16:]), ChunkSize: le.Uint32(b[20:]),
		ChunkTable: le.Uint64(b[24:]), ChunkTableSize: le.Uint64(b[32:]), Prefetch: le.Uint64(b[40:]), PrefetchSize: le.Uint32(b[48:]),
	}
}

// Algorithm is the digest of chunks.
func (s *Super) Algorithm() chunk.Algorithm {
	if s.Flags&FlagSHA256 != 0 {
		return chunk.SHA256
	}
	return chunk.Blake3
}

// Codec is how chunks are encoded.
func (s *Super) Codec() chunk.Codec {
	for c, flag := range codecFlags {
		if s.Flags&flag != 0 {
			return c
		}
	}
	return chunk.None
}

// Blob is an entry of the blob table (RafsV6Blob).
type Blob struct {
	ID           string // usually the sha256 of the blob in hexadecimal; 64 times "x" in a bootstrap that lies in its own blob
	Index        uint32
	ChunkSize    uint32
	ChunkCount   uint32
	Codec        chunk.Codec
	Algorithm    uint32 // 0 blake3, 1 sha256
	Features     Features
	Size         uint64 // of the blob as it is stored, in bytes
	Space        uint64 // decoded bytes
	TOCSize      uint32
	MetaCodec    chunk.Codec
	MetaOffset   uint64
	MetaStored   uint64
	MetaSize     uint64
	TOCDigest    [32]byte
	MetaDigest   [32]byte // of a separate blob of metadata; or the key
	MetaBlobSize uint64   // of a separate blob of metadata; or part of the key
	IV           [8]byte
	Cipher       uint32
}

// Itself is the ID of the blob in which the bootstrap itself lies.
var Itself = strings.Repeat("x", 64)

func (b *Blob) encode() []byte {
	p := make([]byte, blobSize)
	copy(p[:64], b.ID)
	for i, v := range []uint32{b.Index, b.ChunkSize, b.ChunkCount, uint32(b.Codec), b.Algorithm, uint32(b.Features)} {
		le.PutUint32(p[64+4*i:], v)
	}
	le.PutUint64(p[88:], b.Size)
	le.PutUint64(p[96:], b.Space)
	le.PutUint32(p[104:], b.TOCSize)
	le.PutUint32(p[108:], uint32(b.MetaCodec))
	le.PutUint64(p[112:], b.MetaOffset)
	le.PutUint64(p[120:], b.MetaStored)
	le.PutUint64(p[128:], b.MetaSize)
	copy(p[136:], b.TOCDigest[:])
	copy(p[168:], b.MetaDigest[:])
	le.PutUint64(p[200:], b.MetaBlobSize)
	copy(p[208:], b.IV[:])
	le.PutUint32(p[216:], b.Cipher)
	return p
}

func decodeBlob(p []byte) Blob {
	return Blob{
		ID: strings.TrimRight(string(p[:64]), "\x00"), Index: le.Uint32(p[64:]), ChunkSize: le.Uint32(p[68:]), ChunkCount: le.Uint32(p[72:]),
		Codec: chunk.Codec(le.Uint32(p[76:])), Algorithm: le.Uint32(p[80:]), Features: Features(le.Uint32(p[84:])),
		Size: le.Uint64(p[88:]), Space: le.Uint64(p[96:]), TOCSize: le.Uint32(p[104:]), MetaCodec: chunk.Codec(le.Uint32(p[108:])),
		MetaOffset: le.Uint64(p[112:]), MetaStored: le.Uint64(p[120:]), MetaSize: le.Uint64(p[128:]), TOCDigest: [32]byte(p[136:168]),
		MetaDigest: [32]byte(p[168:200]), MetaBlobSize: le.Uint64(p[200:]), IV: [8]byte(p[208:216]), Cipher: le.Uint32(p[216:]),
	}
}

// digest is the blob's ID as a digest; it is all zeros if the ID is none.
func (b *Blob) digest() (d [32]byte) {
	if raw, err := hex.DecodeString(b.ID); err == nil && len(raw) == len(d) {
		d = [32]byte(raw)
	}
	return d
}

// check finds what a reader could not live with.
func (b *Blob) check(index int) error {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("%w: blob %d (%s): %s", ErrFormat, index, b.ID, fmt.Sprintf(format, args...))
	}
	switch {
	case len(b.ID) != 64:
		return fail("an identifier of %d characters", len(b.ID))
	case int64(b.Index) != int64(index):
		return fail("it says that it is blob %d", b.Index)
	case b.ChunkSize < chunk.MinSize || b.ChunkSize > chunk.MaxSize || b.ChunkSize&(b.ChunkSize-1) != 0:
		return fail("chunks of %d bytes", b.ChunkSize)
	case b.ChunkCount > maxChunks+1:
		return fail("%d chunks", b.ChunkCount)
	case b.Size > 1<<40 || b.Space > 1<<44:
		return fail("sizes %d and %d", b.Size, b.Space)
	case b.Algorithm > 1:
		return fail("unknown digest %d", b.Algorithm)
	case b.MetaOffset > 1<<40 || b.MetaStored > 1<<40 || b.MetaStored > b.MetaSize && b.MetaCodec == chunk.None:
		return fail("a table of %d bytes at %d", b.MetaStored, b.MetaOffset)
	case b.MetaSize > 24*chunk.MaxSize:
		return fail("a table of %d bytes", b.MetaSize)
	}
	if b.Features&Aligned == 0 {
		return fmt.Errorf("%w: blob %s, whose chunks do not begin on blocks, as in tarfs", ErrUnsupported, b.ID)
	}
	if _, ok := codecFlags[b.Codec]; !ok {
		return fail("unknown compressor %d", b.Codec)
	}
	return nil
}

// Flags of chunks in the bootstrap (BlobChunkFlags).
const (
	chunkCompressed = 0x1
	chunkEncrypted  = 0x4
	chunkHasCRC     = 0x10
)

// Entry is an entry of the bootstrap's chunk table (RafsV5ChunkInfo). Chunks in a batch have no place in the blob there.
type Entry struct {
	Digest     chunk.Digest
	Blob       uint32
	Flags      uint32
	Stored     uint32
	Size       uint32
	At         uint64
	Offset     uint64 // decoded
	FileOffset uint64 // in the last file that has it
	Index      uint32
	CRC        uint32 // CRC-32C, if the flags say so
}

func (e *Entry) encode() []byte {
	b := make([]byte, chunkEntrySize)
	copy(b, e.Digest[:])
	le.PutUint32(b[32:], e.Blob)
	le.PutUint32(b[36:], e.Flags)
	le.PutUint32(b[40:], e.Stored)
	le.PutUint32(b[44:], e.Size)
	le.PutUint64(b[48:], e.At)
	le.PutUint64(b[56:], e.Offset)
	le.PutUint64(b[64:], e.FileOffset)
	le.PutUint32(b[72:], e.Index)
	le.PutUint32(b[76:], e.CRC)
	return b
}

func decodeEntry(b []byte) Entry {
	return Entry{
		Digest: chunk.Digest(b[:32]), Blob: le.Uint32(b[32:]), Flags: le.Uint32(b[36:]), Stored: le.Uint32(b[40:]), Size: le.Uint32(b[44:]),
		At: le.Uint64(b[48:]), Offset: le.Uint64(b[56:]), FileOffset: le.Uint64(b[64:]), Index: le.Uint32(b[72:]), CRC: le.Uint32(b[76:]),
	}
}

// align rounds n up to a multiple of unit, a power of two.
func align(n, unit int64) int64 { return (n + unit - 1) &^ (unit - 1) }
