package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/cmd/internal/output"
)

// root returns weft's own command tree.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "weft",
		Short: "From source code and a page of configuration to a running service on Kubernetes",
		Long: `Weft takes a folder of source code and a page of configuration and makes of them a running service on Kubernetes:
on the embedded one that "weft up" starts on this machine, or on yours.`,
		Example: `  weft up                          # start the embedded Kubernetes
  weft up examples/guestbook/dev   # build a project from source and run it
  weft status
  weft kubectl get pods -A
  weft down`,
		SilenceErrors:    true,
		SilenceUsage:     true,
		TraverseChildren: true, // so that flags before "kubectl" are weft's and those after it are kubectl's
		PersistentPreRun: a.begin,
	}
	group(root)
	flags := root.PersistentFlags()
	a.options.AddFlags(flags)
	flags.StringVar(&a.state, "state", "", "state `folder` of the embedded cluster (default $WEFT_STATE, else ~/.local/state/weft)")
	flags.StringVar(&a.kubeconfig, "kubeconfig", "", "use the cluster of this kubeconfig `file` instead of the embedded one")
	flags.StringVar(&a.context, "context", "", "use this `context` of the kubeconfig")
	root.AddGroup(
		&cobra.Group{ID: "cluster", Title: "The cluster:"},
		&cobra.Group{ID: "change", Title: "Planning and applying:"},
		&cobra.Group{ID: "use", Title: "Using it:"},
		&cobra.Group{ID: "about", Title: "About weft:"},
	)
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("cluster", a.upCommand(), a.downCommand(), a.statusCommand(), a.logsCommand(), a.doctorCommand())
	add("change", a.planCommand(), a.applyCommand(), a.destroyCommand(), a.driftCommand(), a.historyCommand(), a.diffCommand(), a.rollbackCommand(), a.graphCommand(), a.stateCommand())
	add("use", a.buildCommand(true), a.rebaseCommand(true), a.inspectCommand(true), a.builderCommand(true), a.buildpackCommand(true), a.sbomCommand(true), a.kubectlCommand(), a.kubeconfigCommand(), a.kclCommand(), kusionCommand(a))
	add("use", a.imageCommand(), a.lazyCommand(), a.snapshotterCommand(), a.registryCommand())
	add("use", a.logCommand(), a.levelCommand(), a.managerCommand())
	add("about", a.versionCommand())
	root.SetOut(a.out) // completions fix their output when they are made
	completions(root)
	return root
}

// completions adds the generated commands and gives them what every verb has.
func completions(root *cobra.Command) {
	root.SetCompletionCommandGroupID("about")
	root.SetHelpCommandGroupID("about")
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		switch c.Name() {
		case "help":
			c.Example = "  weft help up"
		case "completion":
			c.Example = "  weft completion bash > /etc/bash_completion.d/weft"
			group(c)
			for _, shell := range c.Commands() {
				shell.Example = "  source <(weft completion " + shell.Name() + ")"
				switch shell.Name() {
				case "fish":
					shell.Example = "  weft completion fish > ~/.config/fish/completions/weft.fish"
				case "powershell":
					shell.Example = "  weft completion powershell | Out-String | Invoke-Expression"
				}
			}
		}
	}
}

// group makes a command that only has subcommands print its help, and refuse a word that is none of them.
func group(c *cobra.Command) {
	c.Args = cobra.ArbitraryArgs
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return c.Help()
		}
		err := fmt.Errorf("unknown command %q", c.CommandPath()+" "+args[0])
		fix := "See `" + c.CommandPath() + " --help`."
		if near := c.SuggestionsFor(args[0]); len(near) > 0 {
			fix = "Did you mean `" + c.CommandPath() + " " + strings.Join(near, "` or `") + "`?"
		}
		return output.Advise(&output.UsageError{Err: err}, fix)
	}
	c.SuggestionsMinimumDistance = 2
}
