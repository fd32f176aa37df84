package eval

import (
	"fmt"
	"math"
	"math/big"
	"strings"

	"github.com/weft-dev/weft/kcl/value"
)

type operator uint8

const (
	opAdd operator = iota
	opSub
	opMul
	opDiv
	opMod
	opPow
	opFloorDiv
	opShl
	opShr
	opXor
	opAnd
	opOr
)

var operatorText = [...]string{"+", "-", "*", "/", "%", "**", "//", "<<", ">>", "^", "&", "|"}

func operatorOf(s string) operator {
	for i, t := range operatorText {
		if t == s {
			return operator(i)
		}
	}
	return opAdd
}

func (m *machine) unsupported(op operator, a, b value.Value) value.Value {
	m.fail("unsupported operand type(s) for %s: '%s' and '%s'", operatorText[op], value.TypeName(a), value.TypeName(b))
	return nil
}

func (m *machine) binary(op operator, a, b value.Value) value.Value {
	if op == opOr {
		return m.bitOr(a, b)
	}
	switch x := a.(type) {
	case value.Int:
		switch y := b.(type) {
		case value.Int:
			return m.intOp(op, int64(x), int64(y))
		case value.Float:
			return m.floatOp(op, float64(x), float64(y), a, b)
		case value.Str, *value.List:
			if op == opMul {
				return m.repeat(b, int64(x))
			}
		}
	case value.Float:
		switch y := b.(type) {
		case value.Int:
			return m.floatOp(op, float64(x), float64(y), a, b)
		case value.Float:
			return m.floatOp(op, float64(x), float64(y), a, b)
		}
	case value.Str:
		switch y := b.(type) {
		case value.Str:
			if op == opAdd {
				m.grow(len(x) + len(y))
				return x + y
			}
		case value.Int:
			if op == opMul {
				return m.repeat(a, int64(y))
			}
		}
	case *value.List:
		if op == opAdd {
			return m.concat(x, b)
		}
		if y, ok := b.(value.Int); ok && op == opMul {
			return m.repeat(a, int64(y))
		}
	}
	return m.unsupported(op, a, b)
}

func (m *machine) concat(x *value.List, b value.Value) value.Value {
	y, ok := b.(*value.List)
	if !ok {
		m.fail("can only concatenate list (not \"%s\") to list", value.TypeName(b))
	}
	m.grow(16 * (len(x.Items) + len(y.Items)))
	l := &value.List{Items: make([]value.Value, 0, len(x.Items)+len(y.Items))}
	l.Items = append(append(l.Items, x.Items...), y.Items...)
	if m.trace && (x.Origins != nil || y.Origins != nil) {
		l.Origins = append(padOrigins(x), padOrigins(y)...)
	}
	return l
}

func padOrigins(l *value.List) []*value.Origin {
	out := make([]*value.Origin, len(l.Items))
	copy(out, l.Origins)
	return out
}

func (m *machine) repeat(v value.Value, n int64) value.Value {
	n = max(n, 0)
	switch v := v.(type) {
	case value.Str:
		m.growTimes(len(v), n)
		return value.Str(strings.Repeat(string(v), int(n)))
	case *value.List:
		m.growTimes(16*len(v.Items), n)
		l := &value.List{}
		if len(v.Items) > 0 {
			for ; n > 0; n-- {
				l.Items = append(l.Items, v.Items...)
			}
		}
		return l
	}
	return v
}

// growTimes accounts for n things of a size.
func (m *machine) growTimes(size int, n int64) {
	if size > 0 && n > (m.maxBytes-m.bytes)/int64(size) {
		m.exceed("evaluation makes more than %d bytes of values", m.maxBytes)
	}
	m.grow(size * int(n))
}

// intOp computes with integers and refuses what does not fit.
func (m *machine) intOp(op operator, a, b int64) value.Value {
	var r int64
	ok := true
	switch op {
	case opAdd:
		r = a + b
		ok = (r > a) == (b > 0)
	case opSub:
		r = a - b
		ok = (r < a) == (b > 0)
	case opMul:
		r = a * b
		ok = a == 0 || r/a == b && !(a == -1 && b == math.MinInt64)
	case opPow:
		return m.intPow(a, b)
	case opShl:
		if b < 0 || b > 63 {
			m.overflow(op, a, b)
		}
		r = a << uint(b)
	case opShr:
		if b < 0 || b > 63 {
			m.overflow(op, a, b)
		}
		r = a >> uint(b)
	case opXor:
		r = a ^ b
	case opAnd:
		r = a & b
	case opDiv:
		return value.Float(float64(a) / float64(b))
	default:
		return m.intDivide(op, a, b)
	}
	if !ok || m.host.Strict32 && op <= opMul && (r != int64(int32(r)) || a != int64(int32(a)) || b != int64(int32(b))) {
		m.overflow(op, a, b)
	}
	return value.Int(r)
}

func (m *machine) intDivide(op operator, a, b int64) value.Value {
	if b == 0 {
		if op == opMod {
			m.fail("attempt to calculate the remainder with a divisor of zero")
		}
		m.fail("attempt to divide by zero")
	}
	if b == -1 {
		if op == opMod {
			return value.Int(0)
		}
		if a == math.MinInt64 {
			m.overflow(op, a, b)
		}
		return value.Int(-a)
	}
	q, r := a/b, a%b
	if r != 0 && (a < 0) != (b < 0) {
		q--
		r += b
	}
	if op == opMod {
		return value.Int(r)
	}
	return value.Int(q)
}

func (m *machine) intPow(a, b int64) value.Value {
	if b < 0 {
		m.fail("attempt to raise an integer to the negative power %d", b)
	}
	r := int64(1)
	base := a
	for n := b; n > 0; n >>= 1 {
		if n&1 == 1 {
			hi := r * base
			if base != 0 && (hi/base != r) {
				m.overflow(opPow, a, b)
			}
			r = hi
		}
		if n > 1 {
			sq := base * base
			if base != 0 && (sq/base != base) {
				m.overflow(opPow, a, b)
			}
			base = sq
		}
	}
	if m.host.Strict32 && r != int64(int32(r)) {
		m.overflow(opPow, a, b)
	}
	return value.Int(r)
}

func (m *machine) overflow(op operator, a, b int64) {
	x, y := big.NewInt(a), big.NewInt(b)
	r := new(big.Int)
	switch op {
	case opAdd:
		r.Add(x, y)
	case opSub:
		r.Sub(x, y)
	case opMul:
		r.Mul(x, y)
	case opPow:
		if b > 4096 {
			m.fail("%d ** %d: A 64 bit integer overflow", a, b)
		}
		r.Exp(x, y, nil)
	case opShl, opShr:
		m.fail("%d %s %d: A 64 bit integer overflow", a, operatorText[op], b)
	default:
		r.Neg(x)
	}
	width := 64
	if m.host.Strict32 || op == opSub && !m.host.Strict32 {
		width = 32
	}
	m.fail("%s: A %d bit integer overflow", r, width)
}

func (m *machine) floatOp(op operator, a, b float64, x, y value.Value) value.Value {
	var r float64
	switch op {
	case opAdd:
		r = a + b
	case opSub:
		r = a - b
	case opMul:
		r = a * b
	case opDiv:
		r = a / b
	case opMod:
		r = math.Mod(a, b)
	case opPow:
		r = math.Pow(a, b)
	case opFloorDiv:
		r = math.Floor(a / b)
	default:
		return m.unsupported(op, x, y)
	}
	mixedAdd := op == opAdd && x.Kind() != y.Kind()
	if (m.host.Strict32 || mixedAdd) && (op <= opMul || op == opPow) && tooBig32(r, a, b) {
		s := fmt.Sprintf("%e", r)
		m.fail("%s: A 32-bit floating point number overflow", rustExponent(s, r))
	}
	return value.Float(r)
}

func tooBig32(vs ...float64) bool {
	for _, v := range vs {
		if math.Abs(v) > math.MaxFloat32 {
			return true
		}
	}
	return false
}

// rustExponent writes a float as 1.5e+300.
func rustExponent(_ string, r float64) string {
	s := fmt.Sprintf("%v", r)
	if i := strings.IndexByte(s, 'e'); i >= 0 {
		return s
	}
	exp := int(math.Floor(math.Log10(math.Abs(r))))
	return fmt.Sprintf("%ve+%d", r/math.Pow(10, float64(exp)), exp)
}

func (m *machine) unary(op string, v value.Value) value.Value {
	switch op {
	case "not":
		return value.Bool(!value.Truthy(v))
	case "~":
		return value.Int(^asInt(v))
	case "+":
		switch v.(type) {
		case value.Int, value.Float:
			return v
		}
	default:
		switch v := v.(type) {
		case value.Int:
			return -v
		case value.Float:
			return 0 - v
		}
	}
	m.fail("bad operand type for unary %s: '%s'", op, value.TypeName(v))
	return nil
}

func asInt(v value.Value) int64 {
	switch v := v.(type) {
	case value.Int:
		return int64(v)
	case value.Float:
		return int64(v)
	case *value.Number:
		return int64(v.Value)
	}
	return 0
}

func (m *machine) compare(op string, a, b value.Value) bool {
	switch op {
	case "==":
		return value.Equal(a, b)
	case "!=":
		return !value.Equal(a, b)
	case "is":
		return value.Equal(a, b)
	case "is not", "not":
		return !value.Equal(a, b)
	case "in":
		return m.contains(a, b)
	case "not in":
		return !m.contains(a, b)
	}
	r, err := value.Compare(a, op, b)
	m.check(err)
	return r
}

func (m *machine) contains(item, in value.Value) bool {
	switch in := in.(type) {
	case value.Str:
		s, ok := item.(value.Str)
		return ok && strings.Contains(string(in), string(s))
	case *value.List:
		for _, v := range in.Items {
			if value.Equal(item, v) {
				return true
			}
		}
		return false
	case *value.Dict, *value.Schema:
		s, _ := item.(value.Str)
		return value.ConfigOf(in).Has(string(s))
	}
	m.fail("TypeError: argument of type '%s' is not iterable", value.TypeName(in))
	return false
}
