package kcltool

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/kcl"
)

func (t *Tool) lintCommand() *cobra.Command {
	o := &runOptions{}
	cmd := &cobra.Command{
		Use:   "lint [file or folder]...",
		Short: "Lint KCL codes.",
		Long: `This command lints the kcl code. 'kcl lint' takes multiple input for arguments.

For example, 'kcl lint path/to/kcl.k' will lint the file named path/to/kcl.k. The code is
parsed and checked, not evaluated. Errors make the exit code 1, warnings do not.`,
		Example: `  # Lint the current package
  kcl lint

  # Lint multiple files, for a tool that reads SARIF
  kcl lint path/to/kcl1.k path/to/kcl2.k --error_format sarif`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return t.report(t.lint(cmd.Context(), o, args), o.errorFormat, !o.noStyle)
		},
	}
	o.languageFlags(cmd.Flags())
	return cmd
}

func (t *Tool) lint(ctx context.Context, o *runOptions, args []string) error {
	p, err := t.prepare(ctx, o, args, t.machine())
	if err != nil {
		return err
	}
	p.options.CompileOnly = true
	result, err := kcl.Run(ctx, p.options)
	if err != nil {
		return err
	}
	t.warn(result.Warnings, o)
	return nil
}
