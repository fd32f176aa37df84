package types

import (
	"strconv"
	"strings"

	"github.com/weft-dev/weft/kcl/syntax"
)

// Kind tells the types apart.
type Kind uint8

// The kinds of types.
const (
	Any Kind = iota
	None
	Bool
	Int
	Float
	Str
	BoolLit
	IntLit
	FloatLit
	StrLit
	List
	Dict
	Union
	Schema
	Multiplier
	Func
	Void
	Module
	Named
)

// Type is a type. Types are never changed after they were made.
type Type struct {
	Kind Kind
	// Lit is the value of a literal type: bool, int64, float64 or string; for
	// a literal Multiplier it is its text, such as "1Ki".
	Lit any
	// Elem is the item of a List and the value of a Dict; Key its key.
	Elem, Key *Type
	// Attrs are the known attributes of a Dict.
	Attrs *attrs
	// Types are the members of a Union.
	Types []*Type
	// Schema is the schema of a Schema; Instance tells an instance from the
	// schema itself.
	Schema   *SchemaType
	Instance bool
	Func     *FuncType
	// Module is the path and kind of a Module.
	Module     string
	ModuleKind moduleKind
	// Name is the name of a Named.
	Name string
}

type moduleKind uint8

const (
	userModule moduleKind = iota
	systemModule
	pluginModule
)

// place is a span of a file; file is nil for what has no place.
type place struct {
	file *syntax.File
	span syntax.Span
}

// attrs are attributes in order.
type attrs struct {
	names []string
	byKey map[string]*attr
}

type attr struct {
	typ      *Type
	at       place
	optional bool
	def      bool
}

func newAttrs() *attrs { return &attrs{byKey: map[string]*attr{}} }

func (a *attrs) get(name string) *attr {
	if a == nil {
		return nil
	}
	return a.byKey[name]
}

func (a *attrs) set(name string, v *attr) {
	if _, ok := a.byKey[name]; !ok {
		a.names = append(a.names, name)
	}
	a.byKey[name] = v
}

func (a *attrs) len() int {
	if a == nil {
		return 0
	}
	return len(a.names)
}

func (a *attrs) clone() *attrs {
	c := &attrs{names: append([]string(nil), a.names...), byKey: make(map[string]*attr, len(a.byKey))}
	for k, v := range a.byKey {
		c.byKey[k] = v
	}
	return c
}

// SchemaType is a schema, mixin, protocol or rule.
type SchemaType struct {
	Name, PkgPath         string
	Mixin, Protocol, Rule bool
	content               schemaParts
	// build makes the content when it is first asked for; nil once it is there.
	build func()
}

// schemaParts is what the declaration of a schema says.
type schemaParts struct {
	base, protocol *SchemaType
	mixins         []*SchemaType
	attrs          *attrs
	params         []param
	index          *indexType
}

func (s *SchemaType) parts() *schemaParts {
	if build := s.build; build != nil {
		s.build = nil
		build()
	}
	return &s.content
}

// inBody is a copy of the schema whose attributes may be changed.
func (s *SchemaType) inBody() *SchemaType {
	body := &SchemaType{Name: s.Name, PkgPath: s.PkgPath, Mixin: s.Mixin, Protocol: s.Protocol, Rule: s.Rule, content: *s.parts()}
	body.content.attrs = body.content.attrs.clone()
	return body
}

type indexType struct {
	name     string
	key, val *Type
	anyOther bool
}

func (x *indexType) text() string {
	s := "["
	if x.name != "" {
		s += x.name + ": "
	}
	if x.anyOther {
		s += "..."
	}
	return s + x.key.String() + "]: " + x.val.String()
}

// FuncType is the type of a function.
type FuncType struct {
	params   []param
	result   *Type
	variadic bool
}

type param struct {
	name   string
	typ    *Type
	hasDef bool
	at     place
}

// The types without parts.
var (
	anyT        = &Type{Kind: Any}
	noneT       = &Type{Kind: None}
	boolT       = &Type{Kind: Bool}
	intT        = &Type{Kind: Int}
	floatT      = &Type{Kind: Float}
	strT        = &Type{Kind: Str}
	voidT       = &Type{Kind: Void}
	multiplierT = &Type{Kind: Multiplier}
)

func listOf(t *Type) *Type         { return &Type{Kind: List, Elem: t} }
func dictOf(k, v *Type) *Type      { return &Type{Kind: Dict, Key: k, Elem: v} }
func strLit(s string) *Type        { return &Type{Kind: StrLit, Lit: s} }
func unionOf(ts []*Type) *Type     { return &Type{Kind: Union, Types: ts} }
func funcOf(f *FuncType) *Type     { return &Type{Kind: Func, Func: f} }
func named(s string) *Type         { return &Type{Kind: Named, Name: s} }
func schemaOf(s *SchemaType) *Type { return &Type{Kind: Schema, Schema: s} }

func (t *Type) isAny() bool     { return t.Kind == Any }
func (t *Type) isNone() bool    { return t.Kind == None }
func (t *Type) isInt() bool     { return t.Kind == Int || t.Kind == IntLit }
func (t *Type) isFloat() bool   { return t.Kind == Float || t.Kind == FloatLit }
func (t *Type) isNumber() bool  { return t.isInt() || t.isFloat() }
func (t *Type) isBool() bool    { return t.Kind == Bool || t.Kind == BoolLit }
func (t *Type) isStr() bool     { return t.Kind == Str || t.Kind == StrLit }
func (t *Type) isLiteral() bool { return t.Kind >= BoolLit && t.Kind <= StrLit }
func (t *Type) isPrimitive() bool {
	return t.Kind >= Bool && t.Kind <= Str
}
func (t *Type) isConfig() bool { return t.Kind == Dict || t.Kind == Schema }
func (t *Type) isIterable() bool {
	return t.isStr() || t.Kind == List || t.isConfig()
}

// isKey reports whether values of t can be keys.
func (t *Type) isKey() bool {
	if t.Kind == Union {
		return all(t.Types, (*Type).isKey)
	}
	return t.isStr()
}

// maxParts bounds the parts of a type: aliases of aliases could make it as
// large as one likes.
const maxParts = 100_000

// within reports whether t and what it is made of are at most maxParts types;
// n counts them.
func (t *Type) within(n *int) bool {
	if *n++; *n > maxParts {
		return false
	}
	for _, e := range []*Type{t.Key, t.Elem} {
		if e != nil && !e.within(n) {
			return false
		}
	}
	for _, e := range t.Types {
		if !e.within(n) {
			return false
		}
	}
	if t.Func != nil && t.Kind == Func {
		for _, p := range t.Func.params {
			if !p.typ.within(n) {
				return false
			}
		}
		return t.Func.result.within(n)
	}
	return true
}

func all(ts []*Type, f func(*Type) bool) bool {
	for _, t := range ts {
		if !f(t) {
			return false
		}
	}
	return true
}

// each reports whether f holds for t or, of a union, for all members.
func (t *Type) each(f func(*Type) bool) bool {
	if t.Kind == Union {
		return all(t.Types, f)
	}
	return f(t)
}

func (t *Type) isAssignable() bool { return t.Kind < Void }

var kindNames = map[Kind]string{
	Any: "any", None: "NoneType", Bool: "bool", Int: "int", Float: "float", Str: "str",
	BoolLit: "bool", IntLit: "int", FloatLit: "float", StrLit: "str", Void: "void",
}

// String writes the type as messages do.
func (t *Type) String() string {
	switch t.Kind {
	case BoolLit, IntLit, FloatLit, StrLit:
		return kindNames[t.Kind] + "(" + litText(t.Lit) + ")"
	case List:
		return "[" + t.Elem.String() + "]"
	case Dict:
		return "{" + t.Key.String() + ":" + t.Elem.String() + "}"
	case Union:
		parts := make([]string, len(t.Types))
		for i, e := range t.Types {
			parts[i] = e.String()
		}
		return strings.Join(parts, " | ")
	case Schema:
		return t.Schema.Name
	case Multiplier:
		if t.Lit != nil {
			return "number_multiplier(" + t.Lit.(string) + ")"
		}
		return "number_multiplier"
	case Func:
		parts := make([]string, len(t.Func.params))
		for i, p := range t.Func.params {
			parts[i] = p.typ.String()
		}
		return "(" + strings.Join(parts, ", ") + ") -> " + t.Func.result.String()
	case Module:
		return "module '" + t.Module + "'"
	case Named:
		return t.Name
	}
	return kindNames[t.Kind]
}

// full is String with packages.
func (t *Type) full() string {
	switch t.Kind {
	case List:
		return "[" + t.Elem.full() + "]"
	case Dict:
		return "{" + t.Key.full() + ":" + t.Elem.full() + "}"
	case Union:
		parts := make([]string, len(t.Types))
		for i, e := range t.Types {
			parts[i] = e.full()
		}
		return strings.Join(parts, " | ")
	case Schema:
		return t.Schema.full()
	}
	return t.String()
}

func (s *SchemaType) full() string {
	if s.PkgPath == "__main__" {
		return s.Name
	}
	return s.PkgPath + "." + s.Name
}

func litText(v any) string {
	switch v := v.(type) {
	case bool:
		if v {
			return "True"
		}
		return "False"
	case int64:
		return strconv.FormatInt(v, 10)
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case string:
		return v
	}
	return ""
}

// attr finds an attribute of a schema, its bases or its protocol.
func (s *SchemaType) attr(name string) *attr {
	for n := 0; s != nil && n < 1000; n++ {
		if a := s.parts().attrs.get(name); a != nil {
			return a
		}
		if s.parts().base != nil {
			s = s.parts().base
		} else {
			s = s.parts().protocol
		}
	}
	return nil
}

func (s *SchemaType) attrType(name string) *Type {
	if a := s.attr(name); a != nil {
		return a.typ
	}
	return nil
}

func (s *SchemaType) valType() *Type {
	if s.parts().index != nil {
		return s.parts().index.val
	}
	return anyT
}

func (s *SchemaType) subOf(o *SchemaType) bool {
	for n := 0; s != nil && n < 1000; n++ {
		if s == o || s.Name == o.Name && s.PkgPath == o.PkgPath {
			return true
		}
		s = s.parts().base
	}
	return false
}
