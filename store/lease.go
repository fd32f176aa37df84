package store

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
)

// Lease keeps content for a while: until it is released or its time is over, which also covers an owner that died.
// Hold a digest first and look for the blob then: once found it cannot be collected.
type Lease struct {
	store *Store
	id    string
	mu    sync.Mutex
	file  leaseFile
}

type leaseFile struct {
	Version int             `json:"version"`
	Owner   string          `json:"owner"`
	Expires time.Time       `json:"expires"`
	Digests []digest.Digest `json:"digests"`
}

// Lease begins a lease that holds nothing yet and ends after ttl. Owner is for people: who holds it and why.
func (s *Store) Lease(ctx context.Context, owner string, ttl time.Duration) (*Lease, error) {
	l := &Lease{store: s, id: rand.Text(), file: leaseFile{Version: Version, Owner: owner, Expires: s.now().Add(ttl).UTC()}}
	return l, l.save(ctx)
}

// Hold adds digests to what the lease keeps; they need not be in the store yet.
func (l *Lease) Hold(ctx context.Context, digests ...digest.Digest) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range digests {
		if err := d.Validate(); err != nil {
			return fmt.Errorf("lease: %q is not a digest: %w", string(d), err)
		}
		if !slices.Contains(l.file.Digests, d) {
			l.file.Digests = append(l.file.Digests, d)
		}
	}
	return l.save(ctx)
}

// Extend lets the lease end ttl from now.
func (l *Lease) Extend(ctx context.Context, ttl time.Duration) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.file.Expires = l.store.now().Add(ttl).UTC()
	return l.save(ctx)
}

// Release ends the lease. Releasing one that has ended is no error.
func (l *Lease) Release(ctx context.Context) error {
	return l.store.locked(ctx, false, func() error { return ignoreMissing(os.Remove(l.path())) })
}

func (l *Lease) path() string { return filepath.Join(l.store.dir, "leases", l.id+".json") }

func (l *Lease) save(ctx context.Context) error {
	data, err := json.Marshal(l.file)
	if err != nil {
		return err
	}
	return l.store.locked(ctx, false, func() error { return l.store.explain(writeFile(l.path(), append(data, '\n'))) })
}

// eachLease reads all leases. A damaged one is an error: collecting without it could remove what it holds.
func (s *Store) eachLease(visit func(path string, l leaseFile) error) error {
	entries, err := os.ReadDir(filepath.Join(s.dir, "leases"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".json") {
			continue
		}
		path := filepath.Join(s.dir, "leases", e.Name())
		data, err := os.ReadFile(path)
		if err != nil {
			if os.IsNotExist(err) {
				continue
			}
			return err
		}
		var l leaseFile
		if err := json.Unmarshal(data, &l); err != nil {
			return fmt.Errorf("%s: damaged lease, delete the file if nothing uses it: %w", path, err)
		}
		if l.Version > Version {
			return fmt.Errorf("%s: lease has version %d, this program reads up to %d", path, l.Version, Version)
		}
		if err := visit(path, l); err != nil {
			return err
		}
	}
	return nil
}
