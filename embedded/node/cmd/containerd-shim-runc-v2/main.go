//go:build linux

// Command containerd-shim-runc-v2 is upstream's shim, one process per pod:
// it stays beside the pod's containers when containerd restarts, holds
// their output and reports how they ended.
package main

import (
	"context"

	"github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2/manager"
	_ "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2/task/plugin"
	"github.com/containerd/containerd/v2/pkg/shim"
)

func main() {
	shim.RunShim(context.Background(), manager.NewShimManager("io.containerd.runc.v2"))
}
