// Package store is a machine's one content store: blobs by digest, uploads that can be resumed, and the leases and
// roots that say what must stay. Several processes may use one folder at the same time. It must not know what a blob
// means (no manifests, images or layers) and never fetches anything itself.
//
// On disk (format version 1):
//
//	format.json            {"format":"weft-store","version":1}
//	lock, gate             advisory locks (flock), see lock.go
//	blobs/ALG/HE/HEX       complete, verified content, read-only; its mtime is the last time it was asked to stay
//	ingest/NAME/           data being written (data), the state of its hash (state.json), its owner's lock (lock)
//	partial/ALG/HEX/       content that is only there in parts: sparse data and the map of what is present
//	layers/ALG/HEX/        a layer unpacked, named by the digest of its tar (diffID)
//	leases/ID.json         digests that stay until a time
//	roots/A/B/=NAME        digests that stay until the root is deleted, with a few bytes that belong to the owner
//
// Everything that is published is written beside its place, flushed, renamed and its folder flushed, so that a reader
// never sees half of it and a crash loses nothing that was acknowledged.
package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"
)

// Version is the version of the format on disk that this package writes.
const Version = 1

const formatName = "weft-store"

// Errors that callers test for with errors.Is. Unknown content is reported as fs.ErrNotExist.
var (
	// ErrBusy says that another process or goroutine is writing this ingest.
	ErrBusy = errors.New("already being written by someone else")
	// ErrTooLarge says that content went beyond its limit or its announced size.
	ErrTooLarge = errors.New("larger than allowed")
	// ErrDigest says that content is not what its digest promises.
	ErrDigest = errors.New("content does not match its digest")
	// ErrFull says that the disk has no room; the error's text tells where and what to do.
	ErrFull = errors.New("no space left on the disk")
)

// Store is an open content store. It holds no file open, so it needs no closing, and it may be used from several
// goroutines and processes at the same time.
type Store struct {
	dir string
	now func() time.Time
}

// Info describes a blob.
type Info struct {
	Digest digest.Digest `json:"digest"`
	Size   int64         `json:"size"`    // bytes
	Used   time.Time     `json:"lastUse"` // when it was published or last touched
}

type format struct {
	Format  string `json:"format"`
	Version int    `json:"version"`
}

// Open opens the store in dir and makes it if dir is missing or empty. It refuses a folder that holds something else
// and a store of a newer version.
func Open(dir string) (*Store, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	s := &Store{dir: dir, now: time.Now}
	if err := s.checkFormat(); err == nil {
		return s, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := s.create(); err != nil {
		return nil, fmt.Errorf("creating the content store in %s: %w", dir, s.explain(err))
	}
	return s, s.checkFormat()
}

// Dir is the absolute path of the store's folder.
func (s *Store) Dir() string { return s.dir }

func (s *Store) checkFormat() error {
	path := filepath.Join(s.dir, "format.json")
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var f format
	if err := json.Unmarshal(data, &f); err != nil {
		return fmt.Errorf("%s: not the format file of a content store: %w", path, err)
	}
	switch {
	case f.Format != formatName:
		return fmt.Errorf("%s: format is %q, expected %q: this folder belongs to another program", path, f.Format, formatName)
	case f.Version > Version:
		return fmt.Errorf("%s: the store has format version %d, this program reads up to %d: use the newer program that wrote it", path, f.Version, Version)
	case f.Version < 1:
		return fmt.Errorf("%s: version is %d, expected 1 to %d", path, f.Version, Version)
	}
	return nil
}

func (s *Store) create() error {
	if entries, err := os.ReadDir(s.dir); err == nil {
		for _, e := range entries {
			if !isOurs(e.Name()) {
				return fmt.Errorf("the folder is not empty and holds %q: give an empty folder", e.Name())
			}
		}
	}
	for _, sub := range []string{"blobs", "ingest", "partial", "layers", "leases", "roots"} {
		if err := os.MkdirAll(filepath.Join(s.dir, sub), 0o700); err != nil {
			return err
		}
	}
	data, err := json.Marshal(format{formatName, Version})
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(s.dir, "format.json"), append(data, '\n'))
}

// isOurs says whether a name can lie in a store whose creation was interrupted.
func isOurs(name string) bool {
	switch name {
	case "blobs", "ingest", "partial", "layers", "leases", "roots", "lock", "gate", "format.json", "lost+found":
		return true
	}
	return isTemporary(name)
}
