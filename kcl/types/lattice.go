package types

// subsume reports whether every value of a is one of b. any stands for
// everything on the right and, if leftAny, on the left too.
func subsume(a, b *Type, leftAny bool) bool {
	if a == b {
		return true
	}
	switch {
	case leftAny && a.isAny(), b.isAny(), a.isNone():
		return true
	case a.Kind == Union:
		return all(a.Types, func(t *Type) bool { return subsume(t, b, false) })
	case b.Kind == Union:
		for _, t := range b.Types {
			if subsume(a, t, false) {
				return true
			}
		}
		return false
	case a.Kind == Schema:
		return b.Kind == Schema && a.Schema.subOf(b.Schema)
	case a.isInt() && b.isFloat():
		return true
	case a.Kind == Multiplier && b.Kind == Multiplier:
		return b.Lit == nil || a.Lit == b.Lit
	case a.isPrimitive() && b.isPrimitive():
		return a.Kind == b.Kind
	case a.isLiteral():
		if b.isLiteral() {
			return a.Kind == b.Kind && a.Lit == b.Lit
		}
		return b.isPrimitive() && (b.Kind == Float && !a.isStr() || kindNames[a.Kind] == kindNames[b.Kind])
	case a.Kind == List && b.Kind == List:
		return subsume(a.Elem, b.Elem, leftAny)
	case a.Kind == Dict && b.Kind == Dict:
		return subsume(a.Key, b.Key, leftAny) && subsume(a.Elem, b.Elem, leftAny)
	case a.Kind == Str && b.Kind == StrLit:
		return true
	case a.Kind == Func && b.Kind == Func:
		return subsumeFunc(a.Func, b.Func, leftAny)
	}
	return equal(a, b)
}

func subsumeFunc(a, b *FuncType, leftAny bool) bool {
	if len(a.params) != len(b.params) {
		return false
	}
	for i := range a.params {
		if !subsume(b.params[i].typ, a.params[i].typ, leftAny) {
			return false
		}
	}
	return subsume(a.result, b.result, leftAny)
}

// equal compares types by structure.
func equal(a, b *Type) bool {
	if a == b {
		return true
	}
	if a.Kind != b.Kind || a.Lit != b.Lit || a.Schema != b.Schema || a.Instance != b.Instance ||
		a.Module != b.Module || a.Name != b.Name || len(a.Types) != len(b.Types) || a.Attrs.len() != b.Attrs.len() {
		return false
	}
	if a.Elem != nil && !equal(a.Elem, b.Elem) || a.Key != nil && !equal(a.Key, b.Key) {
		return false
	}
	for i := range a.Types {
		if !equal(a.Types[i], b.Types[i]) {
			return false
		}
	}
	if a.Attrs != nil {
		for _, n := range a.Attrs.names {
			o := b.Attrs.get(n)
			if o == nil || !equal(a.Attrs.byKey[n].typ, o.typ) {
				return false
			}
		}
	}
	return a.Kind != Func || equalFunc(a.Func, b.Func)
}

func equalFunc(a, b *FuncType) bool {
	if len(a.params) != len(b.params) || a.variadic != b.variadic || !equal(a.result, b.result) {
		return false
	}
	for i := range a.params {
		if a.params[i].name != b.params[i].name || !equal(a.params[i].typ, b.params[i].typ) {
			return false
		}
	}
	return true
}

// upperBound reports whether a holds all values of b.
func upperBound(a, b *Type) bool { return subsume(b, a, false) }

func assignable(t, to *Type) bool { return t.isAssignable() && subsume(t, to, true) }

// maxUnion bounds the pairwise comparison of union members.
const maxUnion = 200

// sup is the least type that holds all values of the types.
func sup(types ...*Type) *Type {
	var set []*Type
	seen := map[*Type]bool{}
	var add func(*Type)
	add = func(t *Type) {
		if t.Kind == Union {
			for _, e := range t.Types {
				add(e)
			}
			return
		}
		if t.Kind != Void && !seen[t] {
			seen[t] = true
			set = append(set, t)
		}
	}
	for _, t := range types {
		add(t)
	}
	set = dropRepeated(set)
	if len(set) <= maxUnion {
		set = dropSubtypes(set)
	}
	switch len(set) {
	case 0:
		return anyT
	case 1:
		return set[0]
	}
	return unionOf(set)
}

// dropRepeated removes equal literals cheaply before the pairwise comparison.
func dropRepeated(set []*Type) []*Type {
	if len(set) < 8 {
		return set
	}
	type key struct {
		kind Kind
		lit  any
	}
	known := map[key]bool{}
	out := set[:0:0]
	for _, t := range set {
		if t.isLiteral() || t.isPrimitive() {
			k := key{t.Kind, t.Lit}
			if known[k] {
				continue
			}
			known[k] = true
		}
		out = append(out, t)
	}
	return out
}

func dropSubtypes(set []*Type) []*Type {
	gone := make([]bool, len(set))
	any := false
	for i, a := range set {
		if gone[i] {
			continue
		}
		for j := i + 1; j < len(set); j++ {
			if gone[j] {
				continue
			}
			b := set[j]
			if equal(a, b) {
				gone[j], any = true, true
				continue
			}
			if subsume(a, b, false) {
				gone[i], any = true, true
				break
			}
			if subsume(b, a, false) {
				gone[j], any = true, true
			}
		}
	}
	if !any {
		return set
	}
	return swapOut(set, gone)
}

// swapOut removes entries as an index map does: the last takes the place.
func swapOut(set []*Type, gone []bool) []*Type {
	out := append([]*Type(nil), set...)
	drop := map[*Type]bool{}
	for i, g := range gone {
		if g {
			drop[set[i]] = true
		}
	}
	for i := 0; i < len(out); {
		if drop[out[i]] {
			out[i] = out[len(out)-1]
			out = out[:len(out)-1]
			continue
		}
		i++
	}
	return out
}

// widen turns literal types into those of their variables.
func widen(t *Type) *Type {
	switch t.Kind {
	case None:
		return anyT
	case BoolLit:
		return boolT
	case IntLit:
		return intT
	case FloatLit:
		return floatT
	case StrLit:
		return strT
	case List:
		if e := widen(t.Elem); e != t.Elem {
			return listOf(e)
		}
	case Dict:
		k, v := widen(t.Key), widen(t.Elem)
		if k != t.Key || v != t.Elem {
			return &Type{Kind: Dict, Key: k, Elem: v, Attrs: t.Attrs}
		}
	case Union:
		ts := make([]*Type, len(t.Types))
		for i, e := range t.Types {
			ts[i] = widen(e)
		}
		return sup(ts...)
	}
	return t
}

// widenUnion widens unions only.
func widenUnion(t *Type) *Type {
	if t.Kind == Union {
		return widen(t)
	}
	return t
}
