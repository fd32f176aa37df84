package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// Root keeps content until the root is deleted.
type Root struct {
	Name    string          // a path such as "registry/guestbook/_tags/v1"
	Digests []digest.Digest // what it keeps; need not be there yet
	Data    json.RawMessage // belongs to whoever owns the root; may be empty
	Used    time.Time       // when it was last written or touched; set by reading
}

type rootFile struct {
	Version int             `json:"version"`
	Digests []digest.Digest `json:"digests,omitempty"`
	Data    json.RawMessage `json:"data,omitempty"`
}

var rootElement = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._:@+-]*$`) // at most 250 characters

// leaf marks the files, so that a root "a" and a root "a/b" can exist side by side: no element begins with it.
const leaf = "="

func (s *Store) rootPath(name string) (string, error) {
	elements := strings.Split(name, "/")
	for _, e := range elements {
		if len(e) > 250 || !rootElement.MatchString(e) {
			return "", fmt.Errorf("root name %q: each part needs letters, digits and ._:@+- (at most 250), not beginning with a dot", name)
		}
	}
	last := len(elements) - 1
	elements[last] = leaf + elements[last]
	return filepath.Join(s.dir, "roots", filepath.Join(elements...)), nil
}

// Tx is a change of the store. It is valid only inside the function it was given to.
type Tx struct{ store *Store }

// Update runs a change that may happen beside other changes but never beside a collection: what f finds present stays
// present until f has put a root or lease on it. f must be short and must not call the Store's own methods that change.
func (s *Store) Update(ctx context.Context, f func(*Tx) error) error {
	return s.locked(ctx, false, func() error { return s.explain(f(&Tx{s})) })
}

// Exclusive runs a change while nobody else changes anything.
func (s *Store) Exclusive(ctx context.Context, f func(*Tx) error) error {
	return s.locked(ctx, true, func() error { return s.explain(f(&Tx{s})) })
}

// PutRoot writes a root, new or in place of the one of that name.
func (s *Store) PutRoot(ctx context.Context, r Root) error {
	return s.Update(ctx, func(tx *Tx) error { return tx.PutRoot(r) })
}

// DeleteRoot deletes a root; fs.ErrNotExist if there is none.
func (s *Store) DeleteRoot(ctx context.Context, name string) error {
	return s.Update(ctx, func(tx *Tx) error { return tx.DeleteRoot(name) })
}

// Root reads a root; fs.ErrNotExist if there is none.
func (s *Store) Root(_ context.Context, name string) (Root, error) { return (&Tx{s}).Root(name) }

// Stat is Store.Stat.
func (tx *Tx) Stat(d digest.Digest) (Info, error) { return tx.store.Stat(context.Background(), d) }

// Touch is Store.Touch.
func (tx *Tx) Touch(d digest.Digest) error {
	path, err := tx.store.blobPath(d)
	if err != nil {
		return err
	}
	now := tx.store.now()
	return unknown(d, os.Chtimes(path, now, now))
}

// publish moves verified, flushed content to its place. If it is there already, that one is kept.
func (tx *Tx) publish(from string, d digest.Digest, size int64) (Info, error) {
	path, err := tx.store.blobPath(d)
	if err != nil {
		return Info{}, err
	}
	if _, err := tx.Stat(d); err == nil {
		err = tx.Touch(d)
		return Info{Digest: d, Size: size, Used: tx.store.now()}, err
	}
	if err := makeDir(tx.store.dir, filepath.Dir(path)); err != nil {
		return Info{}, err
	}
	now := tx.store.now()
	if err := os.Chtimes(from, now, now); err != nil {
		return Info{}, err
	}
	return Info{Digest: d, Size: size, Used: now}, rename(from, path)
}

// PutRoot is Store.PutRoot.
func (tx *Tx) PutRoot(r Root) error {
	path, err := tx.store.rootPath(r.Name)
	if err != nil {
		return err
	}
	for _, d := range r.Digests {
		if err := d.Validate(); err != nil {
			return fmt.Errorf("root %q: %q is not a digest: %w", r.Name, string(d), err)
		}
	}
	data, err := json.Marshal(rootFile{Version, r.Digests, r.Data})
	if err != nil {
		return fmt.Errorf("root %q: %w", r.Name, err)
	}
	// A deletion elsewhere may remove the folder just when it seems empty: then once more.
	for range 10 {
		if err = makeDir(tx.store.dir, filepath.Dir(path)); err != nil {
			return err
		}
		if err = writeFile(path, append(data, '\n')); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return err
}

// DeleteRoot is Store.DeleteRoot.
func (tx *Tx) DeleteRoot(name string) error {
	path, err := tx.store.rootPath(name)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil {
		if os.IsNotExist(err) {
			return fmt.Errorf("there is no root %q: %w", name, fs.ErrNotExist)
		}
		return err
	}
	dir := filepath.Dir(path)
	if err := syncDir(dir); err != nil {
		return err
	}
	for top := filepath.Join(tx.store.dir, "roots"); dir != top; dir = filepath.Dir(dir) {
		if os.Remove(dir) != nil { // not empty
			break
		}
	}
	return nil
}

// TouchRoot says that a root is in use now.
func (tx *Tx) TouchRoot(name string) error {
	path, err := tx.store.rootPath(name)
	if err != nil {
		return err
	}
	now := tx.store.now()
	if err := os.Chtimes(path, now, now); err != nil {
		return fmt.Errorf("root %q: %w", name, err)
	}
	return nil
}

// Root is Store.Root.
func (tx *Tx) Root(name string) (Root, error) {
	path, err := tx.store.rootPath(name)
	if err != nil {
		return Root{}, err
	}
	return readRoot(name, path)
}

func readRoot(name, path string) (Root, error) {
	f, err := os.Open(path)
	if err != nil {
		if os.IsNotExist(err) {
			return Root{}, fmt.Errorf("there is no root %q: %w", name, fs.ErrNotExist)
		}
		return Root{}, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return Root{}, err
	}
	var file rootFile
	if err := json.NewDecoder(f).Decode(&file); err != nil {
		return Root{}, fmt.Errorf("%s: damaged root: %w", path, err)
	}
	if file.Version > Version {
		return Root{}, fmt.Errorf("%s: root has version %d, this program reads up to %d", path, file.Version, Version)
	}
	return Root{name, file.Digests, file.Data, st.ModTime()}, nil
}

// RootNames lists the last parts of the names of the roots directly in a folder such as "registry/guestbook/_tags",
// sorted; none if there is no such folder.
func (tx *Tx) RootNames(folder string) ([]string, error) {
	path, err := tx.store.rootPath(folder)
	if err != nil {
		return nil, err
	}
	dir, last := filepath.Split(path)
	entries, err := os.ReadDir(filepath.Join(dir, strings.TrimPrefix(last, leaf)))
	if err != nil {
		return nil, ignoreMissing(err)
	}
	var names []string
	for _, e := range entries {
		if name, ok := strings.CutPrefix(e.Name(), leaf); ok {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	return names, nil
}

// WalkRoots calls visit with the name of every root below a folder ("" for all).
func (tx *Tx) WalkRoots(ctx context.Context, folder string, visit func(name string) error) error {
	base := filepath.Join(tx.store.dir, "roots")
	start := base
	if folder != "" {
		path, err := tx.store.rootPath(folder)
		if err != nil {
			return err
		}
		dir, last := filepath.Split(path)
		start = filepath.Join(dir, strings.TrimPrefix(last, leaf))
	}
	return filepath.WalkDir(start, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return ignoreMissing(err)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		last, ok := strings.CutPrefix(e.Name(), leaf)
		if e.IsDir() || !ok {
			return nil
		}
		rel, err := filepath.Rel(base, filepath.Dir(path))
		if err != nil {
			return err
		}
		if rel == "." {
			return visit(last)
		}
		return visit(filepath.ToSlash(rel) + "/" + last)
	})
}
