package main

import (
	"errors"

	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/kube/manifest"
)

// placed gives the errors of manifests the form in which errors are printed.
func placed(err error) error {
	var list []error
	for _, e := range manifest.Errors(err) {
		var m *manifest.Error
		if !errors.As(e, &m) {
			list = append(list, e)
			continue
		}
		what := m.Msg
		if m.Object != "" {
			what = m.Object + ": " + what
		}
		list = append(list, &output.Problem{What: what, File: m.Pos.File, Line: m.Pos.Line, Column: m.Pos.Column, Path: m.Field, Fix: m.Hint})
	}
	return errors.Join(list...)
}
