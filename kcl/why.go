package kcl

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/weft-dev/weft/kcl/value"
)

// Why tells where the field at a path such as "app.containers[0].image" of the
// output came from: the places that set, merged and overrode it, the first one
// first. It needs a run with Options.Trace.
func (r *Result) Why(path string) (value.Value, []value.Origin, error) {
	steps, err := fieldPath(path)
	if err != nil {
		return nil, nil, err
	}
	at, origin := r.Value, (*value.Origin)(nil)
	for i, step := range steps {
		next, o, err := field(at, step)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", strings.Join(steps[:i+1], "."), err)
		}
		at = next
		if o != nil {
			origin = o
		}
	}
	var chain []value.Origin
	for o := origin; o != nil; o = o.Earlier {
		if n := len(chain); n == 0 || !same(chain[n-1], *o) {
			chain = append(chain, *o)
		}
	}
	slices.Reverse(chain)
	return at, chain, nil
}

func same(a, b value.Origin) bool {
	return a.File == b.File && a.Line == b.Line && a.Col == b.Col && a.Op == b.Op
}

// fieldPath splits a.b[2]["c.d"] into its steps.
func fieldPath(path string) ([]string, error) {
	var steps []string
	for rest := path; rest != ""; {
		switch {
		case rest[0] == '.':
			rest = rest[1:]
		case rest[0] == '[':
			end := strings.IndexByte(rest, ']')
			if end < 0 {
				return nil, fmt.Errorf("%q: a bracket is not closed", path)
			}
			step := rest[1:end]
			if text, err := strconv.Unquote(step); err == nil {
				step = text
			}
			steps = append(steps, strings.Trim(step, "'"))
			rest = rest[end+1:]
		default:
			end := strings.IndexAny(rest, ".[")
			if end < 0 {
				end = len(rest)
			}
			steps = append(steps, rest[:end])
			rest = rest[end:]
		}
	}
	if len(steps) == 0 {
		return nil, fmt.Errorf("%q is no path to a field, such as a.b[0].c", path)
	}
	return steps, nil
}

func field(v value.Value, step string) (value.Value, *value.Origin, error) {
	if l, ok := v.(*value.List); ok {
		i, err := strconv.Atoi(step)
		if err != nil || i < -len(l.Items) || i >= len(l.Items) {
			return nil, nil, fmt.Errorf("the list has %d items, and %s is none of them", len(l.Items), step)
		}
		if i < 0 {
			i += len(l.Items)
		}
		if i < len(l.Origins) {
			return l.Items[i], l.Origins[i], nil
		}
		return l.Items[i], nil, nil
	}
	d := value.ConfigOf(v)
	if d == nil {
		return nil, nil, fmt.Errorf("a %s has no fields", value.TypeName(v))
	}
	i := d.Find(step)
	if i < 0 {
		keys := strings.Join(d.Keys(), ", ")
		if len(keys) > 200 {
			keys = keys[:200] + "..."
		}
		return nil, nil, fmt.Errorf("there is no such field, only %s", keys)
	}
	return d.At(i).Value, d.At(i).Origin, nil
}
