package eval

import (
	"fmt"
	"strings"

	"github.com/weft-dev/weft/kcl/syntax"
	"github.com/weft-dev/weft/kcl/value"
)

type typeKind uint8

const (
	anyType typeKind = iota
	boolType
	intType
	floatType
	strType
	literalType
	listType
	dictType
	unionType
	schemaType
	funcType
	numberType
	unknownType
)

// rtype is a type as values are checked against it at run time.
type rtype struct {
	kind    typeKind
	text    string
	elem    *rtype // of lists and dicts
	union   []*rtype
	def     *schemaDef
	literal value.Value
}

var basicTypes = map[string]*rtype{
	"any":                    {kind: anyType, text: "any"},
	"bool":                   {kind: boolType, text: "bool"},
	"int":                    {kind: intType, text: "int"},
	"float":                  {kind: floatType, text: "float"},
	"str":                    {kind: strType, text: "str"},
	"function":               {kind: funcType, text: "function"},
	"units.NumberMultiplier": {kind: numberType, text: "units.NumberMultiplier"},
}

// typ compiles a type as written in this file.
func (u *unit) typ(t syntax.Type, depth int) *rtype {
	if depth > 100 {
		return basicTypes["any"]
	}
	switch t := t.(type) {
	case *syntax.BasicType:
		return basicTypes[t.Name]
	case *syntax.NamedType:
		return u.namedType(t.Ident, depth)
	case *syntax.ListType:
		r := &rtype{kind: listType, elem: u.typ(t.Item, depth+1)}
		r.text = "[" + written(t.Item, r.elem) + "]"
		return r
	case *syntax.DictType:
		r := &rtype{kind: dictType, elem: u.typ(t.Value, depth+1)}
		r.text = "{" + written(t.Key, u.typ(t.Key, depth+1)) + ":" + written(t.Value, r.elem) + "}"
		return r
	case *syntax.UnionType:
		r := &rtype{kind: unionType}
		var texts []string
		for _, e := range t.Types {
			et := u.typ(e, depth+1)
			if et.kind == unionType {
				r.union = append(r.union, et.union...)
			} else {
				r.union = append(r.union, et)
			}
			texts = append(texts, et.text)
		}
		r.text = strings.Join(texts, " | ")
		return r
	case *syntax.LiteralType:
		return literalTypeOf(t)
	case *syntax.FuncType:
		return &rtype{kind: funcType, text: "function"}
	}
	return basicTypes["any"]
}

func written(t syntax.Type, r *rtype) string {
	if t == nil {
		return ""
	}
	return r.text
}

func literalTypeOf(t *syntax.LiteralType) *rtype {
	r := &rtype{kind: literalType, text: t.String()}
	switch v := t.Value.(type) {
	case bool:
		r.literal = value.Bool(v)
	case int64:
		r.literal = value.Int(v)
		if t.Suffix != "" {
			r.literal = &value.Number{Value: value.UnitValue(v, t.Suffix), Raw: v, Unit: t.Suffix}
		}
	case float64:
		r.literal = value.Float(v)
	case string:
		r.literal = value.Str(v)
	}
	return r
}

func (u *unit) namedType(id *syntax.Ident, depth int) *rtype {
	name := id.String()
	p := u.pkg
	switch len(id.Names) {
	case 1:
		if t, ok := basicTypes[name]; ok && p.schema(name) == nil && p.alias(name) == nil {
			return t
		}
	case 2:
		path, ok := u.imported(id.Names[0].Text)
		if ok && path == "units" && id.Names[1].Text == "NumberMultiplier" {
			return basicTypes["units.NumberMultiplier"]
		}
		src := p.m.program.Packages[path]
		if !ok || src == nil {
			return &rtype{kind: unknownType, text: name}
		}
		p, name = p.m.load(src), id.Names[1].Text
	default:
		return &rtype{kind: unknownType, text: name}
	}
	if f := p.schema(name); f != nil {
		text := name
		if p != u.pkg {
			text = strings.TrimPrefix(p.path, "@") + "." + name
		}
		return &rtype{kind: schemaType, text: text, def: f.Code.(*schemaDef)}
	}
	if a := p.alias(name); a != nil {
		return a.unit.typ(a.typ, depth+1)
	}
	return &rtype{kind: unknownType, text: name}
}

// accepts is the check without conversion.
func (t *rtype) accepts(v value.Value, strict bool) bool {
	if t.kind == anyType || value.IsNull(v) {
		return true
	}
	switch t.kind {
	case unionType:
		for _, e := range t.union {
			if e.accepts(v, false) {
				return true
			}
		}
		return false
	case literalType:
		return t.isLiteral(v)
	case numberType:
		return v.Kind() == value.NumberKind
	}
	switch v := v.(type) {
	case *value.Dict:
		if t.kind != dictType {
			return false
		}
		for _, e := range v.Entries() {
			if !t.elem.accepts(e.Value, false) {
				return false
			}
		}
		return true
	case *value.List:
		if t.kind != listType {
			return false
		}
		for _, e := range v.Items {
			if !t.elem.accepts(e, false) {
				return false
			}
		}
		return true
	case value.Bool:
		return t.kind == boolType
	case value.Int:
		return t.kind == intType || t.kind == floatType
	case value.Float:
		return t.kind == floatType
	case value.Str:
		return t.kind == strType
	case *value.Func:
		return t.kind == funcType && v.Type == ""
	case *value.Schema:
		if strict {
			return t.def != nil && t.def.name == v.Name && t.def.unit.pkg.path == v.PkgPath
		}
		return t.kind == schemaType || t.kind == unknownType || t.kind == funcType
	}
	return false
}

func (t *rtype) isLiteral(v value.Value) bool {
	switch l := t.literal.(type) {
	case *value.Number:
		n, ok := v.(*value.Number)
		return ok && n.Raw == l.Raw && n.Unit == l.Unit
	case value.Float:
		switch v.(type) {
		case value.Float, value.Int:
			return value.Text(v) == t.text
		}
		return false
	}
	return v.Kind() == t.literal.Kind() && value.Equal(v, t.literal)
}

// fit converts v to t where a dict stands for a schema, and checks it.
func (m *machine) fit(v value.Value, t *rtype, strict bool) value.Value {
	if value.IsNull(v) || t == nil || t.kind == anyType {
		return v
	}
	out := v
	if v.Kind() != value.SchemaKind {
		out = m.convert(v, t)
	}
	ok := t.accepts(out, strict)
	if d := value.ConfigOf(v); ok && d != nil && d.Len() == 0 && t.def != nil && t.def.hasRequired() {
		ok = false
	}
	if !ok {
		m.mismatch(v, t)
	}
	return out
}

// cast is the operator `as`.
func (m *machine) cast(v value.Value, t *rtype) value.Value { return m.fit(v, t, true) }

func (m *machine) mismatch(v value.Value, t *rtype) {
	msg := fmt.Sprintf("expect %s, got %s", t.text, typeOf(v))
	var details []string
	if d := value.ConfigOf(v); d != nil && t.def != nil && !t.def.isRule {
		for _, k := range d.Keys() {
			if !t.def.knows(k) && !strings.HasPrefix(k, "_") && !t.def.isOpen() {
				details = append(details, fmt.Sprintf("Schema %s does not contain attribute %s", t.text, k))
			}
		}
		t.def.eachAttr(func(a *syntax.SchemaAttr) {
			if !a.Optional && !d.Has(a.Name.Text) {
				details = append(details, fmt.Sprintf("Schema %s's attribute %s is missing", t.text, a.Name.Text))
			}
		})
	}
	if len(details) > 0 {
		msg += ". For details:\n" + strings.Join(details, "\n")
	}
	m.fail("%s", msg)
}

// typeOf is what typeof(v, full_name=True) gives.
func typeOf(v value.Value) string {
	switch v := v.(type) {
	case *value.Schema:
		if v.PkgPath == "__main__" {
			return v.Name
		}
		return strings.TrimPrefix(v.PkgPath, "@") + "." + v.Name
	}
	if v.Kind() == value.NoneKind {
		return "None"
	}
	return value.TypeName(v)
}

// convert makes schema instances of the dicts in v where t has schemas.
func (m *machine) convert(v value.Value, t *rtype) value.Value {
	switch x := v.(type) {
	case *value.List:
		if !t.holdsSchema() {
			return v
		}
		switch t.kind {
		case unionType:
			return m.convertUnion(v, t)
		case listType:
			out := &value.List{Items: make([]value.Value, len(x.Items)), Origins: x.Origins}
			for i, e := range x.Items {
				out.Items[i] = m.convert(e, t.elem)
			}
			return out
		}
	case *value.Dict:
		if !t.holdsSchema() {
			return v
		}
		switch t.kind {
		case unionType:
			return m.convertUnion(v, t)
		case dictType:
			out := x.Clone()
			for i := 0; i < out.Len(); i++ {
				e := out.At(i)
				e.Value = m.convert(e.Value, t.elem)
			}
			return out
		case schemaType:
			if t.def.isRule || !t.def.fits(x) {
				return v
			}
			return t.def.instantiate(x, m.lineMeta(), nil, nil)
		}
	}
	return v
}

func (m *machine) convertUnion(v value.Value, t *rtype) value.Value {
	for _, e := range t.union {
		if out := m.convert(v, e); e.accepts(out, false) {
			return out
		}
	}
	return v
}

// holdsSchema reports whether values of t may hold schema instances.
func (t *rtype) holdsSchema() bool {
	switch t.kind {
	case schemaType:
		return true
	case listType, dictType:
		return t.elem.holdsSchema()
	case unionType:
		for _, e := range t.union {
			if e.holdsSchema() {
				return true
			}
		}
	}
	return false
}
