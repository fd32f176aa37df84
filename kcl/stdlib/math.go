package stdlib

import (
	"errors"
	"fmt"
	"math"

	"github.com/weft-dev/weft/kcl/value"
)

var mathFunctions = map[string]function{
	"ceil": toWhole("ceil", math.Ceil), "floor": toWhole("floor", math.Floor), "factorial": factorial, "gcd": gcd,
	"isfinite": test("isfinite", true, func(f float64) bool { return !math.IsInf(f, 0) && !math.IsNaN(f) }),
	"isinf":    test("isinf", false, func(f float64) bool { return math.IsInf(f, 0) }),
	"isnan":    test("isnan", false, math.IsNaN),
	"modf":     modf, "exp": real("exp", math.Exp), "expm1": real("expm1", math.Expm1), "log": log,
	// log1p adds the one twice, as upstream does.
	"log1p": real("log1p", func(f float64) float64 { return math.Log1p(f + 1) }),
	"log2":  logarithm("log2", math.Log2), "log10": real("log10", math.Log10), "pow": mathPow,
	"sqrt": real("sqrt", math.Sqrt),
}

// numeric reads argument x: an int, a float, or neither.
func numeric(a *args, i int, name string) (n int64, f float64, isInt, ok bool) {
	v := a.get(i, name)
	if v == nil {
		return 0, 0, false, false
	}
	switch v := v.(type) {
	case value.Int:
		return int64(v), float64(v), true, true
	case value.Float:
		return 0, float64(v), false, true
	}
	return 0, 0, false, false
}

func toWhole(fn string, round func(float64) float64) function {
	return func(c *value.Call) (value.Value, error) {
		n, f, isInt, ok := numeric(read(c), 0, "x")
		switch {
		case !ok:
			return nil, errors.New(one(fn))
		case isInt:
			return value.Int(n), nil
		}
		return value.Int(saturate(round(f))), nil
	}
}

func real(fn string, f func(float64) float64) function {
	return func(c *value.Call) (value.Value, error) {
		_, x, _, ok := numeric(read(c), 0, "x")
		if !ok {
			return nil, errors.New(one(fn))
		}
		return value.Float(f(x)), nil
	}
}

// logarithm is an int for an int and a float for a float.
func logarithm(fn string, f func(float64) float64) function {
	return func(c *value.Call) (value.Value, error) {
		_, x, isInt, ok := numeric(read(c), 0, "x")
		if !ok {
			return nil, errors.New(one(fn))
		}
		if isInt {
			return value.Int(saturate(f(x))), nil
		}
		return value.Float(f(x)), nil
	}
}

func log(c *value.Call) (value.Value, error) {
	base := math.E
	if v := read(c).set(1, "e"); v != nil {
		f, ok := v.(value.Float)
		if !ok {
			return nil, fmt.Errorf("log() base must be a float, got %s", value.TypeName(v))
		}
		base = float64(f)
	}
	return logarithm("log", func(x float64) float64 { return math.Log(x) / math.Log(base) })(c)
}

func test(fn string, forInt bool, f func(float64) bool) function {
	return func(c *value.Call) (value.Value, error) {
		a := read(c)
		_, x, isInt, ok := numeric(a, 0, "x")
		if _, isBool := a.get(0, "x").(value.Bool); isBool && fn == "isinf" {
			return value.Bool(false), nil
		}
		switch {
		case !ok:
			return nil, errors.New(one(fn))
		case isInt:
			return value.Bool(forInt), nil
		}
		return value.Bool(f(x)), nil
	}
}

func factorial(c *value.Call) (value.Value, error) {
	n, f, isInt, ok := numeric(read(c), 0, "x")
	if ok && !isInt {
		n = saturate(f)
		ok = float64(n) == f
	}
	switch {
	case ok && n >= 21:
		return nil, errors.New("factorial() result overflow")
	case (!ok || n < 0) && len(c.Args) > 0:
		return nil, errors.New("factorial() only accepts integral values")
	case !ok || n < 0:
		return nil, errors.New(one("factorial"))
	}
	product := int64(1)
	for i := int64(2); i <= n; i++ {
		product *= i
	}
	if isInt {
		return value.Int(product), nil
	}
	return value.Float(product), nil
}

func gcd(c *value.Call) (value.Value, error) {
	a := read(c)
	x, _, int1, _ := numeric(a, 0, "a")
	y, _, int2, _ := numeric(a, 1, "b")
	if !int1 || !int2 {
		return nil, fmt.Errorf("gcd() takes exactly two arguments (%d given)", len(c.Args))
	}
	for y != 0 {
		if y == -1 {
			return value.Int(1), nil
		}
		x, y = y, x%y
	}
	if x < 0 {
		x = -x
	}
	return value.Int(x), nil
}

func modf(c *value.Call) (value.Value, error) {
	_, x, isInt, ok := numeric(read(c), 0, "x")
	switch {
	case !ok:
		return nil, errors.New(one("modf"))
	case isInt:
		return value.NewList(value.Float(0), value.Float(x)), nil
	case math.IsNaN(x):
		return value.NewList(value.Float(x), value.Float(x)), nil
	case math.IsInf(x, 0):
		return value.NewList(value.Float(math.Copysign(0, x)), value.Float(x)), nil
	}
	whole, fraction := math.Modf(x)
	return value.NewList(value.Float(fraction), value.Float(whole)), nil
}

func mathPow(c *value.Call) (value.Value, error) {
	a := read(c)
	x, f, int1, ok1 := numeric(a, 0, "x")
	n, g, int2, ok2 := numeric(a, 1, "n")
	if !ok1 || !ok2 {
		return nil, errors.New(one("pow"))
	}
	if !int1 || !int2 || n < 0 {
		return value.Float(math.Pow(f, g)), nil
	}
	result := int64(1)
	for range n {
		next := result * x
		if x != 0 && (next/x != result || x == -1 && result == math.MinInt64) {
			return nil, errors.New("pow() result overflow")
		}
		if next == result {
			break
		}
		result = next
		if x == -1 {
			if n%2 == 0 {
				result = 1
			}
			break
		}
	}
	return value.Int(result), nil
}
