// Package types is the checker: it finds out the types of all names and
// expressions of a program and reports what cannot be right.
package types

import (
	"github.com/weft-dev/weft/kcl/diag"
	"github.com/weft-dev/weft/kcl/load"
	"github.com/weft-dev/weft/kcl/value"
)

// Library tells which names exist without being defined.
type Library interface {
	Builtin(name string) *value.Func
	Member(name string) *value.Func
	Module(path, name string) (value.Value, bool)
}

// Result is what checking gave.
type Result struct{ Diags []*diag.Diagnostic }

// Check checks all packages of a program.
func Check(p *load.Program, lib Library) *Result { return &Result{} }
