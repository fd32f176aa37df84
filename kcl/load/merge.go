package load

import (
	"strings"

	"github.com/weft-dev/weft/kcl/syntax"
)

// place is a declaration: a file and the index of a statement in it.
type place struct {
	file, stmt int
	unify      bool
}

// mergeMain joins repeated declarations `name: Schema {}` of the main package,
// also across its files, into the last of them. The trees stay as they are:
// changed statements are copies.
func mergeMain(pkg *Package) {
	var order []string
	found := map[string][]place{}
	add := func(name string, p place) {
		if _, ok := found[name]; !ok {
			order = append(order, name)
		}
		found[name] = append(found[name], p)
	}
	for fi, f := range pkg.Files {
		for si, s := range f.Body {
			switch s := s.(type) {
			case *syntax.UnifyStmt:
				if len(s.Target.Names) > 0 {
					add(s.Target.Names[0].Text, place{fi, si, true})
				}
			case *syntax.AssignStmt:
				if _, ok := s.Value.(*syntax.SchemaExpr); !ok {
					continue
				}
				for _, t := range s.Targets {
					name := t.Name.Text
					if len(t.Paths) > 0 {
						continue
					}
					if list, ok := found[name]; !ok {
						add(name, place{fi, si, false})
					} else if strings.HasPrefix(name, "_") {
						found[name] = append(list[:0:0], place{fi, si, false})
					}
				}
			}
		}
	}
	drop := map[place]bool{}
	replace := map[[2]int]syntax.Stmt{}
	for _, name := range order {
		list := found[name]
		if len(list) < 2 {
			continue
		}
		var items []*syntax.ConfigEntry
		for _, p := range list {
			if c := configOf(pkg.Files[p.file].Body[p.stmt]); c != nil {
				items = append(items, c.Items...)
			}
		}
		last := list[len(list)-1]
		replace[[2]int{last.file, last.stmt}] = withConfig(pkg.Files[last.file].Body[last.stmt], unifyEntries(items))
		for _, p := range list[:len(list)-1] {
			drop[place{p.file, p.stmt, false}] = true
		}
	}
	if len(replace) == 0 {
		return
	}
	for fi, f := range pkg.Files {
		var body []syntax.Stmt
		for si, s := range f.Body {
			if drop[place{fi, si, false}] {
				continue
			}
			if r := replace[[2]int{fi, si}]; r != nil {
				s = r
			}
			body = append(body, s)
		}
		f.Body = body
	}
}

func schemaOf(s syntax.Stmt) *syntax.SchemaExpr {
	switch s := s.(type) {
	case *syntax.UnifyStmt:
		return s.Value
	case *syntax.AssignStmt:
		x, _ := s.Value.(*syntax.SchemaExpr)
		return x
	}
	return nil
}

func configOf(s syntax.Stmt) *syntax.ConfigExpr {
	if x := schemaOf(s); x != nil {
		c, _ := x.Config.(*syntax.ConfigExpr)
		return c
	}
	return nil
}

func withConfig(s syntax.Stmt, items []*syntax.ConfigEntry) syntax.Stmt {
	x := *schemaOf(s)
	x.Config = &syntax.ConfigExpr{Span: x.Config.Range(), Items: items}
	switch s := s.(type) {
	case *syntax.UnifyStmt:
		c := *s
		c.Value = &x
		return &c
	case *syntax.AssignStmt:
		c := *s
		c.Value = &x
		return &c
	}
	return s
}

// unifyEntries groups entries by key in order of first appearance; an override
// drops what stood before it.
func unifyEntries(entries []*syntax.ConfigEntry) []*syntax.ConfigEntry {
	var order []string
	buckets := map[string][]*syntax.ConfigEntry{}
	for _, e := range entries {
		name := "$name_none"
		switch k := e.Key.(type) {
		case *syntax.Ident:
			name = k.Names[0].Text
			if len(k.Names) > 1 {
				e = nested(e, k)
			}
		case *syntax.StringLit:
			name = k.Value
		}
		list, ok := buckets[name]
		if !ok {
			order = append(order, name)
		} else if e.Op == "=" {
			list = nil
		}
		buckets[name] = append(list, e)
	}
	var out []*syntax.ConfigEntry
	for _, name := range order {
		out = append(out, buckets[name]...)
	}
	for i, e := range out {
		c := *e
		switch v := e.Value.(type) {
		case *syntax.SchemaExpr:
			x := *v
			if cfg, ok := v.Config.(*syntax.ConfigExpr); ok {
				x.Config = &syntax.ConfigExpr{Span: cfg.Span, Items: unifyEntries(cfg.Items)}
			}
			c.Value = &x
		case *syntax.ConfigExpr:
			c.Value = &syntax.ConfigExpr{Span: v.Span, Items: unifyEntries(v.Items)}
		default:
			continue
		}
		out[i] = &c
	}
	return out
}

// nested turns `a.b.c op v` into `a: {b: {c op v}}`.
func nested(e *syntax.ConfigEntry, key *syntax.Ident) *syntax.ConfigEntry {
	value, op := e.Value, e.Op
	for i := len(key.Names) - 1; i > 0; i-- {
		n := key.Names[i]
		span := syntax.Span{Start: n.Start, End: value.Range().End}
		value = &syntax.ConfigExpr{Span: span, Items: []*syntax.ConfigEntry{{
			Span: syntax.Span{Start: n.Start, End: e.End}, Key: &syntax.Ident{Span: n.Span, Names: []syntax.Name{n}}, Value: value, Op: op,
		}}}
		op = ":"
	}
	first := key.Names[0]
	return &syntax.ConfigEntry{Span: e.Span, Key: &syntax.Ident{Span: first.Span, Names: key.Names[:1]}, Value: value, Op: op}
}

// Nested is e with its key `a.b.c` taken apart, or e itself.
func Nested(e *syntax.ConfigEntry) *syntax.ConfigEntry {
	if k, ok := e.Key.(*syntax.Ident); ok && len(k.Names) > 1 {
		return nested(e, k)
	}
	return e
}
