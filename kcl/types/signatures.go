package types

import (
	_ "embed"
	"strings"
	"sync"

	"github.com/weft-dev/weft/kcl/syntax"
)

// signatures are the types of the builtin functions, string members, members
// of system modules and decorators, a section for each.
//
//go:embed signatures.txt
var signatures string

// known is the table: section, then name; order has the names. A signature is
// parsed when it is first asked for.
type known struct {
	types map[string]map[string]func() *Type
	order map[string][]string
}

// typ is the type of a name of a section, or nil.
func (k *known) typ(section, name string) *Type {
	if t := k.types[section][name]; t != nil {
		return t()
	}
	return nil
}

var loadKnown = sync.OnceValue(func() *known {
	k := &known{types: map[string]map[string]func() *Type{}, order: map[string][]string{}}
	section := ""
	for _, line := range strings.Split(signatures, "\n") {
		switch {
		case line == "":
		case line[0] == '[':
			section = strings.Trim(line, "[]")
			k.types[section] = map[string]func() *Type{}
		default:
			end := strings.IndexAny(line, "(:")
			name := line[:end]
			k.order[section] = append(k.order[section], name)
			k.types[section][name] = sync.OnceValue(func() *Type {
				if line[end] == ':' {
					return parseType(strings.TrimSpace(line[end+1:]))
				}
				return parseSignature(line[end:])
			})
		}
	}
	return k
})

// parseSignature reads "(a: int, b?: str, ...) -> T".
func parseSignature(s string) *Type {
	depth, end := 0, 0
	for i, c := range s {
		if c == '(' || c == '[' || c == '{' {
			depth++
		} else if c == ')' || c == ']' || c == '}' {
			if depth--; depth == 0 {
				end = i
				break
			}
		}
	}
	f := &FuncType{result: parseType(strings.TrimSpace(strings.TrimPrefix(s[end+1:], " ->")))}
	for _, p := range splitParams(s[1:end]) {
		if p == "..." {
			f.variadic = true
			continue
		}
		name, typ, _ := strings.Cut(p, ": ")
		q := strings.HasSuffix(name, "?")
		f.params = append(f.params, param{name: strings.TrimSuffix(name, "?"), typ: parseType(typ), hasDef: q})
	}
	return funcOf(f)
}

func splitParams(s string) []string {
	var out []string
	depth, start := 0, 0
	for i, c := range s {
		switch c {
		case '(', '[', '{':
			depth++
		case ')', ']', '}':
			depth--
		case ',':
			if depth == 0 {
				out = append(out, strings.TrimSpace(s[start:i]))
				start = i + 1
			}
		}
	}
	if rest := strings.TrimSpace(s[start:]); rest != "" {
		out = append(out, rest)
	}
	return out
}

func parseType(s string) *Type {
	switch s {
	case "none":
		return noneT
	case "void":
		return voidT
	case "number_multiplier":
		return multiplierT
	}
	if strings.HasPrefix(s, "(") {
		return parseSignature(s)
	}
	f := syntax.Parse("", "x: "+s+" = 1\n")
	if a, ok := f.Body[0].(*syntax.AssignStmt); ok && a.Type != nil {
		return fromSyntax(a.Type)
	}
	return anyT
}

// fromSyntax makes a type of what is written, names unresolved.
func fromSyntax(t syntax.Type) *Type {
	switch t := t.(type) {
	case *syntax.BasicType:
		return map[string]*Type{"any": anyT, "bool": boolT, "int": intT, "float": floatT, "str": strT}[t.Name]
	case *syntax.NamedType:
		return named(t.Ident.String())
	case *syntax.ListType:
		return listOf(fromSyntax(t.Item))
	case *syntax.DictType:
		return dictOf(fromSyntax(t.Key), fromSyntax(t.Value))
	case *syntax.UnionType:
		ts := make([]*Type, len(t.Types))
		for i, e := range t.Types {
			ts[i] = fromSyntax(e)
		}
		return unionOf(ts)
	case *syntax.LiteralType:
		return literal(t)
	case *syntax.FuncType:
		f := &FuncType{result: fromSyntax(t.Result)}
		for _, p := range t.Params {
			f.params = append(f.params, param{typ: fromSyntax(p)})
		}
		return funcOf(f)
	}
	return anyT
}

func literal(t *syntax.LiteralType) *Type {
	switch v := t.Value.(type) {
	case bool:
		return &Type{Kind: BoolLit, Lit: v}
	case int64:
		if t.Suffix != "" {
			return &Type{Kind: Multiplier, Lit: litText(v) + t.Suffix}
		}
		return &Type{Kind: IntLit, Lit: v}
	case float64:
		return &Type{Kind: FloatLit, Lit: v}
	case string:
		return strLit(v)
	}
	return anyT
}
