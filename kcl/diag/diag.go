// Package diag holds what is wrong with a program, with the codes and texts of
// KCL, and writes it for people and for tools.
package diag

import (
	"fmt"

	"github.com/weft-dev/weft/kcl/syntax"
)

// Level says how bad it is.
type Level int

// The levels.
const (
	Error Level = iota
	Warning
	Suggestion
)

// Kind names what is wrong, such as TypeError. Several kinds share a code.
type Kind string

// The kinds of errors.
const (
	InvalidSyntax          Kind = "InvalidSyntax"
	CannotFindModule       Kind = "CannotFindModule"
	RecursiveLoad          Kind = "RecursiveLoad"
	TypeError              Kind = "TypeError"
	CompileError           Kind = "CompileError"
	EvaluationError        Kind = "EvaluationError"
	IllegalAttributeError  Kind = "IllegalAttributeError"
	IllegalInheritError    Kind = "IllegalInheritError"
	IllegalParameterError  Kind = "IllegalParameterError"
	IllegalArgumentSyntax  Kind = "IllegalArgumentSyntax"
	ImmutableError         Kind = "ImmutableError"
	IndexSignatureError    Kind = "IndexSignatureError"
	UniqueKeyError         Kind = "UniqueKeyError"
	NameError              Kind = "NameError"
	ValueError             Kind = "ValueError"
	InvalidDecoratorTarget Kind = "InvalidDecoratorTarget"
	UnKnownDecorator       Kind = "UnKnownDecorator"
	InvalidDocstring       Kind = "InvalidDocstring"
	InvalidFormatSpec      Kind = "InvalidFormatSpec"
	CompilerWarning        Kind = "CompilerWarning"
	UnusedImportWarning    Kind = "UnusedImportWarning"
	ReimportWarning        Kind = "ReimportWarning"
	ImportPositionWarning  Kind = "ImportPositionWarning"
)

var codes = map[Kind]string{
	CannotFindModule: "E2F04", TypeError: "E2G22", CompileError: "E2L23",
	EvaluationError: "E3M38", IllegalAttributeError: "E2A31",
	IllegalInheritError: "E2D34", IllegalArgumentSyntax: "E1I37",
	UniqueKeyError: "E2L28", CompilerWarning: "W1001",
	UnusedImportWarning: "W1001", ReimportWarning: "W1001", ImportPositionWarning: "W1001",
}

// Code is the code of a kind, such as E2G22.
func (k Kind) Code() string {
	if c, ok := codes[k]; ok {
		return c
	}
	return "E1001"
}

// Message is one place with what is to be said about it.
type Message struct {
	// File is the full path; Source gives the line if it is known.
	File   string
	Source *syntax.File
	// Line is 1-based and 0 when there is none; Col is 0-based, in
	// characters, and -1 when there is none.
	Line, Col int
	// EndLine and EndCol are as Line and Col.
	EndLine, EndCol int
	Text            string
	Note            string
	Suggested       []string
}

// Diagnostic is one error, warning or suggestion.
type Diagnostic struct {
	Level Level
	// Kind is empty for errors of evaluation, which carry no code.
	Kind     Kind
	Messages []Message
}

// MessageAt is a message about a span of a file.
func MessageAt(f *syntax.File, at syntax.Span, text string) Message {
	m := Message{File: f.Name, Source: f, Text: text}
	m.Line, m.Col = f.Position(at.Start)
	m.EndLine, m.EndCol = f.Position(at.End)
	return m
}

// At is an error about a span of a file.
func At(kind Kind, f *syntax.File, at syntax.Span, text string) *Diagnostic {
	return &Diagnostic{Kind: kind, Messages: []Message{MessageAt(f, at, text)}}
}

// Suggest is a hint that belongs to the diagnostic before it.
func Suggest(text string) *Diagnostic {
	return &Diagnostic{Level: Suggestion, Messages: []Message{{Text: text}}}
}

// Unique drops repeated diagnostics and keeps the order.
func Unique(list []*Diagnostic) []*Diagnostic {
	type key struct {
		level     Level
		kind      Kind
		file      string
		line, col int
		text      string
		messages  int
	}
	seen := map[key]bool{}
	var out []*Diagnostic
	for _, d := range list {
		k := key{level: d.Level, kind: d.Kind, messages: len(d.Messages)}
		for _, m := range d.Messages {
			k.text += fmt.Sprintf("%s\x00%s\x00%s:%d:%d\x00", m.Text, m.Note, m.File, m.Line, m.Col)
		}
		if len(d.Messages) > 0 {
			m := d.Messages[0]
			k.file, k.line, k.col = m.File, m.Line, m.Col
		}
		if !seen[k] {
			seen[k] = true
			out = append(out, d)
		}
	}
	return out
}
