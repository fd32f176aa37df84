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
	"github.com/weft-dev/weft/kcl/cover"
	"github.com/weft-dev/weft/kcl/diag"
	"github.com/weft-dev/weft/kcl/syntax"
)

type testOptions struct {
	runOptions
	failFast, cover bool
	run, outputForm string
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
or by any other error. A folder followed by /... is searched recursively.

With --cover it also tells which statements, attributes with a default and checks of
the module the tests ran, and on which lines the others begin.`,
		Example: `  # Test whole current package recursively
  kcl test ./...

  # Test package named 'pkg'
  kcl test pkg

  # Test with the fail fast mode.
  kcl test ./... --fail-fast

  # Test with the regex expression filter 'test_func'
  kcl test ./... --run test_func

  # What do the tests not run?
  kcl test ./... --cover

  # Results and coverage for another program
  kcl test ./... --cover --output json`,
		Aliases: []string{"t"},
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.outputForm != "text" && o.outputForm != "json" {
				return fmt.Errorf("invalid output format %q, expected text or json", o.outputForm)
			}
			if len(args) == 0 {
				args = []string{"."}
			}
			return t.test(cmd.Context(), o, args)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.failFast, "fail-fast", false, "Exist when meet the first fail test case in the test process.")
	f.StringVar(&o.run, "run", "", "If specified, only run tests containing this `regexp` in their names.")
	f.BoolVar(&o.cover, "cover", false, "Tell which statements of the module the tests ran")
	f.StringVar(&o.outputForm, "output", "text", "Specify the output format. e.g., text, json. Default is text")
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
	report := &testReport{Tests: []testResult{}}
	var profile *cover.Profile
	if o.cover {
		profile = &cover.Profile{}
	}
	cache := t.packageCache()
	for _, s := range suites {
		p, err := t.prepare(ctx, &o.runOptions, []string{s.dir}, t.machine())
		if err != nil {
			return t.report(err, o.errorFormat, !o.noStyle)
		}
		p.options.Cache = cache
		if !t.testSuite(ctx, o, s, p.options, profile, report) {
			break
		}
	}
	if profile != nil {
		report.cover(profile, t)
	}
	return t.testSummary(report, o)
}

// testSuite runs the tests of one folder. It gives false when no further test
// is to run.
func (t *Tool) testSuite(ctx context.Context, o *testOptions, s suite, run kcl.Options, profile *cover.Profile, report *testReport) bool {
	print := t.Out
	if o.quiet || o.outputForm == "json" {
		print = nil
	}
	run, err := testProgram(run, s.dir)
	for i, name := range s.cases {
		start := time.Now()
		if err == nil {
			err = runTest(ctx, run, name, print, profile, i == 0)
		}
		r := testResult{Package: t.relative(s.dir), Name: name, Result: "pass", Seconds: time.Since(start).Seconds()}
		if err != nil {
			r.Result, r.Error = "fail", t.failure(err, o)
		}
		report.add(r)
		t.testLine(r, o)
		if err != nil && o.failFast {
			return false
		}
		err = nil
	}
	return true
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

// testProgram sets the files of a folder with its tests.
func testProgram(o kcl.Options, dir string) (kcl.Options, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return o, err
	}
	o.Files = nil
	for _, e := range entries {
		if n := e.Name(); !e.IsDir() && strings.HasSuffix(n, ".k") && !strings.HasPrefix(n, "_") {
			o.Files = append(o.Files, filepath.Join(dir, n))
		}
	}
	o.Files = append(o.Files, filepath.Join(dir, testMain))
	return o, nil
}

// testMain is the file that calls a test; it is never written.
const testMain = "_kcl_test.k"

// runTest runs one test: the package, its test files and a call of the test.
// first is set for the first test of a program, whose files then count for the
// profile.
func runTest(ctx context.Context, o kcl.Options, name string, print io.Writer, profile *cover.Profile, first bool) error {
	main := o.Files[len(o.Files)-1]
	o.Code = map[string]string{main: "if True: " + name + "()\n"}
	o.Print = print
	o.Arguments = append(append([]kcl.Argument(nil), o.Arguments...), kcl.Argument{Name: "_kcl_test_case_run", Value: strconv.Quote(name)})
	if profile != nil {
		o.Cover = &profile.Ran
		if first {
			program, err := kcl.Load(ctx, o)
			if err != nil {
				return err
			}
			profile.Add(program, func(file string) bool {
				return inside(file, program.Root) && !strings.HasSuffix(file, testSuffix) && filepath.Base(file) != testMain
			})
		}
	}
	_, err := kcl.Run(ctx, o)
	return err
}

// inside reports whether a file lies in a folder or below it.
func inside(file, dir string) bool {
	rel, err := filepath.Rel(dir, file)
	return err == nil && filepath.IsLocal(rel)
}
