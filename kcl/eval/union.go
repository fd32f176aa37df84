package eval

import (
	"strconv"
	"strings"

	"github.com/weft-dev/weft/kcl/value"
)

// mergeOptions say how configurations are merged.
type mergeOptions struct {
	// check refuses different values for one attribute.
	check bool
	// resolve runs the body of a schema again for what was merged over it.
	resolve bool
}

var defaultMerge = mergeOptions{check: true, resolve: true}

// conflict is a refused merge on its way up; path is innermost first.
type conflict struct {
	path       []string
	have, want string
}

func shown(v value.Value) string {
	switch v.(type) {
	case *value.Dict, *value.Schema:
		return "{...}"
	case *value.List:
		return "[...]"
	}
	return jsonText(v)
}

func jsonText(v value.Value) string {
	switch v := v.(type) {
	case value.Str:
		return quoteJSON(string(v))
	case value.Bool:
		return strconv.FormatBool(bool(v))
	case *value.Number:
		return value.FloatText(v.Value)
	}
	if value.IsNull(v) {
		return "null"
	}
	return value.Text(v)
}

func quoteJSON(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\t", `\t`, "\r", `\r`).Replace(s) + `"`
}

// refuse reports a conflict.
func (m *machine) refuse(c *conflict) {
	for i, j := 0, len(c.path)-1; i < j; i, j = i+1, j-1 {
		c.path[i], c.path[j] = c.path[j], c.path[i]
	}
	key := c.path[len(c.path)-1]
	if key == "" {
		m.fail("conflicting values between %s and %s", c.want, c.have)
	}
	m.fail("conflicting values on the attribute '%s' between :\n    %s\nand\n    %s\nwith union path :\n    %s\ntry operator '=' to override the attribute, like:\n    {...} | {\n            ...\n            %s = %s\n            ...\n    }",
		key, c.have, c.want, strings.Join(c.path, "."), key, c.want)
}

// subsumes reports whether b may be merged into a without a conflict.
func subsumes(a, b value.Value) bool {
	if value.IsNull(a) || value.IsNull(b) || a == b {
		return true
	}
	switch x := a.(type) {
	case value.Int, value.Float, value.Bool, value.Str:
		return a.Kind() == b.Kind() && value.Equal(a, b)
	case *value.Number:
		y, ok := b.(*value.Number)
		return ok && *x == *y
	case *value.List:
		y, ok := b.(*value.List)
		if !ok || len(x.Items) != len(y.Items) {
			return false
		}
		for i := range x.Items {
			if !subsumes(x.Items[i], y.Items[i]) {
				return false
			}
		}
		return true
	case *value.Dict, *value.Schema:
		return value.IsConfig(b)
	}
	return false
}

// bitOr is the operator |.
func (m *machine) bitOr(a, b value.Value) value.Value {
	if x, ok := a.(value.Int); ok {
		if y, ok := b.(value.Int); ok {
			return x | y
		}
	}
	v, c := m.union(a, b, true, defaultMerge)
	if c != nil {
		m.refuse(c)
	}
	return v
}

// union merges b over a into a new value.
func (m *machine) union(a, b value.Value, or bool, o mergeOptions) (value.Value, *conflict) {
	if value.IsNull(a) {
		return b, nil
	}
	if value.IsNull(b) {
		return a, nil
	}
	if isCollection(a) && isCollection(b) {
		return m.unionCollections(a, b, o)
	}
	if or {
		m.fail("unsupported operand type(s) for |: '\"%s\"' and '\"%s\"'", value.TypeName(a), value.TypeName(b))
	}
	return b, nil
}

func isCollection(v value.Value) bool { return v.Kind() == value.ListKind || value.IsConfig(v) }

func (m *machine) unionCollections(a, b value.Value, o mergeOptions) (value.Value, *conflict) {
	m.enter()
	defer m.leave()
	switch x := a.(type) {
	case *value.List:
		if y, ok := b.(*value.List); ok {
			return m.unionLists(x, y, o)
		}
	case *value.Dict:
		switch y := b.(type) {
		case *value.Dict:
			if x == y {
				return a, nil
			}
			d := x.Clone()
			m.grow(48 * (d.Len() + y.Len()))
			return d, m.mergeDict(d, y, o)
		case *value.Schema:
			d := x.Clone()
			if c := m.mergeDict(d, y.Config, o); c != nil {
				return d, c
			}
			s := *y
			s.Config = d
			s.ConfigKeys = append(append([]string(nil), y.ConfigKeys...), x.Keys()...)
			return m.resolved(&s, o), nil
		}
	case *value.Schema:
		d := x.Config.Clone()
		s := *x
		s.Config = d
		switch y := b.(type) {
		case *value.Dict:
			if c := m.mergeDict(d, y, o); c != nil {
				return a, c
			}
			s.ConfigKeys = append(append([]string(nil), x.ConfigKeys...), y.Keys()...)
			return m.resolved(&s, o), nil
		case *value.Schema:
			if x == y {
				return a, nil
			}
			if c := m.mergeDict(d, y.Config, o); c != nil {
				return a, c
			}
			s.ConfigKeys = append(append([]string(nil), x.ConfigKeys...), y.ConfigKeys...)
			s.Args, s.Kwargs = y.Args, y.Kwargs
			return m.resolved(&s, o), nil
		}
	}
	m.fail("union failure, expect \"%s\", got \"%s\"", value.TypeName(a), value.TypeName(b))
	return nil, nil
}

// resolved runs the schema of s again over its configuration.
func (m *machine) resolved(s *value.Schema, o mergeOptions) value.Value {
	if !o.resolve {
		return s
	}
	return m.resolve(s)
}

func (m *machine) resolve(s *value.Schema) *value.Schema {
	def, _ := s.Type.(*schemaDef)
	if def == nil {
		return s
	}
	config := value.NewDict(len(s.ConfigKeys))
	config.Potential = s.Config.Potential
	for _, k := range s.ConfigKeys {
		if i := s.Config.Find(k); i >= 0 {
			e := *s.Config.At(i)
			e.Op = value.Override
			config.Put(e)
		}
	}
	r, _ := def.instantiate(config, m.lineMeta(), s.Args, s.Kwargs).(*value.Schema)
	return r
}

func (m *machine) unionLists(x, y *value.List, o mergeOptions) (value.Value, *conflict) {
	out := x.Clone()
	m.grow(16 * (len(x.Items) + len(y.Items)))
	for i, v := range y.Items {
		if i >= len(out.Items) {
			out.Items = append(out.Items, v)
			if m.trace && i < len(y.Origins) {
				out.Origins = append(padOrigins(&value.List{Items: out.Items[:i], Origins: out.Origins}), y.Origins[i])
			}
			continue
		}
		u, c := m.union(out.Items[i], v, false, o)
		if c != nil {
			c.path = append(c.path, "list["+strconv.Itoa(i)+"]")
			return out, c
		}
		out.Items[i] = u
		if m.trace && i < len(out.Origins) && i < len(y.Origins) {
			out.Origins[i] = joinOrigins(out.Origins[i], y.Origins[i])
		}
	}
	return out, nil
}

// joinOrigins says that b was merged over a.
func joinOrigins(a, b *value.Origin) *value.Origin {
	if a == nil || b == nil || a == b {
		if b != nil {
			return b
		}
		return a
	}
	c := *b
	last := &c
	for n := 0; last.Earlier != nil; n++ {
		if last.Earlier == a || n > 50 {
			return b
		}
		e := *last.Earlier
		last.Earlier = &e
		last = &e
	}
	last.Earlier = a
	return &c
}

// mergeConfig merges all entries of delta into obj, which the caller owns.
func (m *machine) mergeConfig(obj, delta *value.Dict, o mergeOptions) {
	if c := m.mergeDict(obj, delta, o); c != nil {
		m.refuse(c)
	}
}

// mergeEntry merges one entry into obj, which the caller owns.
func (m *machine) mergeEntry(obj *value.Dict, e value.Entry, o mergeOptions) {
	if c := m.mergeOne(obj, e, o); c != nil {
		m.refuse(c)
	}
}

func (m *machine) mergeDict(obj, delta *value.Dict, o mergeOptions) *conflict {
	if delta.Potential != "" || obj.Potential != "" {
		obj.Potential = delta.Potential
	}
	for _, e := range delta.Entries() {
		if c := m.mergeOne(obj, e, o); c != nil {
			return c
		}
	}
	return nil
}

func (m *machine) mergeOne(obj *value.Dict, e value.Entry, o mergeOptions) *conflict {
	i := obj.Find(e.Key)
	if i < 0 && e.Index == value.NoIndex {
		obj.Put(e)
		return nil
	}
	var have value.Value = value.Undefined
	if i >= 0 {
		old := obj.At(i)
		have = old.Value
		if m.trace {
			switch {
			case e.Op == value.Override || e.Origin == nil || old.Origin != nil:
				old.Origin = joinOrigins(old.Origin, e.Origin)
			default:
				old.Origin = e.Origin
			}
		}
		old.Op = e.Op
		if e.Index != value.NoIndex {
			old.Index = e.Index
		}
	}
	v, c := m.mergeValue(have, e, o)
	if c != nil {
		return c
	}
	if i < 0 {
		e.Value = v
		obj.Put(e)
		return nil
	}
	obj.At(i).Value = v
	return nil
}

// mergeValue merges the value of entry e over have.
func (m *machine) mergeValue(have value.Value, e value.Entry, o mergeOptions) (value.Value, *conflict) {
	switch {
	case e.Op == value.Insert:
		return m.insert(have, e), nil
	case e.Index != value.NoIndex:
		return m.atIndex(have, e, o)
	case e.Op == value.Override:
		return e.Value, nil
	}
	if o.check && !subsumes(e.Value, have) {
		return nil, &conflict{[]string{e.Key}, shown(have), shown(e.Value)}
	}
	v, c := m.union(have, e.Value, false, o)
	if c != nil {
		c.path = append(c.path, e.Key)
	}
	return v, c
}

// atIndex merges or overrides one item of a list.
func (m *machine) atIndex(have value.Value, e value.Entry, o mergeOptions) (value.Value, *conflict) {
	l, ok := have.(*value.List)
	verb := "union"
	if e.Op == value.Override {
		verb = "override"
	}
	if !ok {
		if verb == "union" && value.IsUndefined(have) {
			m.fail("only non-empty list attribute can be union value with the index %d", e.Index)
		}
		m.fail("only list attribute can be %s value with the index %d", verb, e.Index)
	}
	if len(l.Items) == 0 && verb == "union" {
		m.fail("only non-empty list attribute can be union value with the index %d", e.Index)
	}
	i := m.normalIndex(int64(e.Index), len(l.Items))
	if i >= len(l.Items) {
		if e.Op == value.Override && value.IsUndefined(e.Value) {
			m.fail("removal index (is %d) should be < len (is %d)", i, len(l.Items))
		}
		m.fail("index out of bounds: the len is %d but the index is %d", len(l.Items), e.Index)
	}
	out := l.Clone()
	m.grow(16 * len(l.Items))
	if e.Op == value.Override {
		if value.IsUndefined(e.Value) {
			out.Items = append(out.Items[:i], out.Items[i+1:]...)
			if i < len(out.Origins) {
				out.Origins = append(out.Origins[:i], out.Origins[i+1:]...)
			}
			return out, nil
		}
		out.Items[i] = e.Value
		return out, nil
	}
	if o.check && !subsumes(e.Value, out.Items[i]) {
		return nil, &conflict{[]string{e.Key + "[" + strconv.Itoa(int(e.Index)) + "]"}, shown(out.Items[i]), shown(e.Value)}
	}
	v, c := m.union(out.Items[i], e.Value, false, o)
	if c != nil {
		c.path = append(c.path, e.Key)
		return nil, c
	}
	out.Items[i] = v
	return out, nil
}

// insert adds the items of a list to another, at its end or at an index.
func (m *machine) insert(have value.Value, e value.Entry) value.Value {
	if value.IsNull(have) {
		have = &value.List{}
	}
	l, ok := have.(*value.List)
	add, ok2 := e.Value.(*value.List)
	if !ok || !ok2 {
		m.notList(have, e.Value)
	}
	i := len(l.Items)
	if e.Index != value.NoIndex {
		i = m.normalIndex(int64(e.Index), len(l.Items))
		if i > len(l.Items) {
			m.fail("insertion index (is %d) should be <= len (is %d)", i, len(l.Items))
		}
	}
	m.grow(16 * (len(l.Items) + len(add.Items)))
	out := &value.List{Items: make([]value.Value, 0, len(l.Items)+len(add.Items))}
	out.Items = append(append(append(out.Items, l.Items[:i]...), add.Items...), l.Items[i:]...)
	if m.trace {
		a, b := padOrigins(l), padOrigins(add)
		out.Origins = append(append(append(out.Origins, a[:i]...), b...), a[i:]...)
	}
	return out
}

func (m *machine) notList(have, got value.Value) {
	m.fail("only list attribute can be inserted value, the origin value type is %s and got value type is %s", value.TypeName(have), value.TypeName(got))
}
