// Package types is the checker: it finds out the types of all names and
// expressions of a program and reports what cannot be right, with the texts
// and codes of KCL.
//
// It knows trees and loaded packages, and nothing of values or evaluation.
package types

import (
	"github.com/weft-dev/weft/kcl/diag"
	"github.com/weft-dev/weft/kcl/load"
	"github.com/weft-dev/weft/kcl/syntax"
)

// Result is what checking gave.
type Result struct {
	// Diags are the errors, in the order in which they were found.
	Diags []*diag.Diagnostic
	// Packages are the global scopes by path.
	packages map[string]*scope
}

// Check checks all packages of a program.
func Check(p *load.Program) *Result {
	c := &checker{
		program: p, known: loadKnown(), packages: map[string]*scope{}, globals: map[string]map[string]place{},
		lambdas: map[string]map[string]*FuncType{}, edges: map[string][]string{}, nodePlace: map[string]place{},
	}
	c.builtins = &scope{elems: map[string]*object{}}
	c.builtins.order = c.known.order["builtin"]
	c.builtins.missing = func(name string) *object {
		t := c.known.typ("builtin", name)
		if t == nil {
			return nil
		}
		o := &object{typ: t, kind: definitionObject}
		c.builtins.elems[name] = o
		return o
	}
	c.run(load.Main)
	return &Result{diag.Unique(c.diags), c.packages}
}

// checker is the state of a check. It follows the statements in order, as
// upstream's resolver does, so that the same errors come in the same order.
type checker struct {
	program  *load.Program
	known    *known
	builtins *scope
	packages map[string]*scope
	diags    []*diag.Diagnostic
	// quiet suppresses errors while types are built the first time.
	quiet bool

	pkg   *load.Package
	file  *load.File
	scope *scope
	level int
	// schema is the schema whose body is being checked.
	schema *SchemaType
	locals map[string]bool
	// store is set while the target of an assignment is resolved.
	store bool
	// at is the place of the statement or name being checked.
	at place
	// expect is the stack of types that configurations should have.
	expect []*expectation

	globals   map[string]map[string]place
	lambdas   map[string]map[string]*FuncType
	nodes     []string
	edges     map[string][]string
	nodePlace map[string]place
}

// expectation is what a configuration or its value should be, and where that
// was declared.
type expectation struct {
	typ *Type
	at  place
}

func (c *checker) place(n syntax.Node) place { return place{c.file.File, n.Range()} }

func message(at place, text string) diag.Message {
	if at.file == nil {
		return diag.Message{Text: text}
	}
	return diag.MessageAt(at.file, at.span, text)
}

// maxDiags bounds the errors of one check; nobody reads so many.
const maxDiags = 1000

// mute reports whether nothing is to be reported (any more).
func (c *checker) mute() bool { return c.quiet || len(c.diags) >= maxDiags }

func (c *checker) report(kind diag.Kind, msgs ...diag.Message) {
	if !c.mute() {
		c.diags = append(c.diags, &diag.Diagnostic{Kind: kind, Messages: msgs})
	}
}

func (c *checker) fail(kind diag.Kind, at place, text string) {
	if !c.mute() { // finding the place takes time
		c.report(kind, message(at, text))
	}
}

func (c *checker) typeError(at place, text string)    { c.fail(diag.TypeError, at, text) }
func (c *checker) compileError(at place, text string) { c.fail(diag.CompileError, at, text) }

// run checks one package, what it imports first.
func (c *checker) run(path string) {
	p := c.program.Packages[path]
	if p == nil || c.packages[path] != nil {
		return
	}
	sc := newScope(c.builtins)
	c.packages[path] = sc
	saved := *c
	c.pkg, c.scope, c.level, c.schema, c.expect, c.locals = p, sc, 0, nil, nil, map[string]bool{}
	c.importList(p, sc)
	if p.Decls != nil {
		c.remembered(p, sc)
	} else {
		c.initGlobals()
		for _, f := range p.Files {
			c.openFile(f)
			for _, s := range f.Body {
				c.stmt(s)
			}
		}
	}
	saved.diags, saved.nodes = c.diags, c.nodes
	*c = saved
}

// openFile goes on in a file: what it imports has the names that it gives them, even where another file of the package means another
// module by such a name.
func (c *checker) openFile(f *load.File) {
	c.file = f
	for _, im := range f.Imports {
		if o := c.packages[c.pkg.Path].own(im.Stmt.Name); o != nil && o.kind == moduleObject && o.typ.Module != im.Path {
			o.typ, o.at = moduleType(im), place{f.File, im.Stmt.Span}
		}
	}
}

func (c *checker) importList(p *load.Package, sc *scope) {
	for _, f := range p.Files {
		table := map[string]string{}
		c.openFile(f)
		for _, im := range f.Imports {
			name := im.Stmt.Name
			at := place{f.File, im.Stmt.Span}
			if path, ok := table[name]; !ok {
				table[name] = im.Path
			} else if path != im.Path {
				c.compileError(at, "the name '"+name+"' is defined multiple times, '"+name+"' must be defined only once")
			}
			if sc.own(name) == nil {
				sc.put(name, &object{typ: moduleType(im), at: at, kind: moduleObject})
			}
			if im.Kind != load.User || im.Path == "" {
				continue
			}
			if p.Decls != nil {
				c.run(im.Path)
				continue
			}
			c.depend(p.Path, im.Path, at)
			if p.Path == im.Path {
				c.fail(diag.RecursiveLoad, at, "Could not compiles due to cyclic import statements\n- "+f.Name)
			}
			c.cycle(p.Path, "modules")
			c.run(im.Path)
			c.openFile(f)
		}
	}
}

func moduleType(im load.Import) *Type {
	kind := userModule
	switch im.Kind {
	case load.System:
		kind = systemModule
	case load.Plugin:
		kind = pluginModule
	}
	return &Type{Kind: Module, Module: im.Path, ModuleKind: kind}
}

// depend records that one node of the dependency graph needs another.
func (c *checker) depend(from, to string, at place) {
	for _, n := range []string{from, to} {
		if _, ok := c.edges[n]; !ok {
			c.edges[n] = nil
			c.nodes = append(c.nodes, n)
		}
	}
	c.edges[from] = append(c.edges[from], to)
	c.nodePlace[from] = at
}

// cycle reports the cycle that a node is part of, at all its nodes.
func (c *checker) cycle(node, what string) {
	if !c.reaches(c.edges[node], node) {
		return
	}
	comp := c.component(node)
	if len(comp) < 2 {
		return
	}
	names := ""
	for i, n := range comp {
		if i > 0 {
			names += ", "
		}
		names += n
	}
	for _, n := range comp {
		if at, ok := c.nodePlace[n]; ok {
			c.compileError(at, "There is a circular reference between "+what+" "+names)
		}
	}
}

// reaches reports whether a node can be reached from one of others.
func (c *checker) reaches(from []string, node string) bool {
	seen := map[string]bool{}
	todo := append([]string(nil), from...)
	for len(todo) > 0 {
		n := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if n == node {
			return true
		}
		if !seen[n] {
			seen[n] = true
			todo = append(todo, c.edges[n]...)
		}
	}
	return false
}

// component is the strongly connected component of a node, in the order of
// Kosaraju's algorithm over nodes in the order in which they were met.
func (c *checker) component(node string) []string {
	back := map[string][]string{}
	for _, from := range c.nodes {
		for _, to := range c.edges[from] {
			back[to] = append(back[to], from)
		}
	}
	seen := map[string]bool{}
	var finished []string
	var visit func(n string)
	visit = func(n string) {
		seen[n] = true
		for _, o := range back[n] {
			if !seen[o] {
				visit(o)
			}
		}
		finished = append(finished, n)
	}
	for _, n := range c.nodes {
		if !seen[n] {
			visit(n)
		}
	}
	done := map[string]bool{}
	for i := len(finished) - 1; i >= 0; i-- {
		var comp []string
		todo := []string{finished[i]}
		has := false
		for len(todo) > 0 {
			n := todo[len(todo)-1]
			todo = todo[:len(todo)-1]
			if done[n] {
				continue
			}
			done[n] = true
			has = has || n == node
			comp = append(comp, n)
			todo = append(todo, c.edges[n]...)
		}
		if has {
			return comp
		}
	}
	return nil
}

func (c *checker) enter() {
	c.scope = newScope(c.scope)
	c.level++
}

func (c *checker) leave() {
	clear(c.locals)
	c.scope = c.scope.up
	c.level--
}

// lookup is the type of a name, reported if there is none.
func (c *checker) lookup(name string, at place) *Type {
	if o := c.scope.find(name); o != nil {
		return o.typ
	}
	c.compileError(at, "name '"+name+"' is not defined"+meant(similar(name, c.scope.names())))
	return anyT
}

// infer gives a name of the current scope the type of its value.
func (c *checker) infer(name string, t *Type, at place) {
	if o := c.scope.own(name); o != nil {
		o.typ = widen(t)
		return
	}
	c.compileError(at, "name '"+name+"' is not defined")
}
