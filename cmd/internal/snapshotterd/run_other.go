//go:build !linux

package snapshotterd

import (
	"context"
	"errors"
	"io"
)

func run(context.Context, flags, io.Writer) error {
	return errors.New("snapshots are for containerd on Linux")
}

func follow(ctx context.Context, f flags, out io.Writer) error { return run(ctx, f, out) }

func remove(context.Context, string, []string, bool, io.Writer) error {
	return errors.New("snapshots are for containerd on Linux")
}
