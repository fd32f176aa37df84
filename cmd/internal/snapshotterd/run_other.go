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
