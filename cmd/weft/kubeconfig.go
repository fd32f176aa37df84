package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/cmd/internal/output"
)

// kubeconfigResult is what `weft kubeconfig -o json` prints. The file's content is a secret and not part of it.
type kubeconfigResult struct {
	Path string `json:"path"`
}

func (a *app) kubeconfigCommand() *cobra.Command {
	var path bool
	c := &cobra.Command{
		Use:   "kubeconfig",
		Short: "Print the embedded cluster's kubeconfig",
		Long: `Print the kubeconfig of the embedded cluster, or with --path the name of the file, for other tools. Who has it is administrator of the
cluster.`,
		Example: `  export KUBECONFIG=$(weft kubeconfig --path)
  weft kubeconfig > ~/.kube/config`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := a.embeddedKubeconfig(cmd.Context())
			if err != nil {
				return err
			}
			content := []byte(config + "\n")
			if !path && a.options.Format == output.Text {
				if content, err = os.ReadFile(config); err != nil {
					return err
				}
			}
			return a.print().Result(kubeconfigResult{config}, func(p *output.Page) {
				_, _ = p.Write(content) // a page takes everything
			})
		},
	}
	c.Flags().BoolVar(&path, "path", false, "print the name of the file instead of its content")
	return c
}
