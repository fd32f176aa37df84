package eval

import (
	"math"

	"github.com/weft-dev/weft/kcl/value"
)

// attr reads an attribute of a value.
func (m *machine) attr(v value.Value, name string) value.Value {
	switch x := v.(type) {
	case *value.Dict:
		r, _ := x.Get(name)
		return r
	case *value.Schema:
		r, ok := x.Config.Get(name)
		if !ok {
			m.fail("schema '%s' attribute '%s' not found", x.Name, name)
		}
		return r
	case value.Str:
		f := m.lib.Member(name)
		if f == nil {
			m.fail("str object attr '%s' not found", name)
		}
		return bind(f, x)
	case *value.Func:
		if name != "instances" {
			m.fail("schema object attr '%s' not found", name)
		}
		return m.instancesFunc(x)
	}
	m.fail("invalid value '%s' to load attribute '%s'", value.TypeName(v), name)
	return nil
}

// bind makes a function of f with its first argument given.
func bind(f *value.Func, first value.Value) *value.Func {
	return &value.Func{Name: f.Name, Call: func(c *value.Call) (value.Value, error) {
		inner := *c
		inner.Args = append([]value.Value{first}, c.Args...)
		return f.Call(&inner)
	}}
}

// normalIndex makes a negative index count from the end.
func (m *machine) normalIndex(i int64, n int) int {
	if i < 0 {
		if i+int64(n) < 0 {
			m.fail("index out of bounds: the len is %d but the index is %d", n, i)
		}
		return int(i) + n
	}
	return int(min(i, math.MaxInt32))
}

func (m *machine) subscript(v, i value.Value) value.Value {
	switch x := v.(type) {
	case value.Str:
		if n, ok := i.(value.Int); ok {
			rs := []rune(string(x))
			k := m.normalIndex(int64(n), len(rs))
			if k >= len(rs) {
				m.fail("string index out of range: %d", n)
			}
			return value.Str(rs[k])
		}
	case *value.List:
		if n, ok := i.(value.Int); ok {
			k := m.normalIndex(int64(n), len(x.Items))
			if k >= len(x.Items) {
				m.fail("list index out of range: %d", n)
			}
			return x.Items[k]
		}
	case *value.Dict:
		s, ok := i.(value.Str)
		if !ok {
			return value.Undefined
		}
		r, _ := x.Get(string(s))
		return r
	case *value.Schema:
		if s, ok := i.(value.Str); ok {
			r, _ := x.Config.Get(string(s))
			return r
		}
	}
	m.fail("'%s' object is not subscriptable with '%s'", value.TypeName(v), value.TypeName(i))
	return nil
}

func (m *machine) slice(v, lower, upper, step value.Value) value.Value {
	by := int64(1)
	if s, ok := step.(value.Int); ok {
		if by = int64(s); by == 0 {
			m.fail("slice step cannot be zero")
		}
	}
	pick := func(n int) []int {
		m.growTimes(16, int64(n))
		return sliceIndices(n, lower, upper, by)
	}
	switch x := v.(type) {
	case *value.List:
		l := &value.List{}
		for _, i := range pick(len(x.Items)) {
			l.Items = append(l.Items, x.Items[i])
			if x.Origins != nil && i < len(x.Origins) {
				l.Origins = append(l.Origins, x.Origins[i])
			}
		}
		return l
	case value.Str:
		rs := []rune(string(x))
		var out []rune
		for _, i := range pick(len(rs)) {
			out = append(out, rs[i])
		}
		return value.Str(out)
	}
	m.fail("invalid slice object %s", value.TypeName(v))
	return nil
}

func sliceIndices(length int, lower, upper value.Value, step int64) []int {
	n := int64(length)
	start, stop := int64(0), n
	if step < 0 {
		start, stop = n-1, -1
	}
	bound := func(v value.Value, def int64) int64 {
		i, ok := v.(value.Int)
		if !ok {
			return def
		}
		k := int64(i)
		if k < 0 {
			k = max(k+n, -1)
			if step > 0 {
				k = max(k, 0)
			}
			return k
		}
		if step < 0 {
			return min(k, n-1)
		}
		return min(k, n)
	}
	start, stop = bound(lower, start), bound(upper, stop)
	var out []int
	for i := start; step > 0 && i < stop || step < 0 && i > stop; i += step {
		out = append(out, int(i))
		if step > n || step < -n {
			break
		}
	}
	return out
}
