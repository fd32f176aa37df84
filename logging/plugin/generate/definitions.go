package main

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"

	fluentbit "github.com/weft-dev/weft/api/fluentbit/v1alpha2"
	fluentd "github.com/weft-dev/weft/api/fluentd/v1alpha1"
	"github.com/weft-dev/weft/logging/plugin"
)

// schema is a JSON schema.
type schema = map[string]any

// definition is one CustomResourceDefinition.
type definition struct {
	kind, short string
	cluster     bool
	spec        func(t *plugin.Table) schema
}

func definitions(files map[string][]byte) error {
	all := map[string][]definition{
		"fluentbit": {
			{"FluentBit", "fb", false, reflected[fluentbit.FluentBitSpec]},
			{"Collector", "co", false, reflected[fluentbit.CollectorSpec]},
			{"ClusterFluentBitConfig", "cfbc", true, withService[fluentbit.ClusterFluentBitConfigSpec]},
			{"FluentBitConfig", "fbc", false, withService[fluentbit.FluentBitConfigSpec]},
			{"ClusterInput", "cfbi", true, inputs},
			{"ClusterFilter", "cfbf", true, filters}, {"Filter", "fbf", false, filters},
			{"ClusterOutput", "cfbo", true, outputs}, {"Output", "fbo", false, outputs},
			{"ClusterParser", "cfbp", true, parsers}, {"Parser", "fbp", false, parsers},
			{"ClusterMultilineParser", "cfbmp", true, multiline}, {"MultilineParser", "fbmp", false, multiline},
		},
		"fluentd": {
			{"Fluentd", "fd", false, fluentdSpec},
			{"ClusterFluentdConfig", "cfdc", true, reflected[fluentd.ClusterFluentdConfigSpec]}, {"FluentdConfig", "fdc", false, reflected[fluentd.FluentdConfigSpec]},
			{"ClusterInput", "cfdi", true, fluentdPlugins("input")}, {"Input", "fdi", false, fluentdPlugins("input")},
			{"ClusterFilter", "cfdf", true, fluentdPlugins("filter")}, {"Filter", "fdf", false, fluentdPlugins("filter")},
			{"ClusterOutput", "cfdo", true, fluentdPlugins("output")}, {"Output", "fdo", false, fluentdPlugins("output")},
		},
	}
	for _, e := range engines() {
		for _, d := range all[e.table.Engine] {
			text, err := d.yaml(e)
			if err != nil {
				return err
			}
			files[fmt.Sprintf("%s/crds/%s.yaml", e.folder, strings.ToLower(d.kind)+"s")] = text
		}
	}
	return nil
}

func (d definition) yaml(e engine) ([]byte, error) {
	group, plural, scope := e.table.Engine+".fluent.io", strings.ToLower(d.kind)+"s", "Namespaced"
	if d.cluster {
		scope = "Cluster"
	}
	status := ofType(reflect.TypeFor[fluentbit.Status]())
	if e.table.Engine == "fluentd" {
		status = ofType(reflect.TypeFor[fluentd.Status]())
	}
	column := func(name, path string) schema { return schema{"name": name, "type": "string", "jsonPath": path} }
	crd := schema{
		"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
		"metadata": schema{"name": plural + "." + group},
		"spec": schema{
			"group": group, "scope": scope,
			"names": schema{"kind": d.kind, "listKind": d.kind + "List", "plural": plural, "singular": strings.ToLower(d.kind), "shortNames": []string{d.short}},
			"versions": []any{schema{
				"name": e.version, "served": true, "storage": true, "subresources": schema{"status": schema{}},
				"additionalPrinterColumns": []any{
					column("Accepted", `.status.conditions[?(@.type=="Accepted")].status`), column("Reason", `.status.conditions[?(@.type=="Accepted")].reason`),
					schema{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
				},
				"schema": schema{"openAPIV3Schema": schema{"type": "object", "properties": schema{
					"apiVersion": schema{"type": "string"}, "kind": schema{"type": "string"}, "metadata": schema{"type": "object"},
					"spec": d.spec(e.table), "status": status,
				}}},
			}},
		},
	}
	text, err := yaml.Marshal(crd)
	return append([]byte("# Made by logging/plugin/generate from the plugin table. Do not edit.\n"), text...), err
}

func reflected[T any](*plugin.Table) schema { return ofType(reflect.TypeFor[T]()) }

func withService[T any](t *plugin.Table) schema {
	s := ofType(reflect.TypeFor[T]())
	s["properties"].(schema)["service"] = ofOptions(t, t.Plugin("service", "service").Options)
	return s
}

// free is an object of which nothing is known.
func free() schema { return schema{"type": "object", "x-kubernetes-preserve-unknown-fields": true} }

func custom() schema {
	return schema{"type": "object", "properties": schema{"config": schema{"type": "string"}, "yamlConfig": free()}}
}

func inputs(t *plugin.Table) schema  { return plugins(t, "input") }
func outputs(t *plugin.Table) schema { return plugins(t, "output") }

func plugins(t *plugin.Table, kind string) schema {
	s := ofOptions(t, t.Common(kind).Options)
	properties := s["properties"].(schema)
	for _, p := range t.Kind(kind) {
		properties[p.Field] = ofOptions(t, p.Options)
	}
	properties["customPlugin"], properties["processors"] = custom(), free()
	return s
}

func filters(t *plugin.Table) schema {
	item := schema{}
	for _, p := range t.Kind("filter") {
		item[p.Field] = ofOptions(t, p.Options)
	}
	item["customPlugin"] = custom()
	s := ofOptions(t, t.Common("filter").Options)
	s["properties"].(schema)["filters"] = schema{"type": "array", "items": schema{"type": "object", "properties": item}}
	s["properties"].(schema)["ordinal"] = schema{"type": "integer", "format": "int32"}
	return s
}

func parsers(t *plugin.Table) schema {
	properties := schema{"decoders": schema{"type": "array", "items": ofType(reflect.TypeFor[fluentbit.Decoder]())}}
	for _, p := range t.Kind("parser") {
		properties[p.Field] = ofOptions(t, p.Options)
	}
	return schema{"type": "object", "properties": properties}
}

func multiline(t *plugin.Table) schema {
	return ofOptions(t, t.Plugin("multiline_parser", "regex").Options)
}

func fluentdItem(t *plugin.Table, kind string) schema {
	s := ofOptions(t, t.Common(kind).Options)
	for _, p := range t.Kind(kind) {
		s["properties"].(schema)[p.Field] = ofOptions(t, p.Options)
	}
	s["properties"].(schema)["customPlugin"] = ofType(reflect.TypeFor[fluentd.CustomPlugin]())
	return s
}

func fluentdPlugins(kind string) func(*plugin.Table) schema {
	return func(t *plugin.Table) schema {
		return schema{"type": "object", "properties": schema{kind + "s": schema{"type": "array", "items": fluentdItem(t, kind)}}}
	}
}

func fluentdSpec(t *plugin.Table) schema {
	s := ofType(reflect.TypeFor[fluentd.FluentdSpec]())
	s["properties"].(schema)["globalInputs"] = schema{"type": "array", "items": fluentdItem(t, "input")}
	return s
}

// ofOptions is the schema of an object with the fields of options.
func ofOptions(t *plugin.Table, options []*plugin.Option) schema {
	return ofMembers(t, tree(options))
}

func ofMembers(t *plugin.Table, members []*member) schema {
	properties := schema{}
	var required []string
	for _, m := range members {
		var s schema
		switch {
		case len(m.members) > 0:
			s = ofMembers(t, m.members)
		case m.option.Group != "":
			s = ofOptions(t, t.Groups[m.option.Group].Options)
		default:
			s = ofOption(m.option)
		}
		if m.list {
			s = schema{"type": "array", "items": s}
		}
		if m.option != nil && m.option.Required {
			required = append(required, m.name)
		}
		properties[m.name] = s
	}
	s := schema{"type": "object", "properties": properties}
	if required != nil {
		slices.Sort(required)
		s["required"] = required
	}
	return s
}

func ofOption(o *plugin.Option) schema {
	s := schema{}
	switch o.Shape {
	case "string":
		s["type"] = "string"
		if o.Pattern != nil {
			s["pattern"] = o.Pattern.String()
		}
	case "boolean", "integer", "number":
		s["type"] = o.Shape
		if o.Min != nil {
			s["minimum"] = *o.Min
		}
		if o.Max != nil {
			s["maximum"] = *o.Max
		}
	case "list":
		return schema{"type": "array", "items": schema{"type": "string"}}
	case "map":
		return schema{"type": "object", "additionalProperties": schema{"type": "string"}}
	case "secret":
		return ofType(reflect.TypeFor[fluentbit.Secret]())
	case "script":
		return schema{"type": "object", "x-kubernetes-map-type": "atomic", "required": []string{"key"},
			"properties": schema{"key": schema{"type": "string"}, "name": schema{"type": "string", "default": ""}, "optional": schema{"type": "boolean"}}}
	case "rules":
		return schema{"type": "array", "items": ofType(reflect.TypeFor[fluentbit.MultilineRule]())}
	case "records":
		return schema{"type": "array", "items": ofType(reflect.TypeFor[fluentd.Record]())}
	}
	if len(o.Enum) > 0 && !o.Has("values") {
		s["enum"] = enum(o.Enum, o.Shape == "integer")
	}
	if preset, ok := o.Render["preset"]; ok {
		s["default"] = presetOf(o, preset)
	}
	return s
}

func presetOf(o *plugin.Option, preset string) any {
	switch o.Shape {
	case "boolean":
		return preset == "true"
	case "integer":
		n, _ := strconv.ParseInt(preset, 10, 64)
		return n
	}
	return preset
}

func enum(values []string, number bool) []any {
	var all []any
	for _, v := range values {
		if n, err := strconv.ParseInt(v, 10, 64); err == nil && number {
			all = append(all, n)
		} else {
			all = append(all, v)
		}
	}
	return all
}

// ofType is the schema of a Go type with JSON tags, by the rules of controller-gen.
func ofType(t reflect.Type) schema {
	switch t.String() {
	case "resource.Quantity":
		return schema{"anyOf": []any{schema{"type": "integer"}, schema{"type": "string"}}, "x-kubernetes-int-or-string": true,
			"pattern": `^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$`}
	case "intstr.IntOrString":
		return schema{"anyOf": []any{schema{"type": "integer"}, schema{"type": "string"}}, "x-kubernetes-int-or-string": true}
	case "v1.Time":
		return schema{"type": "string", "format": "date-time"}
	case "v1.ObjectMeta":
		return schema{"type": "object", "x-kubernetes-preserve-unknown-fields": true}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return ofType(t.Elem())
	case reflect.String:
		return schema{"type": "string"}
	case reflect.Bool:
		return schema{"type": "boolean"}
	case reflect.Int32:
		return schema{"type": "integer", "format": "int32"}
	case reflect.Int64, reflect.Int:
		return schema{"type": "integer", "format": "int64"}
	case reflect.Float64:
		return schema{"type": "number"}
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return schema{"type": "string", "format": "byte"}
		}
		return schema{"type": "array", "items": ofType(t.Elem())}
	case reflect.Map:
		if t.Elem().Kind() == reflect.Interface {
			return free()
		}
		return schema{"type": "object", "additionalProperties": ofType(t.Elem())}
	case reflect.Struct:
		return ofStruct(t)
	}
	return free()
}

func ofStruct(t reflect.Type) schema {
	properties := schema{}
	var required []string
	for i := range t.NumField() {
		f := t.Field(i)
		name, rest, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous && name == "" {
			inner := ofType(f.Type)
			for k, v := range inner["properties"].(schema) {
				properties[k] = v
			}
			if r, ok := inner["required"].([]string); ok {
				required = append(required, r...)
			}
			continue
		}
		if name == "" || name == "-" {
			continue
		}
		s := ofType(f.Type)
		if values := f.Tag.Get("enum"); values != "" {
			s["enum"] = enum(strings.Split(values, ","), false)
		}
		if preset := f.Tag.Get("default"); preset != "" {
			s["default"] = preset
		}
		properties[name] = s
		if !strings.Contains(rest, "omitempty") && f.Type.Kind() != reflect.Pointer && !lenient[t.String()+"."+name] {
			required = append(required, name)
		}
	}
	s := schema{"type": "object", "properties": properties}
	if required != nil {
		slices.Sort(required)
		s["required"] = required
	}
	return s
}

// lenient are fields that Kubernetes' types always write but do not ask for.
var lenient = map[string]bool{"v1.ProjectedVolumeSource.sources": true}
