package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/kube"
	"github.com/weft-dev/weft/manager"
	"github.com/weft-dev/weft/supervise/control"
)

func (a *app) managerCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "manager",
		Short: "Serve Fluent Operator's resources in a cluster",
		Example: `  weft manager run
  weft manager manifests --image registry.example.com/weft:1.0 | kubectl apply -f -`,
	}
	group(c)
	c.AddCommand(a.managerRunCommand(), a.managerManifestsCommand())
	return c
}

func (a *app) managerRunCommand() *cobra.Command {
	var namespace string
	var elect, install bool
	c := &cobra.Command{
		Use:   "run",
		Short: "Watch the resources and keep configurations, agents and status as they should be",
		Long: "Run serves until it is interrupted: in a cluster as the pod's service account, else in the cluster of --kubeconfig or --context, else in the embedded one.\n" +
			"Fluent Operator must not serve the same resources.",
		Example: `  weft manager run
  weft manager run --kubeconfig ~/.kube/config --namespace fluent`,
		Args: cobra.NoArgs,
	}
	c.Flags().StringVarP(&namespace, "namespace", "n", "fluent", "`namespace` of the configurations that name none")
	c.Flags().BoolVar(&elect, "elect", false, "serve only while holding the Lease weft-manager, so that several may run")
	c.Flags().BoolVar(&install, "install", true, "install the definitions of the resources first")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := a.managedCluster(cmd.Context())
		if err != nil {
			return err
		}
		m := &manager.Manager{Config: cfg, Parts: []manager.Part{manager.NewLogging(namespace)}, Install: install, Log: slog.New(slog.NewTextHandler(a.err, nil))}
		a.print().Remark("serving")
		if elect {
			return m.RunElected(cmd.Context(), namespace)
		}
		return m.Run(cmd.Context())
	}
	return c
}

// managedCluster is the cluster that a manager serves.
func (a *app) managedCluster(ctx context.Context) (*rest.Config, error) {
	if a.kubeconfig != "" || a.context != "" {
		cfg, _, err := kube.Config(a.kubeconfig, a.context)
		return cfg, err
	}
	if os.Getenv("KUBERNETES_SERVICE_HOST") != "" {
		return rest.InClusterConfig()
	}
	c, err := a.cluster()
	if err != nil {
		return nil, err
	}
	status, err := c.Status(ctx)
	if err != nil {
		return nil, err
	}
	if status.Phase != control.Ready {
		return nil, output.Advise(fmt.Errorf("the embedded Kubernetes in %s is not running (it is %s)", c.State, status.Phase), "Start it with `weft up`, or name another cluster with --kubeconfig or --context.")
	}
	cfg, _, err := kube.Config(status.Kubeconfig, "")
	return cfg, err
}

func (a *app) managerManifestsCommand() *cobra.Command {
	var namespace, image string
	c := &cobra.Command{
		Use:   "manifests --image IMAGE",
		Short: "Show the manifests that run the manager in a cluster",
		Example: `  weft manager manifests --image registry.example.com/weft:1.0
  weft manager manifests --image registry.example.com/weft:1.0 --namespace logging | kubectl apply -f -`,
		Args: cobra.NoArgs,
	}
	c.Flags().StringVarP(&namespace, "namespace", "n", "fluent", "`namespace` of the manager")
	c.Flags().StringVar(&image, "image", "", "`image` with weft as /weft (required)")
	c.RunE = func(*cobra.Command, []string) error {
		if image == "" {
			return output.Advise(output.Usagef("--image is missing"), "Name an image that holds weft as /weft.")
		}
		var objects []any
		text := ""
		for _, o := range manager.Deployment(namespace, image) {
			objects = append(objects, o.Object)
			y, err := yaml.Marshal(o.Object)
			if err != nil {
				return err
			}
			text += "---\n" + string(y)
		}
		return a.print().Result(objects, func(p *output.Page) { _, _ = p.Write([]byte(text)) })
	}
	return c
}
