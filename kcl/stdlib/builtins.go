package stdlib

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/weft-dev/weft/kcl/value"
)

var builtins = map[string]function{
	"option": option, "print": written(printValues), "multiplyof": multiplyof, "isunique": isunique, "isnullish": isnullish,
	"len": length, "abs": abs, "all_true": allTrue, "any_true": anyTrue, "hex": radix(16), "bin": radix(2),
	"oct": radix(8), "ord": ord, "sorted": sorted, "range": rangeOf, "max": extreme("max", ">"),
	"min": extreme("min", "<"), "sum": sum, "pow": pow, "round": round, "zip": zip, "int": toInt,
	"float": toFloat, "bool": toBool, "str": written(toStr), "list": toList, "dict": toDict, "typeof": typeOf,
	"reduce": reduce,
}

// one is the text for a builtin with one argument that got none.
func one(fn string) string { return fn + "() takes exactly one argument (0 given)" }

func printValues(c *value.Call) (value.Value, error) {
	var b []byte
	for i, v := range c.Args {
		if i > 0 {
			b = append(b, ' ')
		}
		b = value.AppendText(b, v)
	}
	end := value.Value(value.Str("\n"))
	if c.Kwargs != nil {
		if v, ok := c.Kwargs.Get("end"); ok {
			end = v
		}
	}
	b = value.AppendText(b, end)
	if c.Host != nil && c.Host.Print != nil {
		if _, err := c.Host.Print.Write(b); err != nil {
			return nil, fmt.Errorf("print(): %w", err)
		}
	}
	return value.None, nil
}

func multiplyof(c *value.Call) (value.Value, error) {
	a := read(c)
	x, y := a.get(0, "a"), a.get(1, "b")
	if x == nil || y == nil {
		return nil, fmt.Errorf("multiplyof() takes exactly two argument (%d given)", len(c.Args))
	}
	m, ok1 := x.(value.Int)
	n, ok2 := y.(value.Int)
	if !ok1 || !ok2 {
		return value.Undefined, nil
	}
	if n == 0 {
		return nil, errors.New("attempt to calculate the remainder with a divisor of zero")
	}
	return value.Bool(n == -1 || m%n == 0), nil
}

func isunique(c *value.Call) (value.Value, error) {
	l, ok := read(c).get(0, "inval").(*value.List)
	if !ok {
		return value.Bool(false), nil
	}
	return value.Bool(unique(l.Items)), nil
}

// unique reports whether no two items are equal. Scalars are told apart by a
// hash; only containers are compared one by one.
func unique(items []value.Value) bool {
	seen := make(map[value.Value]struct{}, len(items))
	var containers []value.Value
	for _, v := range items {
		key := v
		switch x := v.(type) {
		case value.Int:
			if value.Int(float64(x)) == x {
				key = value.Float(x)
			}
		case *value.List, *value.Dict, *value.Schema:
			for _, other := range containers {
				if value.Equal(v, other) {
					return false
				}
			}
			containers = append(containers, v)
			continue
		}
		if _, ok := seen[key]; ok {
			return false
		}
		seen[key] = struct{}{}
	}
	return true
}

func isnullish(c *value.Call) (value.Value, error) {
	a := read(c)
	v := a.need(0, "inval", one("isnullish"))
	return value.Bool(value.IsNull(v)), a.err
}

func length(c *value.Call) (value.Value, error) {
	a := read(c)
	v := a.need(0, "inval", one("len"))
	if a.err != nil {
		return nil, a.err
	}
	switch v := v.(type) {
	case value.Str:
		return value.Int(len(v)), nil
	case *value.List:
		return value.Int(len(v.Items)), nil
	case *value.Dict, *value.Schema:
		return value.Int(value.ConfigOf(v).Len()), nil
	}
	return nil, fmt.Errorf("object of type '%s' has no len()", value.TypeName(v))
}

func abs(c *value.Call) (value.Value, error) {
	a := read(c)
	switch v := a.need(0, "inval", one("abs")).(type) {
	case value.Int:
		if v < 0 {
			v = -v
		}
		return v, nil
	case value.Float:
		if v < 0 {
			v = -v
		}
		return v, nil
	}
	return value.Undefined, a.err
}

// members of a container, as all_true and any_true see them.
func contents(v value.Value) ([]value.Value, bool) {
	if l, ok := v.(*value.List); ok {
		return l.Items, true
	}
	d := value.ConfigOf(v)
	if d == nil {
		return nil, false
	}
	items := make([]value.Value, d.Len())
	for i, e := range d.Entries() {
		items[i] = e.Value
	}
	return items, true
}

func allTrue(c *value.Call) (value.Value, error) {
	items, ok := contents(read(c).get(0, "inval"))
	for _, v := range items {
		ok = ok && value.Truthy(v)
	}
	return value.Bool(ok), nil
}

func anyTrue(c *value.Call) (value.Value, error) {
	items, _ := contents(read(c).get(0, "inval"))
	return value.Bool(slices.ContainsFunc(items, value.Truthy)), nil
}

func radix(base int) function {
	name, prefix := "hex", "0x"
	switch base {
	case 2:
		name, prefix = "bin", "0b"
	case 8:
		name, prefix = "oct", "0o"
	}
	return func(c *value.Call) (value.Value, error) {
		a := read(c)
		n, ok := a.need(0, "number", one(name)).(value.Int)
		if !ok {
			return value.Undefined, a.err
		}
		digits := strconv.FormatInt(int64(n), base)
		if strings.HasPrefix(digits, "-") {
			return value.Str("-" + prefix + digits[1:]), nil
		}
		return value.Str(prefix + digits), nil
	}
}

func ord(c *value.Call) (value.Value, error) {
	a := read(c)
	s, ok := a.need(0, "c", one("ord")).(value.Str)
	if !ok {
		return value.Undefined, a.err
	}
	runes := []rune(string(s))
	if len(runes) != 1 {
		return nil, fmt.Errorf(" ord() expected string of length 1, but string of length %d found", len(s))
	}
	return value.Int(runes[0]), nil
}

func sorted(c *value.Call) (value.Value, error) {
	a := read(c)
	v := a.need(0, "inval", one("sorted"))
	if a.err != nil {
		return nil, a.err
	}
	if _, ok := v.(*value.Schema); ok {
		return nil, errors.New("sorted only for str|list|dict type")
	}
	items, err := each(v)
	if err != nil {
		return nil, errors.New("sorted only for str|list|dict type")
	}
	items = slices.Clone(items)
	sign := 1
	if a.truth(1, "reverse") {
		sign = -1
	}
	slices.SortStableFunc(items, func(x, y value.Value) int {
		order, e := order(x, y)
		if e != nil && err == nil {
			err = e
		}
		return sign * order
	})
	if err != nil {
		return nil, err
	}
	return value.NewList(items...), nil
}

// order compares for sorting: numbers with numbers, strings with strings.
func order(a, b value.Value) (int, error) {
	switch x := a.(type) {
	case value.Int:
		switch y := b.(type) {
		case value.Int:
			return cmp.Compare(x, y), nil
		case value.Float:
			return cmp.Compare(value.Float(x), y), nil
		}
	case value.Float:
		switch y := b.(type) {
		case value.Int:
			return cmp.Compare(x, value.Float(y)), nil
		case value.Float:
			return cmp.Compare(x, y), nil
		}
	case value.Str:
		if y, ok := b.(value.Str); ok {
			return cmp.Compare(x, y), nil
		}
	}
	return 0, fmt.Errorf("cannot compare %s and %s", value.TypeName(a), value.TypeName(b))
}

// itemSize is what one item of a list costs, for the limit on memory.
const itemSize = 16

func rangeOf(c *value.Call) (value.Value, error) {
	a := read(c)
	bounds := [3]value.Value{value.Int(0), a.get(0, "start"), value.Int(1)}
	if stop := a.get(1, "stop"); stop != nil {
		bounds[0], bounds[1] = bounds[1], stop
		if step := a.get(2, "step"); step != nil {
			bounds[2] = step
		}
	}
	var n [3]int64
	for i, v := range bounds {
		x, ok := v.(value.Int)
		if !ok {
			return value.Undefined, nil
		}
		n[i] = int64(x)
	}
	start, stop, step := n[0], n[1], n[2]
	if step == 0 {
		return nil, errors.New("range() step argument must not be zero")
	}
	count := uint64(0)
	switch {
	case step > 0 && start < stop:
		count = (uint64(stop)-uint64(start)-1)/uint64(step) + 1
	case step < 0 && start > stop:
		count = (uint64(start)-uint64(stop)-1)/(-uint64(step)) + 1
	}
	const most = 1 << 28
	if count > most {
		return nil, fmt.Errorf("range() of %d items is too long: at most %d", count, most)
	}
	if err := grow(c, int(count)*itemSize); err != nil {
		return nil, err
	}
	items := make([]value.Value, count)
	for i := range items {
		items[i] = value.Int(start + int64(i)*step)
	}
	return value.NewList(items...), nil
}

// extreme is max and min.
func extreme(name, op string) function {
	return func(c *value.Call) (value.Value, error) {
		if len(c.Args) == 0 {
			return nil, errors.New(one(name))
		}
		v := c.Args[0]
		if len(c.Args) > 1 {
			v = value.NewList(c.Args...)
		}
		items, err := each(v)
		if err != nil {
			return nil, fmt.Errorf("%s object is not iterable", value.TypeName(v))
		}
		if len(items) == 0 {
			kind := "dict"
			switch v.(type) {
			case value.Str:
				kind = "str"
			case *value.List:
				kind = "list"
			}
			return nil, fmt.Errorf("%s() arg is an empty %s", name, kind)
		}
		best := items[0]
		for _, item := range items[1:] {
			better, err := value.Compare(item, op, best)
			if err != nil {
				return nil, err
			}
			if better {
				best = item
			}
		}
		return best, nil
	}
}

func zip(c *value.Call) (value.Value, error) {
	columns := make([][]value.Value, len(c.Args))
	rows := 0
	for i, v := range c.Args {
		items, err := each(v)
		if err != nil {
			return nil, err
		}
		columns[i] = items
		if i == 0 || len(items) < rows {
			rows = len(items)
		}
	}
	if err := grow(c, rows*len(columns)*itemSize); err != nil {
		return nil, err
	}
	list := value.NewList()
	for i := range rows {
		row := make([]value.Value, len(columns))
		for j := range columns {
			row[j] = columns[j][i]
		}
		list.Append(value.NewList(row...))
	}
	return list, nil
}

func reduce(c *value.Call) (value.Value, error) {
	a := read(c)
	fn := a.need(0, "reducer", "reduce() missing required argument: 'reducer'")
	list := a.need(1, "list", "reduce() missing required argument: 'list'")
	if a.err != nil {
		return nil, a.err
	}
	f, ok := fn.(*value.Func)
	if !ok {
		return nil, errors.New("reduce() argument 'reducer' must be a function")
	}
	l, ok := list.(*value.List)
	if !ok {
		return nil, errors.New("reduce() argument 'list' must be a list")
	}
	items, acc := l.Items, a.get(2, "initial")
	if acc == nil {
		if len(items) == 0 {
			if typ := accumulator(f); typ != "" && typ != "any" && !strings.Contains(typ, "None") {
				return nil, fmt.Errorf("reduce() empty list with no initial value and non-nullable accumulator type '%s'", typ)
			}
			return value.None, nil
		}
		acc, items = items[0], items[1:]
	}
	for _, item := range items {
		next, err := c.Host.Invoke(f, []value.Value{acc, item}, nil)
		if err != nil {
			return nil, err
		}
		acc = next
	}
	return acc, nil
}

// Typed is what the evaluator's functions implement to tell the types of their
// parameters as written, "" for one without.
type Typed interface{ ParamTypes() []string }

func accumulator(f *value.Func) string {
	if t, ok := f.Code.(Typed); ok {
		if types := t.ParamTypes(); len(types) > 0 {
			return types[0]
		}
	}
	return ""
}
