package kcl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/weft-dev/weft/kcl/diag"
	"github.com/weft-dev/weft/kcl/eval"
	"github.com/weft-dev/weft/kcl/lint"
	"github.com/weft-dev/weft/kcl/load"
	"github.com/weft-dev/weft/kcl/plan"
	"github.com/weft-dev/weft/kcl/stdlib"
	"github.com/weft-dev/weft/kcl/syntax"
	"github.com/weft-dev/weft/kcl/types"
	"github.com/weft-dev/weft/kcl/value"
)

// Options are what a run is given. The zero value has no file system, no
// environment, no clock and no randomness, so that evaluation is pure.
type Options struct {
	// Files are the files and folders of the main package, by name.
	Files []string
	// Code holds the text of files by name, instead of reading them.
	Code map[string]string
	// Trees are further files of the main package that are parsed already.
	Trees []*syntax.File
	// WorkDir makes relative names absolute; it must be absolute itself.
	WorkDir string
	// Root is the folder with kcl.mod; empty means that it is searched upward
	// from the first file, and the folder of that file is taken if there is none.
	Root string
	// Externals maps the names of other packages to their folders.
	Externals map[string]string
	// Vendor are folders that hold packages by name.
	Vendor []string
	// Arguments are what option() gives, as name and text; the text is read
	// as JSON where it is that.
	Arguments []Argument
	// Overrides are specifications such as "app.replicas=3" and "app.labels.x-".
	Overrides []string
	// Select are the paths of what is wanted of the output.
	Select []string

	SortKeys, DisableNone, ShowHidden, SchemaTypes bool
	// Strict32 and Strict64 refuse numbers that need more bits.
	Strict32, Strict64 bool
	// CompileOnly checks and does not evaluate.
	CompileOnly bool
	// Lint adds warnings about the imports of the main package and the packages
	// of its module, also to an *Error.
	Lint bool
	// Trace records where each field of the output came from; see Result.Why.
	Trace bool

	// FileSystem, Getenv, Now, Random and Print lend parts of the machine.
	FileSystem value.FileSystem
	Getenv     func(string) (string, bool)
	Now        func() time.Time
	Random     io.Reader
	Print      io.Writer
	// FQDN is the full name of a host, or of this one for "".
	FQDN func(ctx context.Context, name string) (string, error)

	// Cover notes which statements run; it may be nil. See package cover.
	Cover *eval.Coverage
	// Plugins are the functions of modules kcl_plugin.NAME, by "NAME.function".
	Plugins map[string]*value.Func
	Limits  eval.Limits
	// Cache keeps parsed files and checked packages between runs; it may be shared
	// and may be nil.
	Cache *Cache
	// OptionHelp collects the option() calls of the program.
	OptionHelp *[]value.OptionHelp
}

// Argument is an argument of the program.
type Argument struct{ Name, Value string }

// Cache keeps what parsing and checking gave; see load.Cache.
type Cache = load.Cache

// Result is what a program gave.
type Result struct {
	// Value is the document; it may be a list that stands for several.
	Value value.Value
	// Documents are what is to be written, after selection.
	Documents []value.Value
	// Globals are all variables of the main package.
	Globals *value.Dict
	// Last is the value of the last statement.
	Last value.Value
	// Stream is the text that manifests.yaml_stream wrote, or "".
	Stream string
	// Warnings are not fatal.
	Warnings []*diag.Diagnostic
	options  plan.Options
}

// Error holds what is wrong with a program.
type Error struct{ Diagnostics []*diag.Diagnostic }

// Error is the short form of all diagnostics.
func (e *Error) Error() string { return strings.TrimSuffix(diag.Short(e.Diagnostics), "\n") }

// Run loads, checks and evaluates a program. Errors of the program are an
// *Error.
func Run(ctx context.Context, o Options) (*Result, error) {
	if len(o.Overrides) > 0 {
		var err error
		if o, err = o.overridden(); err != nil {
			return nil, err
		}
	}
	program, err := Load(ctx, o)
	if err != nil {
		return nil, err
	}
	checked := types.Check(program)
	all := diag.Unique(append(program.Diags, checked.Diags...))
	errs, warnings := split(all)
	if o.Lint {
		warnings = append(warnings, lintModule(program)...)
		if len(errs) > 0 {
			errs = append(errs, warnings...)
		}
	}
	if len(all) == 0 || onlyIn(program.Main, all) {
		o.Cache.Remember(program)
	}
	if len(errs) > 0 {
		return nil, &Error{errs}
	}
	if o.CompileOnly {
		return &Result{Value: value.NewDict(0), Warnings: warnings}, nil
	}
	return evaluate(ctx, o, program, warnings)
}

// Load finds and parses the files of a program.
func Load(ctx context.Context, o Options) (*load.Program, error) {
	sources, err := o.sources()
	if err != nil {
		return nil, err
	}
	if len(sources) == 0 {
		return nil, errors.New("no input KCL files")
	}
	for _, tree := range o.Trees {
		sources = append(sources, load.Source{Name: tree.Name, Tree: tree})
	}
	root := o.Root
	if root == "" {
		root = o.findRoot(filepath.Dir(sources[0].Name))
	}
	return load.Load(ctx, sources, load.Options{
		Files: o.FileSystem, WorkDir: o.WorkDir, Root: root, Externals: o.Externals, Vendor: o.Vendor,
		Modules: stdlib.IsModule, Plugins: library{o.Plugins}.HasPlugin, Cache: o.Cache,
	})
}

func (o *Options) path(name string) string {
	if filepath.IsAbs(name) || o.WorkDir == "" {
		return filepath.Clean(name)
	}
	return filepath.Join(o.WorkDir, name)
}

func (o *Options) sources() ([]load.Source, error) {
	var out []load.Source
	for _, name := range o.Files {
		full := o.path(name)
		if text, ok := o.Code[name]; ok {
			out = append(out, load.Source{Name: full, Text: &text})
			continue
		}
		if o.FileSystem != nil {
			if info, err := o.FileSystem.Stat(full); err == nil && info.IsDir() {
				files, err := load.Folder(o.FileSystem, full)
				if err != nil {
					return nil, err
				}
				for _, f := range files {
					out = append(out, load.Source{Name: f})
				}
				continue
			} else if err != nil {
				return nil, fmt.Errorf("Cannot find the kcl file, please check the file path %s", full)
			}
		}
		out = append(out, load.Source{Name: full})
	}
	return out, nil
}

func (o *Options) findRoot(dir string) string {
	if o.FileSystem == nil {
		return dir
	}
	for at := dir; ; at = filepath.Dir(at) {
		if _, err := o.FileSystem.Stat(filepath.Join(at, "kcl.mod")); err == nil {
			return at
		}
		if at == filepath.Dir(at) {
			return dir
		}
	}
}

// lintModule gives the warnings of the main package and of the packages of the
// same module.
func lintModule(p *load.Program) []*diag.Diagnostic {
	out := lint.Imports(p.Main)
	for _, pkg := range p.Order {
		if pkg.Root == p.Root {
			out = append(out, lint.Imports(pkg)...)
		}
	}
	return out
}

// onlyIn reports whether diagnostics speak of files of a package alone.
func onlyIn(p *load.Package, list []*diag.Diagnostic) bool {
	own := map[string]bool{}
	for _, f := range p.Files {
		own[f.Name] = true
	}
	for _, d := range list {
		for _, m := range d.Messages {
			if !own[m.File] {
				return false
			}
		}
	}
	return true
}

func split(list []*diag.Diagnostic) (errs, warnings []*diag.Diagnostic) {
	for _, d := range list {
		if d.Level == diag.Warning {
			warnings = append(warnings, d)
		} else {
			errs = append(errs, d)
		}
	}
	return errs, warnings
}

func evaluate(ctx context.Context, o Options, program *load.Program, warnings []*diag.Diagnostic) (*Result, error) {
	stream := ""
	host := &value.Host{
		WorkDir: o.WorkDir, Root: program.Root, Files: o.FileSystem, Getenv: o.Getenv, Now: o.Now, Random: o.Random,
		FQDN: o.FQDN, Print: o.Print, Options: map[string]value.Value{}, Manifests: &stream, OptionHelp: o.OptionHelp,
		Strict32: o.Strict32, Strict64: o.Strict64, DisableNone: o.DisableNone, ShowHidden: o.ShowHidden, SortKeys: o.SortKeys,
	}
	for _, a := range o.Arguments {
		host.Options[a.Name] = argument(a.Value)
	}
	out, err := eval.Run(ctx, program, eval.Options{Library: library{o.Plugins}, Host: host, Limits: o.Limits, Trace: o.Trace, Cover: o.Cover})
	if err != nil {
		var e *eval.Error
		if errors.As(err, &e) {
			return nil, &Error{[]*diag.Diagnostic{e.Diagnostic}}
		}
		return nil, err
	}
	r := &Result{Value: out.Value, Globals: out.Globals, Last: out.Last, Stream: stream, Warnings: append(warnings, out.Warnings...)}
	r.options = plan.Options{SortKeys: o.SortKeys, HidePrivate: !o.ShowHidden, DropNone: o.DisableNone, SchemaTypes: o.SchemaTypes}
	selected, err := plan.Select(r.Value, o.Select)
	if limit := o.outputLimit(); err == nil && value.TextSize(selected, limit) > limit {
		err = fmt.Errorf("the output takes more than %d bytes", limit)
	}
	if err != nil {
		m := diag.Message{Text: err.Error(), Col: -1, EndCol: -1, Source: out.At, Line: out.Line}
		if out.At != nil {
			m.File = out.At.Name
		}
		return nil, &Error{[]*diag.Diagnostic{{Messages: []diag.Message{m}}}}
	}
	r.Documents = plan.Documents(selected)
	return r, nil
}

// outputLimit bounds the text of the output: values may share their parts and
// grow without end when they are written.
func (o *Options) outputLimit() int {
	if o.Limits.Bytes > 0 {
		return int(o.Limits.Bytes)
	}
	return eval.DefaultBytes
}

// argument reads the text of an argument: JSON, True, False and None are what
// they say, all else is a string.
func argument(text string) value.Value {
	switch text {
	case "True":
		return value.Bool(true)
	case "False":
		return value.Bool(false)
	case "None":
		return value.None
	}
	if v, err := plan.ReadJSON(text); err == nil {
		if v.Kind() == value.FloatKind && strings.ContainsAny(text, "eE") {
			return value.Str(text) // 12e1 is rather a commit than a number
		}
		return v
	}
	return value.Str(text)
}

// YAML is the output as YAML, several documents with --- between them.
func (r *Result) YAML() string {
	if r.Stream != "" {
		return r.Stream
	}
	return plan.YAMLStream(r.Documents, r.options, plan.Separator)
}

// PlanOptions are the options of the run that concern the text of output.
func (r *Result) PlanOptions() plan.Options { return r.options }

// JSON is the output as JSON, one document a line group.
func (r *Result) JSON() string {
	var parts []string
	for _, d := range r.Documents {
		parts = append(parts, plan.JSON(d, r.options, 4))
	}
	return strings.Join(parts, "\n")
}
