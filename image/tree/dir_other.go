//go:build !linux

package tree

import (
	"context"
	"errors"
)

// FromDir needs Linux: elsewhere owners, devices and extended attributes of an image's files cannot be read from a folder.
func FromDir(context.Context, string, Whiteouts, Content) (*Node, error) {
	return nil, errors.New("reading a folder as an image's files needs Linux: give a tar file instead")
}
