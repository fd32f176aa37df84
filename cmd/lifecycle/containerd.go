package main

import (
	"context"
	"errors"

	"github.com/weft-dev/weft/buildpack/containerd"
)

// inContainerd is the containerd of a run with -containerd.
type inContainerd struct {
	client *containerd.Client
	target *containerd.Target
}

// openContainerd connects while there still is the right to.
func (s *session) openContainerd(ctx context.Context) error {
	client, err := containerd.Connect(ctx, s.get("containerd-address"), s.get("containerd-namespace"))
	if err != nil {
		return err
	}
	snapshotter := ""
	if s.is("containerd-unpack") {
		snapshotter = orElse(s.get("snapshotter"), containerd.DefaultSnapshotter)
	}
	s.containerd = &inContainerd{client, client.NewTarget(snapshotter)}
	return nil
}

// closeContainerd lets go of what no image needs, and ends the connection.
func (s *session) closeContainerd() error {
	if s.containerd == nil {
		return nil
	}
	return errors.Join(s.containerd.target.Close(), s.containerd.client.Close())
}
