//go:build !linux

package main

import (
	"context"
	"errors"

	"github.com/weft-dev/weft/buildpack/lifecycle"
)

// Layers are mounted on Linux only; elsewhere they are copied.

func mayMount() bool { return false }

func isolate(context.Context, *session, []string) (int, bool) { return 0, false }

type mounts struct{ below lifecycle.Below }

func newMounts(string) *mounts { return nil }

func (m *mounts) mount(string, []string) error { return errors.ErrUnsupported }

func (m *mounts) unchanged(string) bool { return false }

func keepMountRight(become func() error) error { return become() }

func dropMountRight() error { return nil }
