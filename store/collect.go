package store

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"
)

// Policy says what a collection may remove.
type Policy struct {
	Grace     time.Duration          // content used within this time stays even if nothing holds it
	Abandoned time.Duration          // an ingest not written for this time is dropped; 0 means a day
	DryRun    bool                   // only report
	Without   func(root string) bool // with DryRun: roots that count as deleted; nil for none
}

// Report is what a collection did, or with Policy.DryRun would have done.
type Report struct {
	Removed       []Info      `json:"removed"`
	RemovedLayers []LayerInfo `json:"removedLayers"` // unpacked ones
	RemovedBytes  int64       `json:"removedBytes"`
	Kept          int         `json:"kept"`
	KeptLayers    int         `json:"keptLayers"`
	KeptBytes     int64       `json:"keptBytes"`
	ExpiredLeases int         `json:"expiredLeases"`
	Abandoned     []string    `json:"abandonedIngests"`
}

// References counts for each digest the roots and the running leases that hold it.
func (s *Store) References(ctx context.Context) (map[digest.Digest]int, error) {
	counts := map[digest.Digest]int{}
	err := s.Update(ctx, func(tx *Tx) error { return tx.mark(ctx, counts, nil, nil) })
	return counts, err
}

// mark counts the holders of each digest, but for roots to leave out; it tells expired the paths of leases that have ended.
func (tx *Tx) mark(ctx context.Context, counts map[digest.Digest]int, without func(root string) bool, expired func(path string)) error {
	err := tx.WalkRoots(ctx, "", func(name string) error {
		if without != nil && without(name) {
			return nil
		}
		r, err := tx.Root(name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		for _, d := range r.Digests {
			counts[d]++
		}
		return err
	})
	if err != nil {
		return err
	}
	now := tx.store.now()
	return tx.store.eachLease(func(path string, l leaseFile) error {
		if now.After(l.Expires) {
			if expired != nil {
				expired(path)
			}
			return nil
		}
		for _, d := range l.Digests {
			counts[d]++
		}
		return nil
	})
}

// Collect removes the blobs and unpacked layers that no root and no running lease holds and that were not used within the grace
// period, ended leases, ingests that nobody has written for a day, and layers whose writer died. Other changes wait meanwhile; readers
// do not.
func (s *Store) Collect(ctx context.Context, p Policy) (Report, error) {
	var report Report
	var gone []string
	err := s.Exclusive(ctx, func(tx *Tx) (err error) {
		gone, err = tx.collect(ctx, p, &report)
		return err
	})
	for _, path := range gone { // trees of many files: others need not wait for that
		err = errors.Join(err, removeTree(path))
	}
	return report, err
}

// collect gives the folders that are left to be removed.
func (tx *Tx) collect(ctx context.Context, p Policy, report *Report) ([]string, error) {
	s, now := tx.store, tx.store.now()
	if !p.DryRun {
		p.Without = nil
	}
	held := map[digest.Digest]int{}
	var ended []string
	if err := tx.mark(ctx, held, p.Without, func(path string) { ended = append(ended, path) }); err != nil {
		return nil, err
	}
	report.ExpiredLeases = len(ended)
	if !p.DryRun {
		for _, path := range ended {
			if err := ignoreMissing(os.Remove(path)); err != nil {
				return nil, err
			}
		}
	}
	err := s.walkBlobs(ctx, func(path string, info Info) error {
		if held[info.Digest] > 0 || now.Sub(info.Used) < p.Grace {
			report.Kept++
			report.KeptBytes += info.Size
			return nil
		}
		if !p.DryRun {
			if err := os.Remove(path); err != nil {
				return ignoreMissing(err)
			}
		}
		report.Removed = append(report.Removed, info)
		report.RemovedBytes += info.Size
		return nil
	})
	if err != nil {
		return nil, err
	}
	gone, err := tx.collectLayers(ctx, p, held, report)
	if err != nil {
		return gone, err
	}
	if !p.DryRun {
		if err := s.removeLeftovers(now); err != nil {
			return gone, err
		}
	}
	return gone, s.dropAbandoned(p, now, report)
}

// dropAbandoned drops ingests that nobody writes and nobody has written for long.
func (s *Store) dropAbandoned(p Policy, now time.Time, report *Report) error {
	if p.Abandoned == 0 {
		p.Abandoned = 24 * time.Hour
	}
	entries, err := os.ReadDir(filepath.Join(s.dir, "ingest"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		dir := filepath.Join(s.dir, "ingest", e.Name())
		if now.Sub(lastWrite(dir)) < p.Abandoned {
			continue
		}
		lock, err := lockIngest(dir, os.O_CREATE)
		if errors.Is(err, ErrBusy) || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if !p.DryRun {
			err = removeIngest(dir)
		}
		lock.Close()
		if err != nil {
			return err
		}
		report.Abandoned = append(report.Abandoned, e.Name())
	}
	return nil
}

func lastWrite(dir string) time.Time {
	var last time.Time
	for _, path := range []string{dir, filepath.Join(dir, "data")} {
		if st, err := os.Stat(path); err == nil && st.ModTime().After(last) {
			last = st.ModTime()
		}
	}
	return last
}

// removeLeftovers removes files that a crash left beside their place. An hour is far longer than any of them lives.
func (s *Store) removeLeftovers(now time.Time) error {
	return filepath.WalkDir(s.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return ignoreMissing(err)
		}
		if e.IsDir() && filepath.Dir(path) == s.dir && (e.Name() == "layers" || e.Name() == "blobs") {
			return filepath.SkipDir
		}
		if e.IsDir() || !isTemporary(e.Name()) {
			return nil
		}
		st, err := e.Info()
		if err != nil || now.Sub(st.ModTime()) < time.Hour {
			return ignoreMissing(err)
		}
		return ignoreMissing(os.Remove(path))
	})
}
