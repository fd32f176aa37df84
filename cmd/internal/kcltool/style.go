package kcltool

import (
	"strconv"

	"github.com/editorconfig/editorconfig-core-go/v2"

	"github.com/weft-dev/weft/kcl/format"
)

// styles finds the indentation of files: what flags say, else .editorconfig
// (https://editorconfig.org), else four spaces.
type styles struct {
	parser editorconfig.Parser
	tabs   *bool
	width  *int
	warn   func(format string, args ...any)
	warned map[string]bool
}

// maxIndent bounds the width that a file may ask for.
const maxIndent = 64

// of is the style of a file. A faulty .editorconfig is told of once and has no
// effect.
func (s *styles) of(file string) format.Options {
	var o format.Options
	config := editorconfig.Config{Parser: s.parser}
	def, warning, err := config.LoadGraceful(file)
	if err == nil {
		err = warning
	}
	if err != nil && !s.warned[err.Error()] {
		if s.warned == nil {
			s.warned = map[string]bool{}
		}
		s.warned[err.Error()] = true
		s.warn("Warning: .editorconfig of %s: %v", file, err)
	}
	if def != nil {
		o.Tabs = def.IndentStyle == editorconfig.IndentStyleTab
		o.Width = indentWidth(def)
	}
	if s.tabs != nil {
		o.Tabs = *s.tabs
	}
	if s.width != nil {
		o.Width = *s.width
	}
	return o
}

// indentWidth is the number of spaces of a level, 0 when nothing sensible is
// said.
func indentWidth(def *editorconfig.Definition) int {
	width := def.TabWidth
	if def.IndentSize != "tab" && def.IndentSize != "" {
		n, err := strconv.Atoi(def.IndentSize)
		if err != nil {
			return 0
		}
		width = n
	}
	if width < 1 || width > maxIndent {
		return 0
	}
	return width
}
