//go:build linux

package snapshotter

import (
	"context"
	"errors"

	"github.com/opencontainers/go-digest"

	"github.com/weft-dev/weft/image"
)

// noImages has no image.
type noImages struct{}

var errNone = errors.New("there are no images")

func (noImages) Layers(context.Context, Name) (*Layers, error)       { return nil, errNone }
func (noImages) Prepare(context.Context, Name) (*Layers, error)      { return nil, image.ErrOrdinary }
func (noImages) Mount(context.Context, Name, string) error           { return errNone }
func (noImages) Unmount(context.Context, Name, string) error         { return errNone }
func (noImages) Cached(digest.Digest) (int64, bool)                  { return 0, false }
func (noImages) Unpack(context.Context, Name, []Layer, string) error { return errNone }
