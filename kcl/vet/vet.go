// Package vet checks data, JSON or YAML, against a KCL schema: the data becomes
// a syntax tree whose places are those of the data file, so that what is wrong
// is shown where it stands there.
//
// The package knows how to run programs (package kcl) and the two formats.
package vet

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/weft-dev/weft/kcl"
	"github.com/weft-dev/weft/kcl/syntax"
)

// Data is what is checked.
type Data struct {
	// Name is how diagnostics call it, usually its full path.
	Name, Text string
	// Format is "json" or "yaml"; empty means that the name tells.
	Format string
}

// Check runs the program of o with the data as an instance of schema; empty
// means the program's first schema. A list is checked item by item, and each
// document of a YAML stream. attribute is the variable that holds the data,
// "value" when empty. What is wrong with the data is a *kcl.Error.
func Check(ctx context.Context, o kcl.Options, schema, attribute string, d Data) error {
	if schema == "" {
		first, err := firstSchema(ctx, o)
		if err != nil {
			return err
		}
		schema = first
	}
	if attribute == "" {
		attribute = "value"
	}
	trees, err := build(d, schema, attribute)
	if err != nil {
		return err
	}
	for _, tree := range trees {
		run := o
		run.Trees = append(append([]*syntax.File(nil), o.Trees...), tree)
		if _, err := kcl.Run(ctx, run); err != nil {
			return err
		}
	}
	return nil
}

// firstSchema is the name of the first schema of a program, "" without one.
func firstSchema(ctx context.Context, o kcl.Options) (string, error) {
	program, err := kcl.Load(ctx, o)
	if err != nil {
		return "", err
	}
	for _, f := range program.Main.Files {
		for _, s := range f.Body {
			if s, ok := s.(*syntax.SchemaStmt); ok && !s.Mixin && !s.Protocol {
				return s.Name.Text, nil
			}
		}
	}
	return "", nil
}

// build makes a file for each document: attribute = Schema {data}.
func build(d Data, schema, attribute string) ([]*syntax.File, error) {
	format := strings.ToLower(d.Format)
	if format == "" {
		format = "json"
		if ext := filepath.Ext(d.Name); ext == ".yaml" || ext == ".yml" {
			format = "yaml"
		}
	}
	var values []syntax.Expr
	var err error
	switch format {
	case "json":
		values, err = readJSON(d)
	case "yaml", "yml":
		values, err = readYAML(d)
	default:
		return nil, fmt.Errorf("invalid data format %q, expected json or yaml", d.Format)
	}
	if err != nil {
		return nil, err
	}
	var files []*syntax.File
	for _, v := range values {
		v, err := instance(v, schema)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", d.Name, err)
		}
		at := v.Range()
		target := &syntax.Target{Span: at, Name: syntax.Name{Span: at, Text: attribute}}
		files = append(files, &syntax.File{
			Name: d.Name, Src: d.Text,
			Body: []syntax.Stmt{&syntax.AssignStmt{Span: at, Targets: []*syntax.Target{target}, Value: v}},
		})
	}
	return files, nil
}

// instance makes an instance of the schema of a configuration, or of each of a
// list.
func instance(v syntax.Expr, schema string) (syntax.Expr, error) {
	if schema == "" {
		return v, nil
	}
	switch v := v.(type) {
	case *syntax.ConfigExpr:
		id := &syntax.Ident{Span: v.Span}
		for _, part := range strings.Split(schema, ".") {
			id.Names = append(id.Names, syntax.Name{Span: v.Span, Text: part})
		}
		return &syntax.SchemaExpr{Span: v.Span, Name: id, Config: v}, nil
	case *syntax.ListExpr:
		for i, item := range v.Items {
			item, err := instance(item, schema)
			if err != nil {
				return nil, err
			}
			v.Items[i] = item
		}
		return v, nil
	}
	return nil, fmt.Errorf("a %s cannot be an instance of schema %s: expected a mapping or a list of mappings", kind(v), schema)
}

func kind(v syntax.Expr) string {
	switch v := v.(type) {
	case *syntax.StringLit:
		return "string"
	case *syntax.NumberLit, *syntax.UnaryExpr:
		return "number"
	case *syntax.NameLit:
		if v.Value == "None" {
			return "null"
		}
		return "boolean"
	}
	return "value"
}

func number(at syntax.Span, isFloat bool, i int64, f float64) syntax.Expr {
	return &syntax.NumberLit{Span: at, IsFloat: isFloat, Int: i, Float: f}
}

func text(at syntax.Span, s string) *syntax.StringLit {
	return &syntax.StringLit{Span: at, Value: s, Raw: fmt.Sprintf("%q", s)}
}

func boolean(at syntax.Span, b bool) syntax.Expr {
	if b {
		return &syntax.NameLit{Span: at, Value: "True"}
	}
	return &syntax.NameLit{Span: at, Value: "False"}
}

func entry(key *syntax.StringLit, v syntax.Expr) *syntax.ConfigEntry {
	return &syntax.ConfigEntry{Span: syntax.Span{Start: key.Start, End: v.Range().End}, Key: key, Value: v, Op: ":"}
}
