package kubernetes

import (
	"errors"
	"fmt"
	"strings"

	"github.com/weft-dev/weft/kube"
	"github.com/weft-dev/weft/kube/manifest"
)

// fault is something wrong with a field of an object; the engine names the object and the place.
type fault struct {
	field, text string
	cause       error
}

func (f *fault) Error() string {
	if f.field == "" {
		return f.text
	}
	return f.field + ": " + f.text
}

// Unwrap returns the cause.
func (f *fault) Unwrap() error { return f.cause }

// FieldPath is the field.
func (f *fault) FieldPath() string { return f.field }

// placed splits errors of package kube into one for each field.
func placed(err error) error {
	if err == nil {
		return nil
	}
	var all []error
	for _, e := range manifest.Errors(err) {
		var m *manifest.Error
		var c *kube.ConflictError
		switch {
		case errors.As(e, &m):
			text := m.Msg
			if m.Hint != "" {
				text += "; " + m.Hint
			}
			all = append(all, &fault{m.Field, text, e})
		case errors.As(e, &c):
			for _, one := range c.Conflicts {
				all = append(all, &fault{strings.TrimPrefix(one.Field, "."), fmt.Sprintf("is set by %q to another value; leave the field out, or force to take it over", one.Manager), e})
			}
		default:
			all = append(all, e)
		}
	}
	if len(all) == 1 {
		return all[0]
	}
	return errors.Join(all...)
}
