package eval

import "github.com/weft-dev/weft/kcl/syntax"

// Coverage notes which statements and checks ran, over several runs that do
// not overlap in time. The zero value is ready.
type Coverage struct{ ran map[covered]*bool }

type covered struct {
	file string
	at   syntax.Pos
}

// Ran reports whether the statement or check that begins there was run.
func (c *Coverage) Ran(file string, at syntax.Pos) bool {
	mark := c.ran[covered{file, at}]
	return mark != nil && *mark
}

// mark is what to set when a statement runs; nil when nobody asks.
func (m *machine) mark(u *unit, n syntax.Node) *bool {
	if m.cover == nil {
		return nil
	}
	key := covered{u.file.Name, n.Range().Start}
	if m.cover.ran == nil {
		m.cover.ran = map[covered]*bool{}
	}
	if m.cover.ran[key] == nil {
		m.cover.ran[key] = new(bool)
	}
	return m.cover.ran[key]
}
