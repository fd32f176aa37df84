package render

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/plugin"
)

// Resources makes resources of a configuration of Fluent Bit, which become this configuration again: one of each section, in its order, and a
// ClusterFluentBitConfig of this name that selects them. A section with an option that resources have no field for becomes a customPlugin.
func Resources(f *config.File, name string) ([]map[string]any, error) {
	labels := map[string]any{"weft.dev/config": name}
	selector := func() map[string]any { return map[string]any{"matchLabels": map[string]any{"weft.dev/config": name}} }
	spec := map[string]any{}
	main := object("ClusterFluentBitConfig", name, nil, spec)
	documents := []map[string]any{main}
	if len(f.Env) > 0 {
		return nil, &config.Error{Pos: f.Env[0].Pos, Message: "resources cannot set variables; set " + f.Env[0].Key + " in the FluentBit's envVars"}
	}
	count := map[string]int{}
	for _, s := range f.Sections {
		number := count[s.Kind]
		count[s.Kind]++
		made, err := reversed(s, name, number, labels)
		if err != nil {
			return nil, err
		}
		switch s.Kind {
		case config.Service:
			spec["service"] = made["spec"]
			continue
		case config.Input:
			spec["inputSelector"] = selector()
		case config.Filter:
			spec["filterSelector"] = selector()
		case config.Output:
			spec["outputSelector"] = selector()
		case config.Parser:
			spec["parserSelector"] = selector()
		case config.MultilineParser:
			spec["multilineParserSelector"] = selector()
		}
		documents = append(documents, made)
	}
	for _, s := range f.Sections {
		if len(s.Sections) > 0 && s.Kind != config.MultilineParser {
			spec["configFileFormat"] = "yaml"
		}
	}
	for _, want := range []string{"inputSelector", "filterSelector", "outputSelector", "parserSelector", "multilineParserSelector"} {
		if spec[want] == nil { // an absent selector would select everything in the cluster
			spec[want] = selector()
		}
	}
	return documents, nil
}

func object(kind, name string, labels map[string]any, spec map[string]any) map[string]any {
	metadata := map[string]any{"name": name}
	if labels != nil {
		metadata["labels"] = labels
	}
	return map[string]any{"apiVersion": "fluentbit.fluent.io/v1alpha2", "kind": kind, "metadata": metadata, "spec": spec}
}

func reversed(s *config.Section, name string, number int, labels map[string]any) (map[string]any, error) {
	table := plugin.FluentBit()
	title := func(kind string) string { return fmt.Sprintf("%s-%s-%03d", name, kind, number) }
	switch s.Kind {
	case config.Service:
		spec, rest := fieldsOf(table, table.Plugin("service", "service"), s.Properties)
		if len(rest) > 0 {
			return nil, &config.Error{Pos: rest[0].Pos, Message: "resources have no field for the service's " + rest[0].Key}
		}
		return map[string]any{"spec": spec}, nil
	case config.Input:
		return reversedPlugin(table, "ClusterInput", "input", title("input"), s, labels)
	case config.Output:
		return reversedPlugin(table, "ClusterOutput", "output", title("output"), s, labels)
	case config.Filter:
		d, err := reversedPlugin(table, "ClusterFilter", "filter", title("filter"), s, labels)
		if err != nil {
			return nil, err
		}
		d["spec"].(map[string]any)["ordinal"] = int64(number)
		return d, nil
	case config.Parser:
		p := table.Plugin("parser", s.Value("format"))
		if p == nil {
			return nil, &config.Error{Pos: s.Pos, Message: "the parser has no known format"}
		}
		spec := map[string]any{}
		var properties []config.Property
		var decoders []any
		for _, property := range s.Properties {
			switch key := strings.ToLower(property.Key); key {
			case "name", "format":
			case "decode_field":
				decoders = append(decoders, map[string]any{"decodeField": property.Value})
			case "decode_field_as":
				decoders = append(decoders, map[string]any{"decodeFieldAs": property.Value})
			default:
				properties = append(properties, property)
			}
		}
		fields, rest := fieldsOf(table, p, properties)
		if len(rest) > 0 {
			return nil, &config.Error{Pos: rest[0].Pos, Message: "resources have no field for a parser's " + rest[0].Key}
		}
		spec[p.Field] = fields
		if decoders != nil {
			spec["decoders"] = decoders
		}
		return object("ClusterParser", s.Value("name"), labels, spec), nil
	case config.MultilineParser:
		spec, rest := fieldsOf(table, table.Plugin("multiline_parser", "regex"), without(s.Properties, "name", "rule"))
		if len(rest) > 0 {
			return nil, &config.Error{Pos: rest[0].Pos, Message: "resources have no field for a multiline parser's " + rest[0].Key}
		}
		rules, err := config.Rules(s)
		if err != nil {
			return nil, &config.Error{Pos: s.Pos, Message: err.Error()}
		}
		var list []any
		for _, r := range rules {
			list = append(list, map[string]any{"start": r[0], "regex": r[1], "next": r[2]})
		}
		if list != nil {
			spec["rules"] = list
		}
		return object("ClusterMultilineParser", s.Value("name"), labels, spec), nil
	}
	return nil, &config.Error{Pos: s.Pos, Message: "there is no resource for a section " + strings.ToUpper(s.Kind)}
}

func without(properties []config.Property, keys ...string) []config.Property {
	var left []config.Property
	for _, p := range properties {
		drop := false
		for _, key := range keys {
			drop = drop || strings.EqualFold(p.Key, key)
		}
		if !drop {
			left = append(left, p)
		}
	}
	return left
}

func reversedPlugin(table *plugin.Table, kind, of, name string, s *config.Section, labels map[string]any) (map[string]any, error) {
	common, rest := fieldsOf(table, table.Common(of), without(s.Properties, "name"))
	for _, child := range s.Sections {
		if child.Kind != config.Processor {
			return nil, &config.Error{Pos: child.Pos, Message: "resources cannot hold a section " + child.Kind}
		}
		processors, _ := common["processors"].(map[string]any)
		if processors == nil {
			processors = map[string]any{}
			common["processors"] = processors
		}
		list, _ := processors[child.Arg].([]any)
		processors[child.Arg] = append(list, valuesOf(child))
	}
	p := table.Plugin(of, s.Plugin())
	if p != nil && p.Field != "" {
		if fields, left := fieldsOf(table, p, rest); len(left) == 0 {
			return object(kind, name, labels, place(of, common, p.Field, fields)), nil
		}
	}
	custom := map[string]any{}
	var lines strings.Builder
	trees := false
	for _, property := range append([]config.Property{{Key: "Name", Value: s.Plugin()}}, rest...) {
		if property.Tree != nil {
			trees = true
			continue
		}
		fmt.Fprintf(&lines, "%s    %s\n", property.Key, property.Value)
	}
	custom["config"] = lines.String()
	if trees {
		custom = map[string]any{"yamlConfig": valuesOf(&config.Section{Properties: append([]config.Property{{Key: "name", Value: s.Plugin()}}, rest...)})}
	}
	return object(kind, name, labels, place(of, common, "customPlugin", custom)), nil
}

func place(of string, spec map[string]any, field string, value map[string]any) map[string]any {
	if of == "filter" {
		spec["filters"] = []any{map[string]any{field: value}}
	} else {
		spec[field] = value
	}
	return spec
}

// valuesOf is a section as plain values.
func valuesOf(s *config.Section) map[string]any {
	values := map[string]any{}
	for _, p := range s.Properties {
		var value any = p.Value
		if p.Tree != nil {
			value = treeValue(p.Tree)
		}
		switch old := values[p.Key].(type) {
		case nil:
			values[p.Key] = value
		case []any:
			values[p.Key] = append(old, value)
		default:
			values[p.Key] = []any{old, value}
		}
	}
	return values
}

func treeValue(n *config.Node) any {
	switch {
	case n.Map:
		m := map[string]any{}
		for i, item := range n.Items {
			m[n.Keys[i].Name] = treeValue(item)
		}
		return m
	case n.List:
		list := []any{}
		for _, item := range n.Items {
			list = append(list, treeValue(item))
		}
		return list
	}
	return n.Text
}

// fieldsOf turns properties into fields; rest are those for which there is no plain field.
func fieldsOf(table *plugin.Table, p *plugin.Plugin, properties []config.Property) (map[string]any, []config.Property) {
	fields := map[string]any{}
	var rest []config.Property
	groups := map[string]string{} // group -> field
	for _, o := range p.Options {
		if o.Group != "" {
			groups[o.Group] = o.Field
		}
	}
	for _, property := range properties {
		key := strings.ToLower(property.Key)
		target, o := fields, ownOption(p, key)
		if o == nil {
			for group, field := range groups {
				if found := ownOption(table.Groups[group], key); found != nil || group == "tls" && key == "tls" {
					inner, _ := fields[field].(map[string]any)
					if inner == nil {
						inner = map[string]any{}
						fields[field] = inner
					}
					target, o = inner, found
					if o == nil { // tls on itself
						if on, err := config.ParseBool(property.Value); err != nil || !on {
							rest = append(rest, property)
						}
						target = nil
					}
				}
			}
			if target == nil {
				continue
			}
		}
		if o == nil || property.Tree != nil || !set(target, o, property.Value) {
			rest = append(rest, property)
		}
	}
	if groups["tls"] == "" {
		return fields, rest
	}
	for _, property := range rest { // a group that lost its switch would change its meaning
		if strings.EqualFold(property.Key, "tls") {
			return map[string]any{}, properties
		}
	}
	if fields[groups["tls"]] != nil {
		for _, property := range properties {
			if strings.EqualFold(property.Key, "tls") {
				return fields, rest
			}
		}
		return map[string]any{}, properties
	}
	return fields, rest
}

func ownOption(p *plugin.Plugin, key string) *plugin.Option {
	for _, o := range p.Options {
		if strings.ToLower(o.Key) == key && o.Field != "" && !o.Refused {
			return o
		}
	}
	return nil
}

// set gives a field its value; false if the field cannot hold exactly this.
func set(fields map[string]any, o *plugin.Option, value string) bool {
	if o.Has("pair") {
		return setPair(fields, o, value)
	}
	if o.Has("special") && o.Shape != "string" || o.Has("word") || o.Has("joined") || o.Has("prefixed") || o.Has("numbered") || o.Has("megabytes") || o.Has("join") ||
		strings.Contains(o.Field, "[]") && o.Field != "rules[].remove" || o.Key == "code" || o.Key == "Parser" && o.Has("special") && strings.Contains(value, ",") {
		return false
	}
	if list, inner, ok := strings.Cut(o.Field, "[]."); ok {
		old, _ := fields[list].([]any)
		fields[list] = append(old, map[string]any{inner: value})
		return true
	}
	at, name := fields, o.Field
	for {
		head, rest, more := strings.Cut(name, ".")
		if !more {
			break
		}
		inner, _ := at[head].(map[string]any)
		if inner == nil {
			inner = map[string]any{}
			at[head] = inner
		}
		at, name = inner, rest
	}
	if at[name] != nil && o.Shape != "list" {
		return false
	}
	switch o.Shape {
	case "string":
		if len(o.Enum) > 0 && !containsExactly(o.Enum, value) || o.Pattern != nil && !o.Pattern.MatchString(value) {
			return false
		}
		at[name] = value
	case "boolean":
		v, err := config.ParseBool(value)
		if err != nil || o.Has("true") && !v {
			return false
		}
		at[name] = v != o.Has("not")
	case "integer":
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil || o.Min != nil && n < *o.Min || o.Max != nil && n > *o.Max || (o.Has("positive") || o.Has("nonzero")) && n <= 0 {
			return false
		}
		at[name] = n
	case "number":
		f, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return false
		}
		at[name] = f
	case "list":
		list, _ := at[name].([]any)
		if o.Has("one") && list != nil {
			return false
		}
		at[name] = append(list, value)
	default: // a secret is a reference; its value stands in the configuration
		return false
	}
	return true
}

// setPair sets "name value" in a map: a header or label, or a rule of the filter modify, of which each is an entry of its own.
func setPair(fields map[string]any, o *plugin.Option, value string) bool {
	name, text, found := strings.Cut(strings.TrimSpace(value), " ")
	text = strings.TrimSpace(text)
	if !found || text == "" {
		return false
	}
	if list, inner, ok := strings.Cut(o.Field, "[]."); ok {
		old, _ := fields[list].([]any)
		fields[list] = append(old, map[string]any{inner: map[string]any{name: text}})
		return true
	}
	m, _ := fields[o.Field].(map[string]any)
	if m == nil {
		m = map[string]any{}
		fields[o.Field] = m
	}
	if m[name] != nil {
		return false
	}
	m[name] = text
	return true
}

func containsExactly(list []string, value string) bool {
	for _, item := range list {
		if item == value {
			return true
		}
	}
	return false
}
