// Package eval runs programs. It compiles the trees of each package to Go
// closures over slots, as they are needed, and evaluates names lazily: a name
// may be read before the statement that sets it, and the last statement that
// sets it wins.
//
// The package takes trees as package load gives them; it expects that package
// types found no errors in them but stays safe when it did.
package eval

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/weft-dev/weft/kcl/diag"
	"github.com/weft-dev/weft/kcl/load"
	"github.com/weft-dev/weft/kcl/syntax"
	"github.com/weft-dev/weft/kcl/value"
)

// Library is what programs find without defining it.
type Library interface {
	// Builtin is the builtin function of that name, or nil.
	Builtin(name string) *value.Func
	// Member is a member of strings, taking the string first, or nil.
	Member(name string) *value.Func
	// Module is a member of a system module.
	Module(path, name string) (value.Value, bool)
	// Plugin is a function of a plugin module.
	Plugin(path, name string) (value.Value, bool)
	// Format writes a value for "${x: #json}" and "#yaml".
	Format(v value.Value, spec string) (string, error)
}

// Limits bound a run; zero fields mean the defaults.
type Limits struct {
	// Steps bounds statements, calls and loop rounds together.
	Steps int64
	// Depth bounds how deep evaluation nests.
	Depth int
	// Bytes bounds, roughly, the memory of the values made.
	Bytes int64
}

// The default limits.
const (
	DefaultSteps = 1 << 28
	DefaultDepth = 4000
	DefaultBytes = 1 << 30
)

// Options are the settings of a run.
type Options struct {
	Library Library
	Host    *value.Host
	Limits  Limits
	// Trace records where every field came from.
	Trace bool
	// Cover notes what runs; it may be nil.
	Cover *Coverage
}

// Result is what a program evaluates to.
type Result struct {
	// Globals are the variables of the main package in order.
	Globals *value.Dict
	// Value is the document: the scalars and variables merged.
	Value value.Value
	// Last is the value of the last statement.
	Last value.Value
	// At and Line are where evaluation ended.
	At   *syntax.File
	Line int
	// Warnings were raised while running.
	Warnings []*diag.Diagnostic
}

// place is where evaluation is.
type place struct {
	file *syntax.File
	off  syntax.Pos
}

// machine is the state of one run. It is used by one goroutine.
type machine struct {
	ctx     context.Context
	program *load.Program
	lib     Library
	host    *value.Host
	trace   bool
	cover   *Coverage

	steps, maxSteps int64
	bytes, maxBytes int64
	depth, maxDepth int

	at       place
	packages map[string]*pkg
	// target is what the running assignment sets.
	target target
	// back is the setter that is being replayed, if any.
	back *replay
	// augments are the results of augmented assignments that ran early.
	augments map[augmented]value.Value
	// inst is the innermost instance being built.
	inst *instance
	// building counts the instances being built, exprs the schema expressions
	// being evaluated, for the check of required attributes.
	building, exprs int
	// stack has the packages of the callers.
	stack     []*pkg
	instances map[string]*instanceSet
	// calls are the callers of fn, kept only for backtraces.
	calls    []caller
	fn       string
	warnings []*diag.Diagnostic
}

// caller is a function with the place of the call that it is in.
type caller struct {
	fn string
	at place
}

// called notes a call for the backtrace that range checks ask for.
func (m *machine) called(name string) {
	if m.host.Strict64 {
		m.calls = append(m.calls, caller{m.fn, m.at})
		m.fn = name
	}
}

func (m *machine) returned() {
	if m.host.Strict64 {
		last := m.calls[len(m.calls)-1]
		m.calls, m.fn = m.calls[:len(m.calls)-1], last.fn
	}
}

// backtrace is the note that says who called whom, innermost first.
func (m *machine) backtrace(at place) string {
	var b strings.Builder
	b.WriteString("backtrace:\n")
	calls := append(append([]caller(nil), m.calls...), caller{m.fn, at})
	for i := len(calls) - 1; i >= 0; i-- {
		if c := calls[i]; c.at.file != nil {
			fmt.Fprintf(&b, "\t%d: %s\n\t\tat %s:%d\n", len(calls)-1-i, c.fn, c.at.file.Name, c.at.file.Line(c.at.off))
		}
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// fault is an error of evaluation on its way up.
type fault struct {
	msg string
	at  place
	// line is set when the place is known only as a line.
	file string
	line int
	// short is what runtime.catch gives, when it is not msg.
	short *string
	// first is a message that goes before, about a schema's configuration.
	first *diag.Message
	// limit is set when a limit was hit; such a fault cannot be caught.
	limit bool
}

func (f *fault) Error() string {
	if f.short != nil {
		return *f.short
	}
	return f.msg
}

// Diagnostic makes the fault's diagnostic.
func (f *fault) Diagnostic() *diag.Diagnostic {
	d := &diag.Diagnostic{}
	if f.first != nil {
		d.Messages = append(d.Messages, *f.first)
	}
	m := diag.Message{Text: f.msg, Col: -1, EndCol: -1}
	if f.file != "" {
		m.File, m.Line = f.file, f.line
	} else if f.at.file != nil {
		m.File, m.Source, m.Line = f.at.file.Name, f.at.file, f.at.file.Line(f.at.off)
	}
	m.EndLine = m.Line
	d.Messages = append(d.Messages, m)
	return d
}

// Error is an error of evaluation.
type Error struct{ Diagnostic *diag.Diagnostic }

func (e *Error) Error() string { return e.Diagnostic.Messages[len(e.Diagnostic.Messages)-1].Text }

func (m *machine) fail(format string, args ...any) {
	msg := format
	if len(args) > 0 {
		msg = fmt.Sprintf(format, args...)
	}
	panic(&fault{msg: msg, at: m.at})
}

func (m *machine) exceed(format string, args ...any) {
	panic(&fault{msg: fmt.Sprintf(format, args...), at: m.at, limit: true})
}

// check turns an error of a library function into a fault.
func (m *machine) check(err error) {
	if err == nil {
		return
	}
	if f := (*fault)(nil); errors.As(err, &f) {
		panic(f)
	}
	panic(&fault{msg: err.Error(), at: m.at})
}

func (m *machine) step() {
	m.steps++
	if m.steps&1023 == 0 {
		m.pause()
	}
}

func (m *machine) pause() {
	if m.steps > m.maxSteps {
		m.exceed("evaluation takes more than %d steps", m.maxSteps)
	}
	if err := m.ctx.Err(); err != nil {
		m.exceed("evaluation was stopped: %v", err)
	}
}

// grow accounts for n bytes of values.
func (m *machine) grow(n int) {
	m.bytes += int64(n)
	if m.bytes > m.maxBytes || m.bytes < 0 {
		m.exceed("evaluation makes more than %d bytes of values", m.maxBytes)
	}
}

func (m *machine) enter() {
	m.depth++
	if m.depth > m.maxDepth {
		m.exceed("evaluation nests more than %d levels deep, probably a recursion without end", m.maxDepth)
	}
	m.step()
}

func (m *machine) leave() { m.depth-- }

// Run evaluates a program.
func Run(ctx context.Context, p *load.Program, opts Options) (res *Result, err error) {
	host := opts.Host
	if host == nil {
		host = &value.Host{}
	}
	h := *host
	m := &machine{
		ctx: ctx, program: p, lib: opts.Library, host: &h, trace: opts.Trace, cover: opts.Cover,
		maxSteps: opts.Limits.Steps, maxDepth: opts.Limits.Depth, maxBytes: opts.Limits.Bytes,
		packages: map[string]*pkg{}, instances: map[string]*instanceSet{},
	}
	if m.maxSteps == 0 {
		m.maxSteps = DefaultSteps
	}
	if m.maxDepth == 0 {
		m.maxDepth = DefaultDepth
	}
	if m.maxBytes == 0 {
		m.maxBytes = DefaultBytes
	}
	m.fn = "kcl_main"
	h.Context = ctx
	h.Invoke = m.invokeSafely
	h.Merge = func(a, b value.Value) (v value.Value, err error) {
		defer m.rescue(&err)
		return m.bitOr(a, b), nil
	}
	h.Grow = func(n int) (err error) {
		defer m.rescue(&err)
		m.grow(n)
		return nil
	}
	h.Instances = m.listInstances
	defer func() {
		if r := recover(); r != nil {
			f, ok := r.(*fault)
			if !ok {
				panic(r)
			}
			d := f.Diagnostic()
			if m.host.Strict64 {
				d.Messages[len(d.Messages)-1].Note = m.backtrace(f.at)
			}
			res, err = nil, &Error{d}
		}
	}()
	main := m.load(p.Main)
	last := main.run()
	res = &Result{Globals: value.NewDict(len(main.order)), Last: last, Warnings: m.warnings}
	for _, g := range main.order {
		res.Globals.Put(value.Entry{Key: g.name, Value: g.current(), Index: value.NoIndex, Origin: g.origin})
	}
	res.Value = m.document(main, res.Globals)
	if res.At = m.at.file; res.At != nil {
		res.Line = m.at.file.Line(m.at.off)
	}
	return res, nil
}

// rescue turns a fault into an error for library code that can handle it.
func (m *machine) rescue(err *error) {
	if r := recover(); r != nil {
		f, ok := r.(*fault)
		if !ok {
			panic(r)
		}
		*err = f
	}
}

// scalarKey is the key under which the parts of the document are merged.
const scalarKey = ""

// document merges the scalars and the visible variables of the main package.
func (m *machine) document(p *pkg, globals *value.Dict) value.Value {
	all := value.NewDict(1)
	put := func(v value.Value, origin *value.Origin) {
		m.mergeEntry(all, value.Entry{Key: scalarKey, Value: v, Index: value.NoIndex, Origin: origin}, mergeOptions{check: true})
	}
	for _, s := range p.scalars {
		put(s, nil)
	}
	visible := value.NewDict(globals.Len())
	for _, e := range globals.Entries() {
		if len(e.Key) > 0 && e.Key[0] == '_' && !m.host.ShowHidden {
			continue
		}
		visible.Put(e)
	}
	if len(p.scalars) == 0 {
		return visible
	}
	if visible.Len() > 0 {
		put(visible, nil)
	}
	v, _ := all.Get(scalarKey)
	return v
}
