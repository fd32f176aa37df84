package format

import (
	"strconv"
	"strings"

	"github.com/weft-dev/weft/kcl/syntax"
)

// expr writes an expression and remembers its lines.
func (p *printer) expr(e syntax.Expr) {
	p.ends = append(p.ends, p.endLine(e))
	p.last = max(p.last, p.line(e))
	p.node(e)
	p.ends = p.ends[:len(p.ends)-1]
}

func (p *printer) node(e syntax.Expr) {
	switch e := e.(type) {
	case *syntax.Ident:
		p.write(p.ident(e))
	case *syntax.Target:
		p.target(e)
	case *syntax.UnaryExpr:
		p.write(e.Op)
		if e.Op == "not" {
			p.write(" ")
		}
		p.expr(e.X)
	case *syntax.BinaryExpr:
		p.expr(e.X)
		p.write(" " + e.Op + " ")
		p.expr(e.Y)
	case *syntax.CompareExpr:
		p.expr(e.X)
		for i, y := range e.Ys {
			p.write(" " + e.Ops[i] + " ")
			p.expr(y)
		}
	case *syntax.IfExpr:
		p.expr(e.Body)
		p.write(" if ")
		p.expr(e.Cond)
		p.write(" else ")
		p.expr(e.Else)
	case *syntax.SelectorExpr:
		p.expr(e.X)
		if e.Question {
			p.write("?")
		}
		p.write("." + p.ident(e.Attr))
	case *syntax.CallExpr:
		p.call(e)
	case *syntax.ParenExpr:
		p.write("(")
		p.expr(e.X)
		p.write(")")
	case *syntax.QuantExpr:
		p.quantifier(e)
	case *syntax.SchemaExpr:
		p.schemaExpr(e)
	case *syntax.LambdaExpr:
		p.lambda(e)
	case *syntax.SubscriptExpr:
		p.subscript(e)
	case *syntax.ListExpr:
		p.list(e)
	case *syntax.ListIfItem:
		p.listIf(e)
	case *syntax.ListComp:
		p.write("[")
		p.expr(e.Item)
		p.clauses(e.Clauses)
		p.write("]")
	case *syntax.DictComp:
		p.dictComp(e)
	case *syntax.StarredExpr:
		p.write("*")
		p.expr(e.X)
	case *syntax.ConfigExpr:
		p.config(e)
	case *syntax.ConfigIfEntry:
		p.configIf(e)
	case *syntax.NumberLit:
		p.number(e)
	case *syntax.StringLit, *syntax.NameLit, *syntax.JoinedString, *syntax.FormattedValue:
		r := e.Range()
		p.write(p.file.Src[r.Start:r.End])
	}
}

// number writes an integer in decimal, as upstream does, and a float as it was
// written: shortening 1.0 to 1 would change its type.
func (p *printer) number(e *syntax.NumberLit) {
	if e.IsFloat {
		r := e.Range()
		p.write(p.file.Src[r.Start:r.End])
		return
	}
	p.write(strconv.FormatInt(e.Int, 10) + e.Suffix)
}

func (p *printer) call(e *syntax.CallExpr) {
	p.expr(e.Func)
	p.write("(")
	p.arguments(e.Args, e.Keywords)
	p.write(")")
}

func (p *printer) arguments(args []syntax.Expr, keywords []*syntax.Keyword) {
	between(len(args), p.comma, func(i int) { p.expr(args[i]) })
	if len(args) > 0 && len(keywords) > 0 {
		p.comma()
	}
	between(len(keywords), p.comma, func(i int) {
		p.write(p.ident(keywords[i].Name))
		if keywords[i].Value != nil {
			p.write("=")
			p.expr(keywords[i].Value)
		}
	})
}

func (p *printer) schemaExpr(e *syntax.SchemaExpr) {
	p.write(p.ident(e.Name))
	if len(e.Args) > 0 || len(e.Keywords) > 0 {
		p.write("(")
		p.arguments(e.Args, e.Keywords)
		p.write(")")
	}
	p.write(" ")
	p.expr(e.Config)
}

func (p *printer) subscript(e *syntax.SubscriptExpr) {
	p.expr(e.X)
	if e.Question {
		p.write("?")
	}
	p.write("[")
	if e.Index != nil {
		p.expr(e.Index)
	} else {
		for i, part := range []syntax.Expr{e.Lower, e.Upper, e.Step} {
			if i > 0 {
				p.write(":")
			}
			if part != nil {
				p.expr(part)
			}
		}
	}
	p.write("]")
}

func (p *printer) quantifier(e *syntax.QuantExpr) {
	oneLine := p.last > 0 && p.line(e.Test) == p.last
	p.write(e.Op + " ")
	between(len(e.Vars), p.comma, func(i int) { p.write(p.ident(e.Vars[i])) })
	p.write(" in ")
	p.expr(e.Target)
	p.write(" {")
	if !oneLine {
		p.enter()
	}
	p.condition(e.Test, e.Cond, nil)
	if !oneLine {
		p.leave()
	}
	p.write("}")
}

func (p *printer) clauses(list []*syntax.CompClause) {
	for _, c := range list {
		p.write(" for ")
		between(len(c.Targets), p.comma, func(i int) { p.write(p.ident(c.Targets[i])) })
		p.write(" in ")
		p.expr(c.Iter)
		for _, cond := range c.Ifs {
			p.write(" if ")
			p.expr(cond)
		}
	}
}

// oneLine reports whether the items of a collection are to stay on the line on
// which it begins: they were all there, and no comment is among them.
func oneLine[N syntax.Node](p *printer, items []N) bool {
	line := p.last
	comments := len(items) > 0
	for _, item := range items {
		if line == 0 {
			line = p.line(item)
		}
		if p.line(item) != line {
			return false
		}
		comments = comments && p.hasComments(item)
	}
	return !comments
}

func (p *printer) list(e *syntax.ListExpr) {
	inline := oneLine(p, e.Items)
	for _, item := range e.Items {
		if _, ok := item.(*syntax.ListIfItem); ok {
			inline = false
		}
	}
	p.write("[")
	p.collection(inline, func(sep func()) {
		between(len(e.Items), sep, func(i int) {
			p.before(e.Items[i])
			p.expr(e.Items[i])
		})
	})
	p.write("]")
}

// collection writes items on one line or on lines of their own.
func (p *printer) collection(inline bool, items func(sep func())) {
	if inline {
		items(p.comma)
		return
	}
	p.enter()
	items(p.newline)
	if n := len(p.ends); n > 0 {
		p.until(p.ends[n-1] - 1)
	}
	p.leave()
}

func (p *printer) listItems(items []syntax.Expr) {
	p.enter()
	between(len(items), p.newline, func(i int) {
		p.before(items[i])
		p.expr(items[i])
	})
	p.indent--
}

func (p *printer) listIf(e *syntax.ListIfItem) {
	p.write("if ")
	p.expr(e.Cond)
	p.write(":")
	p.listItems(e.Items)
	switch orelse := e.Else.(type) {
	case *syntax.ListExpr:
		p.newline()
		p.write("else:")
		p.listItems(orelse.Items)
	case *syntax.ListIfItem:
		p.newline()
		p.write("el")
		p.expr(orelse)
	}
}

func (p *printer) config(e *syntax.ConfigExpr) {
	inline := oneLine(p, e.Items)
	if len(e.Items) == 1 {
		switch e.Items[0].Value.(type) {
		case *syntax.ConfigIfEntry, *syntax.ConfigExpr, *syntax.SchemaExpr:
			inline = false
		}
	}
	p.write("{")
	if len(e.Items) > 0 {
		p.collection(inline, func(sep func()) {
			between(len(e.Items), sep, func(i int) { p.entry(e.Items[i]) })
		})
	}
	p.write("}")
}

func (p *printer) entries(items []*syntax.ConfigEntry) {
	p.enter()
	between(len(items), p.newline, func(i int) { p.entry(items[i]) })
	p.indent--
}

func (p *printer) configIf(e *syntax.ConfigIfEntry) {
	p.write("if ")
	p.expr(e.Cond)
	p.write(":")
	p.entries(e.Items)
	switch orelse := e.Else.(type) {
	case *syntax.ConfigExpr:
		p.newline()
		p.write("else:")
		p.entries(orelse.Items)
	case *syntax.ConfigIfEntry:
		p.newline()
		p.write("el")
		p.expr(orelse)
	}
}

func (p *printer) entry(e *syntax.ConfigEntry) {
	if e.Key == nil {
		p.before(e)
		if _, ok := e.Value.(*syntax.ConfigIfEntry); !ok {
			p.write("**")
		}
		p.expr(e.Value)
		return
	}
	p.before(e.Key)
	braces := p.key(e.Key)
	p.operator(e.Op)
	p.expr(e.Value)
	p.write(strings.Repeat("}", braces))
}

func (p *printer) operator(op string) {
	if op != ":" {
		p.write(" ")
	}
	p.write(op + " ")
}

// key writes the key of an entry. A dotted key with a part that is no
// identifier becomes nested braces, whose number is the answer.
func (p *printer) key(key syntax.Expr) int {
	id, ok := key.(*syntax.Ident)
	plain := true
	if ok {
		for _, n := range id.Names {
			plain = plain && isIdentifier(n.Text)
		}
	}
	if plain {
		p.expr(key)
		return 0
	}
	between(len(id.Names), func() { p.write(": {") }, func(i int) { p.write(strconv.Quote(id.Names[i].Text)) })
	return len(id.Names) - 1
}

func (p *printer) dictComp(e *syntax.DictComp) {
	p.write("{")
	if e.Entry.Key != nil {
		p.expr(e.Entry.Key)
		p.operator(e.Entry.Op)
	} else {
		p.write("**")
	}
	p.expr(e.Entry.Value)
	p.clauses(e.Clauses)
	p.write("}")
}

func (p *printer) params(ps *syntax.Params) {
	between(len(ps.Names), p.comma, func(i int) { p.param(ps, i) })
}

func (p *printer) param(ps *syntax.Params, i int) {
	p.write(p.ident(ps.Names[i]))
	if ps.Types[i] != nil {
		p.write(": " + ps.Types[i].String())
	}
	if ps.Defaults[i] != nil {
		p.write(" = ")
		p.expr(ps.Defaults[i])
	}
}

// longSignature is the length from which a lambda's parameters get lines of
// their own.
const longSignature = 80

func (p *printer) lambda(e *syntax.LambdaExpr) {
	if p.signatureIsLong(e) {
		p.longSignature(e)
	} else {
		p.signature(e)
	}
	p.write(" {\n")
	p.block(e.Body)
	p.fill("}")
}

func (p *printer) signature(e *syntax.LambdaExpr) {
	p.write("lambda")
	if e.Params != nil && len(e.Params.Names) > 0 {
		p.write(" ")
		p.params(e.Params)
	}
	if e.Result != nil {
		p.write(" -> " + e.Result.String())
	}
}

func (p *printer) signatureIsLong(e *syntax.LambdaExpr) bool {
	if e.Params != nil {
		for _, n := range e.Params.Names {
			if p.hasComments(n) {
				return true
			}
		}
	}
	trial := printer{file: p.file, unit: p.unit, last: p.last}
	trial.signature(e)
	return trial.out.Len() > longSignature
}

func (p *printer) longSignature(e *syntax.LambdaExpr) {
	p.write("lambda {\n")
	p.indent++
	p.fill("")
	if e.Params != nil {
		between(len(e.Params.Names), p.commaLine, func(i int) {
			p.before(e.Params.Names[i])
			p.param(e.Params, i)
		})
	}
	p.write(",\n")
	p.indent--
	p.fill("} -> ")
	if e.Result == nil {
		p.write("any")
	} else {
		p.write(e.Result.String())
	}
}
