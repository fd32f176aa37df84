package output

import (
	"errors"
	"fmt"
	"strings"
)

// The exit codes of a program.
const (
	OK     = 0
	Failed = 1
	Usage  = 2
)

// Located is an error that knows its place in a file. Line and column count from 1; 0 means not known.
type Located interface {
	error
	Position() (file string, line, column int)
}

// Fielded is an error that knows which field it is about, for example spec.ports[0].port.
type Fielded interface {
	error
	Field() string
}

// Advised is an error that says what the reader can do about it, as a sentence.
type Advised interface {
	error
	Advice() string
}

// Problem is an error with all that a reader wants to know. It is Located, Fielded and Advised.
type Problem struct {
	What         string // what is wrong, and what was expected
	File         string
	Line, Column int
	Path         string // the field
	Fix          string // what to do, as a sentence
	Cause        error
}

func (p *Problem) Error() string {
	if p.Cause == nil {
		return p.What
	}
	if p.What == "" {
		return p.Cause.Error()
	}
	return p.What + ": " + p.Cause.Error()
}

// Unwrap returns the cause.
func (p *Problem) Unwrap() error { return p.Cause }

// Position returns the place in a file.
func (p *Problem) Position() (string, int, int) { return p.File, p.Line, p.Column }

// Field returns the field.
func (p *Problem) Field() string { return p.Path }

// Advice returns what to do.
func (p *Problem) Advice() string { return p.Fix }

// Advise adds to an error what the reader can do about it.
func Advise(err error, fix string) error {
	if err == nil {
		return nil
	}
	return &Problem{Cause: err, Fix: fix}
}

// UsageError is a wrong use of the command line: exit code 2.
type UsageError struct{ Err error }

func (e *UsageError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *UsageError) Unwrap() error { return e.Err }

// Usagef makes a UsageError.
func Usagef(format string, args ...any) error { return &UsageError{fmt.Errorf(format, args...)} }

// Exit ends a program with a code without printing anything, because all was said already.
type Exit struct{ Code int }

func (e Exit) Error() string { return fmt.Sprintf("exit status %d", e.Code) }

// Code returns the exit code that an error stands for.
func Code(err error) int {
	var usage *UsageError
	var exit Exit
	switch {
	case err == nil:
		return OK
	case errors.As(err, &exit):
		return exit.Code
	case errors.As(err, &usage):
		return Usage
	}
	return Failed
}

// Error prints an error on standard error, in the form "error: FILE:LINE:COLUMN: FIELD: what is wrong", followed by what to do. Errors
// that were joined are printed one by one.
func (p *Printer) Error(err error) {
	for _, e := range split(err) {
		var exit Exit
		if errors.As(e, &exit) {
			continue
		}
		p.say(p.errStyle.paint(Red, "error:") + " " + describe(e))
		for _, line := range advice(e) {
			p.say("  " + line)
		}
	}
}

// split takes joined errors apart. An error that adds words of its own to several causes stays whole.
func split(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var list []error
	var texts []string
	for _, e := range joined.Unwrap() {
		list = append(list, split(e)...)
		texts = append(texts, e.Error())
	}
	if err.Error() != strings.Join(texts, "\n") {
		return []error{err}
	}
	return list
}

func describe(err error) string {
	var b strings.Builder
	var located Located
	if errors.As(err, &located) {
		file, line, column := located.Position()
		if file != "" {
			b.WriteString(file)
			if line > 0 {
				fmt.Fprintf(&b, ":%d", line)
				if column > 0 {
					fmt.Fprintf(&b, ":%d", column)
				}
			}
			b.WriteString(": ")
		}
	}
	var fielded Fielded
	if errors.As(err, &fielded) && fielded.Field() != "" {
		b.WriteString(fielded.Field() + ": ")
	}
	// Lower packages often begin their message with the place, to be of use without this package.
	message := err.Error()
	place := b.String()
	if place != "" && strings.HasPrefix(message, place) {
		return message
	}
	return place + message
}

// advice returns the distinct advices of an error and its causes, as lines.
func advice(err error) []string {
	var lines []string
	seen := map[string]bool{}
	var advised Advised
	for ; errors.As(err, &advised); err = errors.Unwrap(advised) {
		text := strings.TrimSpace(advised.Advice())
		if text == "" || seen[text] {
			continue
		}
		seen[text] = true
		lines = append(lines, strings.Split(text, "\n")...)
	}
	return lines
}
