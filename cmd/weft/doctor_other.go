//go:build !linux

package main

import (
	"context"
	"runtime"

	"github.com/weft-dev/weft/cmd/internal/cluster"
)

// examine looks at the machine.
func examine(context.Context, *cluster.Cluster) []finding {
	return []finding{{"system", bad, runtime.GOOS,
		"The embedded Kubernetes runs on Linux only. Everything else works with another cluster: --kubeconfig or --context."}}
}
