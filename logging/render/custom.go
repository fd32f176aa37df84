package render

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/weft-dev/weft/logging/config"
)

// custom makes a section of a customPlugin: of its lines for the classic format or of its values for YAML. If only the other is given it is
// translated. The lines cannot leave their section.
func (b *builder) custom(sectionKind, kind string, spec, object map[string]any, path string) *config.Section {
	for name := range object {
		if name != "config" && name != "yamlConfig" {
			b.fail("UnknownField", path+"."+name, "a customPlugin has config and yamlConfig")
		}
	}
	s := b.head(sectionKind, kind, "", spec)
	lines, _ := object["config"].(string)
	values, _ := object["yamlConfig"].(map[string]any)
	switch {
	case values != nil && (b.format == config.YAML || lines == ""):
		b.tree(s, values, path+".yamlConfig")
		if b.format != config.YAML {
			for _, p := range s.Properties {
				if p.Tree != nil {
					b.fail("NeedsYAML", p.Pos.File, "this value needs configFileFormat: yaml")
				}
			}
		}
	case lines != "":
		b.lines(s, lines, path+".config")
	default:
		b.fail("MissingField", path, "a customPlugin needs config or yamlConfig")
		return nil
	}
	if s.Plugin() == "" {
		b.fail("MissingField", path, "a customPlugin must say its name (Name in config, name in yamlConfig)")
		return nil
	}
	b.nameFirst(s)
	b.ownCustom(s)
	return b.finish(s, b.table.Plugin(kind, s.Plugin()))
}

// nameFirst moves the name to the front in YAML, where an entry begins with it.
func (b *builder) nameFirst(s *config.Section) {
	if b.format != config.YAML {
		return
	}
	slices.SortStableFunc(s.Properties, func(x, y config.Property) int {
		rank := func(p config.Property) int {
			if strings.EqualFold(p.Key, "name") {
				return 0
			}
			return 1
		}
		return rank(x) - rank(y)
	})
}

func (b *builder) lines(s *config.Section, text, path string) {
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line[0] == '#':
			continue
		case line[0] == '[':
			b.fail("InvalidValue", path, "line %d %q begins a section; a customPlugin has keys and values only", i+1, line)
			return
		case line[0] == '@':
			b.fail("InvalidValue", path, "line %d %q is a command, which a customPlugin cannot give", i+1, line)
			return
		}
		key, value, _ := strings.Cut(line, " ")
		value = strings.TrimSpace(value)
		if value == "" {
			b.fail("InvalidValue", path, "line %d %q has no value", i+1, line)
			return
		}
		s.Properties = append(s.Properties, config.Property{Key: key, Value: value, Line: line, Pos: config.Position{File: path}})
	}
}

// tree adds the values of an object as properties, sorted by name, name itself first.
func (b *builder) tree(s *config.Section, object map[string]any, path string) {
	keys := slices.Sorted(maps.Keys(object))
	if i := slices.Index(keys, "name"); i > 0 {
		keys = append([]string{"name"}, slices.Delete(keys, i, i+1)...)
	}
	for _, key := range keys {
		at := path + "." + key
		p := config.Property{Key: key, Pos: config.Position{File: at}}
		switch v := object[key].(type) {
		case nil:
		case []any:
			if slices.ContainsFunc(v, func(item any) bool { _, ok := text(item); return !ok }) {
				p.Tree = node(v)
				s.Properties = append(s.Properties, p)
				continue
			}
			for _, item := range v {
				p.Value, _ = text(item)
				s.Properties = append(s.Properties, p)
			}
		case map[string]any:
			if key == "processors" {
				b.processors(s, v)
				continue
			}
			p.Tree = node(v)
			s.Properties = append(s.Properties, p)
		default:
			p.Value, _ = text(v)
			s.Properties = append(s.Properties, p)
		}
	}
}

func text(value any) (string, bool) {
	switch v := value.(type) {
	case string:
		return v, true
	case map[string]any, []any:
		return "", false
	}
	if n, ok := integer(value); ok {
		return fmt.Sprint(n), true
	}
	return fmt.Sprint(value), true
}

func node(value any) *config.Node {
	n := &config.Node{}
	switch v := value.(type) {
	case map[string]any:
		n.Map = true
		for _, key := range slices.Sorted(maps.Keys(v)) {
			n.Keys = append(n.Keys, config.Key{Name: key})
			n.Items = append(n.Items, node(v[key]))
		}
	case []any:
		n.List = true
		for _, item := range v {
			n.Items = append(n.Items, node(item))
		}
	case string:
		n.Text = v
	default:
		n.Text, _ = text(value)
	}
	return n
}
