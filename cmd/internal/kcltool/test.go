package kcltool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/kcl"
	"github.com/weft-dev/weft/kcl/diag"
	"github.com/weft-dev/weft/kcl/syntax"
)

type testOptions struct {
	runOptions
	failFast bool
	run      string
}

func (t *Tool) testCommand() *cobra.Command {
	o := &testOptions{}
	cmd := &cobra.Command{
		Use:   "test [folder]...",
		Short: "KCL test tool",
		Long: `This command automates testing the packages named by the import paths.

'kcl test' re-compiles each package along with any files with names matching
the file pattern "*_test.k". These additional files can contain test functions
that starts with "test_*": lambdas without parameters, which fail by an assert
or by any other error. A folder followed by /... is searched recursively.`,
		Example: `  # Test whole current package recursively
  kcl test ./...

  # Test package named 'pkg'
  kcl test pkg

  # Test with the fail fast mode.
  kcl test ./... --fail-fast

  # Test with the regex expression filter 'test_func'
  kcl test ./... --run test_func`,
		Aliases: []string{"t"},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				args = []string{"."}
			}
			return t.test(cmd.Context(), o, args)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.failFast, "fail-fast", false, "Exist when meet the first fail test case in the test process.")
	f.StringVar(&o.run, "run", "", "If specified, only run tests containing this `regexp` in their names.")
	f.StringVar(&o.errorFormat, "error_format", "", "Specify the form of errors ("+errorFormats+")")
	o.runnerFlags(f)
	return cmd
}

// suite is a folder with test files and the names of their tests.
type suite struct {
	dir   string
	cases []string
}

func (t *Tool) test(ctx context.Context, o *testOptions, args []string) error {
	want, err := regexp.Compile(o.run)
	if err != nil {
		return fmt.Errorf("--run: %w", err)
	}
	suites, err := t.suites(args, want)
	if err != nil {
		return err
	}
	pass, fail := 0, 0
	cache := t.packageCache()
	for _, s := range suites {
		p, err := t.prepare(ctx, &o.runOptions, []string{s.dir}, t.machine())
		if err != nil {
			return t.report(err, o.errorFormat, !o.noStyle)
		}
		p.options.Cache = cache
		for _, name := range s.cases {
			start := time.Now()
			err := runTest(ctx, p.options, s.dir, name, t.testOutput(o))
			took := time.Since(start).Round(time.Microsecond)
			if err == nil {
				pass++
				fmt.Fprintf(t.Out, "%s: PASS (%s)\n", name, took)
				continue
			}
			fail++
			fmt.Fprintf(t.Out, "%s: FAIL (%s)\n%s\n", name, took, t.failure(err, o))
			if o.failFast {
				return t.summary(pass, fail)
			}
		}
	}
	if pass+fail == 0 {
		_, err := fmt.Fprintln(t.Out, "no test files")
		return err
	}
	return t.summary(pass, fail)
}

func (t *Tool) testOutput(o *testOptions) io.Writer {
	if o.quiet {
		return nil
	}
	return t.Out
}

func (t *Tool) failure(err error, o *testOptions) string {
	var program *kcl.Error
	if !errors.As(err, &program) {
		return err.Error()
	}
	text, e := t.diagnostics(program.Diagnostics, o.errorFormat, !o.noStyle)
	if e != nil {
		return diag.Short(program.Diagnostics)
	}
	return strings.TrimRight(text, "\n")
}

func (t *Tool) summary(pass, fail int) error {
	fmt.Fprintln(t.Out, strings.Repeat("-", 80))
	if pass > 0 {
		fmt.Fprintf(t.Out, "PASS: %d/%d\n", pass, pass+fail)
	}
	if fail > 0 {
		fmt.Fprintf(t.Out, "FAIL: %d/%d\n", fail, pass+fail)
		return &Failure{1}
	}
	return nil
}

const testSuffix = "_test.k"

// suites finds the folders with test files and the tests in them.
func (t *Tool) suites(args []string, want *regexp.Regexp) ([]suite, error) {
	files, err := t.sources(args)
	if err != nil {
		return nil, err
	}
	byDir := map[string][]string{}
	var dirs []string
	for _, name := range files {
		if base := filepath.Base(name); !strings.HasSuffix(base, testSuffix) || strings.HasPrefix(base, "_") {
			continue
		}
		names, err := t.testsOf(name, want)
		if err != nil {
			return nil, err
		}
		dir := t.machine().path(filepath.Dir(name))
		if byDir[dir] == nil {
			dirs = append(dirs, dir)
		}
		byDir[dir] = append(byDir[dir], names...)
	}
	var found []suite
	for _, dir := range dirs {
		found = append(found, suite{dir, byDir[dir]})
	}
	return found, nil
}

// testsOf are the tests of a file: lambdas whose names begin with test_.
func (t *Tool) testsOf(name string, want *regexp.Regexp) ([]string, error) {
	full := t.machine().path(name)
	src, err := os.ReadFile(full)
	if err != nil {
		return nil, err
	}
	f := syntax.Parse(full, string(src))
	if len(f.Errors) > 0 {
		e := f.Errors[0]
		return nil, t.report(&kcl.Error{Diagnostics: []*diag.Diagnostic{diag.At(diag.InvalidSyntax, f, e.Span, e.Msg)}}, "", true)
	}
	var names []string
	for _, stmt := range f.Body {
		s, ok := stmt.(*syntax.AssignStmt)
		if !ok {
			continue
		}
		if _, ok := s.Value.(*syntax.LambdaExpr); !ok {
			continue
		}
		for _, target := range s.Targets {
			if n := target.Name.Text; strings.HasPrefix(n, "test_") && want.MatchString(n) && !slices.Contains(names, n) {
				names = append(names, n)
			}
		}
	}
	return names, nil
}

// runTest runs one test: the package, its test files and a call of the test.
func runTest(ctx context.Context, o kcl.Options, dir, name string, print io.Writer) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	o.Files = nil
	for _, e := range entries {
		if n := e.Name(); !e.IsDir() && strings.HasSuffix(n, ".k") && !strings.HasPrefix(n, "_") {
			o.Files = append(o.Files, filepath.Join(dir, n))
		}
	}
	main := filepath.Join(dir, "_kcl_test.k")
	o.Files = append(o.Files, main)
	o.Code = map[string]string{main: "if True: " + name + "()\n"}
	o.Print = print
	o.Arguments = append(append([]kcl.Argument(nil), o.Arguments...), kcl.Argument{Name: "_kcl_test_case_run", Value: strconv.Quote(name)})
	_, err = kcl.Run(ctx, o)
	return err
}
