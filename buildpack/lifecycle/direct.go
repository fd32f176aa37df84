package lifecycle

import (
	"context"
	"errors"
	"os/exec"
	"time"
)

// Direct runs programs as this process' own user beside it, for a lifecycle that is inside the build container already.
type Direct struct{}

// Run implements Executor.
func (Direct) Run(ctx context.Context, e Execution) (int, error) {
	cmd := exec.CommandContext(ctx, e.Program, e.Args...)
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = e.Env, e.Dir, e.Output, e.Output
	cmd.WaitDelay = 5 * time.Second // a background process may keep the output open
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil
	}
	return 0, err
}
