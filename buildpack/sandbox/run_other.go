//go:build !linux

package sandbox

import (
	"context"
	"fmt"
	"io"
)

// A Runner starts sandboxes. Only Linux has what they need.
type Runner struct {
	Program string
	Scratch string
}

// Run always fails with ErrUnavailable.
func (r Runner) Run(context.Context, Spec, io.Reader, io.Writer, io.Writer) (Status, error) {
	return Status{}, fmt.Errorf("sandbox: %w: builds need Linux namespaces", ErrUnavailable)
}
