package eval

import (
	"github.com/weft-dev/weft/kcl/load"
	"github.com/weft-dev/weft/kcl/syntax"
	"github.com/weft-dev/weft/kcl/value"
)

// schemaDef is a schema, mixin, protocol or rule of the program.
type schemaDef struct {
	m           *machine
	unit        *unit
	name        string
	runtimeType string
	isRule      bool
	// node is the declaration, nil as long as decl has it.
	node syntax.Stmt
	decl *load.Decl

	linked bool
	parent *schemaDef
	mixins []*schemaDef
	host   *schemaDef   // of a rule
	rules  []*schemaDef // parents of a rule
	shape  *shape
	code   *schemaCode
}

// schemaCode is the compiled form of one schema level.
type schemaCode struct {
	size       *frameSize
	params     []param
	body       []stmt
	checks     []expr
	decorators []decorator
	index      *indexCode
}

type indexCode struct {
	key   string
	value expr
	typ   *rtype
	keyT  *rtype
}

// shape is what is known of all instances of a schema beforehand: its
// attributes, in order, and the statements that set them.
type shape struct {
	names   []string
	index   map[string]int
	setters [][]levelSetter
	// required are the attributes that must be set, optional all with their
	// mark, both over the whole chain.
	order    []string
	optional map[string]bool
	blank    *value.Dict
}

// levelSetter is a setter with the level of the chain that it belongs to.
type levelSetter struct {
	*setter
	def   *schemaDef
	mixin bool
}

// stmt is the declaration.
func (d *schemaDef) stmt() syntax.Stmt {
	if d.node == nil {
		d.node = d.decl.Stmt()
	}
	return d.node
}

// schema is the declaration of a schema; nil for a rule.
func (d *schemaDef) schema() *syntax.SchemaStmt {
	s, _ := d.stmt().(*syntax.SchemaStmt)
	return s
}

func (s *shape) find(name string) int {
	if i, ok := s.index[name]; ok {
		return i
	}
	return -1
}

// link finds parent and mixins and makes the shape.
func (d *schemaDef) link() *shape {
	if d.linked {
		if d.shape == nil {
			d.shape = &shape{index: map[string]int{}, optional: map[string]bool{}, blank: value.NewDict(0)}
		}
		return d.shape
	}
	d.linked = true
	if rule, ok := d.stmt().(*syntax.RuleStmt); ok {
		d.host = d.lookup(rule.Host)
		for _, p := range rule.Parents {
			if r := d.lookup(p); r != nil && r != d {
				d.rules = append(d.rules, r)
			}
		}
		d.shape = &shape{index: map[string]int{}, optional: map[string]bool{}, blank: value.NewDict(0)}
		return d.shape
	}
	node := d.schema()
	if p := d.lookup(node.Parent); p != nil && !p.inherits(d, 0) {
		d.parent = p
	}
	for _, id := range node.Mixins {
		if x := d.lookup(id); x != nil && x != d && !x.isRule {
			d.mixins = append(d.mixins, x)
		}
	}
	s := &shape{index: map[string]int{}, optional: map[string]bool{}}
	if d.parent != nil {
		s.extend(d.parent.link(), false)
	}
	collectSetters(node.Body, d.unit, func(name string, st *setter) {
		s.add(name, levelSetter{st, d, false})
	})
	for _, x := range d.mixins {
		s.extend(x.link(), true)
	}
	for _, a := range node.Body {
		if a, ok := a.(*syntax.SchemaAttr); ok {
			s.mark(a.Name.Text, a.Optional)
		}
	}
	s.blank = value.NewDict(len(s.names))
	for _, n := range s.names {
		s.blank.Put(value.Entry{Key: n, Value: value.Undefined, Index: value.NoIndex})
	}
	d.shape = s
	return s
}

func (s *shape) add(name string, ls levelSetter) {
	i, ok := s.index[name]
	if !ok {
		i = len(s.names)
		s.index[name] = i
		s.names = append(s.names, name)
		s.setters = append(s.setters, nil)
	}
	s.setters[i] = append(s.setters[i], ls)
}

func (s *shape) mark(name string, optional bool) {
	if _, ok := s.optional[name]; !ok {
		s.order = append(s.order, name)
	}
	s.optional[name] = optional
}

func (s *shape) extend(o *shape, mixin bool) {
	for i, name := range o.names {
		for _, ls := range o.setters[i] {
			ls.mixin = ls.mixin || mixin
			s.add(name, ls)
		}
	}
	for _, name := range o.order {
		s.mark(name, o.optional[name])
	}
}

func (d *schemaDef) inherits(from *schemaDef, depth int) bool {
	if d == from || depth > 1000 {
		return true
	}
	if d.isRule || d.schema().Parent == nil {
		return false
	}
	p := d.lookup(d.schema().Parent)
	return p != nil && p.inherits(from, depth+1)
}

func (d *schemaDef) lookup(id *syntax.Ident) *schemaDef {
	if id == nil {
		return nil
	}
	f, _ := d.m.typeValue(d.unit, id, 0).(*value.Func)
	if f == nil {
		return nil
	}
	def, _ := f.Code.(*schemaDef)
	return def
}

// knows reports whether the schema or its parents declare an attribute.
func (d *schemaDef) knows(name string) bool {
	found := false
	d.eachAttr(func(a *syntax.SchemaAttr) { found = found || a.Name.Text == name })
	return found
}

// eachAttr calls f for the attributes of the schema, then its parents'.
func (d *schemaDef) eachAttr(f func(*syntax.SchemaAttr)) {
	for n := 0; d != nil && !d.isRule && n < 1000; n++ {
		d.link()
		for _, s := range d.schema().Body {
			if a, ok := s.(*syntax.SchemaAttr); ok {
				f(a)
			}
		}
		d = d.parent
	}
}

func (d *schemaDef) isOpen() bool {
	for n := 0; d != nil && !d.isRule && n < 1000; n++ {
		if d.schema().Index != nil {
			return true
		}
		d.link()
		d = d.parent
	}
	return false
}

// hasRequired reports whether an attribute must be given.
func (d *schemaDef) hasRequired() bool {
	seen, found := map[string]bool{}, false
	d.eachAttr(func(a *syntax.SchemaAttr) {
		if !seen[a.Name.Text] {
			seen[a.Name.Text] = true
			found = found || !a.Optional && a.Value == nil
		}
	})
	return found
}

// fits reports whether a dict has no keys that the schema does not know.
func (d *schemaDef) fits(v *value.Dict) bool {
	if d.isOpen() {
		return true
	}
	for _, e := range v.Entries() {
		if len(e.Key) > 0 && e.Key[0] == '_' {
			continue
		}
		if !d.knows(e.Key) {
			return false
		}
	}
	return true
}

// compile makes the code of this level.
func (d *schemaDef) compile() *schemaCode {
	if d.code != nil {
		return d.code
	}
	c := &compiler{m: d.m, unit: d.unit, scope: newFrameScope(nil, schemaScope)}
	code := &schemaCode{size: c.scope.size}
	d.code = code
	var params *syntax.Params
	var checks []*syntax.CheckExpr
	var decorators []*syntax.CallExpr
	node := d.schema()
	switch s := d.stmt().(type) {
	case *syntax.RuleStmt:
		params, checks, decorators = s.Params, s.Checks, s.Decorators
	case *syntax.SchemaStmt:
		params, checks, decorators = s.Params, s.Checks, s.Decorators
	}
	code.params = c.params(params)
	if node != nil {
		for _, s := range node.Body {
			code.body = append(code.body, c.stmt(s))
		}
		if ix := node.Index; ix != nil {
			code.index = &indexCode{value: c.optional(ix.Value), typ: d.unit.typ(ix.ValueType, 0), keyT: d.unit.typ(ix.KeyType, 0)}
			if ix.Key != nil {
				code.index.key = ix.Key.Text
			}
		}
	}
	code.decorators = c.decorators(decorators)
	for _, x := range checks {
		code.checks = append(code.checks, c.check(x))
	}
	return code
}

// check compiles a check expression.
func (c *compiler) check(x *syntax.CheckExpr) expr {
	m := c.m
	test, cond, msg := c.expr(x.Test), c.optional(x.Cond), c.optional(x.Msg)
	ran := m.mark(c.unit, x)
	return func(fr *frame) value.Value {
		m.step()
		if ran != nil {
			*ran = true
		}
		if cond != nil && !value.Truthy(cond(fr)) {
			return value.Undefined
		}
		ok := value.Truthy(test(fr))
		text := ""
		if msg != nil {
			s, _ := msg(fr).(value.Str)
			text = string(s)
		}
		if !ok {
			m.checkFailed(fr.inst, text)
		}
		return value.Undefined
	}
}

type decorator struct {
	name     string
	args     []expr
	keywords []keyword
}

type keyword struct {
	name string
	x    expr
}

func (c *compiler) decorators(list []*syntax.CallExpr) []decorator {
	var out []decorator
	for _, d := range list {
		id, ok := d.Func.(*syntax.Ident)
		if !ok {
			continue
		}
		out = append(out, decorator{id.String(), c.exprs(d.Args), c.keywords(d.Keywords)})
	}
	return out
}

func (c *compiler) keywords(list []*syntax.Keyword) []keyword {
	out := make([]keyword, 0, len(list))
	for _, k := range list {
		if len(k.Name.Names) == 0 {
			continue
		}
		kw := keyword{name: k.Name.Names[0].Text}
		if k.Value != nil {
			kw.x = c.expr(k.Value)
		}
		out = append(out, kw)
	}
	return out
}
