package cache

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"github.com/zeebo/blake3"

	"github.com/weft-dev/weft/image/chunk"
)

// Version is the version of the format on disk that this package writes.
const Version = 1

const formatName = "weft-lazy"

// Key names a device by its content and by how its chunks are said to lie in the blob.
type Key [32]byte

// String is the key in hexadecimal.
func (k Key) String() string { return hex.EncodeToString(k[:]) }

var keyPattern = regexp.MustCompile(`^[0-9a-f]{64}$`)

// ParseKey reads a key in hexadecimal.
func ParseKey(s string) (Key, error) {
	var k Key
	if !keyPattern.MatchString(s) {
		return k, fmt.Errorf("%q is not the key of a device: 64 hexadecimal digits were expected", s)
	}
	_, err := hex.Decode(k[:], []byte(s))
	return k, err
}

// KeyOf is the key of the device of a table with one device.
func KeyOf(t *chunk.Table) (Key, error) {
	h := blake3.New()
	if _, err := t.WriteTo(h); err != nil {
		return Key{}, err
	}
	return Key(h.Sum(nil)), nil
}

// Cache is the devices of a folder.
type Cache struct{ dir string }

// Open opens the cache in a folder and makes it if the folder is missing or empty. It refuses a folder that holds something else and a
// cache of a newer version.
func Open(dir string) (*Cache, error) {
	c := &Cache{dir}
	name := filepath.Join(dir, "format.json")
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return c, c.create(name)
	}
	if err != nil {
		return nil, err
	}
	var f struct {
		Format  string `json:"format"`
		Version int    `json:"version"`
	}
	if err := json.Unmarshal(b, &f); err != nil || f.Format != formatName {
		return nil, fmt.Errorf("%s: the folder holds something else; name another folder, or remove it", name)
	}
	if f.Version != Version {
		return nil, fmt.Errorf("%s: format version %d, this program reads version %d; use a newer program or another folder", name, f.Version, Version)
	}
	return c, nil
}

func (c *Cache) create(name string) error {
	if entries, err := os.ReadDir(c.dir); err == nil && len(entries) > 0 {
		return fmt.Errorf("%s: the folder is not empty and has no format.json; name an empty folder", c.dir)
	}
	if err := os.MkdirAll(c.devices(), 0o700); err != nil {
		return err
	}
	return replace(name, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "{\"format\":%q,\"version\":%d}\n", formatName, Version)
		return err
	})
}

func (c *Cache) devices() string             { return filepath.Join(c.dir, "devices") }
func (c *Cache) folder(k Key) string         { return filepath.Join(c.devices(), k.String()) }
func (c *Cache) file(k Key, n string) string { return filepath.Join(c.folder(k), n) }

// Path is where the content of a device lies, for mounting.
func (c *Cache) Path(k Key) string { return c.file(k, "data") }

// Add makes the device of a table with one device, unless it is there.
func (c *Cache) Add(t *chunk.Table) (Key, error) {
	k, err := KeyOf(t)
	if err != nil {
		return k, err
	}
	if _, err := os.Stat(c.Path(k)); err == nil {
		return k, nil
	}
	if err := os.MkdirAll(c.folder(k), 0o700); err != nil {
		return k, full(err)
	}
	if err := replace(c.file(k, "table"), func(w io.Writer) error { _, err := t.WriteTo(w); return err }); err != nil {
		return k, err
	}
	return k, replace(c.Path(k), func(w io.Writer) error { return w.(*os.File).Truncate(t.Devices[0].Space) })
}

// Info describes a device in the cache.
type Info struct {
	Key      string    `json:"key"`
	Blob     string    `json:"blob"`     // sha256 in hexadecimal
	Space    int64     `json:"bytes"`    // of the device
	Present  int64     `json:"present"`  // bytes that are known to be present on the disk
	Disk     int64     `json:"disk"`     // bytes that it takes on the disk
	Complete bool      `json:"complete"` // nothing is missing
	Used     time.Time `json:"lastUse"`
}

// List describes all devices, in the order of their keys. What is damaged is left out and given to broken, with the reason.
func (c *Cache) List(broken func(key string, err error)) ([]Info, error) {
	entries, err := os.ReadDir(c.devices())
	if err != nil {
		return nil, err
	}
	list := []Info{}
	for _, e := range entries {
		k, err := ParseKey(e.Name())
		if err != nil {
			continue
		}
		info, err := c.Stat(k)
		if err != nil {
			broken(e.Name(), err)
			continue
		}
		list = append(list, info)
	}
	return list, nil
}

// Stat describes a device as the disk has it.
func (c *Cache) Stat(k Key) (Info, error) {
	st, err := os.Stat(c.Path(k))
	if err != nil {
		return Info{}, err
	}
	t, err := c.Table(k)
	if err != nil {
		return Info{}, err
	}
	d := &t.Devices[0]
	blocks := d.Space / chunk.Block
	b, err := c.readMap(k, blocks)
	if err != nil {
		b = NewBits(blocks)
	}
	setGaps(b, d)
	used := st.ModTime()
	if m, err := os.Stat(c.file(k, "map")); err == nil && m.ModTime().After(used) {
		used = m.ModTime()
	}
	n := b.Count()
	info := Info{Key: k.String(), Blob: d.Name(), Space: d.Space, Present: n * chunk.Block, Complete: n == blocks, Used: used}
	if s, ok := st.Sys().(*syscall.Stat_t); ok {
		info.Disk = s.Blocks * 512
	}
	return info, nil
}

// Table reads the chunks of a device.
func (c *Cache) Table(k Key) (*chunk.Table, error) {
	f, err := os.Open(c.file(k, "table"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	t, err := chunk.ReadTable(f, st.Size())
	if err == nil && len(t.Devices) != 1 {
		err = fmt.Errorf("%w: it has %d devices, 1 was expected", chunk.ErrTable, len(t.Devices))
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return t, nil
}

func (c *Cache) readMap(k Key, blocks int64) (Bits, error) {
	f, err := os.Open(c.file(k, "map"))
	if err != nil {
		return Bits{}, err
	}
	defer f.Close()
	p, err := io.ReadAll(io.LimitReader(f, mapHeader+BitsSize(blocks)+1))
	if err != nil {
		return Bits{}, err
	}
	b, err := decodeMap(p, blocks)
	if err != nil {
		return b, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return b, nil
}

// Complete says whether the disk knows that nothing is missing of a device.
func (c *Cache) Complete(k Key) bool {
	p, err := os.ReadFile(c.file(k, "map"))
	if err != nil {
		return false
	}
	st, err := os.Stat(c.Path(k))
	if err != nil {
		return false
	}
	blocks := st.Size() / chunk.Block
	b, err := decodeMap(p, blocks)
	return err == nil && b.All(0, blocks)
}

// Drop removes a device. Nothing may have it mounted. Removing one that is not there is no error.
func (c *Cache) Drop(k Key) error {
	// Without a table it is no device any more, however far the removal comes.
	if err := os.Remove(c.file(k, "table")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.RemoveAll(c.folder(k))
}

func dirOf(name string) string { return filepath.Dir(name) }

func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }
