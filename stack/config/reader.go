package config

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Problem is something wrong with a configuration.
type Problem struct {
	At   Place
	Path string // the field, for example app.workload.containers.web.image
	What string // what is wrong and what was expected
	Fix  string // what to do; may be empty
}

func (p *Problem) Error() string { return p.What }

// Position returns the place in the file.
func (p *Problem) Position() (file string, line, column int) {
	return p.At.File, p.At.Line, p.At.Column
}

// Field returns the field.
func (p *Problem) Field() string { return p.Path }

// Advice says what to do.
func (p *Problem) Advice() string { return p.Fix }

// maxProblems is how many problems of one document are told.
const maxProblems = 50

// Reader collects what is wrong with a document.
type Reader struct {
	problems []error
}

// Err is all that was wrong, nil if nothing was.
func (r *Reader) Err() error { return errors.Join(r.problems...) }

// Add notes a problem of another making.
func (r *Reader) Add(err error) {
	if err != nil && len(r.problems) < maxProblems {
		r.problems = append(r.problems, err)
	}
}

// Node returns the cursor on a tree. Path is what its field is called in errors.
func (r *Reader) Node(t *Tree, path string) Node { return Node{r: r, tree: t, path: path} }

// Node is a value with its path. Its methods note a problem when the value is not what they read; the zero value of what they
// read is the answer then, and for a value that is not there.
type Node struct {
	r    *Reader
	tree *Tree
	path string
	at   Place // where to look for something that is missing
}

// Tree is the value, nil if it is not there.
func (n Node) Tree() *Tree { return n.tree }

// Path is the field's.
func (n Node) Path() string { return n.path }

// Is says whether there is a value other than null.
func (n Node) Is() bool { return n.tree != nil && n.tree.Kind != Null }

// Place is where the value is written, or what it is missing in.
func (n Node) Place() Place {
	if n.tree != nil && n.tree.At.File != "" {
		return n.tree.At
	}
	return n.at
}

// Fail notes that something is wrong with the value.
func (n Node) Fail(format string, args ...any) { n.FailWith("", format, args...) }

// FailWith notes that something is wrong with the value, and what to do.
func (n Node) FailWith(fix, format string, args ...any) {
	n.r.Add(&Problem{At: n.Place(), Path: n.path, What: fmt.Sprintf(format, args...), Fix: fix})
}

func (n Node) want(kind Kind, what string) bool {
	if !n.Is() {
		return false
	}
	if n.tree.Kind != kind {
		n.Fail("must be %s, got %s", what, n.tree.describe())
		return false
	}
	return true
}

// Field is a field of a map.
func (n Node) Field(name string) Node {
	child := Node{r: n.r, path: Join(n.path, name), at: n.Place()}
	if n.want(Map, "fields with values") {
		child.tree = n.tree.Get(name)
	}
	return child
}

// Required is a field that has to be there.
func (n Node) Required(name string) Node {
	child := n.Field(name)
	if !child.Is() && (!n.Is() || n.tree.Kind == Map) {
		child.Fail("is missing")
	}
	return child
}

// Join appends a field's name to a path.
func Join(path, name string) string {
	if strings.ContainsAny(name, ". ") {
		name = fmt.Sprintf("[%q]", name)
		return path + name
	}
	if path == "" {
		return name
	}
	return path + "." + name
}

// Each visits the fields of a map in the order in which they were written.
func (n Node) Each(visit func(name string, v Node)) {
	if !n.want(Map, "fields with values") {
		return
	}
	for _, f := range n.tree.Fields {
		visit(f.Name, Node{r: n.r, tree: f.Value, path: Join(n.path, f.Name), at: f.At})
	}
}

// Sorted visits the fields of a map in the order of their names.
func (n Node) Sorted(visit func(name string, v Node)) {
	if !n.want(Map, "fields with values") {
		return
	}
	fields := slices.Clone(n.tree.Fields)
	slices.SortFunc(fields, func(a, b Field) int { return cmp.Compare(a.Name, b.Name) })
	for _, f := range fields {
		visit(f.Name, Node{r: n.r, tree: f.Value, path: Join(n.path, f.Name), at: f.At})
	}
}

// Items visits the items of a list.
func (n Node) Items(visit func(i int, v Node)) {
	if !n.want(List, "a list") {
		return
	}
	for i, item := range n.tree.Items {
		visit(i, Node{r: n.r, tree: item, path: fmt.Sprintf("%s[%d]", n.path, i), at: n.Place()})
	}
}

// Text reads a text.
func (n Node) Text() string {
	if n.Is() && (n.tree.Kind == Int || n.tree.Kind == Float || n.tree.Kind == Bool) {
		n.FailWith(fmt.Sprintf("Write it in quotes: %q.", n.tree.scalar()), "must be a text, got %s", n.tree.scalar())
		return ""
	}
	if !n.want(Text, "a text") {
		return ""
	}
	return n.tree.Text
}

// Scalar reads a text, or another scalar as the text that it was written as.
func (n Node) Scalar() string {
	if n.Is() && (n.tree.Kind == Int || n.tree.Kind == Float || n.tree.Kind == Bool) {
		return n.tree.scalar()
	}
	return n.Text()
}

// Bool reads true or false.
func (n Node) Bool() bool { return n.want(Bool, "true or false") && n.tree.Bool }

// Int reads a whole number.
func (n Node) Int() int64 {
	if n.Is() && n.tree.Kind == Float && n.tree.Float == math.Trunc(n.tree.Float) && math.Abs(n.tree.Float) < 1<<53 {
		return int64(n.tree.Float)
	}
	if !n.want(Int, "a whole number") {
		return 0
	}
	return n.tree.Int
}

// IntIn reads a whole number within bounds.
func (n Node) IntIn(least, most int64) int64 {
	v := n.Int()
	if n.Is() && (v < least || v > most) && n.tree.Kind != Text {
		n.Fail("must be a whole number from %d to %d, got %d", least, most, v)
	}
	return v
}

// Float reads a number.
func (n Node) Float() float64 {
	if n.Is() && n.tree.Kind == Int {
		return float64(n.tree.Int)
	}
	if !n.want(Float, "a number") {
		return 0
	}
	return n.tree.Float
}

// Texts reads a list of texts.
func (n Node) Texts() []any {
	var list []any
	n.Items(func(_ int, v Node) { list = append(list, v.Text()) })
	return list
}

// TextMap reads fields whose values are texts.
func (n Node) TextMap() map[string]any {
	if !n.Is() {
		return nil
	}
	m := map[string]any{}
	n.Each(func(name string, v Node) { m[name] = v.Text() })
	return m
}

// Only notes fields that are none of the names.
func (n Node) Only(names ...string) {
	n.Each(func(name string, v Node) {
		if !slices.Contains(names, name) {
			v.FailWith("Fields here are "+strings.Join(names, ", ")+".", "is no field of this")
		}
	})
}
