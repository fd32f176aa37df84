package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weft-dev/weft/registry/server"
)

// registryRoots is the folder of the roots that belong to the loopback registry.
const registryRoots = "registry"

// Registry is the store as the loopback registry's storage. Its records are the roots below "registry/".
func (s *Store) Registry() server.Storage { return registryStorage{s} }

type registryStorage struct{ store *Store }

func (r registryStorage) Open(ctx context.Context, d digest.Digest) (server.Content, error) {
	return r.store.Open(ctx, d)
}

func (r registryStorage) Create(ctx context.Context, name string) (server.Upload, error) {
	return registryUploadOf(r.store.CreateNamed(ctx, "registry-"+name, 0))
}

func (r registryStorage) Resume(ctx context.Context, name string) (server.Upload, error) {
	return registryUploadOf(r.store.Resume(ctx, "registry-"+name, 0))
}

func (r registryStorage) Update(ctx context.Context, f func(server.Tx) error) error {
	return r.store.Update(ctx, func(tx *Tx) error { return f(registryTx{tx}) })
}

func (r registryStorage) Exclusive(ctx context.Context, f func(server.Tx) error) error {
	return r.store.Exclusive(ctx, func(tx *Tx) error { return f(registryTx{tx}) })
}

func (r registryStorage) Sweep(ctx context.Context, grace time.Duration, preview *server.Preview) (map[digest.Digest]int64, error) {
	policy := Policy{Grace: grace}
	if preview != nil {
		policy.DryRun = true
		policy.Without = func(root string) bool {
			name, ours := strings.CutPrefix(root, registryRoots+"/")
			return ours && preview.Deleted[name]
		}
	}
	report, err := r.store.Collect(ctx, policy)
	removed := map[digest.Digest]int64{}
	for _, info := range report.Removed {
		removed[info.Digest] = info.Size
	}
	return removed, err
}

type registryUpload struct{ *Ingest }

func registryUploadOf(in *Ingest, err error) (server.Upload, error) {
	if errors.Is(err, ErrBusy) {
		return nil, fmt.Errorf("%w: %w", server.ErrBusy, err)
	}
	if err != nil {
		return nil, err
	}
	return registryUpload{in}, nil
}

func (u registryUpload) Commit(ctx context.Context, expected digest.Digest) error {
	_, err := u.Ingest.Commit(ctx, -1, expected)
	if errors.Is(err, ErrDigest) {
		return fmt.Errorf("%w: %w", server.ErrDigest, err)
	}
	return err
}

type registryTx struct{ tx *Tx }

func registryRoot(name string) string { return registryRoots + "/" + name }

func (t registryTx) Blob(d digest.Digest) (int64, error) {
	info, err := t.tx.Stat(d)
	return info.Size, err
}

func (t registryTx) Record(name string) (server.Record, error) {
	r, err := t.tx.Root(registryRoot(name))
	return server.Record{Name: name, Digests: r.Digests, Data: r.Data, Used: r.Used}, err
}

func (t registryTx) Put(r server.Record) error {
	return t.tx.PutRoot(Root{Name: registryRoot(r.Name), Digests: r.Digests, Data: r.Data})
}

func (t registryTx) Delete(name string) error { return t.tx.DeleteRoot(registryRoot(name)) }

func (t registryTx) Touch(name string) error { return t.tx.TouchRoot(registryRoot(name)) }

func (t registryTx) Names(folder string) ([]string, error) {
	return t.tx.RootNames(registryRoot(folder))
}

func (t registryTx) Walk(ctx context.Context, visit func(string) error) error {
	return t.tx.WalkRoots(ctx, registryRoots, func(name string) error {
		return visit(strings.TrimPrefix(name, registryRoots+"/"))
	})
}
