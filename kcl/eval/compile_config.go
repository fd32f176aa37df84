package eval

import (
	"github.com/weft-dev/weft/kcl/load"
	"github.com/weft-dev/weft/kcl/syntax"
	"github.com/weft-dev/weft/kcl/value"
)

// list compiles the items of a list.
func (c *compiler) list(n syntax.Node, items []syntax.Expr) expr {
	m, at := c.m, c.place(n)
	xs := c.exprs(items)
	unpack := make([]bool, len(items))
	origins := make([]place, len(items))
	for i, x := range items {
		switch x.(type) {
		case *syntax.StarredExpr, *syntax.ListIfItem:
			unpack[i] = true
		}
		origins[i] = c.place(x)
	}
	return func(fr *frame) value.Value {
		m.at = at
		l := &value.List{Items: make([]value.Value, 0, len(xs))}
		m.grow(48 + 16*len(xs))
		for i, x := range xs {
			v := x(fr)
			if unpack[i] {
				m.unpackInto(l, v)
			} else {
				l.Items = append(l.Items, v)
			}
			if m.trace {
				m.listOrigin(l, v, unpack[i], origins[i])
			}
		}
		return l
	}
}

// listOrigin records where the items just added to l came from.
func (m *machine) listOrigin(l *value.List, v value.Value, unpacked bool, at place) {
	o := m.origin(at, ":")
	from, _ := v.(*value.List)
	start := len(l.Origins)
	for i := start; i < len(l.Items); i++ {
		if unpacked && from != nil && i-start < len(from.Origins) {
			l.Origins = append(l.Origins, from.Origins[i-start])
		} else {
			l.Origins = append(l.Origins, o)
		}
	}
}

func (m *machine) origin(at place, op string) *value.Origin {
	line, col := at.file.Position(at.off)
	return &value.Origin{File: at.file.Name, Line: line, Col: col + 1, Op: op}
}

// unpackInto appends what *v stands for in a list.
func (m *machine) unpackInto(l *value.List, v value.Value) {
	switch v := v.(type) {
	case *value.List:
		m.grow(16 * len(v.Items))
		l.Items = append(l.Items, v.Items...)
	case *value.Dict, *value.Schema:
		for _, k := range value.ConfigOf(v).Keys() {
			l.Items = append(l.Items, value.Str(k))
		}
	default:
		if !value.IsNull(v) {
			m.fail("only list, dict and schema object can be used with unpack operators * and **, got %s", value.Text(v))
		}
	}
}

func (c *compiler) listIf(x *syntax.ListIfItem) expr {
	m, at := c.m, c.place(x)
	cond, yes := c.expr(x.Cond), c.list(x, x.Items)
	no := c.optional(x.Else)
	return func(fr *frame) value.Value {
		m.at = at
		if value.Truthy(cond(fr)) {
			return yes(fr)
		}
		if no != nil {
			return no(fr)
		}
		return value.None
	}
}

func mergeOp(op string) value.Op {
	switch op {
	case "=":
		return value.Override
	case "+=":
		return value.Insert
	}
	return value.Union
}

// entry is a compiled entry of a configuration.
type entry struct {
	name  string // when known
	key   expr   // when not
	index int32
	op    value.Op
	value expr
	slot  int   // of the name as a variable for what follows, or -1
	used  *bool // whether anything reads that variable
	at    place
}

// config compiles `{ ... }`. Its keys are variables for the entries after them.
func (c *compiler) config(x *syntax.ConfigExpr) (out expr) {
	m, at := c.m, c.place(x)
	c.within(configScope, func(c *compiler) {
		fill := c.entries(x.Items)
		var own []int
		for name, s := range c.scope.names {
			if *c.scope.use(name) {
				own = append(own, s)
			}
		}
		n := len(x.Items)
		out = func(fr *frame) value.Value {
			m.at = at
			for _, s := range own {
				fr.vars[s] = nil
			}
			d := value.NewDict(n)
			m.grow(64 + 64*n)
			fill(fr, d)
			return d
		}
	})
	return out
}

// entries compiles entries into a function that merges them into a dict.
func (c *compiler) entries(items []*syntax.ConfigEntry) func(*frame, *value.Dict) {
	m := c.m
	list := make([]entry, len(items))
	for i, it := range items {
		it = load.Nested(it)
		e := entry{index: value.NoIndex, op: mergeOp(it.Op), slot: -1, at: c.place(it)}
		e.value = c.expr(it.Value)
		if it.Key != nil {
			c.entryKey(&e, it.Key)
		}
		list[i] = e
	}
	return func(fr *frame, d *value.Dict) {
		for i := range list {
			e := &list[i]
			v := e.value(fr)
			if e.name == "" && e.key == nil {
				m.unpackConfig(d, v)
				continue
			}
			name := e.name
			if e.key != nil {
				k, ok := e.key(fr).(value.Str)
				name = ""
				if ok {
					name = string(k)
				}
			}
			ent := value.Entry{Key: name, Value: v, Op: e.op, Index: e.index}
			if m.trace {
				ent.Origin = m.origin(e.at, e.op.String())
			}
			m.mergeEntry(d, ent, mergeOptions{check: true})
			if e.slot >= 0 && *e.used {
				fr.vars[e.slot], _ = d.Get(name)
			}
		}
	}
}

func (c *compiler) entryKey(e *entry, key syntax.Expr) {
	switch k := key.(type) {
	case *syntax.Ident:
		e.name = k.Names[0].Text
	case *syntax.StringLit:
		e.name = k.Value
		if e.name == "" {
			e.key = c.expr(key)
			return
		}
	case *syntax.SubscriptExpr:
		if id, ok := k.X.(*syntax.Ident); ok && len(id.Names) > 0 {
			if i, ok := constIndex(k.Index); ok {
				e.index, e.name = i, id.Names[0].Text
			}
		}
	}
	if e.name == "" {
		e.key = c.expr(key)
		return
	}
	if c.scope.isLoopVar(e.name) {
		e.key = c.expr(key)
	}
	e.slot, e.used = c.scope.slot(e.name), c.scope.use(e.name)
}

// constIndex is the value of a constant index, positive or negative.
func constIndex(x syntax.Expr) (int32, bool) {
	switch x := x.(type) {
	case *syntax.NumberLit:
		return int32(x.Int), !x.IsFloat
	case *syntax.UnaryExpr:
		if n, ok := x.X.(*syntax.NumberLit); ok && !n.IsFloat {
			return -int32(n.Int), true
		}
	}
	return 0, false
}

// configIf compiles `if` among entries; it shares the names of the
// configuration around it.
func (c *compiler) configIf(x *syntax.ConfigIfEntry) expr {
	m, at := c.m, c.place(x)
	cond, yes := c.expr(x.Cond), c.entries(x.Items)
	var no expr
	switch e := x.Else.(type) {
	case nil:
	case *syntax.ConfigExpr:
		fill := c.entries(e.Items)
		no = func(fr *frame) value.Value {
			d := value.NewDict(len(e.Items))
			fill(fr, d)
			return d
		}
	default:
		no = c.expr(e)
	}
	n := len(x.Items)
	return func(fr *frame) value.Value {
		m.at = at
		if value.Truthy(cond(fr)) {
			d := value.NewDict(n)
			yes(fr, d)
			return d
		}
		if no != nil {
			return no(fr)
		}
		return value.None
	}
}

// unpackConfig merges what **v stands for into d.
func (m *machine) unpackConfig(d *value.Dict, v value.Value) {
	switch {
	case value.IsConfig(v):
		m.mergeConfig(d, value.ConfigOf(v), mergeOptions{check: true, resolve: true})
	case !value.IsNull(v):
		m.fail("only list, dict and schema object can be used with unpack operators * and **, got %s", value.Text(v))
	}
}
