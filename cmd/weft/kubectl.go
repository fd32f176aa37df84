package main

import (
	"context"
	"fmt"
	"os"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/supervise/control"
)

func (a *app) kubectlCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "kubectl [ARGUMENTS]",
		Short: "Run kubectl against the cluster",
		Long: `Run kubectl, which is part of weft, against the embedded cluster, or against the one of --kubeconfig and --context when these stand
before the word kubectl. Everything after it is kubectl's own.`,
		Example: `  weft kubectl get pods -A
  weft kubectl -n default logs -f deployment/guestbook
  weft --context production kubectl get nodes`,
		DisableFlagParsing: true,
		RunE: func(c *cobra.Command, args []string) error {
			program, env, global, err := a.kubectl(c.Context())
			if err != nil && (program == "" || !helpOnly(args)) {
				return err
			}
			argv := append([]string{program, "kubectl"}, global...)
			// The program replaces this one, so that signals, the terminal and the exit code are its own.
			return fmt.Errorf("start %s: %w", program, syscall.Exec(program, append(argv, args...), env))
		},
	}
}

// kubectl returns the program that is kubectl when its first argument says so, its environment, and the flags that name the cluster.
// Without a cluster there is an error and the program all the same.
func (a *app) kubectl(ctx context.Context) (program string, env, global []string, err error) {
	if program, err = a.node(); err != nil {
		return "", nil, nil, err
	}
	env = os.Environ()
	switch {
	case a.kubeconfig != "":
		env = append(env, "KUBECONFIG="+a.kubeconfig)
	case a.context == "":
		var config string
		config, err = a.embeddedKubeconfig(ctx)
		env = append(env, "KUBECONFIG="+config)
	}
	if a.context != "" {
		global = []string{"--context=" + a.context}
	}
	return program, env, global, err
}

// helpOnly says whether kubectl is asked for something that needs no cluster.
func helpOnly(args []string) bool {
	if len(args) == 0 || args[0] == "help" || args[0] == "completion" {
		return true
	}
	for _, arg := range args {
		switch arg {
		case "--help", "-h", "--client":
			return true
		case "--":
			return false
		}
	}
	return false
}

// embeddedKubeconfig returns the path of the embedded cluster's kubeconfig. The cluster must be there.
func (a *app) embeddedKubeconfig(ctx context.Context) (string, error) {
	c, err := a.cluster()
	if err != nil {
		return "", err
	}
	s, err := c.Status(ctx)
	switch {
	case err != nil:
		return "", err
	case s.Phase == control.Stopped:
		return "", output.Advise(fmt.Errorf("the cluster in %s is not running", c.State), "Start it with `weft up`, or name another cluster with --kubeconfig or --context.")
	case s.Kubeconfig == "":
		return "", output.Advise(fmt.Errorf("the cluster in %s is %s and has no kubeconfig yet", c.State, s.Phase), "Wait for it with `weft up`.")
	}
	return s.Kubeconfig, nil
}
