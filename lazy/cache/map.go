package cache

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"github.com/zeebo/blake3"

	"github.com/weft-dev/weft/store"
)

// The map on the disk, all numbers little-endian:
//
//	0   8   magic "WEFTMAP\x00"
//	8   4   format version, 1
//	12  4   1 if all blocks are present, else 0; for people, the bits count
//	16  8   number of blocks N
//	24  8   0
//	32  32  blake3 of what follows
//	64      N bits in words of 8 bytes
const (
	mapMagic   = "WEFTMAP\x00"
	mapVersion = 1
	mapHeader  = 64
)

// ErrMap says that a map is damaged or belongs to another device. What is present is then not known, and the device begins empty.
var ErrMap = errors.New("the map of present blocks is damaged")

// encodeMap makes the file of bits.
func encodeMap(b Bits, blocks int64) []byte {
	out := make([]byte, mapHeader+BitsSize(blocks))
	copy(out, mapMagic)
	binary.LittleEndian.PutUint32(out[8:], mapVersion)
	binary.LittleEndian.PutUint64(out[16:], uint64(blocks))
	present := NewBits(blocks)
	for i := range b.words {
		w := atomic.LoadUint64(&b.words[i])
		present.words[i] = w
		binary.LittleEndian.PutUint64(out[mapHeader+8*i:], w)
	}
	if present.All(0, blocks) {
		out[12] = 1
	}
	sum := blake3.Sum256(out[mapHeader:])
	copy(out[32:], sum[:])
	return out
}

// decodeMap reads the file of bits for a device of that many blocks.
func decodeMap(p []byte, blocks int64) (Bits, error) {
	if int64(len(p)) != mapHeader+BitsSize(blocks) || string(p[:8]) != mapMagic {
		return Bits{}, fmt.Errorf("%w: it has %d bytes, expected %d beginning with WEFTMAP", ErrMap, len(p), mapHeader+BitsSize(blocks))
	}
	if v := binary.LittleEndian.Uint32(p[8:]); v != mapVersion {
		return Bits{}, fmt.Errorf("%w: format version %d, this program reads version %d", ErrMap, v, mapVersion)
	}
	if n := binary.LittleEndian.Uint64(p[16:]); n != uint64(blocks) {
		return Bits{}, fmt.Errorf("%w: it is of %d blocks, the device has %d", ErrMap, n, blocks)
	}
	if sum := blake3.Sum256(p[mapHeader:]); [32]byte(p[32:64]) != sum {
		return Bits{}, fmt.Errorf("%w: its content does not match its digest", ErrMap)
	}
	b := NewBits(blocks)
	for i := range b.words {
		b.words[i] = binary.LittleEndian.Uint64(p[mapHeader+8*i:])
	}
	return b, nil
}

// replace writes a file beside its place, flushes it and gives it its name.
func replace(name string, write func(io.Writer) error) error {
	f, err := os.CreateTemp(dirOf(name), ".new-")
	if err != nil {
		return full(err)
	}
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return full(errors.Join(err, os.Remove(f.Name())))
	}
	return syncDir(dirOf(name))
}

func syncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// full makes a full disk known as such.
func full(err error) error {
	if isFull(err) {
		return fmt.Errorf("%w: %w; make room, or drop images with weft lazy drop", store.ErrFull, err)
	}
	return err
}

// Replace writes a file so that a reader sees the old or the new content, and a crash loses neither. ErrFull of package store when the disk is full.
func Replace(name string, content []byte) error {
	return replace(name, func(w io.Writer) error { _, err := w.Write(content); return err })
}
