package syntax

import (
	"strconv"
	"strings"
)

// Type is a type as written: *BasicType, *NamedType, *ListType, *DictType,
// *UnionType, *LiteralType or *FuncType. String writes it as diagnostics do.
type Type interface {
	Node
	String() string
	typ()
}

// The forms of a type.
type (
	// BasicType is any, bool, int, float or str.
	BasicType struct {
		Span
		Name string
	}
	// NamedType is a schema, rule or alias, possibly of another package.
	NamedType struct {
		Span
		Ident *Ident
	}
	// ListType is `[Item]`; Item may be nil.
	ListType struct {
		Span
		Item Type
	}
	// DictType is `{Key:Value}`; both may be nil.
	DictType struct {
		Span
		Key, Value Type
	}
	// UnionType is `A | B`.
	UnionType struct {
		Span
		Types []Type
	}
	// LiteralType is a literal: Value is a bool, int64, float64 or string.
	LiteralType struct {
		Span
		Value  any
		Suffix string
	}
	// FuncType is `(A, B) -> C`; Result may be nil.
	FuncType struct {
		Span
		Params []Type
		Result Type
	}
)

func (*BasicType) typ()   {}
func (*NamedType) typ()   {}
func (*ListType) typ()    {}
func (*DictType) typ()    {}
func (*UnionType) typ()   {}
func (*LiteralType) typ() {}
func (*FuncType) typ()    {}

func (t *BasicType) String() string { return t.Name }
func (t *NamedType) String() string { return t.Ident.String() }

func (t *ListType) String() string { return "[" + typeText(t.Item) + "]" }

func (t *DictType) String() string {
	return "{" + typeText(t.Key) + ":" + typeText(t.Value) + "}"
}

func (t *UnionType) String() string {
	if len(t.Types) == 0 {
		return "any"
	}
	parts := make([]string, len(t.Types))
	for i, e := range t.Types {
		parts[i] = e.String()
	}
	return strings.Join(parts, " | ")
}

func (t *LiteralType) String() string {
	switch v := t.Value.(type) {
	case bool:
		if v {
			return "True"
		}
		return "False"
	case int64:
		return strconv.FormatInt(v, 10) + t.Suffix
	case float64:
		s := strconv.FormatFloat(v, 'f', -1, 64)
		if !strings.Contains(s, ".") {
			s += ".0"
		}
		return s
	case string:
		return `"` + strings.ReplaceAll(v, `"`, `\"`) + `"`
	}
	return ""
}

func (t *FuncType) String() string {
	parts := make([]string, len(t.Params))
	for i, p := range t.Params {
		parts[i] = p.String()
	}
	s := "(" + strings.Join(parts, ", ") + ")"
	if t.Result != nil {
		s += " -> " + t.Result.String()
	}
	return s
}

func typeText(t Type) string {
	if t == nil {
		return ""
	}
	return t.String()
}
