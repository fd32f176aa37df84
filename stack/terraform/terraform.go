// Package terraform is the engine's driver for the resources of a Spec that Terraform would make. It plans them, so that a stack can be
// looked at as a whole; it makes none.
package terraform

import (
	"context"
	"errors"

	"github.com/weft-dev/weft/engine"
)

// ErrNotMade is the answer to everything that would need Terraform.
var ErrNotMade = errors.New("resources of Terraform cannot be made yet: apply this stack with kusion, or take what needs a cloud out of it")

// Driver implements engine.Driver.
type Driver struct{}

// Version is 1.
func (Driver) Version() string { return "1" }

// Read finds nothing.
func (Driver) Read(context.Context, engine.Request) (*engine.Object, error) { return nil, nil }

// Compare finds no fault with what is to be made.
func (Driver) Compare(context.Context, engine.Request, *engine.Object) (engine.Comparison, error) {
	return engine.Comparison{}, nil
}

// Create refuses.
func (Driver) Create(context.Context, engine.Request) (*engine.Object, error) {
	return nil, ErrNotMade
}

// Update refuses.
func (Driver) Update(context.Context, engine.Request, *engine.Object) (*engine.Object, error) {
	return nil, ErrNotMade
}

// Delete refuses.
func (Driver) Delete(context.Context, engine.Request) error { return ErrNotMade }
