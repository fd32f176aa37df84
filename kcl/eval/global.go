package eval

import (
	"github.com/weft-dev/weft/kcl/load"
	"github.com/weft-dev/weft/kcl/syntax"
	"github.com/weft-dev/weft/kcl/value"
)

// pkg is a package in a run.
type pkg struct {
	m    *machine
	src  *load.Package
	path string // "__main__" or "@a.b"
	// names has the schemas, rules and global variables.
	globals map[string]*global
	order   []*global
	types   map[string]*value.Func
	aliases map[string]*alias
	byFile  map[*load.File]*unit
	scalars []value.Value
	// schemaScalar is the index of the scalar that a schema gave, or -1.
	schemaScalar int
	units        []*unit
	started      bool
}

// unit is a file of a package.
type unit struct {
	pkg  *pkg
	file *load.File
	body []stmt
}

type alias struct {
	unit *unit
	typ  syntax.Type
}

// lazy is the state of one name that several statements may set.
type lazy struct {
	setters []*setter
	cache   value.Value
	level   int
	times   int
	// resolved is set when the cache was filled from a later setter.
	resolved bool
}

// setter is a statement that sets a name.
type setter struct {
	run stmtRunner
	// id is the statement, or the outermost if around it; inner is the
	// statement inside that if.
	id, inner syntax.Stmt
	kind      branch
}

// stmtRunner runs the statement of a setter; the frame says for which level of
// which instance.
type stmtRunner struct {
	unit  *unit
	index int
}

type branch uint8

const (
	wholeStmt branch = iota
	ifBranch
	elseBranch
)

// replay is a setter being run to find a value early.
type replay struct {
	id, inner syntax.Stmt
	kind      branch
	done      bool
}

// global is a variable of a package.
type global struct {
	lazy
	pkg    *pkg
	name   string
	value  value.Value // nil until first set
	origin *value.Origin
}

func (g *global) current() value.Value {
	if g.value == nil {
		return value.Undefined
	}
	return g.value
}

// load prepares a package: its names, types and setters.
func (m *machine) load(src *load.Package) *pkg {
	if p := m.packages[src.Path]; p != nil {
		return p
	}
	p := &pkg{m: m, src: src, path: src.Path, globals: map[string]*global{}, types: map[string]*value.Func{},
		aliases: map[string]*alias{}, byFile: map[*load.File]*unit{}, schemaScalar: -1}
	if src.Path != load.Main {
		p.path = "@" + src.Path
	}
	m.packages[src.Path] = p
	for _, f := range src.Files {
		u := &unit{pkg: p, file: f, body: make([]stmt, len(f.Body))}
		p.units = append(p.units, u)
		p.byFile[f] = u
	}
	for _, u := range p.units {
		p.declare(u.file.Body)
		for _, s := range u.file.Body {
			switch s := s.(type) {
			case *syntax.SchemaStmt:
				p.define(&schemaDef{unit: u, node: s, name: s.Name.Text})
			case *syntax.RuleStmt:
				p.define(&schemaDef{unit: u, node: s, name: s.Name.Text, isRule: true})
			case *syntax.TypeAliasStmt:
				if len(s.Name.Names) > 0 {
					p.aliases[s.Name.Names[0].Text] = &alias{unit: u, typ: s.Type}
				}
			}
		}
	}
	for _, u := range p.units {
		collectSetters(u.file.Body, u, func(name string, s *setter) {
			g := p.globals[name]
			if g == nil {
				g = &global{pkg: p, name: name}
				p.globals[name] = g
			}
			g.setters = append(g.setters, s)
		})
	}
	return p
}

// define makes a schema or rule known by its name.
func (p *pkg) define(d *schemaDef) *value.Func {
	d.m, d.runtimeType = p.m, p.path+"."+d.name
	f := &value.Func{Name: d.name, Type: d.runtimeType, Code: d}
	p.types[d.name] = f
	return f
}

// schema is the schema or rule of a name, or nil. Those of packages whose files
// are not parsed are defined when they are first asked for.
func (p *pkg) schema(name string) *value.Func {
	if f := p.types[name]; f != nil {
		return f
	}
	d := p.src.Decls[name]
	if d == nil || d.Kind == load.AliasDecl {
		return nil
	}
	return p.define(&schemaDef{unit: p.byFile[d.File], decl: d, name: name, isRule: d.Kind == load.RuleDecl})
}

// alias is the type that a name stands for, or nil.
func (p *pkg) alias(name string) *alias {
	if a := p.aliases[name]; a != nil {
		return a
	}
	d := p.src.Decls[name]
	if d == nil || d.Kind != load.AliasDecl {
		return nil
	}
	s, ok := d.Stmt().(*syntax.TypeAliasStmt)
	if !ok {
		return nil
	}
	a := &alias{unit: p.byFile[d.File], typ: s.Type}
	p.aliases[name] = a
	return a
}

func (p *pkg) declareName(name string) {
	if p.globals[name] == nil {
		g := &global{pkg: p, name: name}
		p.globals[name] = g
		p.order = append(p.order, g)
	}
}

// declare predefines the global variables that statements assign.
func (p *pkg) declare(body []syntax.Stmt) {
	for _, s := range body {
		switch s := s.(type) {
		case *syntax.UnifyStmt:
			if len(s.Target.Names) == 1 {
				p.declareName(s.Target.Names[0].Text)
			}
		case *syntax.AssignStmt:
			for _, t := range s.Targets {
				p.declareName(t.Name.Text)
			}
		case *syntax.IfStmt:
			p.declare(s.Body)
			p.declare(s.Else)
		}
	}
}

// collectSetters finds which statements of a body set which names.
func collectSetters(body []syntax.Stmt, u *unit, add func(string, *setter)) {
	for i, s := range body {
		run := stmtRunner{u, i}
		if f, ok := s.(*syntax.IfStmt); ok {
			namesIn(f.Body, func(name string, inner syntax.Stmt) {
				add(name, &setter{run, s, inner, ifBranch})
			})
			namesIn(f.Else, func(name string, inner syntax.Stmt) {
				add(name, &setter{run, s, inner, elseBranch})
			})
			continue
		}
		namesOf(s, func(name string) { add(name, &setter{run, s, nil, wholeStmt}) })
	}
}

func namesIn(body []syntax.Stmt, add func(string, syntax.Stmt)) {
	for _, s := range body {
		if f, ok := s.(*syntax.IfStmt); ok {
			namesIn(f.Body, add)
			namesIn(f.Else, add)
			continue
		}
		namesOf(s, func(name string) { add(name, s) })
	}
}

func namesOf(s syntax.Stmt, add func(string)) {
	switch s := s.(type) {
	case *syntax.UnifyStmt:
		if len(s.Target.Names) > 0 {
			add(s.Target.Names[0].Text)
		}
	case *syntax.AssignStmt:
		for _, t := range s.Targets {
			add(t.Name.Text)
		}
	case *syntax.AugAssignStmt:
		add(s.Target.Name.Text)
	case *syntax.SchemaAttr:
		add(s.Name.Text)
	}
}

// run evaluates all statements of a package once: first what it imports, then
// its files in order.
func (p *pkg) run() value.Value {
	if p.started {
		return value.Undefined
	}
	p.started = true
	m := p.m
	saved, inst, tgt, back := m.at, m.inst, m.target, m.back
	m.inst, m.target, m.back = nil, target{}, nil
	m.stack = append(m.stack, p)
	m.enter()
	for _, u := range p.units {
		for _, im := range u.file.Imports {
			if im.Kind != load.User || im.Path == "" {
				continue
			}
			if src := m.program.Packages[im.Path]; src != nil {
				m.load(src).run()
			}
		}
	}
	var last value.Value = value.Undefined
	for _, u := range p.units {
		for i := range u.body {
			if _, ok := u.file.Body[i].(*syntax.ImportStmt); !ok {
				last = u.exec(i)
			}
		}
	}
	m.leave()
	m.stack = m.stack[:len(m.stack)-1]
	m.inst, m.target, m.back = inst, tgt, back
	if p.path != load.Main {
		m.at = saved
	}
	return last
}

// exec runs statement i of the file, compiling it when first needed.
func (u *unit) exec(i int) value.Value {
	s := u.body[i]
	if s == nil {
		c := &compiler{m: u.pkg.m, unit: u, scope: newFrameScope(nil, packageScope)}
		s = c.stmt(u.file.Body[i])
		size := c.scope.size
		inner := s
		s = func(*frame) value.Value { return inner(&frame{vars: make([]value.Value, size.n)}) }
		u.body[i] = s
	}
	return s(nil)
}

// get reads a global, running the statements that set it if need be.
func (g *global) get() value.Value {
	m := g.pkg.m
	if m.target.global == g && (g.level == 0 || len(g.setters) <= 1) {
		return g.current()
	}
	if g.cache != nil {
		return g.cache
	}
	n := len(g.setters)
	if n == 0 {
		return g.current()
	}
	if g.level+1 > n {
		if g.value == nil {
			m.fail("'%s' is defined by itself", g.name)
		}
		return g.value
	}
	level := g.level
	g.level++
	m.enter()
	s := g.setters[n-g.level]
	back, inst, at, tgt := m.back, m.inst, m.at, m.target
	building, exprs := m.building, m.exprs
	m.back, m.inst, m.building, m.exprs = &replay{id: s.id, inner: s.inner, kind: s.kind}, nil, 0, 0
	m.stack = append(m.stack, g.pkg)
	s.run.unit.exec(s.run.index)
	m.stack = m.stack[:len(m.stack)-1]
	m.back, m.inst, m.at, m.target = back, inst, at, tgt
	m.building, m.exprs = building, exprs
	m.leave()
	g.level = level
	g.cache, g.resolved = g.current(), true
	return g.cache
}

// set stores a global. again is set for assignments that read their target.
func (g *global) set(v value.Value, by syntax.Stmt, again bool) {
	existed := g.value != nil
	g.value = v
	last := g.level == 0 && len(g.setters) > 0 && g.setters[len(g.setters)-1].is(by)
	done := false
	if g.level == 0 {
		g.times++
		done = g.times >= len(g.setters)
	}
	if (done || last) && g.cache == nil {
		g.cache = v
	}
	_ = existed
	if again && (!g.resolved || last) {
		g.cache = v
	}
}

func (s *setter) is(by syntax.Stmt) bool {
	if s.inner != nil {
		return s.inner == by
	}
	return s.id == by
}
