// Command weft-node is the embedded Kubernetes: it runs a cluster out of one state folder, and is itself started again as
// the parts of that cluster. People use it through weft.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/component-base/version"

	"github.com/weft-dev/weft/embedded/cluster"
	"github.com/weft-dev/weft/supervise/control"
)

func main() {
	if err := dispatch(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "weft-node:", err)
		os.Exit(1)
	}
}

// dispatch sends the parts of a cluster to upstream's own commands, which read their flags and install signal handlers by
// themselves, and everything else to ours.
func dispatch(args []string) error {
	if len(args) > 0 {
		switch args[0] {
		case "kubelet":
			return runKubelet(args[1:])
		case "kube-proxy":
			return runProxy(args[1:])
		case "kubectl":
			return runKubectl(args[1:])
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := &cobra.Command{
		Use:           "weft-node",
		Short:         "The embedded Kubernetes of weft",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(runCommand(), partCommand("server", "the control plane", cluster.RunServer), partCommand("agent", "the node's agent", cluster.RunAgent), cleanCommand(), versionCommand())
	root.AddCommand(&cobra.Command{Use: "kubectl", Short: "The kubectl of this Kubernetes"})
	root.SetArgs(args)
	return root.ExecuteContext(ctx)
}

func runCommand() *cobra.Command {
	o := cluster.Options{}
	ephemeral := false
	self, _ := os.Executable() // empty is refused below
	cmd := &cobra.Command{
		Use:     "run --state DIR",
		Short:   "Run the cluster of a state folder until it is told to stop",
		Example: "  weft-node run --state ~/.local/state/weft",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if self == "" {
				return errors.New("the path of this program cannot be found out: is /proc mounted?")
			}
			switch o.Mode {
			case "auto", string(control.ModeNode), string(control.ModeAPI):
			default:
				return fmt.Errorf("--mode: %q is none of auto, node, api", o.Mode)
			}
			switch o.Snapshotter {
			case "", "overlayfs", "weft":
			default:
				return fmt.Errorf("--snapshotter: %q is none of overlayfs, weft", o.Snapshotter)
			}
			o.Self, o.Fsync = self, !ephemeral
			return cluster.Run(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.State, "state", "", "state folder of the cluster")
	f.StringVar(&o.Mode, "mode", "auto", "node: with pods; api: API server, controllers and scheduler only; auto: what the machine allows")
	f.StringVar(&o.Programs, "programs", filepath.Join(filepath.Dir(self), "node"), "folder of the node's programs")
	f.StringVar(&o.Snapshotter, "snapshotter", "", "what makes pods' files of images: overlayfs unpacks them, weft mounts those that have an EROFS or Nydus form before they are downloaded (default: the last one, at first weft)")
	f.IntVar(&o.APIPort, "api-port", 0, "port of the API on the host's loopback (0: the last one, 6443, or a free one)")
	f.BoolVar(&ephemeral, "ephemeral", false, "do not wait for the disk; for tests, a power cut loses data")
	f.DurationVar(&o.StartTimeout, "start-timeout", cluster.DefaultStartTimeout, "the longest that a start may take; slow machines need more")
	f.DurationVar(&o.Grace, "grace", 10*time.Second, "the longest that pods may take to end on SIGTERM or Ctrl-C")
	f.StringVar(&o.AuthorizationConfig, "authorization-config", "", "file with an AuthorizationConfiguration (default: Node and RBAC)")
	f.StringVar(&o.AdmissionManifests, "admission-manifests", "", "folder of admission policies that hold from the first request and cannot be changed by the API")
	f.StringArrayVar(&o.APIServerArgs, "apiserver-arg", nil, "further flag of kube-apiserver, for example --apiserver-arg=--v=4 (repeatable)")
	_ = cmd.MarkFlagRequired("state")
	return cmd
}

// partCommand is a part of a cluster that the supervisor starts with a file of settings.
func partCommand(name, what string, run func(context.Context, string) error) *cobra.Command {
	return &cobra.Command{
		Use:    name + " FILE",
		Short:  "Run " + what + "; started by run",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE:   func(cmd *cobra.Command, args []string) error { return run(cmd.Context(), args[0]) },
	}
}

func cleanCommand() *cobra.Command {
	state := ""
	cmd := &cobra.Command{
		Use:     "clean --state DIR",
		Short:   "Remove what a killed cluster left behind: processes and control groups; its data stays",
		Example: "  weft-node clean --state ~/.local/state/weft",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), 30*time.Second)
			defer cancel()
			return cluster.Clean(ctx, state)
		},
	}
	cmd.Flags().StringVar(&state, "state", "", "state folder of the cluster")
	_ = cmd.MarkFlagRequired("state")
	return cmd
}

func versionCommand() *cobra.Command {
	output := ""
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version of Kubernetes",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := version.Get()
			switch strings.ToLower(output) {
			case "", "text":
				fmt.Fprintln(cmd.OutOrStdout(), v.GitVersion)
			case "json":
				fmt.Fprintf(cmd.OutOrStdout(), "{\"kubernetes\":%q,\"go\":%q}\n", v.GitVersion, v.GoVersion)
			default:
				return fmt.Errorf("-o: %q is none of text, json", output)
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}
