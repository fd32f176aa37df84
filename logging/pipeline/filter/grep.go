package filter

import (
	"context"
	"strings"

	"github.com/weft-dev/weft/logging/pipeline/flow"
	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/pipeline/record"
	"github.com/weft-dev/weft/logging/pipeline/regex"
)

// grep keeps records whose fields match, or drops them.
type grep struct {
	rules []grepRule
	op    string // legacy, and, or
}

type grepRule struct {
	exclude bool
	path    record.Path
	regex   *regex.Regexp
}

func newGrep(o *options.Set, _ Host) Filter {
	g := &grep{op: strings.ToLower(o.StringOr("logical_op", "legacy"))}
	for _, p := range o.Section.Properties {
		key := strings.ToLower(p.Key)
		if key != "regex" && key != "exclude" {
			continue
		}
		field, expression := o.Pair(p)
		path, err := record.ParsePath(field)
		if err != nil {
			o.Fail(p, "%s: %v", p.Key, err)
			continue
		}
		r, err := regex.Compile(expression)
		if err != nil {
			o.Fail(p, "%s: %v", p.Key, err)
			continue
		}
		g.rules = append(g.rules, grepRule{key == "exclude", path, r})
	}
	o.Ignore("regex", "exclude")
	for _, r := range g.rules {
		if g.op != "legacy" && r.exclude != g.rules[0].exclude {
			o.Failf("logical_op", "Logical_Op %s takes rules of one kind only, Regex or Exclude", g.op)
			break
		}
	}
	return g
}

func (r *grepRule) matches(body []byte) bool {
	value, ok := r.path.Find(body)
	if !ok {
		return false
	}
	text, ok := record.Text(value)
	return ok && r.regex.Match(text)
}

func (g *grep) keeps(body []byte) bool {
	if g.op == "legacy" {
		// The first Regex decides; rules of Exclude before it may drop.
		for i := range g.rules {
			found := g.rules[i].matches(body)
			switch {
			case !g.rules[i].exclude:
				return found
			case found:
				return false
			}
		}
		return true
	}
	if len(g.rules) == 0 {
		return true
	}
	all, some := true, false
	for i := range g.rules {
		if g.rules[i].matches(body) {
			some = true
		} else {
			all = false
		}
	}
	found := some
	if g.op == "and" {
		found = all
	}
	return found != g.rules[0].exclude
}

func (g *grep) Apply(_ context.Context, dst []byte, b flow.Batch) ([]byte, error) {
	return selectEvents(dst, b.Data, func(e *record.Event) bool { return g.keeps(e.Body) })
}

// selectEvents gives the events that are kept: data itself if these are all.
func selectEvents(dst, data []byte, keep func(*record.Event) bool) ([]byte, error) {
	r := record.NewReader(data)
	at, from := 0, 0 // events from from up to at are kept and not copied yet
	dropped := false
	for r.Next() {
		n := len(r.Raw)
		if !keep(&r.Event) {
			dst = append(dst, data[from:at]...)
			from = at + n
			dropped = true
		}
		at += n
	}
	if !dropped {
		return data, r.Err
	}
	return append(dst, data[from:at]...), r.Err
}
