// Package storage keeps chunks of records in files, so that they outlive the process. A file is a head with the tag, and frames of records, each
// with its length and checksum: what was torn by a crash is recognized and left out, what was written before stays. It knows no inputs and no outputs.
package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// magic begins every file; the last byte is the version of the format.
const magic = "WEFTLOG\x01"

const (
	maxTag    = 4096
	frameHead = 12 // length of the data, number of events, checksum; each 4 bytes, little endian
	maxFrame  = 256 << 20
	suffix    = ".chunk"
	badSuffix = ".damaged"
	refused   = ".rejected" // what no output took is kept, and never sent again
)

var table = crc32.MakeTable(crc32.Castagnoli)

// ErrDamaged says that a file is not a chunk or that its head is damaged.
var ErrDamaged = errors.New("the file is damaged")

// Folder holds the chunk files of a pipeline, a folder for each input.
type Folder struct {
	path string
	full bool // fsync after each write
	next atomic.Uint64
}

// Open makes the folder if it is not there. With sync, each write waits for the disk.
func Open(path string, sync bool) (*Folder, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("storage.path: %w", err)
	}
	probe := filepath.Join(path, ".write")
	if err := os.WriteFile(probe, nil, 0o600); err != nil {
		return nil, fmt.Errorf("storage.path: %w", err)
	}
	return &Folder{path: path, full: sync}, os.Remove(probe)
}

// File is one chunk on the disk.
type File struct {
	name   string
	folder *Folder
	file   *os.File // nil while closed
	size   int64
	buf    []byte
}

// Create begins a chunk of an input for a tag.
func (f *Folder) Create(input, tag string) (*File, error) {
	if len(tag) > maxTag {
		return nil, fmt.Errorf("the tag has %d bytes, more than the limit of %d", len(tag), maxTag)
	}
	dir := filepath.Join(f.path, strings.NewReplacer("/", "_", "\x00", "_").Replace(input))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	name := filepath.Join(dir, fmt.Sprintf("%d-%016x-%d%s", os.Getpid(), time.Now().UnixNano(), f.next.Add(1), suffix))
	file, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	head := append([]byte(magic), byte(len(tag)), byte(len(tag)>>8))
	head = append(head, tag...)
	head = binary.LittleEndian.AppendUint32(head, crc32.Checksum(head, table))
	c := &File{name: name, folder: f, file: file}
	if err := c.write(head); err != nil {
		return nil, errors.Join(err, c.Remove())
	}
	return c, nil
}

// Name is the path of the file.
func (c *File) Name() string { return c.name }

// Append adds events. When it fails nothing of them stays.
func (c *File) Append(events []byte, count int) error {
	if len(events) > maxFrame {
		return fmt.Errorf("%d bytes of records at once, more than the limit of %d", len(events), maxFrame)
	}
	c.buf = c.buf[:0]
	c.buf = binary.LittleEndian.AppendUint32(c.buf, uint32(len(events)))
	c.buf = binary.LittleEndian.AppendUint32(c.buf, uint32(count))
	c.buf = binary.LittleEndian.AppendUint32(c.buf, frameSum(uint32(count), events))
	c.buf = append(c.buf, events...)
	return c.write(c.buf)
}

func frameSum(count uint32, events []byte) uint32 {
	var head [4]byte
	binary.LittleEndian.PutUint32(head[:], count)
	return crc32.Update(crc32.Checksum(head[:], table), table, events)
}

func (c *File) write(b []byte) error {
	n, err := c.file.WriteAt(b, c.size)
	if err == nil && c.folder.full {
		err = c.file.Sync()
	}
	if err != nil {
		if n > 0 {
			err = errors.Join(err, c.file.Truncate(c.size))
		}
		return err
	}
	c.size += int64(n)
	return nil
}

// Close ends writing and gives the buffers back; the content stays.
func (c *File) Close() error {
	c.buf = nil
	if c.file == nil {
		return nil
	}
	err := c.file.Close()
	c.file = nil
	return err
}

// Remove deletes the chunk.
func (c *File) Remove() error {
	err := c.Close()
	if gone := os.Remove(c.name); gone != nil && !os.IsNotExist(gone) {
		err = errors.Join(err, gone)
	}
	return err
}

// Read gives the chunk's tag and events. A tail that was torn is left out.
func (c *File) Read() (tag string, events []byte, count int, err error) {
	data, err := os.ReadFile(c.name)
	if err != nil {
		return "", nil, 0, err
	}
	return Decode(data)
}

// Decode reads the content of a chunk's file.
func Decode(data []byte) (tag string, events []byte, count int, err error) {
	if len(data) < len(magic)+2 || !bytes.HasPrefix(data, []byte(magic)) {
		return "", nil, 0, ErrDamaged
	}
	n := int(data[len(magic)]) | int(data[len(magic)+1])<<8
	end := len(magic) + 2 + n
	if n > maxTag || len(data) < end+4 || binary.LittleEndian.Uint32(data[end:]) != crc32.Checksum(data[:end], table) {
		return "", nil, 0, ErrDamaged
	}
	tag = string(data[len(magic)+2 : end])
	rest := data[end+4:]
	for len(rest) >= frameHead {
		size := binary.LittleEndian.Uint32(rest)
		in := binary.LittleEndian.Uint32(rest[4:])
		if uint64(size) > uint64(len(rest)-frameHead) {
			break
		}
		frame := rest[frameHead : frameHead+size]
		if binary.LittleEndian.Uint32(rest[8:]) != frameSum(in, frame) {
			break
		}
		events = append(events, frame...)
		count += int(in)
		rest = rest[frameHead+size:]
	}
	return tag, events, count, nil
}

// Left lists the chunks that an earlier process left, the oldest first.
func (f *Folder) Left() ([]*File, error) {
	names, err := filepath.Glob(filepath.Join(f.path, "*", "*"+suffix))
	if err != nil {
		return nil, err
	}
	type aged struct {
		file *File
		at   time.Time
	}
	var all []aged
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil {
			continue
		}
		all = append(all, aged{&File{name: name, folder: f, size: info.Size()}, info.ModTime()})
	}
	slices.SortFunc(all, func(a, b aged) int { return a.at.Compare(b.at) })
	files := make([]*File, 0, len(all))
	for _, a := range all {
		files = append(files, a.file)
	}
	return files, nil
}

// Size is the bytes on the disk.
func (c *File) Size() int64 { return c.size }

// SetAside renames a damaged chunk so that it is kept, but not read again.
func (c *File) SetAside() error {
	return errors.Join(c.Close(), os.Rename(c.name, c.name+badSuffix))
}

// CopyTo keeps a copy of the chunk in another folder, unless the chunks there would be more than limit bytes; 0 is no limit.
func (c *File) CopyTo(folder string, limit int64) error {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	if limit > 0 {
		size, err := refusedIn(folder)
		if err != nil {
			return err
		}
		if size+c.size > limit {
			return fmt.Errorf("the folder %s has %d bytes, and %d more would be above storage.rejected.limit (%d)", folder, size, c.size, limit)
		}
	}
	in, err := os.Open(c.name)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(filepath.Join(folder, filepath.Base(c.name)+refused), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if closed := out.Close(); err == nil {
		err = closed
	}
	return err
}

// refusedIn is the bytes of the chunks in a folder that no output took.
func refusedIn(folder string) (size int64, err error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), refused) {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, err
		}
		size += info.Size()
	}
	return size, nil
}
