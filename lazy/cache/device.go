package cache

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weft-dev/weft/image/chunk"
)

// Device is an open device. It is safe for use by several goroutines.
type Device struct {
	Key   Key
	Table *chunk.Table // of this one device
	File  *os.File     // the content

	cache  *Cache
	bits   Bits
	read   Bits
	blocks int64
	dirty  atomic.Bool

	flush sync.Mutex
	whole atomic.Bool // everything is present, and the disk knows it
}

// Load opens a device. Maps and file come from an earlier worker, or maps are empty and file is nil: what the disk says is added, and the file
// opened. A damaged map is told to note, and everything counts as missing.
func (c *Cache) Load(k Key, maps func(blocks int64) (present, read Bits, err error), file *os.File, note func(error)) (*Device, error) {
	t, err := c.Table(k)
	if err != nil {
		return nil, err
	}
	d := &Device{Key: k, Table: t, File: file, cache: c, blocks: t.Devices[0].Space / chunk.Block}
	if d.bits, d.read, err = maps(d.blocks); err != nil {
		return nil, err
	}
	known, err := c.readMap(k, d.blocks)
	switch {
	case err == nil:
		d.bits.Or(known)
		d.whole.Store(known.Count() == d.blocks)
	case !errors.Is(err, fs.ErrNotExist):
		note(fmt.Errorf("device %s is fetched again: %w", k, err))
	}
	setGaps(d.bits, &t.Devices[0])
	d.dirty.Store(err != nil || d.bits.Count() != known.Count())
	if d.File == nil {
		if d.File, err = os.OpenFile(c.Path(k), os.O_RDWR, 0); err != nil {
			return nil, err
		}
	}
	st, err := d.File.Stat()
	if err == nil && st.Size() != t.Devices[0].Space {
		err = fmt.Errorf("%s has %d bytes, %d were expected; drop the image and prepare it again", d.File.Name(), st.Size(), t.Devices[0].Space)
	}
	if err != nil {
		return nil, errors.Join(err, d.File.Close())
	}
	return d, nil
}

// setGaps says that blocks in which no chunk lies are present: nothing refers to them.
func setGaps(b Bits, d *chunk.Device) {
	at := int64(0)
	for i := range d.Chunks {
		c := &d.Chunks[i]
		b.Set(at, c.Offset/chunk.Block)
		at = blockEnd(c.End())
	}
	b.Set(at, d.Space/chunk.Block)
}

func blockEnd(n int64) int64 { return (n + chunk.Block - 1) / chunk.Block }

// Device is the description of the device in its table.
func (d *Device) Device() *chunk.Device { return &d.Table.Devices[0] }

// Has says whether the bytes from offset on are all present. What lies beyond the device counts as present.
func (d *Device) Has(offset, n int64) bool {
	end := min(offset+n, d.blocks*chunk.Block)
	return offset >= end || d.bits.All(offset/chunk.Block, blockEnd(end))
}

// Put verifies the decoded bytes of a chunk, writes them, and says that they are present.
func (d *Device) Put(c *chunk.Chunk, decoded []byte) error {
	if err := d.Table.Verify(c, decoded); err != nil {
		return err
	}
	if _, err := d.File.WriteAt(decoded, c.Offset); err != nil {
		return full(err)
	}
	// Dirty goes first: who clears it and saves then does not miss these bits.
	d.dirty.Store(true)
	d.bits.Set(c.Offset/chunk.Block, blockEnd(c.End()))
	return nil
}

// Read says which blocks were read.
func (d *Device) Read() Bits { return d.read }

// MarkRead says that bytes are read.
func (d *Device) MarkRead(offset, n int64) {
	end := min(offset+n, d.blocks*chunk.Block)
	if offset < end {
		d.read.Set(offset/chunk.Block, blockEnd(end))
	}
}

// Present is the number of bytes present.
func (d *Device) Present() int64 { return d.bits.Count() * chunk.Block }

// Space is the size of the device, in bytes.
func (d *Device) Space() int64 { return d.blocks * chunk.Block }

// Complete says whether nothing is missing.
func (d *Device) Complete() bool { return d.bits.Count() == d.blocks }

// Saved says whether nothing is missing and the disk says so, too.
func (d *Device) Saved() bool { return d.whole.Load() }

// Save lets the disk know what is present: the content is flushed first.
func (d *Device) Save() error {
	d.flush.Lock()
	defer d.flush.Unlock()
	if !d.dirty.Swap(false) && (d.whole.Load() || !d.Complete()) {
		return nil
	}
	now := encodeMap(d.bits, d.blocks)
	err := d.File.Sync()
	if err == nil {
		err = Replace(d.cache.file(d.Key, "map"), now)
	}
	if err != nil {
		d.dirty.Store(true)
		return full(err)
	}
	if now[12] == 1 {
		d.whole.Store(true)
	}
	return nil
}

// Touch says that the device is in use now.
func (d *Device) Touch() error {
	now := time.Now()
	err := os.Chtimes(d.cache.file(d.Key, "map"), now, now)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Close saves what is present and closes the file.
func (d *Device) Close() error { return errors.Join(d.Save(), d.File.Close()) }
