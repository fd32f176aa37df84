// Package transcript tests commands by what a person would see: a terminal's text in an archive beside the files it was made with.
package transcript

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/cmd/internal/output"
)

// Test runs the archives testdata/*.txtar of a package: files, a comment with commands ("> lint x.yaml"), and "want": what the commands print and how they end.
// verb is the word before them. With UPDATE=FOLDER the archives are written there with what was printed.
func Test(t *testing.T, verb string, commands func(print func() *output.Printer) []*cobra.Command) {
	t.Helper()
	names, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(names) == 0 {
		t.Fatal("no test data", err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			folder := t.TempDir()
			want := ""
			for _, f := range a.Files {
				if f.Name == "want" {
					want = string(f.Data)
					continue
				}
				path := filepath.Join(folder, f.Name)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, f.Data, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			t.Chdir(folder)
			got := ""
			for line := range strings.Lines(string(a.Comment)) {
				if args, ok := strings.CutPrefix(strings.TrimSpace(line), "> "); ok {
					got += "> " + args + "\n" + run(verb, commands, strings.Fields(args))
				}
			}
			if os.Getenv("UPDATE") != "" {
				for i := range a.Files {
					if a.Files[i].Name == "want" {
						a.Files[i].Data = []byte(got)
					}
				}
				t.Chdir("/")
				if err := os.WriteFile(filepath.Join(os.Getenv("UPDATE"), filepath.Base(name)), txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func run(verb string, commands func(print func() *output.Printer) []*cobra.Command, args []string) string {
	var out bytes.Buffer
	var options output.Options
	root := &cobra.Command{Use: verb, SilenceErrors: true, SilenceUsage: true}
	options.AddFlags(root.PersistentFlags())
	printer := func() *output.Printer {
		return output.New(&out, &out, options, func(string) string { return "" })
	}
	root.AddCommand(commands(printer)...)
	root.SetArgs(args)
	err := root.Execute()
	if err != nil && output.Code(err) != 0 {
		if _, quiet := err.(output.Exit); !quiet {
			printer().Error(err)
		}
		out.WriteString("exit " + string(rune('0'+output.Code(err))) + "\n")
	}
	return out.String()
}
