package kcltool

import (
	"fmt"

	"github.com/weft-dev/weft/kcl"
	"github.com/weft-dev/weft/kcl/plan"
)

// why prints where a field came from, the decisive place last.
func (t *Tool) why(r *kcl.Result, path string) error {
	v, chain, err := r.Why(path)
	if err != nil {
		return err
	}
	text := plan.JSON(v, r.PlanOptions(), 0)
	if len(text) > 100 {
		text = text[:100] + "..."
	}
	fmt.Fprintf(t.Out, "%s = %s\n", path, text)
	if len(chain) == 0 {
		fmt.Fprintln(t.Out, "  no place in a file: the value was computed")
	}
	for i, o := range chain {
		verb := map[string]string{":": "merges", "=": "overrides", "+=": "adds", "default": "is the default", "unify": "merges"}[o.Op]
		if i == 0 && (o.Op == ":" || o.Op == "=" || o.Op == "+=") {
			verb = "sets"
		}
		if verb == "" {
			verb = o.Op
		}
		fmt.Fprintf(t.Out, "  %s:%d:%d  %s\n", t.relative(o.File), o.Line, o.Col, verb)
	}
	return nil
}
