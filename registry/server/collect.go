package server

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// DefaultGrace is how long content stays that no tag leads to: pushes put blobs before manifests and manifests before
// tags, and what runs by digest may still be rolled back to.
const DefaultGrace = time.Hour

// Policy says what a collection may remove.
type Policy struct {
	Grace  time.Duration   // content used within this time stays
	Keep   []digest.Digest // manifests that stay although no tag leads to them, for example those of running pods
	DryRun bool            // only report
}

// Report is what a collection did, or with Policy.DryRun would have done.
type Report struct {
	Manifests    []string `json:"manifests"` // REPOSITORY@DIGEST, removed
	Links        int      `json:"links"`     // blobs taken from a repository
	Blobs        int      `json:"blobs"`     // removed from the disk
	RemovedBytes int64    `json:"removedBytes"`
	DryRun       bool     `json:"dryRun,omitempty"`
}

// manifest is a manifest as a collection sees it.
type manifest struct {
	data manifestData
	used time.Time
	keep bool
}

type repository struct {
	manifests map[digest.Digest]*manifest
	blobs     map[digest.Digest]time.Time
	tagged    []digest.Digest
}

// Collect removes the manifests that no tag leads to, directly, through an index or as the subject of a referrer, then
// the blobs that no remaining manifest needs. Pushes in flight are safe: they wait while records are looked through,
// and what they have put or found present within the grace period stays.
func (s *Server) Collect(ctx context.Context, p Policy) (Report, error) {
	report := Report{DryRun: p.DryRun, Manifests: []string{}}
	deleted := map[string]bool{}
	err := s.storage.Exclusive(ctx, func(tx Tx) error {
		repositories, err := readRepositories(ctx, tx)
		if err != nil {
			return err
		}
		names := make([]string, 0, len(repositories))
		for name := range repositories {
			names = append(names, name)
		}
		sort.Strings(names)
		for _, name := range names {
			if err := s.collectRepository(tx, name, repositories[name], p, &report, deleted); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return report, err
	}
	var preview *Preview
	if p.DryRun {
		preview = &Preview{deleted}
	}
	swept, err := s.storage.Sweep(ctx, p.Grace, preview)
	for _, size := range swept {
		report.Blobs++
		report.RemovedBytes += size
	}
	return report, err
}

func readRepositories(ctx context.Context, tx Tx) (map[string]*repository, error) {
	all := map[string]*repository{}
	get := func(name string) *repository {
		if all[name] == nil {
			all[name] = &repository{map[digest.Digest]*manifest{}, map[digest.Digest]time.Time{}, nil}
		}
		return all[name]
	}
	err := tx.Walk(ctx, func(name string) error {
		path, last := name[:strings.LastIndexByte(name, '/')+1], name[strings.LastIndexByte(name, '/')+1:]
		rec, err := tx.Record(name)
		if err != nil {
			return err
		}
		if repo, ok := strings.CutSuffix(path, "/_tags/"); ok {
			get(repo).tagged = append(get(repo).tagged, rec.Digests...)
		} else if repo, ok := strings.CutSuffix(path, "/_blobs/"); ok {
			get(repo).blobs[digest.Digest(last)] = rec.Used
		} else if repo, ok := strings.CutSuffix(path, "/_manifests/"); ok {
			m := &manifest{used: rec.Used}
			if err := json.Unmarshal(rec.Data, &m.data); err != nil {
				return fmt.Errorf("the record of manifest %s@%s is damaged: %w", repo, last, err)
			}
			get(repo).manifests[digest.Digest(last)] = m
		}
		return nil
	})
	return all, err
}

func (s *Server) collectRepository(tx Tx, name string, repo *repository, p Policy, report *Report, deleted map[string]bool) error {
	now := s.now()
	repo.mark(p, now)
	needed := map[digest.Digest]bool{}
	for d, m := range repo.manifests {
		if m.keep {
			for _, b := range m.data.Blobs {
				needed[b] = true
			}
			continue
		}
		report.Manifests = append(report.Manifests, name+"@"+string(d))
		deleted[manifestRecord(name, d)] = true
		if !p.DryRun {
			if err := dropManifest(tx, name, d); err != nil {
				return err
			}
		}
	}
	sort.Strings(report.Manifests)
	for d, used := range repo.blobs {
		if needed[d] || now.Sub(used) < p.Grace {
			continue
		}
		report.Links++
		deleted[blobRecord(name, d)] = true
		if !p.DryRun {
			if err := tx.Delete(blobRecord(name, d)); err != nil {
				return err
			}
		}
	}
	return nil
}

// mark sets keep on what tags, the policy and the grace period keep, and on all that follows from it.
func (repo *repository) mark(p Policy, now time.Time) {
	roots := append(slices.Clone(repo.tagged), p.Keep...)
	for d, m := range repo.manifests {
		if now.Sub(m.used) < p.Grace {
			roots = append(roots, d)
		}
	}
	repo.reach(roots)
}

// reach sets keep on these manifests, on what their indexes list, and on what refers to any of them.
func (repo *repository) reach(roots []digest.Digest) {
	referrers := map[digest.Digest][]digest.Digest{}
	for d, m := range repo.manifests {
		if m.data.Subject != "" {
			referrers[m.data.Subject] = append(referrers[m.data.Subject], d)
		}
	}
	for len(roots) > 0 {
		d := roots[len(roots)-1]
		roots = roots[:len(roots)-1]
		m := repo.manifests[d]
		if m == nil || m.keep {
			continue
		}
		m.keep = true
		roots = append(append(roots, m.data.Manifests...), referrers[d]...)
	}
}
