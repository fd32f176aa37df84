package render

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/plugin"
	"github.com/weft-dev/weft/logging/resource"
)

// FluentdResources makes resources of a configuration of Fluentd: a Fluentd of this name and namespace that reads the sources, and a Filter or Output of each
// filter and match for the records that no FluentdConfig watches, which are all. A plugin with an option for which resources have no field becomes a
// customPlugin. The resources were rendered and compared: what they cannot hold, or not in its order, is an error with its place.
func FluentdResources(f *config.File, name, namespace, image string) ([]map[string]any, error) {
	r := fluentdReverser{name: name, namespace: namespace}
	labels := func() map[string]any { return map[string]any{"matchLabels": map[string]any{"weft.dev/config": name}} }
	spec := map[string]any{"image": image, "fluentdCfgSelector": labels(), "defaultFilterSelector": labels(), "defaultOutputSelector": labels()}
	documents := []map[string]any{{"apiVersion": "fluentd.fluent.io/v1alpha1", "kind": "Fluentd", "metadata": map[string]any{"name": name, "namespace": namespace}, "spec": spec}}
	var inputs []any
	var sources, rules []*config.Section
	for _, s := range f.Sections {
		switch s.Kind {
		case "system":
			if err := system(s, spec); err != nil {
				return nil, err
			}
		case "source":
			if l, labelled := s.Get("@label"); labelled && l.Value != "@ROOT" {
				return nil, &config.Error{Pos: l.Pos, Message: "resources have no labels of their own; leave out @label, and the label " + l.Value}
			}
			item, err := r.item("input", s)
			if err != nil {
				return nil, err
			}
			inputs, sources = append(inputs, item), append(sources, s)
		case "filter", "match":
			d, err := r.rule(s, len(rules))
			if err != nil {
				return nil, err
			}
			documents, rules = append(documents, d), append(rules, s)
		default:
			return nil, &config.Error{Pos: s.Pos, Message: fmt.Sprintf("resources cannot hold <%s>; there are source, filter, match and system", strings.TrimSpace(s.Kind+" "+s.Arg))}
		}
	}
	for _, p := range f.Properties {
		return nil, &config.Error{Pos: p.Pos, Message: "resources cannot hold " + p.Key + " outside of a section"}
	}
	if inputs != nil {
		spec["globalInputs"] = inputs
	}
	return documents, r.compare(documents, sources, rules)
}

// system takes over what a Fluentd can say of the process.
func system(s *config.Section, spec map[string]any) error {
	for _, p := range s.Properties {
		switch p.Key {
		case "workers":
			n, err := strconv.ParseInt(p.Value, 10, 32)
			if err != nil || n < 1 {
				return &config.Error{Pos: p.ValuePos, Message: fmt.Sprintf("workers: %q is not a number above 0", p.Value)}
			}
			spec["workers"] = n
		case "log_level":
			spec["logLevel"] = p.Value
		case "rpc_endpoint": // every Fluentd of resources has one
		default:
			return &config.Error{Pos: p.Pos, Message: "a Fluentd has no field for " + p.Key + " of <system>"}
		}
	}
	for _, child := range s.Sections {
		return &config.Error{Pos: child.Pos, Message: "a Fluentd has no field for <" + child.Kind + "> of <system>"}
	}
	return nil
}

type fluentdReverser struct{ name, namespace string }

// rule is the resource of a filter or match. Names count, since the order of resources is that of their names.
func (r fluentdReverser) rule(s *config.Section, number int) (map[string]any, error) {
	kind, of, list := "Filter", "filter", "filters"
	if s.Kind == "match" {
		kind, of, list = "Output", "output", "outputs"
	}
	item, err := r.item(of, s)
	if err != nil {
		return nil, err
	}
	return map[string]any{"apiVersion": "fluentd.fluent.io/v1alpha1", "kind": kind,
		"metadata": map[string]any{"name": fmt.Sprintf("%s-%03d", r.name, number), "namespace": r.namespace, "labels": map[string]any{"weft.dev/config": r.name}},
		"spec":     map[string]any{list: []any{item}}}, nil
}

// item is a plugin as an entry of a resource's list: with fields if these become the same section again, else as a customPlugin.
func (r fluentdReverser) item(of string, s *config.Section) (map[string]any, error) {
	table := plugin.Fluentd()
	if p := table.Plugin(of, s.Plugin()); p != nil && p.Field != "" {
		if item, ok := reversedFields(table, p, s); ok && equal(r.made(of, s.Kind, item), s) {
			return item, nil
		}
	}
	text, err := config.Append(nil, config.Fluentd, s)
	if err != nil {
		return nil, err
	}
	return map[string]any{"customPlugin": map[string]any{"config": string(text)}}, nil
}

// made is what an entry becomes when it is rendered; nil if it cannot be.
func (r fluentdReverser) made(of, element string, item map[string]any) *config.Section {
	c := &Compiler{}
	b := c.fluentdBuilder(resource.New(map[string]any{"kind": "Filter", "apiVersion": "fluentd.fluent.io/v1alpha1", "metadata": map[string]any{"name": r.name, "namespace": r.namespace}}, nil), r.namespace)
	s := b.element(of, element, "", item, "spec")
	if slices.ContainsFunc(b.problems, func(p resource.Problem) bool { return p.Severity == resource.Error }) {
		return nil
	}
	return s
}

// reversedFields turns a plugin's properties and sections into fields; ok is false if there is no plain field for one of them.
func reversedFields(table *plugin.Table, p *plugin.Plugin, s *config.Section) (item map[string]any, ok bool) {
	item, fields := map[string]any{}, map[string]any{}
	common := table.Common(p.Kind)
	for _, property := range s.Properties {
		if property.Key == "@type" || property.Key == "@id" && p.Kind != "input" {
			continue
		}
		target, o := fields, ownOption(p, property.Key)
		if o == nil {
			target, o = item, ownOption(common, property.Key)
		}
		if o == nil || property.Embedded || o.Has("in") || !set(target, o, property.Value) {
			return nil, false
		}
	}
	if s.Kind != "source" {
		item["tag"] = s.Arg
	}
	for _, child := range s.Sections {
		if child.Kind == "record" && p.FieldOption("records") != nil {
			records, _ := fields["records"].([]any)
			for _, property := range child.Properties {
				records = append(records, map[string]any{"key": property.Key, "value": property.Value})
			}
			fields["records"] = records
			continue
		}
		target, owner := fields, p
		if !slices.Contains(ownSections(p), child.Kind) {
			target, owner = item, common
		}
		if !reversedSection(table, owner, child, target) {
			return nil, false
		}
	}
	item[p.Field] = fields
	return item, true
}

func ownSections(p *plugin.Plugin) []string {
	var names []string
	for _, o := range p.Options {
		if o.Group != "" {
			names = append(names, o.Group)
		}
	}
	return names
}

// reversedSection sets the field of a section inside of a plugin.
func reversedSection(table *plugin.Table, owner *plugin.Plugin, s *config.Section, target map[string]any) bool {
	i := slices.IndexFunc(owner.Options, func(o *plugin.Option) bool { return o.Group == s.Kind && o.Field != "" })
	if i < 0 {
		return false
	}
	group, fields := table.Groups[s.Kind], map[string]any{}
	for _, property := range s.Properties {
		if o := ownOption(group, property.Key); o == nil || property.Embedded || o.Has("in") || !set(fields, o, property.Value) {
			return false
		}
	}
	if s.Arg != "" {
		fields["tag"] = s.Arg // of a buffer; another section has no such field, which comparing shows
	}
	for _, child := range s.Sections {
		if !reversedSection(table, group, child, fields) {
			return false
		}
	}
	name, many := strings.CutSuffix(owner.Options[i].Field, "[]")
	if strings.Contains(name, ".") || target[name] != nil && !many {
		return false
	}
	if many {
		old, _ := target[name].([]any)
		target[name] = append(old, fields)
		return true
	}
	target[name] = fields
	return true
}

// equal tells whether two sections say the same, in whatever order; an id that resources give does not count.
func equal(made, s *config.Section) bool {
	if made == nil {
		return false
	}
	if made.Text != "" {
		parsed, err := config.Parse("", []byte(made.Text), config.Options{Format: config.Fluentd})
		if err != nil || len(parsed.Sections) != 1 {
			return false
		}
		made = parsed.Sections[0]
	}
	if made.Kind != s.Kind || made.Arg != s.Arg || len(made.Sections) != len(s.Sections) {
		return false
	}
	properties := func(s *config.Section) []string {
		var all []string
		for _, p := range s.Properties {
			if p.Key != "@id" {
				all = append(all, fmt.Sprintf("%s\x00%s\x00%v", p.Key, p.Value, p.Embedded))
			}
		}
		slices.Sort(all)
		return all
	}
	if !slices.Equal(properties(made), properties(s)) {
		return false
	}
	left := slices.Clone(made.Sections)
	for _, child := range s.Sections {
		i := slices.IndexFunc(left, func(c *config.Section) bool { return equal(c, child) })
		if i < 0 {
			return false
		}
		left = slices.Delete(left, i, i+1)
	}
	return true
}

// compare renders the resources, and tells what did not come back.
func (r fluentdReverser) compare(documents []map[string]any, sources, rules []*config.Section) error {
	var all []*resource.Document
	for _, d := range documents {
		all = append(all, resource.New(d, nil))
	}
	var c Compiler
	routers := c.Fluentd(resource.NewSet(all))
	if len(routers) != 1 {
		return fmt.Errorf("the resources become %d configurations", len(routers))
	}
	var made []*config.Section
	for _, e := range routers[0].Sources {
		made = append(made, e.Section)
	}
	for i, s := range sources {
		if i >= len(made) || !equal(made[i], s) {
			return &config.Error{Pos: s.Pos, Message: "resources cannot hold this source"}
		}
	}
	made = nil
	for _, l := range routers[0].Labels {
		made = append(made, l.section(false).Sections...)
	}
	for i, s := range rules {
		if i >= len(made) || !equal(made[i], s) {
			return &config.Error{Pos: s.Pos, Message: fmt.Sprintf("resources cannot hold <%s %s> in this place: filters come before outputs, of both those with the pattern ** come last, and a pattern has one output", s.Kind, s.Arg)}
		}
	}
	for _, p := range routers[0].Problems {
		if p.Severity == resource.Error {
			return p
		}
	}
	return nil
}
