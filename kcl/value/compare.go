package value

import (
	"cmp"
	"fmt"
)

// Truthy is the value of v in a condition.
func Truthy(v Value) bool {
	switch v := v.(type) {
	case Bool:
		return bool(v)
	case Int:
		return v != 0
	case Float:
		return v != 0
	case *Number:
		return v.Value != 0
	case Str:
		return v != ""
	case *List:
		return len(v.Items) > 0
	case *Dict:
		return v.Len() > 0
	case *Schema:
		return v.Config.Len() > 0
	case *Func:
		return true
	}
	return false
}

// Equal is the operator ==. Integers and floats compare by value; values of
// other different kinds are unequal, and numbers with a unit equal nothing.
func Equal(a, b Value) bool {
	switch a := a.(type) {
	case Int:
		switch b := b.(type) {
		case Int:
			return a == b
		case Float:
			return Float(a) == b
		}
		return false
	case Float:
		switch b := b.(type) {
		case Int:
			return a == Float(b)
		case Float:
			return a == b
		}
		return false
	case Bool:
		b, ok := b.(Bool)
		return ok && a == b
	case Str:
		b, ok := b.(Str)
		return ok && a == b
	case *List:
		b, ok := b.(*List)
		if !ok || len(a.Items) != len(b.Items) {
			return false
		}
		if a == b {
			return true
		}
		for i := range a.Items {
			if !Equal(a.Items[i], b.Items[i]) {
				return false
			}
		}
		return true
	case *Dict:
		b, ok := b.(*Dict)
		return ok && equalConfig(a, b)
	case *Schema:
		b, ok := b.(*Schema)
		return ok && equalConfig(a.Config, b.Config)
	case *Func:
		b, ok := b.(*Func)
		return ok && a == b
	case *Number:
		return false
	}
	return a.Kind() == b.Kind()
}

func equalConfig(a, b *Dict) bool {
	if a.Len() != b.Len() {
		return false
	}
	for i := range a.entries {
		v, ok := b.Get(a.entries[i].Key)
		if !ok || !Equal(a.entries[i].Value, v) {
			return false
		}
	}
	return true
}

// Compare is the operator op, one of <, <=, > and >=. Numbers and booleans
// compare by value, strings and lists lexicographically.
func Compare(a Value, op string, b Value) (bool, error) {
	if x, ok := a.(*List); ok {
		if y, ok := b.(*List); ok {
			for i := 0; i < len(x.Items) && i < len(y.Items); i++ {
				if !Equal(x.Items[i], y.Items[i]) {
					return Compare(x.Items[i], op, y.Items[i])
				}
			}
			return holds(cmp.Compare(len(x.Items), len(y.Items)), op), nil
		}
	}
	if x, ok := a.(Str); ok {
		if y, ok := b.(Str); ok {
			return holds(cmp.Compare(x, y), op), nil
		}
	}
	if x, y, ok := integers(a, b); ok {
		return holds(cmp.Compare(x, y), op), nil
	}
	if x, ok := number(a); ok {
		if y, ok := number(b); ok {
			switch op {
			case "<":
				return x < y, nil
			case "<=":
				return x <= y, nil
			case ">":
				return x > y, nil
			}
			return x >= y, nil
		}
	}
	return false, fmt.Errorf("'%s' not supported between instances of '%s' and '%s'", op, TypeName(a), TypeName(b))
}

func holds(order int, op string) bool {
	switch op {
	case "<":
		return order < 0
	case "<=":
		return order <= 0
	case ">":
		return order > 0
	}
	return order >= 0
}

func integers(a, b Value) (x, y int64, ok bool) {
	x, ok = integer(a)
	if !ok {
		return
	}
	y, ok = integer(b)
	return
}

func integer(v Value) (int64, bool) {
	switch v := v.(type) {
	case Int:
		return int64(v), true
	case Bool:
		if v {
			return 1, true
		}
		return 0, true
	}
	return 0, false
}

func number(v Value) (float64, bool) {
	if f, ok := v.(Float); ok {
		return float64(f), true
	}
	i, ok := integer(v)
	return float64(i), ok
}
