package types

import (
	"github.com/weft-dev/weft/kcl/diag"
	"github.com/weft-dev/weft/kcl/syntax"
)

func (c *checker) mustBe(x syntax.Expr, t *Type) {
	c.mustAssign(c.expr(x), t, c.place(x), place{})
}

// mustAssign reports a value that does not fit. def is where the type was
// declared, if that is known.
func (c *checker) mustAssign(t, expected *Type, at, def place) {
	c.attrMustAssign(t, expected, at, def, nil)
}

func (c *checker) attrMustAssign(t, expected *Type, at, def place, attrAt *place) {
	if c.fits(t, expected, at, 0) {
		return
	}
	msgs := []diag.Message{message(at, "expected "+expected.String()+", got "+t.String())}
	if def.file != nil {
		msgs = append(msgs, message(def, "variable is defined here, its type is "+expected.String()+", but got "+t.String()))
	}
	if attrAt != nil {
		msgs = append(msgs, message(*attrAt, "config attribute is defined here"))
	}
	c.report(diag.TypeError, msgs...)
}

// fits reports whether t may be assigned to expected. Attributes of a dict
// that do not fit a schema are reported on their own.
func (c *checker) fits(t, expected *Type, at place, depth int) bool {
	if depth > 200 {
		return true
	}
	switch {
	case t.Kind == List && expected.Kind == List:
		return c.fits(t.Elem, expected.Elem, at, depth+1)
	case t.Kind == Dict && expected.Kind == Dict:
		return c.fits(t.Key, expected.Key, at, depth+1) && c.fits(t.Elem, expected.Elem, at, depth+1)
	case t.Kind == Dict && expected.Kind == Schema:
		return c.dictFits(t, expected.Schema, at, depth)
	case t.Kind == Union:
		return all(t.Types, func(e *Type) bool { return c.fits(e, expected, at, depth+1) })
	case expected.Kind == Union:
		for _, e := range expected.Types {
			if c.fits(t, e, at, depth+1) {
				return true
			}
		}
		return false
	}
	return assignable(t, expected)
}

func (c *checker) dictFits(t *Type, s *SchemaType, at place, depth int) bool {
	if s.parts().index == nil {
		if t.Key.Kind == StrLit {
			name := t.Key.Lit.(string)
			if a, d := s.parts().attrs.get(name), t.Attrs.get(name); a != nil && d != nil {
				c.mustAssign(d.typ, a.typ, at, a.at)
			}
		}
		return true
	}
	if t.Attrs.len() == 0 {
		val := t.Elem
		if t.Key.Kind == Union && val.Kind == Union {
			var ts []*Type
			for i, k := range t.Key.Types {
				if k.Kind == StrLit && s.parts().attrs.get(k.Lit.(string)) == nil && i < len(val.Types) {
					ts = append(ts, val.Types[i])
				}
			}
			val = sup(ts...)
		}
		if !c.fits(val, s.parts().index.val, at, depth+1) {
			c.typeError(at, "expected schema index signature value type "+s.parts().index.val.String()+", got "+val.String())
		}
		return true
	}
	for _, name := range t.Attrs.names {
		d := t.Attrs.byKey[name]
		a := s.parts().attrs.get(name)
		if s.parts().index.anyOther && a != nil {
			c.mustAssign(d.typ, a.typ, at, a.at)
			continue
		}
		c.mustAssign(d.typ, s.parts().index.val, d.at, place{})
	}
	return true
}

func numberResult(a, b *Type) *Type {
	if a.isFloat() || b.isFloat() {
		return floatT
	}
	return intT
}

func isZero(t *Type) bool {
	return t.Kind == IntLit && t.Lit == int64(0) || t.Kind == FloatLit && t.Lit == float64(0) || t.Kind == BoolLit && t.Lit == false
}

func repeatable(t *Type) bool { return t.isNumber() || t.isStr() || t.Kind == List }

// binaryTypes is the type of an operator's result.
func (c *checker) binaryTypes(left, right *Type, op string, at place) *Type {
	a, b := widenUnion(left), widenUnion(right)
	if a.isAny() || b.isAny() {
		return anyT
	}
	if t := c.operate(a, b, op, at); t != nil {
		return t
	}
	c.typeError(at, "unsupported operand type(s) for "+op+": '"+left.String()+"' and '"+right.String()+"'")
	return anyT
}

// operate gives nil when the operator has no meaning for the types.
func (c *checker) operate(a, b *Type, op string, at place) *Type {
	numbers := a.isNumber() && b.isNumber()
	switch op {
	case "and":
		return boolT
	case "or":
		return sup(a, b)
	case "as":
		if !upperBound(widen(a), b) {
			c.typeError(at, "Conversion of type '"+a.full()+"' to type '"+b.full()+"' may be a mistake because neither type sufficiently overlaps with the other")
		}
		return b
	case "|":
		return c.unionOperator(a, b)
	case "<<", ">>", "^", "&":
		if a.isInt() && b.isInt() {
			return intT
		}
		return nil
	case "+":
		switch {
		case a.isStr() && b.isStr():
			return strT
		case a.Kind == List && b.Kind == List:
			return listOf(sup(a.Elem, b.Elem))
		}
	case "*":
		switch {
		case numbers:
		case a.isInt() && b.each(repeatable):
			return b
		case b.isInt() && a.each(repeatable):
			return a
		}
	case "/", "//", "%":
		if numbers && isZero(b) {
			c.typeError(at, "integer division or modulo by zero")
		}
		if numbers && op == "%" {
			return intT
		}
	}
	if numbers {
		return numberResult(a, b)
	}
	return nil
}

func (c *checker) unionOperator(a, b *Type) *Type {
	switch {
	case a.isInt() && b.isInt():
		return intT
	case a.isNone():
		return b
	case b.isNone():
		return a
	case a.Kind == List && b.Kind == List:
		return listOf(sup(a.Elem, b.Elem))
	case a.Kind == Dict && b.Kind == Dict:
		merged := newAttrs()
		for _, list := range []*attrs{a.Attrs, b.Attrs} {
			if list == nil {
				continue
			}
			for _, n := range list.names {
				merged.set(n, list.byKey[n])
			}
		}
		return &Type{Kind: Dict, Key: sup(a.Key, b.Key), Elem: sup(a.Elem, b.Elem), Attrs: merged}
	case a.Kind == Schema && b.isConfig():
		return a
	}
	return nil
}

func (c *checker) unary(t *Type, op string, at place) *Type {
	if t.isAny() {
		return anyT
	}
	v := widenUnion(t)
	ok := op == "not"
	switch op {
	case "+", "-":
		ok = v.isNumber()
	case "~":
		ok = v.isInt() || v.isBool()
	}
	if !ok {
		c.typeError(at, "bad operand type for unary "+op+": '"+t.String()+"'")
		return anyT
	}
	return v
}

func (c *checker) compareTypes(left, right *Type, op string, at place) {
	a, b := widenUnion(left), widenUnion(right)
	number := func(t *Type) bool { return t.isNumber() || t.isBool() }
	basic := func(t *Type) bool { return number(t) || t.isStr() }
	in := op == "in" || op == "not in"
	equality := op == "==" || op == "!="
	switch {
	case a.isAny() || b.isAny(),
		!in && a.each(number) && b.each(number),
		equality && (a.Kind == List && b.Kind == List || a.isConfig() && b.isConfig() || a.each(basic) && b.each(basic)),
		in && b.isIterable(),
		(a.isNone() || b.isNone()) && (equality || op == "is" || op == "is not" || op == "not"):
		return
	}
	c.typeError(at, "unsupported operand type(s) for "+op+": '"+a.String()+"' and '"+b.String()+"'")
}
