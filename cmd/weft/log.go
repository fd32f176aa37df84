package main

import (
	"context"
	"os/exec"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/cmd/internal/logtool"
)

func (a *app) logCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "log",
		Short: "Render, check and explain log pipelines",
		Example: `  weft log lint logging/
  weft log render logging/
  weft log explain logging/ --tag kube.var.log.containers.web-1_shop_web-0.log --record-namespace shop`,
	}
	group(c)
	c.AddCommand(logtool.Tool{Print: a.print, Stdin: a.in, Stdout: a.out, Kubectl: a.kubectlCmd}.Commands()...)
	return c
}

// kubectlCmd is a command of kubectl that is stopped as by a terminal when ctx ends.
func (a *app) kubectlCmd(ctx context.Context, args ...string) (*exec.Cmd, error) {
	program, env, global, err := a.kubectl(ctx)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, program, append(append([]string{"kubectl"}, global...), args...)...)
	cmd.Env = env
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = 5 * time.Second
	return cmd, nil
}
