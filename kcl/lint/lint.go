// Package lint finds imports that are of no use or in the wrong place, with the
// texts of upstream (kcl-lang/kcl crates/sema/src/lint). They are warnings: the
// program means the same without them.
//
// The package knows trees and loaded packages, and nothing of types.
package lint

import (
	"github.com/weft-dev/weft/kcl/diag"
	"github.com/weft-dev/weft/kcl/load"
	"github.com/weft-dev/weft/kcl/syntax"
)

const (
	removal = "Consider removing this statement"
	moving  = "Consider moving this statement to the top of the file"
)

// Imports are the warnings about the import statements of a package: those
// below other statements, those that repeat one, and those that nothing uses.
func Imports(p *load.Package) []*diag.Diagnostic {
	var out []*diag.Diagnostic
	warn := func(f *load.File, s *syntax.ImportStmt, kind diag.Kind, text, note string) {
		d := diag.At(kind, f.File, s.Span, text)
		d.Level = diag.Warning
		d.Messages[0].Note = note
		out = append(out, d)
	}
	for _, f := range p.Files {
		f.Stmts() // parsed now, if it was not
		first := firstOther(f.File.Body)
		for _, im := range f.Imports {
			if s := im.Stmt; first >= 0 && f.Line(s.Start) > f.Line(first) {
				warn(f, s, diag.ImportPositionWarning, "The import stmt should be placed at the top of the module", moving)
			}
		}
		seen := map[string]bool{}
		for _, im := range f.Imports {
			s := im.Stmt
			if seen[s.Path.Text] {
				warn(f, s, diag.ReimportWarning, "Module '"+s.Name+"' is reimported multiple times", removal)
			}
			seen[s.Path.Text] = true
		}
	}
	for _, f := range p.Files {
		used := firstNames(f.File)
		for _, im := range f.Imports {
			if s := im.Stmt; !used[s.Name] {
				warn(f, s, diag.UnusedImportWarning, "Module '"+s.Name+"' imported but unused", removal)
			}
		}
	}
	return out
}

// firstOther is where the first statement begins that is no import, or -1.
func firstOther(body []syntax.Stmt) syntax.Pos {
	first := syntax.Pos(-1)
	for _, s := range body {
		if _, ok := s.(*syntax.ImportStmt); !ok {
			if at := s.Range().Start; first < 0 || at < first {
				first = at
			}
		}
	}
	return first
}

// firstNames are the names with which dotted names and types begin.
func firstNames(f *syntax.File) map[string]bool {
	used := map[string]bool{}
	for _, s := range f.Body {
		syntax.Walk(s, func(n syntax.Node) bool {
			switch n := n.(type) {
			case *syntax.Ident:
				if len(n.Names) > 0 {
					used[n.Names[0].Text] = true
				}
			case *syntax.Target:
				used[n.Name.Text] = true
			}
			return true
		})
	}
	return used
}
