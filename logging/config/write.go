package config

import (
	"bytes"
	"errors"
	"fmt"
)

// Write gives the text of a configuration in a format. What the format cannot say is an error and never a changed meaning.
func Write(f *File, format Format) ([]byte, error) {
	w := &writer{}
	switch format {
	case Classic:
		w.classicFile(f)
	case YAML:
		if f.Format == Fluentd {
			w.fluentdYAMLFile(f)
		} else {
			w.yamlFile(f)
		}
	case Fluentd:
		for _, p := range f.Properties {
			w.fluentdProperty(p, "")
		}
		for _, s := range f.Sections {
			w.fluentd(s, "")
		}
	default:
		return nil, fmt.Errorf("unknown format %q; there are %s, %s and %s", format, Classic, YAML, Fluentd)
	}
	if len(w.faults) > 0 {
		return nil, errors.Join(w.faults...)
	}
	return w.Bytes(), nil
}

// Append adds sections to text that is already there: the pieces of which a renderer makes a whole. Of YAML it writes entries of
// a list, as they stand below pipeline.inputs.
func Append(text []byte, format Format, sections ...*Section) ([]byte, error) {
	w := &writer{Buffer: *bytes.NewBuffer(text)}
	for _, s := range sections {
		switch format {
		case Classic:
			w.classic(s)
		case YAML:
			w.yamlItem(s, "    ")
		case Fluentd:
			w.fluentd(s, "")
		}
	}
	if len(w.faults) > 0 {
		return nil, errors.Join(w.faults...)
	}
	return w.Bytes(), nil
}

type writer struct {
	bytes.Buffer
	faults []error
}

func (w *writer) fault(pos Position, format string, args ...any) {
	w.faults = append(w.faults, fault(pos, format, args...))
}
