// Package value holds the values that KCL programs compute: numbers, strings,
// lists, configurations with their merge operators, schema instances and
// functions.
//
// A value is shared freely. Once a list or dict has been handed out it must
// not be changed: take a Clone first, or build a new one. Only the code that
// created a container, and has not yet given it away, may use its mutating
// methods (Append, Set, Put, Delete). That rule replaces the deep copies that
// the language's by-value assignment would otherwise need.
//
// The package knows nothing of syntax, types or evaluation.
package value

// Kind tells the values apart.
type Kind uint8

// The kinds of values.
const (
	UndefinedKind Kind = iota
	NoneKind
	BoolKind
	IntKind
	FloatKind
	NumberKind
	StrKind
	ListKind
	DictKind
	SchemaKind
	FuncKind
)

// Value is one of Undefined, None, Bool, Int, Float, *Number, Str, *List,
// *Dict, *Schema and *Func. It is never nil.
type Value interface {
	Kind() Kind
}

type (
	undefined struct{}
	none      struct{}
	// Bool is a boolean.
	Bool bool
	// Int is a 64-bit integer, the only integer width the language has.
	Int int64
	// Float is a 64-bit floating point number.
	Float float64
	// Str is a string of Unicode text.
	Str string
)

// Undefined is the value of what was never set; it leaves no trace in output.
// None is the explicit null.
var (
	Undefined Value = undefined{}
	None      Value = none{}
)

// Number is an integer written with a unit, such as 1Ki: Raw is 1, Unit is
// "Ki" and Value is 1024.
type Number struct {
	Value float64
	Raw   int64
	Unit  string
}

// Kind implements Value.
func (undefined) Kind() Kind { return UndefinedKind }

// Kind implements Value.
func (none) Kind() Kind { return NoneKind }

// Kind implements Value.
func (Bool) Kind() Kind { return BoolKind }

// Kind implements Value.
func (Int) Kind() Kind { return IntKind }

// Kind implements Value.
func (Float) Kind() Kind { return FloatKind }

// Kind implements Value.
func (*Number) Kind() Kind { return NumberKind }

// Kind implements Value.
func (Str) Kind() Kind { return StrKind }

// Kind implements Value.
func (*List) Kind() Kind { return ListKind }

// Kind implements Value.
func (*Dict) Kind() Kind { return DictKind }

// Kind implements Value.
func (*Schema) Kind() Kind { return SchemaKind }

// Kind implements Value.
func (*Func) Kind() Kind { return FuncKind }

// IsUndefined reports whether v is Undefined.
func IsUndefined(v Value) bool { return v.Kind() == UndefinedKind }

// IsNull reports whether v is None or Undefined.
func IsNull(v Value) bool { return v.Kind() <= NoneKind }

// IsConfig reports whether v is a dict or a schema instance.
func IsConfig(v Value) bool { k := v.Kind(); return k == DictKind || k == SchemaKind }

// ConfigOf returns the entries of a dict or schema instance, else nil.
func ConfigOf(v Value) *Dict {
	switch v := v.(type) {
	case *Dict:
		return v
	case *Schema:
		return v.Config
	}
	return nil
}

// List is an ordered sequence. Origins is nil unless provenance is recorded.
type List struct {
	Items   []Value
	Origins []*Origin
}

// NewList makes a list of the items, which it keeps.
func NewList(items ...Value) *List { return &List{Items: items} }

// Append adds items at the end.
func (l *List) Append(items ...Value) { l.Items = append(l.Items, items...) }

// Len is the number of items.
func (l *List) Len() int { return len(l.Items) }

// Clone copies the list but not its items.
func (l *List) Clone() *List {
	c := &List{Items: append(make([]Value, 0, len(l.Items)), l.Items...)}
	if l.Origins != nil {
		c.Origins = append([]*Origin(nil), l.Origins...)
	}
	return c
}

// Origin says which place in which file gave a field its value. Earlier leads
// to what was merged with or overridden by it.
type Origin struct {
	File      string
	Line, Col int
	// Op is ":", "=", "+=" or a word such as "default" or "unify".
	Op      string
	Earlier *Origin
}

// Schema is an instance of a schema.
type Schema struct {
	// Name and PkgPath name the schema; PkgPath is "__main__" or begins with "@".
	Name, PkgPath string
	Config        *Dict
	// ConfigKeys are the keys that the user's configuration set.
	ConfigKeys []string
	Args       []Value
	Kwargs     *Dict
	// Optional tells which attributes may stay unset.
	Optional map[string]bool
	// Type is the evaluator's handle on the schema; others leave it alone.
	Type any
	// Meta is the evaluator's handle on the place of the instance.
	Meta any
}

var units = map[string]float64{
	"n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15,
	"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40, "Pi": 1 << 50,
}

// UnitValue is raw times the unit, such as 1024 for 1 and "Ki".
func UnitValue(raw int64, unit string) float64 {
	if f, ok := units[unit]; ok {
		return float64(raw) * f
	}
	return float64(raw)
}
