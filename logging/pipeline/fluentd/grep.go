package fluentd

import (
	"context"
	"strconv"
	"strings"

	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/pipeline/flow"
	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/pipeline/record"
	"github.com/weft-dev/weft/logging/pipeline/regex"
	"github.com/weft-dev/weft/logging/plugin"
)

// grep keeps and drops records by what is in their fields.
type grep struct {
	allOf, anyOf   []condition // records that do not match all, or any, of these are dropped
	notAll, notAny []condition // records that match all, or any, of these are dropped
}

type condition struct {
	path  record.Path
	regex *regex.Regexp
}

// matches compares the field as text; a field that is missing is no text at all.
func (c *condition) matches(body []byte) bool {
	v, ok := c.path.Find(body)
	if !ok || record.KindOf(v) == record.Nil {
		return c.regex.Match(nil)
	}
	return c.regex.Match(record.AppendText(nil, v))
}

func newGrep(p *part) filter {
	g := &grep{}
	p.only("regexp", "exclude", "and", "or")
	for n := 1; n <= 20; n++ { // the old form: regexp1 KEY PATTERN
		for _, kind := range []string{"regexp", "exclude"} {
			key := kind + strconv.Itoa(n)
			property, ok := p.section.Get(key)
			if !ok {
				continue
			}
			p.set.Ignore(key)
			field, expression, ok := strings.Cut(property.Value, " ")
			if !ok {
				p.set.Fail(property, "%s needs a key and a regular expression, separated by a blank", key)
				continue
			}
			if c, ok := newCondition(p.set, property, field, expression); ok {
				g.add(kind, kind == "regexp", c)
			}
		}
	}
	for _, s := range p.section.Sections {
		switch s.Kind {
		case "regexp":
			p.condition(s, func(c condition) { g.add("regexp", true, c) })
		case "exclude":
			p.condition(s, func(c condition) { g.add("exclude", false, c) })
		case "and", "or":
			kinds := map[string]bool{}
			for _, inner := range s.Sections {
				kinds[inner.Kind] = true
				if inner.Kind != "regexp" && inner.Kind != "exclude" {
					p.set.FailAt(inner.Pos, "<%s> cannot stand inside of <%s>; there are regexp and exclude", inner.Kind, s.Kind)
					continue
				}
				p.condition(inner, func(c condition) { g.add(inner.Kind, s.Kind == "and", c) })
			}
			if len(kinds) > 1 {
				p.set.FailAt(s.Pos, "<%s> takes either <regexp> or <exclude>, not both", s.Kind)
			}
		}
	}
	return g
}

func (g *grep) add(kind string, all bool, c condition) {
	switch {
	case kind == "regexp" && all:
		g.allOf = append(g.allOf, c)
	case kind == "regexp":
		g.anyOf = append(g.anyOf, c)
	case all:
		g.notAll = append(g.notAll, c)
	default:
		g.notAny = append(g.notAny, c)
	}
}

// condition reads a <regexp> or <exclude>.
func (p *part) condition(s *config.Section, add func(condition)) {
	o := options.New(s, plugin.Fluentd().Groups["regexp"], nil)
	field := o.String("key")
	pattern, _ := s.Get("pattern")
	o.Ignore("pattern")
	if c, ok := newCondition(o, pattern, field, pattern.Value); ok {
		add(c)
	}
	if err := o.Done(); err != nil {
		p.set.Join(err)
	}
}

func newCondition(o *options.Set, p config.Property, field, expression string) (condition, bool) {
	path, err := record.ParseAccessor(field)
	if err != nil {
		o.Fail(p, "%v", err)
		return condition{}, false
	}
	r, err := regex.Compile(expression)
	if err != nil {
		o.Fail(p, "%v", err)
		return condition{}, false
	}
	return condition{path, r}, true
}

func (g *grep) keeps(body []byte) bool {
	count := func(all []condition) (n int) {
		for i := range all {
			if all[i].matches(body) {
				n++
			}
		}
		return n
	}
	return count(g.allOf) == len(g.allOf) && (len(g.anyOf) == 0 || count(g.anyOf) > 0) &&
		(len(g.notAll) == 0 || count(g.notAll) < len(g.notAll)) && count(g.notAny) == 0
}

func (g *grep) apply(_ context.Context, b flow.Batch) ([]byte, int, error) {
	var out []byte
	kept := 0
	for r := record.NewReader(b.Data); r.Next(); {
		if g.keeps(r.Body) {
			out = append(out, r.Raw...)
			kept++
		}
	}
	if kept == b.Count {
		return b.Data, kept, nil
	}
	return out, kept, nil
}
