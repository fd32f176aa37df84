package format

import (
	"strconv"

	"github.com/weft-dev/weft/kcl/syntax"
)

// stmts writes statements, keeping at most one blank line between two of them
// and setting imports off from what follows.
func (p *printer) stmts(list []syntax.Stmt) {
	for i, s := range list {
		if i > 0 {
			prev := list[i-1]
			_, wasImport := prev.(*syntax.ImportStmt)
			_, isImport := s.(*syntax.ImportStmt)
			line, end := p.line(s), p.endLine(prev)
			blank := line > end+2 || line == end+2 && !p.hasComments(s)
			if wasImport && !isImport || blank {
				p.write("\n")
			}
		}
		p.fill("")
		p.before(s)
		p.stmt(s)
	}
}

func (p *printer) stmt(s syntax.Stmt) {
	switch s := s.(type) {
	case *syntax.ExprStmt:
		between(len(s.Exprs), p.comma, func(i int) { p.expr(s.Exprs[i]) })
	case *syntax.UnifyStmt:
		p.write(p.ident(s.Target) + ": ")
		p.schemaExpr(s.Value)
	case *syntax.TypeAliasStmt:
		p.write("type " + p.ident(s.Name) + " = " + s.Type.String())
	case *syntax.AssignStmt:
		for i, t := range s.Targets {
			p.target(t)
			if i == 0 && s.Type != nil {
				p.write(": " + s.Type.String())
			}
			p.write(" = ")
		}
		p.expr(s.Value)
	case *syntax.AugAssignStmt:
		p.target(s.Target)
		p.write(" " + s.Op + "= ")
		p.expr(s.Value)
	case *syntax.AssertStmt:
		p.write("assert ")
		p.condition(s.Test, s.Cond, s.Msg)
	case *syntax.ImportStmt:
		p.write("import " + s.Path.Text)
		if s.As != nil {
			p.write(" as " + p.name(*s.As))
		}
	case *syntax.SchemaAttr:
		p.attribute(s)
	case *syntax.IfStmt:
		p.ifStmt(s)
		return
	case *syntax.SchemaStmt:
		p.schema(s)
		return
	case *syntax.RuleStmt:
		p.rule(s)
		return
	}
	p.write("\n")
}

func (p *printer) target(t *syntax.Target) {
	p.write(p.name(t.Name))
	for _, m := range t.Paths {
		if m.Index != nil {
			p.write("[")
			p.node(m.Index)
			p.write("]")
		} else if m.Name != nil {
			p.write("." + p.name(*m.Name))
		}
	}
}

// condition writes `test if cond, msg`.
func (p *printer) condition(test, cond, msg syntax.Expr) {
	p.expr(test)
	if cond != nil {
		p.write(" if ")
		p.expr(cond)
	}
	if msg != nil {
		p.write(", ")
		p.expr(msg)
	}
}

func (p *printer) ifStmt(s *syntax.IfStmt) {
	p.write("if ")
	p.expr(s.Cond)
	p.write(":\n")
	p.block(s.Body)
	if len(s.Else) == 0 {
		p.write("\n")
		return
	}
	if elif, ok := s.Else[0].(*syntax.IfStmt); ok && len(s.Else) == 1 {
		p.fill("el")
		p.ifStmt(elif)
		return
	}
	p.fill("else:\n")
	p.block(s.Else)
}

func (p *printer) block(list []syntax.Stmt) {
	p.indent++
	p.stmts(list)
	p.indent--
}

func (p *printer) decorators(list []*syntax.CallExpr) {
	for _, d := range list {
		p.before(d)
		p.write("@")
		p.call(d)
		p.newline()
	}
}

func (p *printer) schema(s *syntax.SchemaStmt) {
	p.decorators(s.Decorators)
	switch {
	case s.Mixin:
		p.write("mixin ")
	case s.Protocol:
		p.write("protocol ")
	default:
		p.write("schema ")
	}
	p.write(p.name(s.Name))
	if s.Params != nil {
		p.write("[")
		p.params(s.Params)
		p.write("]")
	}
	if s.Parent != nil {
		p.write("(" + p.ident(s.Parent) + ")")
	}
	if s.Host != nil {
		p.write(" for " + p.ident(s.Host))
	}
	p.write(":\n")
	p.indent++
	if s.Doc != nil {
		p.fill(s.Doc.Text)
		p.write("\n")
	}
	if len(s.Mixins) > 0 {
		p.fill("mixin [")
		p.enter()
		between(len(s.Mixins), p.commaLine, func(i int) {
			p.before(s.Mixins[i])
			p.write(p.ident(s.Mixins[i]))
		})
		p.leave()
		p.write("]\n")
	}
	if s.Index != nil {
		p.indexSignature(s.Index)
	}
	p.stmts(s.Body)
	p.write("\n")
	if len(s.Checks) > 0 {
		p.fill("check:")
		p.enter()
		p.checks(s.Checks)
		p.indent--
		p.write("\n")
	}
	p.indent--
}

func (p *printer) commaLine() {
	p.write(",")
	p.newline()
}

func (p *printer) checks(list []*syntax.CheckExpr) {
	between(len(list), p.newline, func(i int) {
		p.before(list[i])
		p.condition(list[i].Test, list[i].Cond, list[i].Msg)
	})
	p.write("\n")
}

func (p *printer) indexSignature(s *syntax.IndexSignature) {
	p.fill("")
	p.before(s)
	p.write("[")
	if s.AnyOther {
		p.write("...")
	}
	if s.Key != nil {
		p.write(p.name(*s.Key) + ": ")
	}
	p.write(s.KeyType.String() + "]: " + s.ValueType.String())
	if s.Value != nil {
		p.write(" = ")
		p.expr(s.Value)
	}
	p.write("\n")
}

func (p *printer) rule(s *syntax.RuleStmt) {
	p.decorators(s.Decorators)
	p.write("rule " + p.name(s.Name))
	if s.Params != nil {
		p.write("[")
		p.params(s.Params)
		p.write("]")
	}
	if len(s.Parents) > 0 {
		p.write("(")
		between(len(s.Parents), p.comma, func(i int) { p.write(p.ident(s.Parents[i])) })
		p.write(")")
	}
	if s.Host != nil {
		p.write(" for " + p.ident(s.Host))
	}
	p.write(":")
	p.enter()
	if s.Doc != nil {
		p.write(s.Doc.Text)
		p.newline()
	}
	if len(s.Checks) > 0 {
		p.checks(s.Checks)
	}
	p.indent--
}

func (p *printer) attribute(a *syntax.SchemaAttr) {
	p.decorators(a.Decorators)
	name := p.name(a.Name)
	if quoted := a.Name.End > a.Name.Start && p.file.Src[a.Name.Start] == '"' || !isIdentifier(name); quoted {
		name = strconv.Quote(name)
	}
	p.write(name)
	if a.Optional {
		p.write("?")
	}
	p.write(": " + a.Type.String())
	if a.Value != nil {
		op := a.Op
		if op != "=" {
			op += "="
		}
		p.write(" " + op + " ")
		p.expr(a.Value)
	}
}

// isIdentifier is \$?[a-zA-Z_]\w*.
func isIdentifier(s string) bool {
	if s != "" && s[0] == '$' {
		s = s[1:]
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		letter := c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}
