package manifest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Reader reads manifests. The zero value is ready.
type Reader struct {
	Limits Limits
	// Recursive makes folders be read with all folders below them; like kubectl, the default is the folder alone.
	Recursive bool
	// Stdin is what the path "-" stands for.
	Stdin io.Reader
	// Repair, if set, changes the text of a file before it is parsed. It must not move lines.
	Repair func(file string, data []byte) []byte
}

// Extensions are the endings of the files that are read from a folder.
var Extensions = []string{".json", ".yaml", ".yml"}

// Read reads files and folders ("-" is standard input) in the given order, a folder's files sorted by name. Either all
// objects are good and returned, or the error joins everything that is wrong with any of them (see Errors).
func (r Reader) Read(ctx context.Context, paths ...string) ([]Object, error) {
	lim := r.Limits.orDefault()
	var objects []Object
	var errs []error
	for _, path := range paths {
		if path == "-" {
			got, err := r.readFrom(r.Stdin, "stdin", lim)
			objects, errs = append(objects, got...), append(errs, Errors(err)...)
			continue
		}
		files, err := r.files(path, lim)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, file := range files {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			got, err := r.readFile(file, lim)
			objects, errs = append(objects, got...), append(errs, Errors(err)...)
			if len(objects) > lim.Objects {
				return nil, errors.Join(append(errs, &Error{Pos: Position{File: file}, Msg: fmt.Sprintf("more than %d objects in one set", lim.Objects)})...)
			}
		}
	}
	errs = append(errs, Duplicates(objects)...)
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return objects, nil
}

// files lists the manifest files that a path stands for.
func (r Reader) files(path string, lim Limits) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fileError(path, err)
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	var files []string
	err = filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		hidden := strings.HasPrefix(d.Name(), ".")
		if d.IsDir() {
			if p != path && (hidden || !r.Recursive) {
				return filepath.SkipDir
			}
			return nil
		}
		if !hidden && slices.Contains(Extensions, filepath.Ext(p)) {
			files = append(files, p)
		}
		if len(files) > lim.Files {
			return fmt.Errorf("more than %d manifest files", lim.Files)
		}
		return nil
	})
	if err != nil {
		return nil, fileError(path, err)
	}
	if len(files) == 0 {
		return nil, &Error{Pos: Position{File: path}, Msg: "no .yaml, .yml or .json file in this folder"}
	}
	return files, nil
}

func fileError(path string, err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		err = p.Err
	}
	return &Error{Pos: Position{File: path}, Msg: err.Error()}
}

func (r Reader) readFile(path string, lim Limits) ([]Object, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fileError(path, err)
	}
	defer f.Close()
	return r.readFrom(f, path, lim)
}

func (r Reader) readFrom(in io.Reader, name string, lim Limits) ([]Object, error) {
	if in == nil {
		return nil, &Error{Pos: Position{File: name}, Msg: "there is no standard input to read from"}
	}
	data, err := io.ReadAll(io.LimitReader(in, lim.FileBytes+1))
	if err != nil {
		return nil, fileError(name, err)
	}
	if int64(len(data)) > lim.FileBytes {
		return nil, &Error{Pos: Position{File: name}, Msg: fmt.Sprintf("larger than %d bytes", lim.FileBytes)}
	}
	if r.Repair != nil {
		data = r.Repair(name, data)
	}
	return parse(name, data, lim)
}

// Parse reads the objects of one file's content; file names it in errors. Like Read it returns all objects or an error
// that joins everything wrong, except that identities are not compared.
func Parse(file string, data []byte, limits Limits) ([]Object, error) {
	return parse(file, data, limits.orDefault())
}

func parse(file string, data []byte, lim Limits) ([]Object, error) {
	docs, errs := parseDocuments(file, data, lim)
	var objects []Object
	for _, doc := range docs {
		got, docErrs := expand(file, doc, lim)
		objects, errs = append(objects, got...), append(errs, docErrs...)
		if len(objects) > lim.Objects {
			errs = append(errs, &Error{Pos: Position{File: file}, Msg: fmt.Sprintf("more than %d objects", lim.Objects)})
			break
		}
	}
	if len(errs) > 0 {
		slices.SortStableFunc(errs, byPlace)
		return nil, errors.Join(errs...)
	}
	return objects, nil
}

func byPlace(a, b error) int {
	var x, y *Error
	if !errors.As(a, &x) || !errors.As(b, &y) {
		return 0
	}
	return cmp.Or(cmp.Compare(x.Pos.Line, y.Pos.Line), cmp.Compare(x.Pos.Column, y.Pos.Column))
}

// parseDocuments takes a file that begins with a brace for JSON, and, unless its name says so, for YAML if that fails.
func parseDocuments(file string, data []byte, lim Limits) ([]*node, []error) {
	json := filepath.Ext(file) == ".json"
	if trimmed := bytes.TrimLeft(data, " \t\r\n"); json || bytes.HasPrefix(trimmed, []byte("{")) {
		docs, err := parseJSON(file, data, lim)
		if err == nil {
			return docs, nil
		}
		if json {
			return nil, []error{err}
		}
	}
	return parseYAML(file, data, lim)
}

// expand turns a document into its objects: none for an empty one, the items of a List, else one.
func expand(file string, doc *node, lim Limits) (objects []Object, errs []error) {
	if doc.kind == scalarNode && doc.scalar == nil {
		return nil, nil
	}
	if doc.kind != mapNode {
		return nil, []error{&Error{Pos: Position{File: file, Line: doc.line, Column: doc.column},
			Msg: "expected a Kubernetes object (a map with apiVersion, kind and metadata)"}}
	}
	if items := doc.field("items"); items != nil && isList(doc) {
		if items.kind == scalarNode && items.scalar == nil {
			return nil, nil
		}
		if items.kind != listNode {
			return nil, []error{&Error{Pos: Position{File: file, Line: items.line, Column: items.column}, Field: "items", Msg: "expected a list of objects"}}
		}
		for _, item := range items.items {
			got, itemErrs := expand(file, item, lim)
			objects, errs = append(objects, got...), append(errs, itemErrs...)
			if len(objects) > lim.Objects {
				return nil, append(errs, &Error{Pos: Position{File: file}, Msg: fmt.Sprintf("more than %d objects", lim.Objects)})
			}
		}
		return objects, errs
	}
	budget := lim.Values
	v, ok := doc.value(&budget)
	if !ok {
		return nil, []error{&Error{Pos: Position{File: file, Line: doc.line, Column: doc.column},
			Msg: fmt.Sprintf("more than %d values in one document after its aliases are expanded", lim.Values)}}
	}
	o := Object{Unstructured: &unstructured.Unstructured{Object: v.(map[string]any)}, tree: doc, file: file}
	if errs = check(o); len(errs) > 0 {
		return nil, errs
	}
	dropServerFields(o.Unstructured)
	return []Object{o}, nil
}

// isList tells a List (core v1 or a typed one such as ConfigMapList) from a resource that merely has items.
func isList(doc *node) bool {
	kind := doc.field("kind")
	name, _ := valueOf(kind).(string)
	return strings.HasSuffix(name, "List") && doc.field("spec") == nil
}

func valueOf(n *node) any {
	if n == nil || n.kind != scalarNode {
		return nil
	}
	return n.scalar
}
