//go:build !linux

package image

import (
	"context"
	"errors"
)

// Mount needs Linux.
func (o *Opened) Mount(context.Context, string, string, int, func(string, ...any)) error {
	return errors.New("mounting an image needs Linux: unpack it instead")
}
