package frontend

import (
	"context"
	"fmt"
	"math"
	"strings"

	"github.com/weft-dev/weft/kcl"
	"github.com/weft-dev/weft/kcl/diag"
	"github.com/weft-dev/weft/kcl/plan"
	"github.com/weft-dev/weft/kcl/value"
	"github.com/weft-dev/weft/stack/config"
)

// KCL evaluates KCL: every variable of the program is an application.
type KCL struct{}

// Apps implements Frontend. Problems of the program are a *kcl.Error.
func (KCL) Apps(ctx context.Context, p Program) (*Apps, error) {
	o := p.KCL
	o.Trace, o.DisableNone = true, true
	result, err := kcl.Run(ctx, o)
	if err != nil {
		return nil, err
	}
	apps := &Apps{}
	if text := diag.Short(result.Warnings); text != "" {
		apps.Warnings = strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	}
	for _, doc := range result.Documents {
		tree, err := FromKCL(doc)
		if err != nil {
			return nil, err
		}
		if tree == nil || tree.Kind == config.Null {
			continue
		}
		if tree.Kind != config.Map {
			return nil, &config.Problem{At: tree.At, What: "must be applications by name"}
		}
		for _, f := range tree.Fields {
			apps.ByName = apps.ByName.With(f)
		}
	}
	return apps, nil
}

// FromKCL turns a value into a tree. What is not written in output (Undefined, None, functions, private names) is left out. Every field
// is at the place that decided its value, if the program was traced.
func FromKCL(v value.Value) (*config.Tree, error) { return fromKCL(v, config.Place{}, 0) }

// maxDepth is how deep values are followed.
const maxDepth = 500

func fromKCL(v value.Value, at config.Place, depth int) (*config.Tree, error) {
	if depth > maxDepth {
		return nil, &config.Problem{At: at, What: "holds deeper values than are read"}
	}
	t := &config.Tree{At: at}
	switch v := v.(type) {
	case value.Bool:
		t.Kind, t.Bool = config.Bool, bool(v)
	case value.Int:
		t.Kind, t.Int = config.Int, int64(v)
	case value.Float:
		t.Kind, t.Float = config.Float, float64(v)
	case *value.Number:
		t.Kind, t.Float = config.Float, v.Value
		if v.Value == math.Trunc(v.Value) && math.Abs(v.Value) < 1<<53 {
			t.Kind, t.Int = config.Int, int64(v.Value)
		}
	case value.Str:
		t.Kind, t.Text = config.Text, string(v)
	case *value.List:
		t.Kind = config.List
		for i, item := range v.Items {
			if !shown(item) {
				continue
			}
			place := at
			if i < len(v.Origins) {
				place = placeOf(v.Origins[i], at)
			}
			child, err := fromKCL(item, place, depth+1)
			if err != nil {
				return nil, err
			}
			t.Items = append(t.Items, child)
		}
	case *value.Dict, *value.Schema:
		t.Kind, t.Type = config.Map, plan.TypePath(v)
		for _, e := range value.ConfigOf(v).Entries() {
			if !shown(e.Value) || strings.HasPrefix(e.Key, "_") {
				continue
			}
			place := placeOf(e.Origin, at)
			child, err := fromKCL(e.Value, place, depth+1)
			if err != nil {
				return nil, err
			}
			t.Fields = append(t.Fields, config.Field{Name: e.Key, Value: child, At: place})
		}
	default:
		if v.Kind() != value.NoneKind && v.Kind() != value.UndefinedKind {
			return nil, fmt.Errorf("a %s has no place in a configuration", value.TypeName(v))
		}
	}
	return t, nil
}

func shown(v value.Value) bool {
	switch v.Kind() {
	case value.UndefinedKind, value.NoneKind, value.FuncKind:
		return false
	}
	return true
}

func placeOf(o *value.Origin, otherwise config.Place) config.Place {
	if o == nil || o.File == "" {
		return otherwise
	}
	return config.Place{File: o.File, Line: o.Line, Column: o.Col}
}
