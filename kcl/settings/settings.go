// Package settings reads kcl.yaml, the file that keeps the options of a run.
//
// The format is that of kcl-lang/kcl crates/config/src/settings.rs: a mapping
// kcl_cli_configs with what the command line can say, and a list kcl_options
// of arguments with key and value.
//
// The package knows values and YAML, nothing of programs.
package settings

import (
	"errors"
	"fmt"

	"github.com/weft-dev/weft/kcl/plan"
	"github.com/weft-dev/weft/kcl/value"
)

// DefaultName is the settings file that a run reads without being told.
const DefaultName = "kcl.yaml"

// Settings are what a settings file says. A nil pointer or slice is what it
// does not say.
type Settings struct {
	Files         []string
	Output        string
	Overrides     []string
	PathSelectors []string
	PackageMaps   map[string]string
	Arguments     []Argument

	StrictRangeCheck, DisableNone, Debug, SortKeys, ShowHidden, SchemaTypes *bool
}

// Argument is an argument of the program: Value is its text as JSON.
type Argument struct{ Key, Value string }

// Parse reads the text of a settings file; name is for messages. Keys that it
// does not know are ignored, as upstream does.
func Parse(name, text string) (*Settings, error) {
	s, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("Failed to load '%s', invalid setting file format: %w", name, err)
	}
	return s, nil
}

func parse(text string) (*Settings, error) {
	v, err := plan.ReadYAML(text)
	if err != nil {
		return nil, err
	}
	doc, ok := v.(*value.Dict)
	if !ok {
		return nil, fmt.Errorf("expected a mapping with kcl_cli_configs and kcl_options, got %s", value.TypeName(v))
	}
	s := &Settings{}
	if v, ok := doc.Get("kcl_cli_configs"); ok && !value.IsNull(v) {
		config, ok := v.(*value.Dict)
		if !ok {
			return nil, fmt.Errorf("kcl_cli_configs: expected a mapping, got %s", value.TypeName(v))
		}
		if err := s.config(config); err != nil {
			return nil, err
		}
	}
	if v, ok := doc.Get("kcl_options"); ok && !value.IsNull(v) {
		list, ok := v.(*value.List)
		if !ok {
			return nil, fmt.Errorf("kcl_options: expected a list of key and value, got %s", value.TypeName(v))
		}
		for i, item := range list.Items {
			a, err := option(item)
			if err != nil {
				return nil, fmt.Errorf("kcl_options[%d]: %w", i, err)
			}
			s.Arguments = append(s.Arguments, a)
		}
	}
	return s, nil
}

func option(v value.Value) (Argument, error) {
	d, ok := v.(*value.Dict)
	if !ok {
		return Argument{}, fmt.Errorf("expected key and value, got %s", value.TypeName(v))
	}
	key, _ := d.Get("key")
	name, ok := key.(value.Str)
	if !ok {
		return Argument{}, errors.New("key is missing or no string")
	}
	val, ok := d.Get("value")
	if !ok {
		return Argument{}, fmt.Errorf("value of %s is missing", name)
	}
	return Argument{string(name), plan.JSON(val, plan.Options{}, 0)}, nil
}

func (s *Settings) config(d *value.Dict) error {
	var file, files []string
	for _, list := range []struct {
		key string
		to  *[]string
	}{{"file", &file}, {"files", &files}, {"overrides", &s.Overrides}, {"path_selector", &s.PathSelectors}} {
		if err := stringList(d, list.key, list.to); err != nil {
			return err
		}
	}
	if s.Files = files; len(files) == 0 {
		s.Files = file
	}
	for _, flag := range []struct {
		key string
		to  **bool
	}{
		{"strict_range_check", &s.StrictRangeCheck}, {"disable_none", &s.DisableNone}, {"debug", &s.Debug},
		{"sort_keys", &s.SortKeys}, {"show_hidden", &s.ShowHidden}, {"include_schema_type_path", &s.SchemaTypes},
	} {
		if v, ok := d.Get(flag.key); ok && !value.IsNull(v) {
			b, ok := v.(value.Bool)
			if !ok {
				return fmt.Errorf("kcl_cli_configs.%s: expected true or false, got %s", flag.key, value.TypeName(v))
			}
			on := bool(b)
			*flag.to = &on
		}
	}
	if v, ok := d.Get("output"); ok && !value.IsNull(v) {
		text, ok := v.(value.Str)
		if !ok {
			return fmt.Errorf("kcl_cli_configs.output: expected a file name, got %s", value.TypeName(v))
		}
		s.Output = string(text)
	}
	return s.packages(d)
}

func (s *Settings) packages(d *value.Dict) error {
	v, ok := d.Get("package_maps")
	if !ok || value.IsNull(v) {
		return nil
	}
	maps, ok := v.(*value.Dict)
	if !ok {
		return fmt.Errorf("kcl_cli_configs.package_maps: expected a mapping of names to folders, got %s", value.TypeName(v))
	}
	s.PackageMaps = map[string]string{}
	for _, e := range maps.Entries() {
		path, ok := e.Value.(value.Str)
		if !ok {
			return fmt.Errorf("kcl_cli_configs.package_maps.%s: expected a folder, got %s", e.Key, value.TypeName(e.Value))
		}
		s.PackageMaps[e.Key] = string(path)
	}
	return nil
}

func stringList(d *value.Dict, key string, to *[]string) error {
	v, ok := d.Get(key)
	if !ok || value.IsNull(v) {
		return nil
	}
	l, ok := v.(*value.List)
	if !ok {
		return fmt.Errorf("kcl_cli_configs.%s: expected a list of strings, got %s", key, value.TypeName(v))
	}
	for i, item := range l.Items {
		text, ok := item.(value.Str)
		if !ok {
			return fmt.Errorf("kcl_cli_configs.%s[%d]: expected a string, got %s", key, i, value.TypeName(item))
		}
		*to = append(*to, string(text))
	}
	return nil
}

// Merge lays b over s: what b says counts, and its arguments come after.
func (s *Settings) Merge(b *Settings) {
	if b.Files != nil {
		s.Files = b.Files
	}
	if b.Output != "" {
		s.Output = b.Output
	}
	if b.Overrides != nil {
		s.Overrides = b.Overrides
	}
	if b.PathSelectors != nil {
		s.PathSelectors = b.PathSelectors
	}
	if b.PackageMaps != nil {
		s.PackageMaps = b.PackageMaps
	}
	s.Arguments = append(s.Arguments, b.Arguments...)
	for _, flag := range []struct{ to, from **bool }{
		{&s.StrictRangeCheck, &b.StrictRangeCheck}, {&s.DisableNone, &b.DisableNone}, {&s.Debug, &b.Debug},
		{&s.SortKeys, &b.SortKeys}, {&s.ShowHidden, &b.ShowHidden}, {&s.SchemaTypes, &b.SchemaTypes},
	} {
		if *flag.from != nil {
			*flag.to = *flag.from
		}
	}
}
