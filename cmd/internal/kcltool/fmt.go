package kcltool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/editorconfig/editorconfig-core-go/v2"
	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/kcl/format"
)

func (t *Tool) fmtCommand() *cobra.Command {
	var dryRun, stdout, tabs bool
	var width int
	cmd := &cobra.Command{
		Use:   "fmt [file or folder]...",
		Short: "KCL format tool",
		Long: `This command formats all kcl files of the current crate. A folder followed by /...
is searched recursively. The names of the files that changed are printed.
A file with a syntax error is left alone and reported.

The indentation is that of .editorconfig (indent_style, indent_size, tab_width) in the
folder of the file or above it, unless a flag says otherwise; without either, 4 spaces.`,
		Example: `  # Format the single file
  kcl fmt /path/to/file.k

  # Format all files in this folder recursively
  kcl fmt ./...

  # Which files would change? (exit code 1 if there are any)
  kcl fmt ./... --dry-run

  # Format standard input
  kcl fmt - < main.k`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				args = []string{"."}
			}
			style := &styles{parser: editorconfig.NewCachedParser(), warn: t.say}
			if cmd.Flags().Changed("tabs") {
				style.tabs = &tabs
			}
			if cmd.Flags().Changed("indent") {
				if width < 1 {
					return fmt.Errorf("--indent %d: expected a number of spaces", width)
				}
				style.width = &width
			}
			if len(args) == 1 && args[0] == stdin {
				return t.formatStdin(style)
			}
			return t.formatFiles(args, style, dryRun, stdout)
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "Report files requiring formatting without modifying them.")
	cmd.Flags().BoolVar(&stdout, "stdout", false, "Print the formatted text instead of changing files")
	cmd.Flags().BoolVar(&tabs, "tabs", false, "Indent with tabs")
	cmd.Flags().IntVar(&width, "indent", 4, "Number of spaces of an indentation")
	return cmd
}

func (t *Tool) formatFiles(args []string, style *styles, dryRun, stdout bool) error {
	files, err := t.sources(args)
	if err != nil {
		return err
	}
	var errs []error
	changed := 0
	for _, name := range files {
		full := t.machine().path(name)
		src, err := os.ReadFile(full)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		text, err := format.Source(name, string(src), style.of(full))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if stdout {
			fmt.Fprint(t.Out, text)
			continue
		}
		if text == string(src) {
			continue
		}
		changed++
		fmt.Fprintln(t.Out, name)
		if !dryRun {
			if err := rewrite(full, text); err != nil {
				errs = append(errs, err)
			}
		}
	}
	if dryRun && changed > 0 {
		errs = append(errs, fmt.Errorf("%d KCL file(s) require formatting", changed))
	}
	return errors.Join(errs...)
}

func (t *Tool) formatStdin(style *styles) error {
	_, code, err := t.entries(&runOptions{}, []string{stdin})
	if err != nil {
		return err
	}
	for name, src := range code {
		text, err := format.Source("<stdin>", src, style.of(name))
		if err != nil {
			return err
		}
		fmt.Fprint(t.Out, text)
	}
	return nil
}

// rewrite replaces a file as a whole and keeps its mode.
func rewrite(name, text string) error {
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".kcl-fmt-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(text)
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Chmod(f.Name(), info.Mode().Perm())
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

// sources are the .k files that arguments mean: files, folders, and folders
// with all below them (dir/...).
func (t *Tool) sources(args []string) ([]string, error) {
	var files []string
	for _, arg := range args {
		dir, recursive := strings.CutSuffix(arg, "...")
		if recursive {
			dir = strings.TrimSuffix(dir, "/")
			if dir == "" {
				dir = "."
			}
		}
		info, err := os.Stat(t.machine().path(dir))
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			files = append(files, dir)
			continue
		}
		err = filepath.WalkDir(t.machine().path(dir), func(path string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if e.IsDir() && path != t.machine().path(dir) && (!recursive || strings.HasPrefix(e.Name(), ".") || e.Name() == "vendor") {
				return fs.SkipDir
			}
			if !e.IsDir() && strings.HasSuffix(e.Name(), ".k") {
				rel, err := filepath.Rel(t.machine().path(dir), path)
				if err != nil {
					return err
				}
				files = append(files, filepath.Join(dir, rel))
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return files, nil
}
