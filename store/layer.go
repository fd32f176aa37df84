package store

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// Unpacked layers (format version 1) are folders:
//
//	layers/ALG/HEX/fs          the layer's files, from the root of an image on
//	layers/ALG/HEX/mark.json   what they look like from outside; its mtime is the last time the layer was asked for
//	layers/.tmp-NAME/          one on its way in: fs, and lock as long as its writer lives
//
// They are made from a tar whose digest was verified, or are what a build left; they can be made again, so they are not flushed file
// by file: after a power cut, or when anything else has changed them, the mark tells.

// layerVersion is the version of mark.json.
const layerVersion = 1

// LayerInfo describes an unpacked layer.
type LayerInfo struct {
	Digest digest.Digest `json:"digest"`
	Size   int64         `json:"size"` // bytes of all files
	Files  int           `json:"files"`
	Used   time.Time     `json:"lastUse"`
}

type markFile struct {
	Version int    `json:"version"`
	Mark    string `json:"mark"`
	Size    int64  `json:"size"`
	Files   int    `json:"files"`
}

func (s *Store) layerPath(d digest.Digest) (string, error) {
	if err := d.Validate(); err != nil {
		return "", fmt.Errorf("%q is not a digest of the form sha256:HEX: %w", string(d), err)
	}
	return filepath.Join(s.dir, "layers", d.Algorithm().String(), d.Encoded()), nil
}

// Layer gives the folder of an unpacked layer, which nobody may write to, and says that it is in use now. It is fs.ErrNotExist if
// the layer is not there, ErrDigest if its files are no longer what they were: then RemoveLayer and make it again.
func (s *Store) Layer(ctx context.Context, d digest.Digest) (string, error) {
	path, err := s.layerPath(d)
	if err != nil {
		return "", err
	}
	var want markFile
	err = s.Update(ctx, func(tx *Tx) error {
		if want, err = readMark(path); err != nil {
			return err
		}
		now := s.now()
		return os.Chtimes(filepath.Join(path, "mark.json"), now, now)
	})
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("layer %s is not in the store: %w", d, fs.ErrNotExist)
	}
	if err != nil {
		return "", err
	}
	root := filepath.Join(path, "fs")
	got, err := markOf(root)
	if err != nil {
		return "", err
	}
	if got.Mark != want.Mark {
		return "", fmt.Errorf("%w: layer %s in %s was changed on the disk", ErrDigest, d, path)
	}
	return root, nil
}

func readMark(path string) (markFile, error) {
	var m markFile
	data, err := os.ReadFile(filepath.Join(path, "mark.json"))
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return m, fmt.Errorf("%w: %s: damaged mark: %w", ErrDigest, path, err)
	}
	if m.Version > layerVersion {
		return m, fmt.Errorf("%s: the layer has version %d, this program reads up to %d", path, m.Version, layerVersion)
	}
	return m, nil
}

// A Draft is a layer on its way in. Its writer fills Dir and then calls Commit; what is left by a writer that died goes with the
// next collection.
type Draft struct {
	store *Store
	path  string
	lock  *os.File
}

// NewLayer begins a layer.
func (s *Store) NewLayer(ctx context.Context) (*Draft, error) {
	d := &Draft{store: s, path: filepath.Join(s.dir, "layers", temporaryPrefix+rand.Text())}
	// A collection between the two steps would take the folder for one whose writer died.
	err := s.Update(ctx, func(*Tx) (err error) {
		if err := os.Mkdir(d.path, 0o700); err != nil {
			return err
		}
		if d.lock, err = os.OpenFile(filepath.Join(d.path, "lock"), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
			return err
		}
		return errors.Join(tryFlock(d.lock, unix.LOCK_EX), os.Mkdir(d.Dir(), 0o755))
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("beginning a layer: %w", err), d.Discard())
	}
	return d, nil
}

// Dir is the folder to fill, the root of an image.
func (d *Draft) Dir() string { return filepath.Join(d.path, "fs") }

// Commit publishes the layer under its digest, which the caller answers for, and gives its folder. Without a digest it is named by
// what it looks like, which only this store knows. If the layer is there already, whole, that one is kept. The draft is gone then.
func (d *Draft) Commit(ctx context.Context, as digest.Digest) (digest.Digest, string, error) {
	m, err := markOf(d.Dir())
	if as == "" {
		as = digest.FromString("unpacked " + m.Mark)
	}
	path, pathErr := d.store.layerPath(as)
	if pathErr != nil {
		return "", "", errors.Join(pathErr, d.Discard())
	}
	if err == nil {
		var data []byte
		if data, err = json.Marshal(m); err == nil {
			err = os.WriteFile(filepath.Join(d.path, "mark.json"), append(data, '\n'), 0o600)
		}
	}
	if err != nil {
		return "", "", errors.Join(d.store.explain(err), d.Discard())
	}
	if there, err := d.store.Layer(ctx, as); err == nil {
		return as, there, d.Discard()
	}
	old := d.path + ".old"
	err = d.store.Update(ctx, func(*Tx) error {
		if err := makeDir(d.store.dir, filepath.Dir(path)); err != nil {
			return err
		}
		if err := os.Remove(filepath.Join(d.path, "lock")); err != nil {
			return err
		}
		for range 10 { // another writer may publish the same layer just now
			err := os.Rename(d.path, path)
			if !errors.Is(err, fs.ErrExist) && !errors.Is(err, unix.ENOTEMPTY) {
				return err
			}
			if err := ignoreMissing(os.Rename(path, old)); err != nil {
				return err
			}
			if err := removeTree(old); err != nil {
				return err
			}
		}
		return ErrBusy
	})
	if err != nil {
		return "", "", errors.Join(fmt.Errorf("publishing layer %s: %w", as, err), d.Discard())
	}
	d.lock.Close()
	return as, filepath.Join(path, "fs"), nil
}

// Discard drops the draft.
func (d *Draft) Discard() error {
	if d.lock != nil {
		defer d.lock.Close()
	}
	return removeTree(d.path)
}

// RemoveLayer removes an unpacked layer; removing one that is not there is no error.
func (s *Store) RemoveLayer(ctx context.Context, d digest.Digest) error {
	gone, err := "", error(nil)
	err = s.Update(ctx, func(tx *Tx) error { gone, err = tx.unlinkLayer(d); return err })
	return errors.Join(err, removeTree(gone))
}

// unlinkLayer takes a layer out of its place and gives the folder that is left to be removed, "" if there is none.
func (tx *Tx) unlinkLayer(d digest.Digest) (string, error) {
	path, err := tx.store.layerPath(d)
	if err != nil {
		return "", err
	}
	gone := filepath.Join(tx.store.dir, "layers", temporaryPrefix+rand.Text())
	if err := os.Rename(path, gone); err != nil {
		return "", ignoreMissing(err)
	}
	return gone, nil
}

// ReleaseLayers removes those of the layers that no root and no running lease holds: what a caller drops when it has replaced a
// root, without waiting for a collection.
func (s *Store) ReleaseLayers(ctx context.Context, layers ...digest.Digest) error {
	if len(layers) == 0 {
		return nil
	}
	var gone []string
	err := s.Exclusive(ctx, func(tx *Tx) error {
		held := map[digest.Digest]int{}
		if err := tx.mark(ctx, held, nil, nil); err != nil {
			return err
		}
		for _, d := range layers {
			if held[d] > 0 {
				continue
			}
			path, err := tx.unlinkLayer(d)
			if err != nil {
				return err
			}
			gone = append(gone, path)
		}
		return nil
	})
	for _, path := range gone {
		err = errors.Join(err, removeTree(path))
	}
	return err
}

// Layers calls visit for every unpacked layer, in the order of their digests.
func (s *Store) Layers(ctx context.Context, visit func(LayerInfo) error) error {
	algorithms, err := os.ReadDir(filepath.Join(s.dir, "layers"))
	if err != nil {
		return ignoreMissing(err)
	}
	for _, alg := range algorithms {
		if isTemporary(alg.Name()) {
			continue
		}
		entries, err := os.ReadDir(filepath.Join(s.dir, "layers", alg.Name()))
		if err != nil {
			return ignoreMissing(err)
		}
		for _, e := range entries {
			d := digest.NewDigestFromEncoded(digest.Algorithm(alg.Name()), e.Name())
			path, err := s.layerPath(d)
			if err != nil {
				continue
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			info := LayerInfo{Digest: d}
			if m, err := readMark(path); err == nil {
				info.Size, info.Files = m.Size, m.Files
			}
			if st, err := os.Stat(filepath.Join(path, "mark.json")); err == nil {
				info.Used = st.ModTime()
			}
			if err := visit(info); err != nil {
				return err
			}
		}
	}
	return nil
}

// collectLayers removes the layers that nothing holds and drafts whose writers died; it gives the folders left to be removed.
func (tx *Tx) collectLayers(ctx context.Context, p Policy, held map[digest.Digest]int, report *Report) ([]string, error) {
	s := tx.store
	now := s.now()
	var gone []string
	err := s.Layers(ctx, func(info LayerInfo) error {
		if held[info.Digest] > 0 || now.Sub(info.Used) < p.Grace {
			report.KeptLayers++
			report.KeptBytes += info.Size
			return nil
		}
		if !p.DryRun {
			path, err := tx.unlinkLayer(info.Digest)
			if err != nil {
				return err
			}
			gone = append(gone, path)
		}
		report.RemovedLayers = append(report.RemovedLayers, info)
		report.RemovedBytes += info.Size
		return nil
	})
	if err != nil || p.DryRun {
		return gone, err
	}
	entries, err := os.ReadDir(filepath.Join(s.dir, "layers"))
	if err != nil {
		return gone, ignoreMissing(err)
	}
	for _, e := range entries {
		path := filepath.Join(s.dir, "layers", e.Name())
		if !isTemporary(e.Name()) || tx.draftAlive(path) {
			continue
		}
		gone = append(gone, path)
	}
	return gone, nil
}

// draftAlive says whether somebody is filling a draft.
func (tx *Tx) draftAlive(path string) bool {
	f, err := os.OpenFile(filepath.Join(path, "lock"), os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	return tryFlock(f, unix.LOCK_EX) != nil
}

// removeTree removes a folder although its layer may have folders that cannot be written.
func removeTree(dir string) error {
	if dir == "" {
		return nil
	}
	err := os.RemoveAll(dir)
	if err == nil || !errors.Is(err, fs.ErrPermission) {
		return err
	}
	walkErr := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if e == nil || !e.IsDir() {
			return nil
		}
		return os.Chmod(name, 0o700) // before its entries are read
	})
	if err := os.RemoveAll(dir); err != nil {
		return errors.Join(err, walkErr)
	}
	return nil
}
