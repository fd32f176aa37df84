package kcltool

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/kcl"
	"github.com/weft-dev/weft/kcl/diag"
)

func (t *Tool) lintCommand() *cobra.Command {
	o := &runOptions{}
	cmd := &cobra.Command{
		Use:   "lint [file or folder]...",
		Short: "Lint KCL codes.",
		Long: `This command lints the kcl code. 'kcl lint' takes multiple input for arguments.

For example, 'kcl lint path/to/kcl.k' will lint the file named path/to/kcl.k. The code is
parsed and checked, not evaluated. Imports that are unused, repeated or below other
statements are warned of. Errors make the exit code 1, warnings do not. A folder
followed by /... means every package at and below it.`,
		Example: `  # Lint the current package
  kcl lint

  # Lint all packages below this folder
  kcl lint ./...

  # Lint multiple files, for a tool that reads SARIF
  kcl lint path/to/kcl1.k path/to/kcl2.k --error_format sarif`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return t.report(t.lint(cmd.Context(), o, args), o.errorFormat, !o.noStyle)
		},
	}
	o.languageFlags(cmd.Flags())
	return cmd
}

// lint checks the entries as one program, and the folders of dir/... each as a
// program of its own.
func (t *Tool) lint(ctx context.Context, o *runOptions, args []string) error {
	var together []string
	var failed error
	cache, told := t.packageCache(), map[string]bool{}
	for _, arg := range args {
		if !strings.HasSuffix(arg, "...") {
			together = append(together, arg)
			continue
		}
		folders, err := t.folders(arg)
		if err != nil {
			return err
		}
		for _, dir := range folders {
			if err := t.report(t.lintProgram(ctx, o, []string{dir}, cache, told), o.errorFormat, !o.noStyle); err != nil {
				failed = err
			}
		}
	}
	if len(together) > 0 || len(args) == 0 {
		if err := t.lintProgram(ctx, o, together, cache, told); err != nil {
			return err
		}
	}
	return failed
}

// folders are the folders with programs at and below dir/... .
func (t *Tool) folders(arg string) ([]string, error) {
	files, err := t.sources([]string{arg})
	if err != nil {
		return nil, err
	}
	var dirs []string
	for _, name := range files {
		base, dir := filepath.Base(name), filepath.Dir(name)
		if !strings.HasPrefix(base, "_") && !strings.HasSuffix(base, testSuffix) && !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs, nil
}

// lintProgram checks one program. Warnings that were told are not told again,
// for packages may be programs and be imported, too.
func (t *Tool) lintProgram(ctx context.Context, o *runOptions, args []string, cache *kcl.Cache, told map[string]bool) error {
	flags := *o
	p, err := t.prepare(ctx, &flags, args, t.machine())
	if err != nil {
		return err
	}
	p.options.CompileOnly, p.options.Lint, p.options.Cache = true, true, cache
	fresh := func(list []*diag.Diagnostic) []*diag.Diagnostic {
		return slices.DeleteFunc(list, func(d *diag.Diagnostic) bool {
			text := diag.Short([]*diag.Diagnostic{d})
			again := d.Level == diag.Warning && told[text]
			told[text] = true
			return again
		})
	}
	result, err := kcl.Run(ctx, p.options)
	if program := (*kcl.Error)(nil); errors.As(err, &program) {
		program.Diagnostics = fresh(program.Diagnostics)
	}
	if err != nil {
		return err
	}
	t.warn(fresh(result.Warnings), o)
	return nil
}
