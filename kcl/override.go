package kcl

import (
	"fmt"
	"maps"

	"github.com/weft-dev/weft/kcl/override"
)

// Overridden is the text of the files of the main package, by name, with the
// overrides applied.
func (o Options) Overridden() (map[string]string, error) {
	changed, err := o.overridden()
	return changed.Code, err
}

// overridden are the options with the -O specifications applied to the text of
// the main package.
func (o Options) overridden() (Options, error) {
	sources, err := o.sources()
	if err != nil {
		return o, err
	}
	texts := make([]string, len(sources))
	for i, s := range sources {
		if s.Text != nil {
			texts[i] = *s.Text
			continue
		}
		if o.FileSystem == nil {
			return o, fmt.Errorf("%s: the run has no file system to read it from", s.Name)
		}
		data, err := o.FileSystem.ReadFile(s.Name)
		if err != nil {
			return o, err
		}
		texts[i] = string(data)
	}
	if texts, err = override.Apply(texts, o.Overrides); err != nil {
		return o, err
	}
	code := maps.Clone(o.Code)
	if code == nil {
		code = map[string]string{}
	}
	o.Files = nil
	for i, s := range sources {
		o.Files = append(o.Files, s.Name)
		code[s.Name] = texts[i]
	}
	o.Code, o.Overrides = code, nil
	return o, nil
}
