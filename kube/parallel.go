package kube

import (
	"context"

	"golang.org/x/sync/errgroup"
)

// inParallel calls do for 0..n-1, at most workers at a time. The first error stops further calls and is returned.
func inParallel(ctx context.Context, workers, n int, do func(ctx context.Context, i int) error) error {
	g, running := errgroup.WithContext(ctx)
	g.SetLimit(workers)
	for i := range n {
		if running.Err() != nil {
			break
		}
		g.Go(func() error {
			if err := running.Err(); err != nil {
				return err
			}
			return do(running, i)
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return context.Cause(ctx)
}
