// Package kcltool holds the verbs of KCL (run, fmt, lint, test, vet, mod) as
// commands, for the small program kcl and for `weft kcl`. Flags, texts and
// exit codes are those of upstream's kcl (kcl-lang/cli).
//
// Here the packages below kcl meet the machine: its files, environment, clock
// and registries. The package knows nothing of the rest of weft.
package kcltool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/weft-dev/weft/kcl"
	"github.com/weft-dev/weft/kcl/diag"
)

// Tool is what the verbs work with.
type Tool struct {
	In       io.Reader
	Out, Err io.Writer
	Getenv   func(string) (string, bool)
	// Dir is the working folder, absolute.
	Dir string
	// Version is what `kcl version` prints.
	Version string
}

// Failure is an error that has been printed already.
type Failure struct{ Code int }

// Error implements error.
func (f *Failure) Error() string { return fmt.Sprintf("exit status %d", f.Code) }

// Command is the tree of verbs under a command called name. A file or folder
// in place of a verb is run.
func (t *Tool) Command(name string) *cobra.Command {
	root := t.runCommand()
	root.Use = name + " [file or folder]..."
	root.Short = "Run and check KCL programs, and manage their packages"
	root.Aliases = nil
	root.Long = `KCL is a language for configuration: ` + name + ` runs programs, checks data against
schemas, formats source and manages packages.

Without a verb, ` + name + ` runs the files or folders that are named.`
	root.Example = `  ` + name + ` run                        # the package in this folder
  ` + name + ` run main.k -D env=prod -o out.yaml
  ` + name + ` fmt ./...
  ` + name + ` vet data.yaml schema.k
  ` + name + ` mod add k8s:1.31`
	plain := root.RunE
	root.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 && cmd.Flags().NFlag() == 0 {
			return cmd.Help()
		}
		return plain(cmd, args)
	}
	root.Args = cobra.ArbitraryArgs
	root.SilenceErrors, root.SilenceUsage = true, true
	root.AddCommand(t.runCommand(), t.fmtCommand(), t.lintCommand(), t.testCommand(), t.vetCommand(), t.modCommand(),
		t.registryCommand(), t.cleanCommand(), t.versionCommand())
	return root
}

// Main runs the tool as a program of its own and returns its exit code.
func (t *Tool) Main(ctx context.Context, args []string) int {
	root := t.Command("kcl")
	root.SetArgs(args)
	root.SetIn(t.In)
	root.SetOut(t.Out)
	root.SetErr(t.Err)
	err := root.ExecuteContext(ctx)
	var printed *Failure
	switch {
	case err == nil:
		return 0
	case errors.As(err, &printed):
		return printed.Code
	}
	fmt.Fprintln(t.Err, "Error:", err)
	return 1
}

func (t *Tool) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Show the version of the command line",
		Example: "  kcl version",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(t.Out, t.Version)
			return err
		},
	}
}

// ErrorFormats are the forms in which diagnostics can be printed.
const errorFormats = "pretty, short, arcanist, sarif"

// report prints what went wrong with a program in the form asked for and gives
// a Failure; other errors become an error of evaluation without a place, as
// upstream shows them.
func (t *Tool) report(err error, format string, style bool) error {
	if err == nil {
		return nil
	}
	var printed *Failure
	if errors.As(err, &printed) {
		return err
	}
	var program *kcl.Error
	list := []*diag.Diagnostic{{Kind: diag.EvaluationError, Messages: []diag.Message{{Text: err.Error(), Col: -1}}}}
	if errors.As(err, &program) {
		list = program.Diagnostics
	}
	text, err := t.diagnostics(list, format, style)
	if err != nil {
		return err
	}
	fmt.Fprint(t.Err, text)
	return &Failure{1}
}

func (t *Tool) diagnostics(list []*diag.Diagnostic, format string, style bool) (string, error) {
	if format == "" {
		format, _ = t.Getenv("KCL_ERROR_FORMAT")
	}
	switch format {
	case "", "pretty":
		return diag.Pretty(list, style && t.colors()), nil
	case "short":
		return diag.Short(list), nil
	case "arcanist":
		return diag.Arcanist(list), nil
	case "sarif":
		return diag.SARIF(list), nil
	}
	return "", fmt.Errorf("invalid error format %q, expected one of: %s", format, errorFormats)
}

// colors reports whether standard error is a terminal that wants colors.
func (t *Tool) colors() bool {
	if v, ok := t.Getenv("NO_COLOR"); ok && v != "" {
		return false
	}
	f, ok := t.Err.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
