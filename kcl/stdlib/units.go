package stdlib

import (
	"strconv"

	"github.com/weft-dev/weft/kcl/value"
)

// units are the units of numbers and the constants of module units.
var units = []struct {
	name   string
	factor float64
}{
	{"n", 1e-9}, {"u", 1e-6}, {"m", 1e-3}, {"k", 1e3}, {"K", 1e3}, {"M", 1e6}, {"G", 1e9}, {"T", 1e12}, {"P", 1e15},
	{"Ki", 1 << 10}, {"Mi", 1 << 20}, {"Gi", 1 << 30}, {"Ti", 1 << 40}, {"Pi", 1 << 50},
}

var unitsFunctions = newUnitsFunctions()

func newUnitsFunctions() map[string]function {
	functions := map[string]function{}
	for _, u := range units {
		if u.name == "k" {
			continue
		}
		functions["to_"+u.name] = func(c *value.Call) (value.Value, error) {
			a := read(c)
			v := a.need(0, "num", missing("to_"+u.name, "num"))
			if a.err != nil {
				return nil, a.err
			}
			f, _ := toNumber(v)
			if u.factor < 1 {
				var err error
				if f, err = floatOf(c.Host, v); err != nil {
					return nil, err
				}
			}
			return value.Str(strconv.FormatInt(saturate(f/u.factor), 10) + u.name), nil
		}
	}
	return functions
}

// constant is units.<name>: an integer, or a float for fractions.
func constant(factor float64) value.Value {
	if factor < 1 {
		return value.Float(factor)
	}
	return value.Int(int64(factor))
}
