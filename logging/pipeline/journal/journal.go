// Package journal reads the files of systemd's journal, as its page "Journal File Format" (systemd.io/JOURNAL_FILE_FORMAT) describes them, also
// while they are written. It never writes, and takes nothing in a file for granted: offsets and sizes are checked.
package journal

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// Flags of files that change how they are read, and of objects.
const (
	incompatibleXZ      = 1
	incompatibleLZ4     = 2
	incompatibleKeyed   = 4
	incompatibleZSTD    = 8
	incompatibleCompact = 16

	objectXZ   = 1
	objectLZ4  = 2
	objectZSTD = 4
)

const (
	typeData       = 1
	typeEntry      = 3
	typeEntryArray = 6
	headSize       = 16
)

// maxObject bounds one object, also when it is uncompressed; maxFields the fields of an entry.
const (
	maxObject = 64 << 20
	maxFields = 8192
)

// ErrDamaged says that a file is no journal or that something in it leads nowhere.
var ErrDamaged = errors.New("the journal file is damaged")

// File is one file of the journal.
type File struct {
	ID       string // of the file, also after it was renamed
	Archived bool   // nothing more will be written
	file     *os.File
	compact  bool
	first    uint64 // offset of the first array of entries
	array    uint64 // that is being read, 0 before the first
	index    uint64 // of the next entry in it
	zstd     *zstd.Decoder
}

// Entry is one message. Fields are NAME=value.
type Entry struct {
	Seqnum   uint64
	Realtime uint64 // microseconds since 1970
	Fields   [][]byte
}

// Open opens a file at its beginning.
func Open(name string) (*File, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	f := &File{file: file}
	if err := f.header(); err != nil {
		file.Close()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return f, nil
}

func (f *File) header() error {
	b := make([]byte, 208)
	if _, err := f.file.ReadAt(b, 0); err != nil {
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("%w: it is too short", ErrDamaged)
		}
		return err
	}
	if string(b[:8]) != "LPKSHHRH" {
		return fmt.Errorf("%w: it does not begin as a journal", ErrDamaged)
	}
	flags := binary.LittleEndian.Uint32(b[12:])
	if unknown := flags &^ (incompatibleXZ | incompatibleLZ4 | incompatibleKeyed | incompatibleZSTD | incompatibleCompact); unknown != 0 {
		return fmt.Errorf("the journal file uses features that are not known (%#x)", unknown)
	}
	f.compact = flags&incompatibleCompact != 0
	f.Archived = b[16] == 2
	f.ID = hex.EncodeToString(b[24:40])
	f.first = binary.LittleEndian.Uint64(b[176:])
	return nil
}

// Refresh reads the header anew: whether the file was archived, and where its first entry lies.
func (f *File) Refresh() error { return f.header() }

// Close closes the file.
func (f *File) Close() error {
	if f.zstd != nil {
		f.zstd.Close()
	}
	return f.file.Close()
}

// object reads the head of the object at an offset: its type, flags and size.
func (f *File) object(at uint64, want byte) (flags byte, size uint64, err error) {
	var b [headSize]byte
	if at%8 != 0 || at == 0 || at >= 1<<62 {
		return 0, 0, fmt.Errorf("%w: an object at %d", ErrDamaged, at)
	}
	if err := f.readAt(b[:], at); err != nil {
		return 0, 0, err
	}
	size = binary.LittleEndian.Uint64(b[8:])
	if size > 64<<10 && size <= maxObject {
		// Memory is only taken for what is there.
		if info, err := f.file.Stat(); err != nil || at+size > uint64(info.Size()) {
			return 0, 0, fmt.Errorf("%w: the object at %d goes on behind the end", ErrDamaged, at)
		}
	}
	if b[0] != want || size < headSize || size > maxObject {
		return 0, 0, fmt.Errorf("%w: the object at %d has type %d and %d bytes", ErrDamaged, at, b[0], size)
	}
	return b[1], size, nil
}

func (f *File) readAt(b []byte, at uint64) error {
	n, err := f.file.ReadAt(b, int64(at))
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: it ends inside of an object at %d", ErrDamaged, at)
	}
	return err
}

// Next gives the next entry; io.EOF if there is none yet. An entry that is damaged is an error; the one behind it comes next.
func (f *File) Next() (*Entry, error) {
	offset, err := f.nextOffset()
	if err != nil {
		return nil, err
	}
	return f.entry(offset)
}

// Skip passes over entries up to a sequence number.
func (f *File) Skip(seqnum uint64) error {
	for {
		array, index := f.array, f.index
		offset, err := f.nextOffset()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		var b [8]byte
		if err := f.readAt(b[:], offset+headSize); err != nil {
			return err
		}
		if binary.LittleEndian.Uint64(b[:]) > seqnum {
			f.array, f.index = array, index
			return nil
		}
	}
}

func (f *File) nextOffset() (uint64, error) {
	if f.array == 0 {
		if f.first == 0 {
			return 0, io.EOF
		}
		f.array, f.index = f.first, 0
	}
	width := uint64(8)
	if f.compact {
		width = 4
	}
	for hops := 0; hops < 1<<20; hops++ {
		_, size, err := f.object(f.array, typeEntryArray)
		if err != nil {
			return 0, err
		}
		if size < headSize+8 {
			return 0, fmt.Errorf("%w: an array of entries is too short", ErrDamaged)
		}
		if f.index < (size-headSize-8)/width {
			b := make([]byte, 8)
			if err := f.readAt(b[:width], f.array+headSize+8+f.index*width); err != nil {
				return 0, err
			}
			offset := binary.LittleEndian.Uint64(b)
			if offset == 0 {
				return 0, io.EOF // not written yet
			}
			f.index++
			return offset, nil
		}
		var b [8]byte
		if err := f.readAt(b[:], f.array+headSize); err != nil {
			return 0, err
		}
		next := binary.LittleEndian.Uint64(b[:])
		if next == 0 {
			return 0, io.EOF
		}
		if next <= f.array {
			return 0, fmt.Errorf("%w: arrays of entries lead back", ErrDamaged)
		}
		f.array, f.index = next, 0
	}
	return 0, fmt.Errorf("%w: too many empty arrays of entries", ErrDamaged)
}

func (f *File) entry(at uint64) (*Entry, error) {
	_, size, err := f.object(at, typeEntry)
	if err != nil {
		return nil, err
	}
	width := uint64(16)
	if f.compact {
		width = 4
	}
	if size < 64 || (size-64)/width > maxFields {
		return nil, fmt.Errorf("%w: an entry of %d bytes", ErrDamaged, size)
	}
	b := make([]byte, size)
	if err := f.readAt(b, at); err != nil {
		return nil, err
	}
	e := &Entry{Seqnum: binary.LittleEndian.Uint64(b[16:]), Realtime: binary.LittleEndian.Uint64(b[24:])}
	for item := b[64:]; uint64(len(item)) >= width; item = item[width:] {
		offset := uint64(binary.LittleEndian.Uint32(item))
		if !f.compact {
			offset = binary.LittleEndian.Uint64(item)
		}
		if offset == 0 {
			continue
		}
		field, err := f.data(offset)
		if err != nil {
			return nil, err
		}
		e.Fields = append(e.Fields, field)
	}
	return e, nil
}

func (f *File) data(at uint64) ([]byte, error) {
	flags, size, err := f.object(at, typeData)
	if err != nil {
		return nil, err
	}
	head := uint64(64)
	if f.compact {
		head = 72
	}
	if size < head {
		return nil, fmt.Errorf("%w: a field of %d bytes", ErrDamaged, size)
	}
	b := make([]byte, size-head)
	if err := f.readAt(b, at+head); err != nil {
		return nil, err
	}
	switch flags & (objectXZ | objectLZ4 | objectZSTD) {
	case 0:
		return b, nil
	case objectZSTD:
		return f.unzstd(b)
	case objectLZ4:
		if len(b) < 8 || binary.LittleEndian.Uint64(b) > maxObject {
			return nil, fmt.Errorf("%w: a compressed field", ErrDamaged)
		}
		out := make([]byte, binary.LittleEndian.Uint64(b))
		n, err := lz4.UncompressBlock(b[8:], out)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		return out[:n], nil
	case objectXZ:
		return unxz(b)
	}
	return nil, fmt.Errorf("%w: a field is compressed in an unknown way", ErrDamaged)
}

func (f *File) unzstd(b []byte) ([]byte, error) {
	if f.zstd == nil {
		z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxObject))
		if err != nil {
			return nil, err
		}
		f.zstd = z
	}
	out, err := f.zstd.DecodeAll(b, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return out, nil
}
