package filter

import (
	"bytes"
	"context"
	"slices"
	"strings"

	"github.com/weft-dev/weft/logging/pipeline/flow"
	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/pipeline/record"
)

// nest puts fields into a map, or takes them out of one.
type nest struct {
	lift        bool
	wildcards   []string
	under       string
	add, remove string
}

func newNest(o *options.Set, _ Host) Filter {
	n := &nest{add: o.String("add_prefix"), remove: o.String("remove_prefix")}
	for _, p := range o.All("wildcard") {
		n.wildcards = append(n.wildcards, strings.TrimSpace(p.Value))
	}
	nestUnder, nestedUnder := o.String("nest_under"), o.String("nested_under")
	switch strings.ToLower(o.String("operation")) {
	case "nest":
		if n.under = nestUnder; n.under == "" {
			o.Failf("operation", "Operation nest needs Nest_under")
		}
	case "lift":
		n.lift = true
		if n.under = nestedUnder; n.under == "" {
			o.Failf("operation", "Operation lift needs Nested_under")
		}
	default:
		o.Failf("operation", "Operation must be nest or lift")
	}
	return n
}

func (n *nest) Apply(_ context.Context, dst []byte, b flow.Batch) ([]byte, error) {
	if n.lift {
		return mapEvents(dst, b.Data, n.lifted)
	}
	return mapEvents(dst, b.Data, n.nested)
}

// renamed is a key with the prefixes taken off and put on.
func (n *nest) renamed(x pair) pair {
	if x.key == nil || n.add == "" && n.remove == "" {
		return x
	}
	key := bytes.TrimPrefix(x.key, []byte(n.remove))
	name := n.add + string(key)
	x.raw = text(name)
	x.key = x.raw[len(x.raw)-len(name):]
	return x
}

func (n *nest) chosen(x *pair) bool {
	return x.key != nil && slices.ContainsFunc(n.wildcards, func(w string) bool {
		before, star := strings.CutSuffix(w, "*") // elsewhere a star is a star
		return string(x.key) == w || star && strings.HasPrefix(string(x.key), before)
	})
}

func (n *nest) nested(p *pairs, _ *record.Event) bool {
	var inner pairs
	if !p.remove(func(x *pair) bool {
		if n.chosen(x) {
			inner.all = append(inner.all, n.renamed(*x))
			return true
		}
		return false
	}) {
		return false
	}
	p.all = append(p.all, pair{[]byte(n.under), text(n.under), inner.appendTo(nil)})
	return true
}

func (n *nest) lifted(p *pairs, _ *record.Event) bool {
	var inner []pair
	changed := p.remove(func(x *pair) bool {
		if string(x.key) != n.under || x.key == nil || record.KindOf(x.value) != record.Map {
			return false
		}
		for f := record.FieldsOf(x.value); f.Next(); {
			inner = append(inner, n.renamed(pair{f.Key, f.Raw[:len(f.Raw)-len(f.Value)], f.Value}))
		}
		return true
	})
	p.all = append(p.all, inner...)
	return changed
}
