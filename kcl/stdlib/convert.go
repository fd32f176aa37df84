package stdlib

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"

	"github.com/weft-dev/weft/kcl/value"
)

func toInt(c *value.Call) (value.Value, error) {
	a := read(c)
	v := a.need(0, "number", one("int"))
	base := a.get(1, "base")
	if a.err != nil {
		return nil, a.err
	}
	switch v := v.(type) {
	case value.Int:
		return v, nil
	case value.Float:
		return value.Int(saturate(float64(v))), nil
	case *value.Number:
		return numberToInt(c.Host, v)
	case value.Bool:
		if v {
			return value.Int(1), nil
		}
		return value.Int(0), nil
	case value.Str:
		radix := int64(10)
		if base != nil {
			radix = asInt(base)
		}
		return parseInt(string(v), radix)
	}
	return nil, fmt.Errorf("int() argument must be a string or a number, not '%s'", value.TypeName(v))
}

func numberToInt(h *value.Host, n *value.Number) (value.Value, error) {
	exact := big.NewInt(n.Raw)
	exact.Mul(exact, big.NewInt(int64(integerFactor(n.Unit))))
	if h != nil && h.Strict64 {
		if h.Strict32 && (!exact.IsInt64() || int64(int32(exact.Int64())) != exact.Int64()) {
			return nil, fmt.Errorf("%s: A 32 bit integer overflow", exact)
		}
		if !exact.IsInt64() {
			return nil, fmt.Errorf("%s: A 64 bit integer overflow", exact)
		}
	}
	return value.Int(saturate(n.Value)), nil
}

// integerFactor is the factor of a unit, 1 for the fractions n, u and m.
func integerFactor(unit string) float64 {
	for _, u := range units {
		if u.name == unit && u.factor > 1 {
			return u.factor
		}
	}
	return 1
}

func parseInt(s string, base int64) (value.Value, error) {
	invalid := fmt.Errorf("invalid literal for int() with base %d: '%s'", base, s)
	if base == 10 {
		n, err := quantity(s)
		if err != nil {
			return nil, invalid
		}
		return value.Int(n), nil
	}
	if base < 2 || base > 36 {
		return nil, fmt.Errorf("int() base must be in the range of 2 to 36, got %d", base)
	}
	digits, negative := strings.CutPrefix(s, "-")
	if len(digits) > 2 && digits[0] == '0' && strings.ContainsRune("xXoObB", rune(digits[1])) {
		digits = digits[2:]
	}
	if strings.Contains(digits, "_") {
		return nil, invalid
	}
	if negative {
		digits = "-" + digits
	}
	n, err := strconv.ParseInt(digits, int(base), 64)
	if err != nil {
		return nil, invalid
	}
	return value.Int(n), nil
}

// quantity reads an integer with an optional unit such as 2Ki or 3M.
func quantity(s string) (int64, error) {
	digits, base := s, int64(1000)
	if d, ok := strings.CutSuffix(s, "i"); ok {
		digits, base = d, 1024
	}
	power := 0
	if n := len(digits); n > 0 {
		power = strings.IndexByte(" kMGTP", digits[n-1])
		if digits[n-1] == 'K' {
			power = 1
		}
		if base == 1024 && (power < 1 || digits[n-1] == 'k') {
			return 0, errors.New("invalid unit")
		}
		if power > 0 {
			digits = digits[:n-1]
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || strings.Contains(digits, "_") {
		return 0, errors.New("invalid number")
	}
	for range max(power, 0) {
		if n > math.MaxInt64/base || n < math.MinInt64/base {
			return 0, errors.New("number out of range")
		}
		n *= base
	}
	return n, nil
}

func toFloat(c *value.Call) (value.Value, error) {
	a := read(c)
	v := a.need(0, "number", one("float"))
	if a.err != nil {
		return nil, a.err
	}
	f, err := floatOf(c.Host, v)
	return value.Float(f), err
}

func floatOf(h *value.Host, v value.Value) (float64, error) {
	switch v := v.(type) {
	case value.Int:
		return float64(v), nil
	case value.Float:
		return checkFloat(h, float64(v))
	case *value.Number:
		return v.Value, nil
	case value.Bool:
		if v {
			return 1, nil
		}
		return 0, nil
	case value.Str:
		if f, ok := parseFloat(string(v)); ok {
			return checkFloat(h, f)
		}
	}
	return 0, fmt.Errorf("invalid literal for float() with base 10: '%s'", value.Text(v))
}

// parseFloat reads what Rust's f64 parser reads.
func parseFloat(s string) (float64, bool) {
	if strings.ContainsAny(s, "_xXpP") {
		return 0, false
	}
	f, err := strconv.ParseFloat(s, 64)
	return f, err == nil || errors.Is(err, strconv.ErrRange)
}

func checkFloat(h *value.Host, f float64) (float64, error) {
	if h != nil && h.Strict32 && math.IsInf(float64(float32(f)), 0) {
		return 0, errors.New("inf: A 32-bit floating point number overflow")
	}
	if (h == nil || h.Strict64 || !h.Strict32) && math.IsInf(f, 0) {
		return 0, errors.New("inf: A 64-bit floating point number overflow")
	}
	return f, nil
}

func toBool(c *value.Call) (value.Value, error) {
	a := read(c)
	v := a.need(0, "x", one("bool"))
	return value.Bool(value.Truthy(v)), a.err
}

func toStr(c *value.Call) (value.Value, error) {
	v := read(c).get(0, "x")
	if v == nil {
		return value.Str(""), nil
	}
	return value.Str(value.Text(v)), nil
}

func toList(c *value.Call) (value.Value, error) {
	v := read(c).get(0, "x")
	if v == nil {
		return value.NewList(), nil
	}
	items, err := each(v)
	if err != nil {
		return nil, err
	}
	return value.NewList(append([]value.Value(nil), items...)...), nil
}

func toDict(c *value.Call) (value.Value, error) {
	d := value.NewDict(0)
	if len(c.Args) > 0 {
		if from := value.ConfigOf(c.Args[0]); from != nil {
			d = from.Clone()
		} else if err := pairs(d, c.Args[0]); err != nil {
			return nil, err
		}
	}
	if c.Kwargs != nil {
		for _, e := range c.Kwargs.Entries() {
			d.Put(e)
		}
	}
	return d, nil
}

// pairs adds the two-item sequences of v to d.
func pairs(d *value.Dict, v value.Value) error {
	items, err := each(v)
	if err != nil {
		return err
	}
	for i, item := range items {
		pair, err := each(item)
		if err != nil {
			return err
		}
		if len(pair) != 2 {
			return fmt.Errorf("dictionary update sequence element #%d has length %d; 2 is required", i, len(pair))
		}
		d.Set(value.Text(pair[0]), pair[1])
	}
	return nil
}

func typeOf(c *value.Call) (value.Value, error) {
	a := read(c)
	v := a.need(0, "x", missing("typeof", "x"))
	if a.err != nil {
		return nil, a.err
	}
	if s, ok := v.(*value.Schema); ok && a.truth(1, "full_name") {
		pkg := strings.TrimPrefix(s.PkgPath, "@")
		if pkg != "__main__" && pkg != "" {
			return value.Str(pkg + "." + s.Name), nil
		}
	}
	if v.Kind() == value.NoneKind {
		return value.Str("None"), nil
	}
	return value.Str(value.TypeName(v)), nil
}

func sum(c *value.Call) (value.Value, error) {
	a := read(c)
	l, ok := a.get(0, "iterable").(*value.List)
	if !ok {
		return value.Undefined, nil
	}
	total := a.get(1, "start")
	if total == nil {
		total = value.Int(0)
	}
	if _, ok := total.(value.Str); ok {
		return nil, errors.New("sum() can't sum strings")
	}
	for _, v := range l.Items {
		next, err := add(total, v)
		if err != nil {
			return nil, err
		}
		total = next
	}
	return total, nil
}

// add is the operator + as far as sum needs it: numbers and lists.
func add(x, y value.Value) (value.Value, error) {
	switch x := x.(type) {
	case value.Int:
		switch y := y.(type) {
		case value.Int:
			if s := x + y; (s > x) == (y > 0) {
				return s, nil
			}
			return nil, fmt.Errorf("%s: A 64 bit integer overflow", new(big.Int).Add(big.NewInt(int64(x)), big.NewInt(int64(y))))
		case value.Float:
			return value.Float(x) + y, nil
		}
	case value.Float:
		switch y := y.(type) {
		case value.Int:
			return x + value.Float(y), nil
		case value.Float:
			return x + y, nil
		}
	case *value.List:
		if y, ok := y.(*value.List); ok {
			l := x.Clone()
			l.Append(y.Items...)
			return l, nil
		}
	}
	return nil, fmt.Errorf("unsupported operand type(s) for +: '%s' and '%s'", value.TypeName(x), value.TypeName(y))
}

func pow(c *value.Call) (value.Value, error) {
	a := read(c)
	x, y, z := a.get(0, "x"), a.get(1, "y"), a.get(2, "z")
	if x == nil || y == nil {
		return value.Undefined, nil
	}
	m, hasModulus := z.(value.Int)
	base, int1 := x.(value.Int)
	exp, int2 := y.(value.Int)
	if hasModulus {
		switch {
		case m == 0:
			return nil, errors.New("pow() 3rd argument cannot be 0")
		case !int1 || !int2:
			return nil, errors.New("pow() 3rd argument not allowed unless all arguments are integers")
		case exp < 0:
			return nil, errors.New("pow() 2nd argument cannot be negative when 3rd argument specified")
		}
		return modPow(int64(base), int64(exp), int64(m)), nil
	}
	f, ok1 := toNumber(x)
	g, ok2 := toNumber(y)
	if !ok1 || !ok2 {
		return value.Undefined, nil
	}
	p := math.Pow(f, g)
	if int1 && int2 && exp >= 0 {
		return value.Int(saturate(p)), nil
	}
	return value.Float(p), nil
}

// modPow is base to the power exp modulo m, with the sign rules of Rust's %.
func modPow(base, exp, m int64) value.Value {
	if exp == 0 {
		return value.Int(1)
	}
	mod := big.NewInt(m)
	ans, b := big.NewInt(1), big.NewInt(base)
	for ; exp > 0; exp /= 2 {
		if exp%2 == 1 {
			ans.Mul(ans, b)
			ans.Rem(ans, mod)
		}
		b.Mul(b, b)
		b.Rem(b, mod)
	}
	return value.Int(ans.Int64())
}

func toNumber(v value.Value) (float64, bool) {
	switch v := v.(type) {
	case value.Int:
		return float64(v), true
	case value.Float:
		return float64(v), true
	}
	return 0, false
}

func round(c *value.Call) (value.Value, error) {
	a := read(c)
	v, digits := a.get(0, "number"), a.get(1, "ndigits")
	n, hasDigits := digits.(value.Int)
	switch v := v.(type) {
	case value.Int:
		if hasDigits {
			return value.Float(v), nil
		}
		return v, nil
	case value.Float:
		if hasDigits {
			return roundTo(float64(v), int64(n)), nil
		}
		return value.Int(saturate(math.Round(float64(v)))), nil
	}
	return value.Undefined, nil
}

// roundTo rounds to n decimal digits as CPython does.
func roundTo(x float64, n int64) value.Value {
	if n == 0 {
		return value.Float(math.Round(x))
	}
	pow1, pow2 := math.Pow(10, float64(max(n, -n))), 1.0
	if n > 22 {
		pow1, pow2 = math.Pow(10, float64(n-22)), 1e22
	}
	y := x / pow1
	if n > 0 {
		if y = x * pow1 * pow2; math.IsInf(y, 0) || math.IsNaN(y) {
			return value.Float(x)
		}
	}
	z := math.Round(y)
	if math.Abs(y-z) == 0.5 {
		z = 2 * math.Round(y/2)
	}
	if n > 0 {
		z = z / pow2 / pow1
	} else {
		z *= pow1
	}
	if math.IsInf(z, 0) || math.IsNaN(z) {
		return value.Undefined
	}
	return value.Float(z)
}
