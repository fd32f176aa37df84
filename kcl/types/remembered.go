package types

import (
	"github.com/weft-dev/weft/kcl/load"
	"github.com/weft-dev/weft/kcl/syntax"
)

// remembered makes the scope of a package that an earlier run found free of
// errors. Its schemas, rules and aliases get their types when they are first
// asked for, from the one file that declares them, and nothing is checked
// again.
func (c *checker) remembered(p *load.Package, sc *scope) {
	sc.missing = func(name string) *object { return c.recall(p, sc, name) }
	c.quiet = true
	c.globalVars(true)
	c.globalVars(false)
	c.globalLambdas()
	for _, f := range p.Files {
		c.openFile(f)
		for _, s := range f.Body {
			switch s.(type) {
			case *syntax.SchemaStmt, *syntax.RuleStmt:
			default:
				c.stmt(s)
			}
		}
	}
}

// recall puts a declaration into the scope of a remembered package.
func (c *checker) recall(p *load.Package, sc *scope, name string) *object {
	d := p.Decls[name]
	if d == nil {
		return nil
	}
	if d.Kind == load.AliasDecl {
		c.within(p, d.File, sc, func() { c.stmt(d.Stmt()) })
		return sc.elems[name]
	}
	st := &SchemaType{
		Name: name, PkgPath: p.Path, Mixin: d.Kind == load.MixinDecl, Protocol: d.Kind == load.ProtocolDecl,
		Rule: d.Kind == load.RuleDecl, content: schemaParts{attrs: newAttrs()},
	}
	o := &object{typ: schemaOf(st), kind: definitionObject}
	sc.put(name, o)
	st.build = func() {
		c.within(p, d.File, sc, func() {
			switch s := d.Stmt().(type) {
			case *syntax.SchemaStmt:
				c.buildSchema(s, false)
			case *syntax.RuleStmt:
				c.buildRule(s, false)
			}
		})
	}
	return o
}

// within does something at the top of a file of another package, in the
// middle of checking this one.
func (c *checker) within(p *load.Package, f *load.File, sc *scope, do func()) {
	saved := *c
	c.pkg, c.file, c.scope, c.level, c.schema, c.expect = p, f, sc, 0, nil, nil
	c.locals, c.store, c.quiet = map[string]bool{}, false, true
	c.openFile(f)
	do()
	saved.nodes = c.nodes
	*c = saved
	if c.file != nil {
		c.openFile(c.file)
	}
}
