package eval

import (
	"github.com/weft-dev/weft/kcl/syntax"
	"github.com/weft-dev/weft/kcl/value"
)

// clause is a compiled `for`.
type clause struct {
	slots []int
	iter  expr
	ifs   []expr
}

func (c *compiler) clauses(list []*syntax.CompClause) []clause {
	out := make([]clause, len(list))
	for i, cl := range list {
		out[i].iter = c.expr(cl.Iter)
		for _, t := range cl.Targets {
			out[i].slots = append(out[i].slots, c.scope.slot(t.String()))
		}
		out[i].ifs = c.exprs(cl.Ifs)
	}
	return out
}

// loop runs body for each combination of the clauses.
func (m *machine) loop(fr *frame, clauses []clause, body func()) {
	if len(clauses) == 0 {
		body()
		return
	}
	cl := &clauses[0]
	host := cl.iter(fr)
	if len(cl.slots) > 2 {
		m.fail("the number of loop variables is %d, which can only be 1 or 2", len(cl.slots))
	}
	m.each(host, func(item, key, val value.Value) bool {
		if len(cl.slots) == 1 {
			fr.vars[cl.slots[0]] = item
		} else {
			fr.vars[cl.slots[0]], fr.vars[cl.slots[1]] = key, val
		}
		keep := true
		for _, cond := range cl.ifs {
			if !value.Truthy(cond(fr)) {
				keep = false
			}
		}
		if keep {
			m.loop(fr, clauses[1:], body)
		}
		return true
	})
	for _, s := range cl.slots {
		fr.vars[s] = nil
	}
}

// each calls f for every item of v with its key and value until it gives false.
func (m *machine) each(v value.Value, f func(item, key, val value.Value) bool) {
	switch v := v.(type) {
	case *value.List:
		for i := 0; i < len(v.Items); i++ {
			m.step()
			if !f(v.Items[i], value.Int(i), v.Items[i]) {
				return
			}
		}
	case *value.Dict, *value.Schema:
		d := value.ConfigOf(v)
		for i := 0; i < d.Len(); i++ {
			m.step()
			e := d.At(i)
			k := value.Str(e.Key)
			if !f(k, k, e.Value) {
				return
			}
		}
	case value.Str:
		i := 0
		for _, r := range string(v) {
			m.step()
			s := value.Str(string(r))
			if !f(s, value.Int(i), s) {
				return
			}
			i++
		}
	default:
		m.fail("'%s' object is not iterable", value.TypeName(v))
	}
}

func (c *compiler) listComp(x *syntax.ListComp) (out expr) {
	m, at := c.m, c.place(x)
	c.within(loopScope, func(c *compiler) {
		clauses := c.clauses(x.Clauses)
		item := c.expr(x.Item)
		_, unpack := x.Item.(*syntax.StarredExpr)
		if _, ok := x.Item.(*syntax.ListIfItem); ok {
			unpack = true
		}
		unpack = false
		itemAt := c.place(x.Item)
		out = func(fr *frame) value.Value {
			m.at = at
			l := &value.List{}
			m.loop(fr, clauses, func() {
				m.grow(itemSize)
				v := item(fr)
				l.Items = append(l.Items, v)
				if m.trace {
					m.listOrigin(l, v, unpack, itemAt)
				}
			})
			return l
		}
	})
	return out
}

func (c *compiler) dictComp(x *syntax.DictComp) (out expr) {
	m, at := c.m, c.place(x)
	c.within(loopScope, func(c *compiler) {
		clauses := c.clauses(x.Clauses)
		val := c.expr(x.Entry.Value)
		var key expr
		if x.Entry.Key != nil {
			key = c.expr(x.Entry.Key)
		}
		op := mergeOp(x.Entry.Op)
		keyAt := c.place(x.Entry)
		out = func(fr *frame) value.Value {
			m.at = at
			d := value.NewDict(0)
			m.loop(fr, clauses, func() {
				m.grow(entrySize)
				v := val(fr)
				if key == nil {
					m.unpackConfig(d, v)
					return
				}
				k, _ := key(fr).(value.Str)
				e := value.Entry{Key: string(k), Value: v, Op: op, Index: value.NoIndex}
				if m.trace {
					e.Origin = m.origin(keyAt, op.String())
				}
				m.mergeEntry(d, e, mergeOptions{check: true})
			})
			return d
		}
	})
	return out
}

func (c *compiler) quantifier(x *syntax.QuantExpr) (out expr) {
	m, at := c.m, c.place(x)
	target := c.expr(x.Target)
	c.within(loopScope, func(c *compiler) {
		cl := clause{iter: target}
		for _, v := range x.Vars {
			cl.slots = append(cl.slots, c.scope.slot(v.String()))
		}
		test, cond := c.expr(x.Test), c.optional(x.Cond)
		run := m.quantifier(x.Op)
		out = func(fr *frame) value.Value {
			m.at = at
			return run(fr, &cl, test, cond)
		}
	})
	return out
}

type quantRunner func(fr *frame, cl *clause, test, cond expr) value.Value

func (m *machine) quantifier(op string) quantRunner {
	return func(fr *frame, cl *clause, test, cond expr) value.Value {
		host := cl.iter(fr)
		var result value.Value
		var list *value.List
		switch op {
		case "all":
			result = value.Bool(true)
		case "any":
			result = value.Bool(false)
		case "map":
			list = &value.List{}
			result = list
		case "filter":
			result = m.copyForFilter(host)
		}
		m.each(host, func(item, key, val value.Value) bool {
			if len(cl.slots) == 1 {
				fr.vars[cl.slots[0]] = item
			} else {
				fr.vars[cl.slots[0]], fr.vars[cl.slots[1]] = key, val
			}
			if cond != nil && !value.Truthy(cond(fr)) {
				return true
			}
			v := test(fr)
			yes := value.Truthy(v)
			switch op {
			case "all":
				result = value.Bool(yes)
				return yes
			case "any":
				result = value.Bool(yes)
				return !yes
			case "map":
				m.grow(itemSize)
				list.Items = append(list.Items, v)
			case "filter":
				if !yes {
					m.filterOut(result, item)
				}
			}
			return true
		})
		for _, s := range cl.slots {
			fr.vars[s] = nil
		}
		return result
	}
}

func (m *machine) copyForFilter(v value.Value) value.Value {
	switch v := v.(type) {
	case *value.List:
		m.grow(16 * len(v.Items))
		return v.Clone()
	case *value.Dict:
		m.grow(64 * v.Len())
		return v.Clone()
	case *value.Schema:
		s := *v
		s.Config = v.Config.Clone()
		return &s
	}
	return v
}

// filterOut removes an item from a filter's result.
func (m *machine) filterOut(result, item value.Value) {
	switch r := result.(type) {
	case *value.List:
		for i := len(r.Items) - 1; i >= 0; i-- {
			if value.Equal(r.Items[i], item) {
				r.Items = append(r.Items[:i], r.Items[i+1:]...)
				if r.Origins != nil && i < len(r.Origins) {
					r.Origins = append(r.Origins[:i], r.Origins[i+1:]...)
				}
				return
			}
		}
	case *value.Dict:
		k, _ := item.(value.Str)
		r.Delete(string(k))
	default:
		m.fail("only list, dict and schema can be removed item")
	}
}
