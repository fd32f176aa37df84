// Package manifest reads Kubernetes objects from YAML and JSON files and folders and remembers where every field was
// written, so that a later error, whoever finds it, can name file, line and column.
//
// A value means what kubectl takes it to mean (YAML 1.1 as read by sigs.k8s.io/yaml): `yes` is a boolean, 0644 is an
// octal number. The package must not know a cluster: it checks only what holds for every object.
package manifest

import (
	"errors"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Position is a place in a file. Line and Column count from 1, Column in characters; 0 means unknown.
type Position struct {
	File   string `json:"file,omitempty"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
}

// String returns file:line:column without the parts that are unknown.
func (p Position) String() string {
	s := p.File
	if p.Line > 0 {
		s += fmt.Sprintf(":%d", p.Line)
		if p.Column > 0 {
			s += fmt.Sprintf(":%d", p.Column)
		}
	}
	return s
}

// Object is a Kubernetes object and where it was written.
type Object struct {
	*unstructured.Unstructured
	tree *node
	file string
}

// New returns an object that was not read from a file; origin says in errors where it comes from.
func New(u *unstructured.Unstructured, origin string) Object {
	return Object{Unstructured: u, file: origin}
}

// Start is where the object begins.
func (o Object) Start() Position {
	if o.tree == nil {
		return Position{File: o.file}
	}
	return Position{File: o.file, Line: o.tree.line, Column: o.tree.column}
}

// Position is where a field was written. The path is spelled as API servers spell it in errors:
// spec.template.spec.containers[0].image, .spec.ports[port=80,protocol="TCP"].name, metadata.labels[a.b/c].
// If the field was not written, exact is false and the position is that of the nearest parent that was.
func (o Object) Position(path string) (pos Position, exact bool) {
	if o.tree == nil {
		return Position{File: o.file}, false
	}
	line, column, exact := o.tree.find(path)
	return Position{File: o.file, Line: line, Column: column}, exact
}

// Identity is what makes an object the same object in a cluster, whatever version it is written in.
type Identity struct {
	Group     string `json:"group,omitempty"`
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

// Identity returns the object's identity.
func (o Object) Identity() Identity { return IdentityOf(o.Unstructured) }

// IdentityOf returns the identity of any object.
func IdentityOf(u *unstructured.Unstructured) Identity {
	gvk := u.GroupVersionKind()
	return Identity{Group: gvk.Group, Kind: gvk.Kind, Namespace: u.GetNamespace(), Name: u.GetName()}
}

// GroupKind returns group and kind.
func (i Identity) GroupKind() schema.GroupKind { return schema.GroupKind{Group: i.Group, Kind: i.Kind} }

// String returns for example Deployment default/web, ClusterRole reader or Certificate.cert-manager.io default/tls:
// the group is named unless it is one of Kubernetes' own.
func (i Identity) String() string {
	s := i.Kind
	if i.Group != "" && strings.Contains(i.Group, ".") && !strings.HasSuffix(i.Group, ".k8s.io") {
		s += "." + i.Group
	}
	s += " "
	if i.Namespace != "" {
		s += i.Namespace + "/"
	}
	return s + i.Name
}

// Error is something wrong with a manifest, with its place.
type Error struct {
	Pos    Position
	Object string // kind and name, when they are known
	Field  string // path of the field, empty if it concerns the whole object or file
	Msg    string // what is wrong and what was expected
	Hint   string // what to do, may be empty
}

// Error returns one line, and the hint behind a semicolon.
func (e *Error) Error() string {
	var parts []string
	if p := e.Pos.String(); p != "" {
		parts = append(parts, p)
	}
	if e.Object != "" {
		parts = append(parts, e.Object)
	}
	if e.Field != "" {
		parts = append(parts, e.Field)
	}
	s := strings.Join(append(parts, e.Msg), ": ")
	if e.Hint != "" {
		s += "; " + e.Hint
	}
	return s
}

// ErrorAt returns an Error about a field of the object, placed where the field was written.
func (o Object) ErrorAt(field, msg, hint string) *Error {
	field = strings.TrimPrefix(field, ".")
	pos := o.Start()
	if field != "" {
		if p, _ := o.Position(field); p.Line > 0 {
			pos = p
		}
	}
	return &Error{Pos: pos, Object: o.Identity().String(), Field: field, Msg: msg, Hint: hint}
}

// Errors splits an error made by errors.Join into its parts; any other error is the only part.
func Errors(err error) []error {
	if err == nil {
		return nil
	}
	var joined interface{ Unwrap() []error }
	if !errors.As(err, &joined) {
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, Errors(e)...)
	}
	return all
}

// Limits bound what a reader accepts. A zero field stands for its default.
type Limits struct {
	FileBytes int64 // size of one file; default 32 MiB
	Files     int   // files below one folder; default 10,000
	Objects   int   // objects in all; default 20,000
	Depth     int   // nesting of maps and lists; default 200
	Values    int   // values in one document after aliases are expanded; default 500,000
}

func (l Limits) orDefault() Limits {
	set := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	if l.FileBytes <= 0 {
		l.FileBytes = 32 << 20
	}
	set(&l.Files, 10_000)
	set(&l.Objects, 20_000)
	set(&l.Depth, 200)
	set(&l.Values, 500_000)
	return l
}

// With returns the object with other content (labels added, a namespace filled in) that was written at the same place.
func (o Object) With(u *unstructured.Unstructured) Object {
	o.Unstructured = u
	return o
}
