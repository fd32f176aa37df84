package server

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
)

// Memory is a Storage that is gone with the process: for tests and for a registry that only hands something over.
func Memory() Storage {
	return &memory{now: time.Now, blobs: map[digest.Digest]memoryBlob{}, uploads: map[string]*memoryUpload{}, records: map[string]Record{}}
}

type memory struct {
	now     func() time.Time
	change  sync.RWMutex // held by Update and Exclusive
	mu      sync.Mutex   // guards the maps
	blobs   map[digest.Digest]memoryBlob
	uploads map[string]*memoryUpload
	records map[string]Record
}

type memoryBlob struct {
	data []byte
	used time.Time
}

type memoryContent struct{ *bytes.Reader }

func (memoryContent) Close() error { return nil }

func (m *memory) Open(_ context.Context, d digest.Digest) (Content, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.blobs[d]
	if !ok {
		return nil, fmt.Errorf("blob %s: %w", d, fs.ErrNotExist)
	}
	return memoryContent{bytes.NewReader(b.data)}, nil
}

// memoryUpload is an upload; open says that a request is writing it.
type memoryUpload struct {
	storage *memory
	name    string
	data    bytes.Buffer
	open    bool
}

func (m *memory) Create(_ context.Context, name string) (Upload, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	u := &memoryUpload{storage: m, name: name, open: true}
	m.uploads[name] = u
	return u, nil
}

func (m *memory) Resume(_ context.Context, name string) (Upload, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	u, ok := m.uploads[name]
	if !ok {
		return nil, fmt.Errorf("upload %s: %w", name, fs.ErrNotExist)
	}
	if u.open {
		return nil, ErrBusy
	}
	u.open = true
	return u, nil
}

func (u *memoryUpload) Write(p []byte) (int, error) { return u.data.Write(p) }

func (u *memoryUpload) Size() int64 { return int64(u.data.Len()) }

func (u *memoryUpload) Commit(_ context.Context, expected digest.Digest) error {
	if got := expected.Algorithm().FromBytes(u.data.Bytes()); got != expected {
		return fmt.Errorf("%w: expected %s, got %s", ErrDigest, expected, got)
	}
	m := u.storage
	m.mu.Lock()
	defer m.mu.Unlock()
	m.blobs[expected] = memoryBlob{u.data.Bytes(), m.now()}
	delete(m.uploads, u.name)
	return nil
}

func (u *memoryUpload) Close() error {
	u.storage.mu.Lock()
	defer u.storage.mu.Unlock()
	u.open = false
	return nil
}

func (u *memoryUpload) Discard() error {
	u.storage.mu.Lock()
	defer u.storage.mu.Unlock()
	delete(u.storage.uploads, u.name)
	return nil
}

func (m *memory) Update(_ context.Context, f func(Tx) error) error {
	m.change.RLock()
	defer m.change.RUnlock()
	return f((*memoryTx)(m))
}

func (m *memory) Exclusive(_ context.Context, f func(Tx) error) error {
	m.change.Lock()
	defer m.change.Unlock()
	return f((*memoryTx)(m))
}

func (m *memory) Sweep(_ context.Context, grace time.Duration, preview *Preview) (map[digest.Digest]int64, error) {
	m.change.Lock()
	defer m.change.Unlock()
	held := map[digest.Digest]bool{}
	for _, r := range m.records {
		if preview != nil && preview.Deleted[r.Name] {
			continue
		}
		for _, d := range r.Digests {
			held[d] = true
		}
	}
	removed := map[digest.Digest]int64{}
	for d, b := range m.blobs {
		if held[d] || m.now().Sub(b.used) < grace {
			continue
		}
		removed[d] = int64(len(b.data))
		if preview == nil {
			delete(m.blobs, d)
		}
	}
	return removed, nil
}

type memoryTx memory

func (t *memoryTx) Blob(d digest.Digest) (int64, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	b, ok := t.blobs[d]
	if !ok {
		return 0, fmt.Errorf("blob %s: %w", d, fs.ErrNotExist)
	}
	return int64(len(b.data)), nil
}

func (t *memoryTx) Record(name string) (Record, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r, ok := t.records[name]
	if !ok {
		return Record{}, fmt.Errorf("record %s: %w", name, fs.ErrNotExist)
	}
	return r, nil
}

func (t *memoryTx) Put(r Record) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	r.Used = t.now()
	t.records[r.Name] = r
	return nil
}

func (t *memoryTx) Delete(name string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.records[name]; !ok {
		return fmt.Errorf("record %s: %w", name, fs.ErrNotExist)
	}
	delete(t.records, name)
	return nil
}

func (t *memoryTx) Touch(name string) error {
	r, err := t.Record(name)
	if err != nil {
		return err
	}
	return t.Put(r)
}

func (t *memoryTx) Names(folder string) ([]string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var names []string
	for name := range t.records {
		if path.Dir(name) == folder {
			names = append(names, path.Base(name))
		}
	}
	slices.Sort(names)
	return names, nil
}

func (t *memoryTx) Walk(_ context.Context, visit func(string) error) error {
	t.mu.Lock()
	names := slices.Sorted(maps.Keys(t.records))
	t.mu.Unlock()
	for _, name := range names {
		if err := visit(name); err != nil {
			return err
		}
	}
	return nil
}
