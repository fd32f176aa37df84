package snapshotterd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/weft-dev/weft/cmd/internal/lazytool"
	"github.com/weft-dev/weft/lazy"
	"github.com/weft-dev/weft/lazy/keeper"
	"github.com/weft-dev/weft/lazy/mountinfo"
)

// remove ends what lies in a folder.
func remove(ctx context.Context, root string, program []string, files bool, out io.Writer) error {
	state := filepath.Join(root, "lazy")
	v, err := lazy.Look(state, slog.New(slog.DiscardHandler))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: there are no snapshots of this program; name the --root of the snapshotter", root)
	}
	if err != nil {
		return err
	}
	if v.Served && !v.StandsIn {
		return fmt.Errorf("the snapshotter runs as process %d: end it first (delete its DaemonSet, stop its service)", v.Server)
	}
	users, err := mountinfo.Users(root)
	if err != nil {
		return err
	}
	if len(users) > 0 {
		return fmt.Errorf("%d mounts use its images, one of them %s: end their containers first (drain the node)", len(users), users[0])
	}
	images, err := unmountAll(ctx, state, program)
	if err != nil {
		return err
	}
	if g := keeper.Look(filepath.Join(state, "run")); g.Keeper != 0 {
		return fmt.Errorf("process %d still guards an image that another mount namespace has mounted (see /proc/*/mountinfo): end what uses it, then run this again", g.Keeper)
	}
	left := filepath.Join(root, "bin")
	if files {
		left = root
	}
	mounts, err := mountinfo.Below(left)
	if err == nil && len(mounts) > 0 {
		err = fmt.Errorf("%s is mounted and no image of the snapshotter: unmount it, then remove the files", mounts[0])
	}
	if err != nil {
		return err
	}
	if err := os.RemoveAll(left); err != nil {
		return err
	}
	fmt.Fprintf(out, "images unmounted: %d; nothing runs any more", images)
	if !files {
		fmt.Fprintf(out, "; %s can be removed when containerd does not use the snapshotter any more", root)
	}
	_, err = fmt.Fprintln(out)
	return err
}

// unmountAll takes the folder over, lets go of all images, and ends its guards.
func unmountAll(ctx context.Context, state string, program []string) (images int, err error) {
	guard, err := lazytool.KeeperProgram(program...)
	if err != nil {
		return 0, err
	}
	s, err := lazy.Open(ctx, lazy.Options{Root: state, Learn: -1, Keeper: guard})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	for _, im := range s.Images() {
		for _, target := range im.Stats().Mounts {
			if err := im.Unmount(ctx, target); err != nil {
				return images, err
			}
		}
		if err := s.Remove(ctx, im.ID()); err != nil {
			return images, err
		}
		images++
	}
	return images, nil
}
