package server

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"
)

// Repository is what a repository holds.
type Repository struct {
	Name      string `json:"name"`
	Tags      []Tag  `json:"tags"`
	Manifests int    `json:"manifests"`
	Untagged  int    `json:"untagged"` // of the manifests: no tag leads to them, a collection will remove them
	Blobs     int    `json:"blobs"`
	Bytes     int64  `json:"bytes"` // of blobs and manifests; what several repositories share counts in each
}

// Tag is a tag and what it leads to.
type Tag struct {
	Name      string        `json:"name"`
	Digest    digest.Digest `json:"digest"`
	MediaType string        `json:"mediaType"`
}

// Inventory lists the repositories with their tags, by name.
func (s *Server) Inventory(ctx context.Context) ([]Repository, error) {
	list := []Repository{}
	err := s.storage.Update(ctx, func(tx Tx) error {
		all, err := readRepositories(ctx, tx)
		if err != nil {
			return err
		}
		for _, name := range slices.Sorted(maps.Keys(all)) {
			if len(all[name].manifests) == 0 && len(all[name].blobs) == 0 {
				continue // only a record of referrers is left
			}
			r, err := describe(tx, name, all[name])
			if err != nil {
				return err
			}
			list = append(list, r)
		}
		return nil
	})
	return list, err
}

func describe(tx Tx, name string, repo *repository) (Repository, error) {
	r := Repository{Name: name, Tags: []Tag{}, Manifests: len(repo.manifests), Blobs: len(repo.blobs)}
	tags, err := tx.Names(name + "/_tags")
	if err != nil {
		return r, err
	}
	for _, tag := range tags {
		rec, err := tx.Record(tagRecord(name, tag))
		if err != nil {
			return r, err
		}
		for _, d := range rec.Digests {
			t := Tag{Name: tag, Digest: d}
			if m := repo.manifests[d]; m != nil {
				t.MediaType = m.data.Descriptor.MediaType
			}
			r.Tags = append(r.Tags, t)
		}
	}
	repo.reach(repo.tagged)
	for _, m := range repo.manifests {
		r.Bytes += m.data.Descriptor.Size
		if !m.keep {
			r.Untagged++
		}
	}
	for d := range repo.blobs {
		size, err := tx.Blob(d)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return r, err
		}
		r.Bytes += size
	}
	return r, nil
}
