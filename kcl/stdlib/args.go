package stdlib

import (
	"errors"
	"fmt"
	"math"

	"github.com/weft-dev/weft/kcl/value"
)

// args reads the arguments of a call. A keyword argument goes before the
// positional one, as upstream has it. The first argument that is missing or of
// the wrong type is kept as err.
type args struct {
	*value.Call
	err error
}

func read(c *value.Call) *args { return &args{Call: c} }

// get is argument i or the keyword argument name, or nil.
func (a *args) get(i int, name string) value.Value {
	if a.Kwargs != nil && name != "" {
		if v, ok := a.Kwargs.Get(name); ok {
			return v
		}
	}
	if i < len(a.Args) {
		return a.Args[i]
	}
	return nil
}

// set is get, with None and Undefined taken for missing.
func (a *args) set(i int, name string) value.Value {
	v := a.get(i, name)
	if v == nil || value.IsNull(v) {
		return nil
	}
	return v
}

// need is an argument without which the call fails with the message missing.
func (a *args) need(i int, name, missing string) value.Value {
	v := a.get(i, name)
	if v == nil {
		a.fail(errors.New(missing))
		return value.Undefined
	}
	return v
}

// str is a required string; anything else than a string counts as "".
func (a *args) str(i int, name, missing string) string {
	s, _ := a.need(i, name, missing).(value.Str)
	return string(s)
}

// optional is a string that may be missing.
func (a *args) optional(i int, name string) (string, bool) {
	v := a.get(i, name)
	if v == nil {
		return "", false
	}
	s, _ := v.(value.Str)
	return string(s), true
}

// integer is an integer that is def when it is missing.
func (a *args) integer(i int, name string, def int64) int64 {
	v := a.get(i, name)
	if v == nil {
		return def
	}
	n, ok := v.(value.Int)
	if !ok {
		a.fail(fmt.Errorf("invalid int value: expected an int for '%s', got %s", name, value.TypeName(v)))
	}
	return int64(n)
}

// truth is whether an argument is given and true.
func (a *args) truth(i int, name string) bool {
	v := a.get(i, name)
	return v != nil && value.Truthy(v)
}

func (a *args) fail(err error) {
	if a.err == nil {
		a.err = err
	}
}

// missing is the text for required positional arguments that were not given.
func missing(fn string, names ...string) string {
	switch len(names) {
	case 1:
		return fmt.Sprintf("%s() missing 1 required positional argument: '%s'", fn, names[0])
	case 2:
		return fmt.Sprintf("%s() missing 2 required positional arguments: '%s' and '%s'", fn, names[0], names[1])
	}
	return fmt.Sprintf("%s() missing %d required positional arguments: '%s', '%s', and '%s'", fn, len(names), names[0], names[1], names[2])
}

// grow accounts for n bytes that a call is about to make.
func grow(c *value.Call, n int) error {
	if c.Host == nil || c.Host.Grow == nil {
		return nil
	}
	return c.Host.Grow(n)
}

// written is a function that writes its arguments: what it would write is
// accounted for before.
func written(f function) function {
	return func(c *value.Call) (value.Value, error) {
		if c.Host == nil || c.Host.Grow == nil {
			return f(c)
		}
		for _, v := range c.Args {
			if err := c.Host.Grow(value.TextSize(v, math.MaxInt32)); err != nil {
				return nil, err
			}
		}
		if c.Kwargs != nil {
			if err := c.Host.Grow(value.TextSize(c.Kwargs, math.MaxInt32)); err != nil {
				return nil, err
			}
		}
		return f(c)
	}
}

// asInt is how functions read a number that upstream converts silently.
func asInt(v value.Value) int64 {
	switch v := v.(type) {
	case value.Int:
		return int64(v)
	case value.Float:
		return saturate(float64(v))
	case *value.Number:
		return saturate(v.Value)
	}
	return 0
}

// saturate converts a float to an integer as Rust's `as` does.
func saturate(f float64) int64 {
	switch {
	case f != f:
		return 0
	case f >= 1<<63:
		return 1<<63 - 1
	case f < -1<<63:
		return -1 << 63
	}
	return int64(f)
}
