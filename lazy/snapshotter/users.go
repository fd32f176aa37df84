//go:build linux

package snapshotter

import (
	"context"
	"errors"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/core/snapshots/storage"
	"github.com/containerd/errdefs"
)

// Users are the writable and read-only snapshots that stand on the one with a folder, by the last part of their keys: containerd's runtime interface names
// the snapshot of a container as the container. A folder that is no snapshot's has none.
func (s *Snapshotter) Users(ctx context.Context, folder string) ([]string, error) {
	id := filepath.Base(filepath.Dir(folder))
	if folder != s.folder(id) {
		return nil, nil
	}
	base := ""
	parents := map[string]string{}
	var leaves []string
	err := s.meta.WithTransaction(ctx, false, func(ctx context.Context) error {
		ids, err := storage.IDMap(ctx)
		if err != nil {
			return err
		}
		base = ids[id]
		return storage.WalkInfo(ctx, func(_ context.Context, info snapshots.Info) error {
			parents[info.Name] = info.Parent
			if info.Kind != snapshots.KindCommitted {
				leaves = append(leaves, info.Name)
			}
			return nil
		})
	})
	if errors.Is(err, errdefs.ErrNotFound) || err == nil && base == "" {
		return nil, nil // a new folder has no list yet
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, leaf := range leaves {
		for at := parents[leaf]; at != ""; at = parents[at] {
			if at == base {
				names = append(names, leaf[strings.LastIndexByte(leaf, '/')+1:])
				break
			}
		}
	}
	return names, nil
}
