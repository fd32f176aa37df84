package input

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/weft-dev/weft/logging/pipeline/flow"
)

// Source is an input with where its records go.
type Source struct {
	Input Input
	Sink  flow.Sink
	Log   *slog.Logger
	Name  string
}

// Bring runs inputs until all have ended. One that ends the pipeline (ErrEnd) or fails stops the others; the error joins all failures.
func Bring(ctx context.Context, sources []Source) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var mu sync.Mutex
	var failed error
	var running sync.WaitGroup
	for _, s := range sources {
		running.Go(func() {
			s.Log.Debug("started")
			err := s.Input.Run(ctx, s.Sink)
			if errors.Is(err, ErrEnd) {
				stop()
				return
			}
			if err != nil && ctx.Err() == nil {
				s.Log.Error("the input stopped", "error", err)
				mu.Lock()
				failed = errors.Join(failed, fmt.Errorf("input %s: %w", s.Name, err))
				mu.Unlock()
				stop()
			}
		})
	}
	running.Wait()
	return failed
}
