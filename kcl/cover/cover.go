// Package cover tells which statements of a program its tests ran.
//
// Counted are assignments, expressions, assertions, conditions, attributes with
// a default and checks, each by the place where it begins; declarations are not,
// since they do nothing by themselves. The package knows trees, loaded packages
// and what the evaluator noted.
package cover

import (
	"fmt"
	"sort"

	"github.com/weft-dev/weft/kcl/eval"
	"github.com/weft-dev/weft/kcl/load"
	"github.com/weft-dev/weft/kcl/syntax"
)

// Profile collects the statements of programs and which of them ran. The zero
// value is ready.
type Profile struct {
	// Ran is to be given to the runs.
	Ran   eval.Coverage
	files map[string]*load.File
}

// Add counts the files of a program for which own gives true: those of the main
// package and of the packages that it imports.
func (p *Profile) Add(program *load.Program, own func(file string) bool) {
	if p.files == nil {
		p.files = map[string]*load.File{}
	}
	for _, pkg := range append([]*load.Package{program.Main}, program.Order...) {
		for _, f := range pkg.Files {
			if own(f.Name) {
				p.files[f.Name] = f
			}
		}
	}
}

// File is what ran of one file.
type File struct {
	Name       string `json:"file"`
	Statements int    `json:"statements"`
	Covered    int    `json:"covered"`
	// Missing are the lines on which statements begin that did not run, such as
	// "3" and "7-9".
	Missing []string `json:"missing,omitempty"`
}

// Percent is the share of statements that ran; 100 when there are none.
func Percent(files ...File) float64 {
	all, ran := 0, 0
	for _, f := range files {
		all, ran = all+f.Statements, ran+f.Covered
	}
	if all == 0 {
		return 100
	}
	return float64(ran) / float64(all) * 100
}

// Files are the files with statements, by name.
func (p *Profile) Files() []File {
	var out []File
	for name, f := range p.files {
		file := File{Name: name}
		var missing []int
		for _, at := range statements(f.Stmts()) {
			file.Statements++
			if p.Ran.Ran(name, at) {
				file.Covered++
			} else {
				missing = append(missing, f.Line(at))
			}
		}
		if file.Statements > 0 {
			file.Missing = ranges(missing)
			out = append(out, file)
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}

// statements are the places where the statements and checks begin that count.
func statements(body []syntax.Stmt) []syntax.Pos {
	var out []syntax.Pos
	for _, s := range body {
		syntax.Walk(s, func(n syntax.Node) bool {
			switch n := n.(type) {
			case *syntax.ImportStmt, *syntax.SchemaStmt, *syntax.RuleStmt, *syntax.TypeAliasStmt:
			case *syntax.SchemaAttr:
				if n.Value != nil {
					out = append(out, n.Start)
				}
			case syntax.Stmt:
				out = append(out, n.Range().Start)
			case *syntax.CheckExpr:
				out = append(out, n.Start)
			}
			return true
		})
	}
	return out
}

// ranges joins lines that follow each other.
func ranges(lines []int) []string {
	sort.Ints(lines)
	var out []string
	for i := 0; i < len(lines); {
		first, last := lines[i], lines[i]
		for i < len(lines) && lines[i] <= last+1 {
			last = lines[i]
			i++
		}
		if first == last {
			out = append(out, fmt.Sprint(first))
		} else {
			out = append(out, fmt.Sprintf("%d-%d", first, last))
		}
	}
	return out
}
