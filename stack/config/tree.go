// Package config holds configuration as trees that keep the order of fields and the place where each value was written, whatever
// language it was written in, and reads fields out of them with errors that name place and field.
//
// It knows YAML and nothing of other languages, of files or of what the configuration is for.
package config

import (
	"fmt"
	"math"
	"strconv"
)

// Place is a place in a file. Line and column count from 1; 0 means not known.
type Place struct {
	File         string
	Line, Column int
}

// String is file:line:column, without what is not known.
func (p Place) String() string {
	switch {
	case p.Line == 0:
		return p.File
	case p.Column == 0:
		return fmt.Sprintf("%s:%d", p.File, p.Line)
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// Kind tells the values apart.
type Kind uint8

// The kinds of values.
const (
	Null Kind = iota
	Bool
	Int
	Float
	Text
	List
	Map
)

// Tree is a value. A nil tree stands for a value that is not there.
type Tree struct {
	Kind  Kind
	Bool  bool
	Int   int64
	Float float64
	Text  string
	Items []*Tree
	// Fields are a map's, in the order in which they were written.
	Fields []Field
	// Type is the full name of the schema of a map, such as service.container.Container, where the language has schemas.
	Type string
	At   Place
}

// Field is an entry of a map.
type Field struct {
	Name  string
	Value *Tree
	At    Place
}

// Get returns a field's value, nil if there is none.
func (t *Tree) Get(name string) *Tree {
	if t == nil {
		return nil
	}
	for _, f := range t.Fields {
		if f.Name == name {
			return f.Value
		}
	}
	return nil
}

// With returns a map with a field set, at its place if it is there and else at the end. A nil tree is an empty map.
func (t *Tree) With(f Field) *Tree {
	next := &Tree{Kind: Map}
	if t != nil {
		*next = *t
	}
	next.Fields = append([]Field(nil), next.Fields...)
	for i := range next.Fields {
		if next.Fields[i].Name == f.Name {
			next.Fields[i] = f
			return next
		}
	}
	next.Fields = append(next.Fields, f)
	return next
}

// Without returns a map without a field.
func (t *Tree) Without(name string) *Tree {
	if t.Get(name) == nil {
		return t
	}
	next := *t
	next.Fields = nil
	for _, f := range t.Fields {
		if f.Name != name {
			next.Fields = append(next.Fields, f)
		}
	}
	return &next
}

// Plain is the value as nil, bool, int64, float64, string, []any and map[string]any.
func (t *Tree) Plain() any {
	if t == nil {
		return nil
	}
	switch t.Kind {
	case Bool:
		return t.Bool
	case Int:
		return t.Int
	case Float:
		return t.Float
	case Text:
		return t.Text
	case List:
		list := make([]any, len(t.Items))
		for i, item := range t.Items {
			list[i] = item.Plain()
		}
		return list
	case Map:
		m := make(map[string]any, len(t.Fields))
		for _, f := range t.Fields {
			m[f.Name] = f.Value.Plain()
		}
		return m
	}
	return nil
}

// describe says what a value is, for errors.
func (t *Tree) describe() string {
	switch {
	case t == nil:
		return "nothing"
	case t.Kind == List:
		return "a list"
	case t.Kind == Map:
		return "fields with values"
	case t.Kind == Null:
		return "null"
	case t.Kind == Text:
		return strconv.Quote(t.Text)
	}
	return t.scalar()
}

// scalar is the text of a scalar.
func (t *Tree) scalar() string {
	switch t.Kind {
	case Bool:
		return strconv.FormatBool(t.Bool)
	case Int:
		return strconv.FormatInt(t.Int, 10)
	case Float:
		if t.Float == math.Trunc(t.Float) && math.Abs(t.Float) < 1e15 {
			return strconv.FormatFloat(t.Float, 'f', 1, 64)
		}
		return strconv.FormatFloat(t.Float, 'g', -1, 64)
	}
	return t.Text
}
