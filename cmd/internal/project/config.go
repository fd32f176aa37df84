package project

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Place is a place in a file. Line and column count from 1; 0 means not known.
type Place struct {
	File         string
	Line, Column int
}

// String returns file:line:column without the parts that are unknown.
func (p Place) String() string {
	s := p.File
	if p.Line > 0 {
		s += fmt.Sprintf(":%d:%d", p.Line, p.Column)
	}
	return s
}

// Error is something wrong with a project's configuration.
type Error struct {
	Place Place
	Path  string // the field, for example images.guestbook.source
	What  string // what is wrong and what was expected
	Fix   string
}

func (e *Error) Error() string { return e.What }

// Position returns the place in the file.
func (e *Error) Position() (file string, line, column int) {
	return e.Place.File, e.Place.Line, e.Place.Column
}

// Field returns the field.
func (e *Error) Field() string { return e.Path }

// Advice says what to do.
func (e *Error) Advice() string { return e.Fix }

// parse reads the configuration:
//
//	version: 1               # of this format
//	name: guestbook          # default: the folder's name
//	namespace: default
//	manifests: [k8s]         # files and folders; default: k8s, kubernetes, manifests or deploy
//	registry: ghcr.io/me     # where images go for clusters other than the embedded one
//	images:
//	  guestbook:             # the name that manifests use
//	    source: .            # default: the folder
//	    env: {CGO_ENABLED: "0"}
//	    process: web
func (p *Project) parse(file string, content []byte) error {
	var document yaml.Node
	if err := yaml.Unmarshal(content, &document); err != nil {
		return syntaxError(file, err)
	}
	d := &decoder{file: file}
	if document.Kind == 0 { // nothing but comments
		return nil
	}
	version := 0
	d.mapping(document.Content[0], "", fields{
		"version":   func(n *yaml.Node, at string) { version = d.version(n, at) },
		"name":      func(n *yaml.Node, at string) { p.Name = d.checked(n, at, checkName) },
		"namespace": func(n *yaml.Node, at string) { p.Namespace = d.checked(n, at, checkName) },
		"registry":  func(n *yaml.Node, at string) { p.Registry = strings.TrimRight(d.checked(n, at, checkRegistry), "/") },
		"manifests": func(n *yaml.Node, at string) { p.Manifests = d.paths(n, at, p.Dir) },
		"images":    func(n *yaml.Node, at string) { p.Images = d.images(n, at, p.Dir) },
	})
	if version == 0 && len(d.errs) == 0 {
		d.fail(document.Content[0], "version", "is missing", "Begin the file with: version: 1")
	}
	return errors.Join(d.errs...)
}

// syntaxError takes the line out of the messages of the YAML reader.
func syntaxError(file string, err error) error {
	message := strings.TrimPrefix(err.Error(), "yaml: ")
	e := &Error{Place: Place{File: file}, What: message, Fix: "It must be YAML; see the page of projects in the documentation."}
	var line int
	if n, _ := fmt.Sscanf(message, "line %d:", &line); n == 1 {
		e.Place.Line = line
		_, e.What, _ = strings.Cut(message, ": ")
	}
	return e
}

// decoder reads YAML nodes and collects what is wrong with them.
type decoder struct {
	file string
	errs []error
}

// fields are the known fields of a mapping, with what reads them.
type fields map[string]func(n *yaml.Node, at string)

func (d *decoder) fail(n *yaml.Node, at, what, fix string) {
	d.errs = append(d.errs, &Error{Place: Place{d.file, n.Line, n.Column}, Path: at, What: what, Fix: fix})
}

func join(at, name string) string {
	if at == "" {
		return name
	}
	return at + "." + name
}

// resolve follows an alias. A cycle is impossible, as an anchor is complete before it can be referred to.
func resolve(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

func (d *decoder) mapping(n *yaml.Node, at string, known fields) {
	d.entries(n, at, func(key string, k, v *yaml.Node) {
		read, ok := known[key]
		if !ok {
			names := make([]string, 0, len(known))
			for name := range known {
				names = append(names, name)
			}
			slices.Sort(names)
			d.fail(k, join(at, key), "is no field of "+ConfigName, "Fields here are "+strings.Join(names, ", ")+".")
			return
		}
		read(v, join(at, key))
	})
}

// entries visits the entries of a mapping; each key may be there once.
func (d *decoder) entries(n *yaml.Node, at string, visit func(key string, k, v *yaml.Node)) {
	n = resolve(n)
	if n.Kind != yaml.MappingNode {
		d.fail(n, at, "must be fields with values (name: value), got "+describe(n), "")
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := resolve(n.Content[i])
		switch {
		case k.Kind != yaml.ScalarNode:
			d.fail(k, at, "a field's name must be a word", "")
		case seen[k.Value]:
			d.fail(k, join(at, k.Value), "is there twice", "")
		default:
			seen[k.Value] = true
			visit(k.Value, k, n.Content[i+1])
		}
	}
}

func describe(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Kind == yaml.MappingNode:
		return "fields with values"
	case n.Tag == "!!null":
		return "nothing"
	}
	return fmt.Sprintf("%q", n.Value)
}

func (d *decoder) text(n *yaml.Node, at string) (string, bool) {
	n = resolve(n)
	if n.Kind != yaml.ScalarNode || n.Tag != "!!str" || n.Value == "" {
		d.fail(n, at, "must be a text, got "+describe(n), "")
		return "", false
	}
	return n.Value, true
}

// checked reads a text of which check finds fault or nothing.
func (d *decoder) checked(n *yaml.Node, at string, check func(string) string) string {
	s, ok := d.text(n, at)
	if !ok {
		return ""
	}
	if fault := check(s); fault != "" {
		d.fail(resolve(n), at, fault, "")
		return ""
	}
	return s
}

func (d *decoder) version(n *yaml.Node, at string) int {
	n = resolve(n)
	version := 0
	if n.Kind != yaml.ScalarNode || n.Tag != "!!int" || n.Decode(&version) != nil || version < 1 {
		d.fail(n, at, "must be a whole number from 1 on, got "+describe(n), "Write: version: 1")
		return 0
	}
	if version > Version {
		d.fail(n, at, fmt.Sprintf("is %d, made for a newer weft; this one reads up to version %d", version, Version), "Use the newer weft.")
	}
	return version
}

// path reads a path relative to the project. It must be there.
func (d *decoder) path(n *yaml.Node, at, dir string) string {
	s, ok := d.text(n, at)
	if !ok {
		return ""
	}
	path := s
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	if _, err := os.Stat(path); err != nil {
		d.fail(resolve(n), at, fmt.Sprintf("%s cannot be read: %v", s, errors.Unwrap(err)), "Paths are relative to the folder of "+ConfigName+".")
	}
	return path
}

func (d *decoder) paths(n *yaml.Node, at, dir string) []string {
	n = resolve(n)
	if n.Kind != yaml.SequenceNode || len(n.Content) == 0 {
		d.fail(n, at, "must be a list of files and folders, got "+describe(n), "Write for example: "+at+": [k8s]")
		return nil
	}
	var list []string
	for i, item := range n.Content {
		list = append(list, d.path(item, fmt.Sprintf("%s[%d]", at, i), dir))
	}
	return list
}

func (d *decoder) images(n *yaml.Node, at, dir string) []Image {
	var list []Image
	d.entries(n, at, func(name string, k, v *yaml.Node) {
		where := join(at, name)
		if fault := checkImage(name); fault != "" {
			d.fail(k, where, fault, "It is the name that manifests use in the field image.")
		}
		image := Image{Name: name, Source: dir, At: Place{d.file, k.Line, k.Column}}
		if v = resolve(v); v.Kind == yaml.ScalarNode && v.Tag == "!!null" {
			list = append(list, image)
			return
		}
		d.mapping(v, where, fields{
			"source":  func(n *yaml.Node, at string) { image.Source = d.folder(n, at, dir) },
			"env":     func(n *yaml.Node, at string) { image.Env = d.variables(n, at) },
			"process": func(n *yaml.Node, at string) { image.Process, _ = d.text(n, at) },
		})
		list = append(list, image)
	})
	return list
}

func (d *decoder) folder(n *yaml.Node, at, dir string) string {
	path := d.path(n, at, dir)
	if info, err := os.Stat(path); err == nil && !info.IsDir() {
		d.fail(resolve(n), at, "must be a folder, got a file", "")
	}
	return path
}

func (d *decoder) variables(n *yaml.Node, at string) map[string]string {
	variables := map[string]string{}
	d.entries(n, at, func(name string, k, v *yaml.Node) {
		v = resolve(v)
		if v.Kind != yaml.ScalarNode || v.Tag == "!!null" {
			d.fail(v, join(at, name), "must be a text, got "+describe(v), "")
			return
		}
		variables[name] = v.Value // numbers and booleans are taken as they are written
	})
	return variables
}
