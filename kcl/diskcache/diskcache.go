// Package diskcache keeps the entries of a load.Cache in a folder of the user.
//
// Entries carry a checksum: a damaged one counts as missing and is written anew.
// Several processes may share a folder, for entries appear whole or not at all.
// The folder must belong to the user and be closed to others, since whoever can
// write an entry decides what is taken for checked. The package knows nothing of
// what the entries mean.
package diskcache

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"
)

const (
	// DefaultLimit is how many bytes a folder may hold if nothing else is said.
	DefaultLimit = 128 << 20
	// entryLimit bounds one entry.
	entryLimit = 16 << 20
	// header begins every entry; the checksum of the rest follows.
	header = "kclcache 1\n"
	// fresh is the age up to which a used entry is not marked as used again.
	fresh = time.Hour
)

// ErrUnsafe is the error of a folder in which others could write.
var ErrUnsafe = errors.New("the cache folder is not safe")

// Dir is a folder with entries. It is safe for concurrent use.
type Dir struct {
	path  string
	limit int64
}

// Open makes the folder if need be. It fails when others may write to it or it
// belongs to somebody else. limit is in bytes; 0 means DefaultLimit.
func Open(path string, limit int64) (*Dir, error) {
	if limit == 0 {
		limit = DefaultLimit
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("making the cache folder: %w", err)
	}
	info, err := os.Lstat(path)
	if err != nil {
		return nil, fmt.Errorf("the cache folder: %w", err)
	}
	switch {
	case !info.IsDir():
		return nil, fmt.Errorf("%w: %s is no folder", ErrUnsafe, path)
	case info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("%w: %s is open to other users (mode %04o): close it by chmod 700", ErrUnsafe, path, info.Mode().Perm())
	case !owned(info):
		return nil, fmt.Errorf("%w: %s belongs to another user", ErrUnsafe, path)
	}
	return &Dir{path, limit}, nil
}

func (d *Dir) name(key [32]byte) string {
	text := hex.EncodeToString(key[:])
	return filepath.Join(d.path, text[:1], text[1:])
}

// Get gives an entry, if it is there and whole.
func (d *Dir) Get(key [32]byte) ([]byte, bool) {
	name := d.name(key)
	f, err := os.Open(name)
	if err != nil {
		return nil, false
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() > entryLimit {
		return nil, false
	}
	data := make([]byte, info.Size())
	if _, err := io.ReadFull(f, data); err != nil {
		return nil, false
	}
	entry, ok := unseal(data)
	if !ok {
		os.Remove(name)
		return nil, false
	}
	if now := time.Now(); now.Sub(info.ModTime()) > fresh {
		_ = os.Chtimes(name, now, now) // the oldest are removed first; where that cannot be noted, it goes earlier
	}
	return entry, true
}

func seal(entry []byte) []byte {
	sum := sha256.Sum256(entry)
	return append(append([]byte(header), sum[:]...), entry...)
}

func unseal(data []byte) ([]byte, bool) {
	rest, ok := bytes.CutPrefix(data, []byte(header))
	if !ok || len(rest) < sha256.Size {
		return nil, false
	}
	entry := rest[sha256.Size:]
	sum := sha256.Sum256(entry)
	return entry, bytes.Equal(sum[:], rest[:sha256.Size])
}

// Put keeps an entry. What cannot be written is not kept: a cache must not fail
// the run that it is to speed up.
func (d *Dir) Put(key [32]byte, entry []byte) {
	if len(entry) > entryLimit-len(header)-sha256.Size {
		return
	}
	name := d.name(key)
	shard := filepath.Dir(name)
	if err := os.MkdirAll(shard, 0o700); err != nil {
		return
	}
	f, err := os.CreateTemp(shard, "new-*")
	if err != nil {
		return
	}
	_, err = f.Write(seal(entry))
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	d.trim(shard)
}

// trim removes the entries of one of the 16 shards that were not used for the
// longest time, until they are within the shard's part of the limit.
func (d *Dir) trim(shard string) {
	entries, err := os.ReadDir(shard)
	if err != nil {
		return
	}
	var infos []fs.FileInfo
	total := int64(0)
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			continue
		}
		if strings.HasPrefix(e.Name(), "new-") && time.Since(info.ModTime()) > fresh {
			os.Remove(filepath.Join(shard, e.Name())) // left by a process that was killed
			continue
		}
		infos = append(infos, info)
		total += info.Size()
	}
	sort.Slice(infos, func(i, j int) bool { return infos[i].ModTime().Before(infos[j].ModTime()) })
	for _, info := range infos {
		if total <= d.limit/16 {
			return
		}
		if os.Remove(filepath.Join(shard, info.Name())) == nil {
			total -= info.Size()
		}
	}
}

// Clear removes all entries.
func (d *Dir) Clear() error {
	shards, err := os.ReadDir(d.path)
	if err != nil {
		return err
	}
	for _, s := range shards {
		if err := os.RemoveAll(filepath.Join(d.path, s.Name())); err != nil {
			return err
		}
	}
	return nil
}
