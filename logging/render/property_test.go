package render

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/plugin"
	"github.com/weft-dev/weft/logging/resource"
)

// nasty values try to become something else than a value.
var nasty = []string{
	"a\n[INPUT]\n    Name exec", "a\r\n</match>\n<source>", "#{`id`}", "\"#{`id`}\"", "\"", "'", "a: b\n  - name: exec", "- x", "[x", "{x", "x # y", " x", "</label>", "@include /x", "\u2028", "%{x}",
}

// No field of any plugin lets a value become a section, a property, or Ruby code: it is refused, or read back as it was given.
func TestNoFieldInjects(t *testing.T) {
	for _, table := range []*plugin.Table{plugin.FluentBit(), plugin.Fluentd()} {
		for _, kind := range []string{"input", "filter", "output"} {
			for _, p := range table.Kind(kind) {
				for _, o := range p.Options {
					if o.Shape != "string" && o.Shape != "list" && o.Shape != "map" || o.Refused || o.Field == "" || strings.Contains(o.Field, "[]") || strings.Contains(o.Field, ".") || o.Has("special") {
						continue
					}
					for _, value := range nasty {
						for _, format := range []string{"classic", "yaml"} {
							if table.Engine == "fluentd" && format == "yaml" {
								continue
							}
							inject(t, table, kind, p, o, value, format)
						}
					}
				}
			}
		}
	}
}

func inject(t *testing.T, table *plugin.Table, kind string, p *plugin.Plugin, o *plugin.Option, value, format string) {
	var shaped any = value
	switch o.Shape {
	case "list":
		shaped = []any{value}
	case "map":
		shaped = map[string]any{"k": value}
	}
	object := map[string]any{o.Field: shaped}
	for _, other := range p.Options { // what the plugin cannot be without
		if other.Required && other.Field != o.Field && other.Shape == "string" {
			object[other.Field] = "x"
		}
	}
	where := fmt.Sprintf("%s %s %s, %s: %q", table.Engine, p.Name, o.Field, format, value)
	if table.Engine == "fluentd" {
		item := map[string]any{p.Field: object}
		docs := []*resource.Document{
			made(resource.FluentdGroup, "ClusterFluentdConfig", map[string]any{"clusterInputSelector": map[string]any{}, "clusterFilterSelector": map[string]any{}, "clusterOutputSelector": map[string]any{}}),
			made(resource.FluentdGroup, "Cluster"+strings.ToUpper(kind[:1])+kind[1:], map[string]any{kind + "s": []any{item}}),
		}
		r := (&Compiler{Found: resource.FoundMap{}}).Fluentd(resource.NewSet(docs))[0]
		text, err := r.App()
		if err != nil {
			return
		}
		checkReadBack(t, where, text, config.Fluentd, 6)
		return
	}
	spec := map[string]any{p.Field: object}
	if kind == "filter" {
		spec = map[string]any{"filters": []any{spec}}
	}
	spec["match"] = "*"
	if kind == "input" {
		delete(spec, "match")
	}
	docs := []*resource.Document{
		made(resource.FluentBitGroup, "ClusterFluentBitConfig", map[string]any{"configFileFormat": format}),
		made(resource.FluentBitGroup, "Cluster"+strings.ToUpper(kind[:1])+kind[1:], spec),
	}
	pipeline := (&Compiler{Found: resource.FoundMap{}}).FluentBit(resource.NewSet(docs))[0]
	files, err := pipeline.Files()
	if err != nil {
		t.Errorf("%s: %v", where, err)
		return
	}
	name, as := "fluent-bit.conf", config.Classic
	if format == "yaml" {
		name, as = "fluent-bit.yaml", config.YAML
	}
	checkReadBack(t, where, files[name], as, 2)
}

func checkReadBack(t *testing.T, where string, text []byte, format config.Format, sections int) {
	t.Helper()
	f, err := config.Parse("x", text, config.Options{Format: format})
	if err != nil {
		t.Errorf("%s: %v\n%s", where, err, text)
		return
	}
	count := 0
	var walk func(s *config.Section)
	walk = func(s *config.Section) {
		count++
		if plugin := s.Plugin(); plugin == "exec" {
			t.Errorf("%s: an exec\n%s", where, text)
		}
		for _, p := range s.Properties {
			if p.Embedded {
				t.Errorf("%s: Ruby code\n%s", where, text)
			}

		}
		for _, child := range s.Sections {
			walk(child)
		}
	}
	for _, s := range f.Sections {
		walk(s)
	}
	if count > sections {
		t.Errorf("%s: %d sections\n%s", where, count, text)
	}
}

func made(group, kind string, spec map[string]any) *resource.Document {
	return resource.New(map[string]any{"apiVersion": group + "/v1", "kind": kind, "metadata": map[string]any{"name": "x"}, "spec": spec}, nil)
}

// FuzzDocument: no resource makes the renderer panic.
func FuzzDocument(f *testing.F) {
	f.Add("ClusterInput", `{"tail":{"path":["a"],"parserN":[1],"tls":{}},"processors":{"logs":[{}]}}`)
	f.Add("ClusterFilter", `{"filters":[{"modify":{"conditions":[null,5,{"keyExists":{}}]}},null]}`)
	f.Add("ClusterOutput", `{"es":{"httpUser":{"valueFrom":null},"networking":[]},"match":5}`)
	f.Add("ClusterParser", `{"regex":{"regex":1},"decoders":[{"decodeField":true}]}`)
	f.Add("Fluentd", `{"globalInputs":[{"tail":{"parse":[],"excludePath":[1]}},7]}`)
	f.Fuzz(func(t *testing.T, kind, spec string) {
		var object map[string]any
		if json.Unmarshal([]byte(spec), &object) != nil {
			return
		}
		var docs []*resource.Document
		for _, group := range []string{resource.FluentBitGroup, resource.FluentdGroup} {
			docs = append(docs, made(group, kind, object))
		}
		for _, k := range []string{"ClusterFluentBitConfig", "FluentBitConfig"} {
			docs = append(docs, made(resource.FluentBitGroup, k, map[string]any{}))
		}
		docs = append(docs, made(resource.FluentdGroup, "ClusterFluentdConfig", map[string]any{"clusterOutputSelector": map[string]any{}, "clusterFilterSelector": map[string]any{}, "clusterInputSelector": map[string]any{}}))
		set := resource.NewSet(docs)
		c := &Compiler{Found: resource.FoundMap{}}
		for _, p := range c.FluentBit(set) {
			if p.Config != nil {
				if _, err := p.Files(); err != nil && slices.ContainsFunc(p.Entries, func(e *Entry) bool { return e.Document.Kind == kind }) {
					t.Logf("%v", err)
				}
			}
		}
		for _, r := range c.Fluentd(set) {
			_, _ = r.Files()
		}
	})
}

// thousand is a set of a thousand resources of a hundred namespaces.
func thousand() []*resource.Document {
	docs := []*resource.Document{made(resource.FluentBitGroup, "ClusterFluentBitConfig", map[string]any{})}
	add := func(kind, namespace, name string, spec map[string]any) {
		docs = append(docs, resource.New(map[string]any{"apiVersion": resource.FluentBitGroup + "/v1alpha2", "kind": kind, "metadata": map[string]any{"name": name, "namespace": namespace}, "spec": spec}, nil))
	}
	add("ClusterInput", "", "tail", map[string]any{"tail": map[string]any{"path": "/var/log/containers/*.log", "tag": "kube.*", "refreshIntervalSeconds": 10.0, "memBufLimit": "5MB", "skipLongLines": true}})
	for n := range 100 {
		ns := fmt.Sprintf("team-%03d", n)
		add("FluentBitConfig", ns, "c", map[string]any{})
		for i := range 4 {
			add("Filter", ns, fmt.Sprintf("f%d", i), map[string]any{"match": "*", "filters": []any{map[string]any{"parser": map[string]any{"keyName": "log", "parser": "p", "reserveData": true}}, map[string]any{"modify": map[string]any{"rules": []any{map[string]any{"add": map[string]any{"a": "b"}}}}}}})
			add("Output", ns, fmt.Sprintf("o%d", i), map[string]any{"match": "*", "es": map[string]any{"host": "es." + ns, "port": 9200.0, "logstashFormat": true, "tls": map[string]any{"verify": false}}})
		}
		add("Parser", ns, "p", map[string]any{"json": map[string]any{"timeKey": "time", "timeFormat": "%s"}})
	}
	return docs
}

func render(b *testing.B, c *Compiler, docs []*resource.Document) {
	for _, p := range c.FluentBit(resource.NewSet(docs)) {
		if _, err := p.Files(); err != nil {
			b.Fatal(err)
		}
	}
}

// All of a thousand resources.
func BenchmarkThousand(b *testing.B) {
	docs := thousand()
	b.ReportMetric(float64(len(docs)), "resources")
	for b.Loop() {
		render(b, &Compiler{Found: resource.FoundMap{}}, docs)
	}
}

// One of a thousand resources has changed.
func BenchmarkThousandOneChanged(b *testing.B) {
	docs := thousand()
	c := &Compiler{Found: resource.FoundMap{}}
	render(b, c, docs)
	for b.Loop() {
		changed := *docs[500]
		docs[500] = &changed
		render(b, c, docs)
	}
}

// A change of one resource renders only this one anew, and gives the same as rendering everything.
func TestIncremental(t *testing.T) {
	docs := thousand()
	c := &Compiler{Found: resource.FoundMap{}}
	before := c.FluentBit(resource.NewSet(docs))[0]
	for i, d := range docs {
		if d.Kind == "Output" {
			object := map[string]any{"apiVersion": d.Group + "/v1alpha2", "kind": d.Kind, "metadata": d.Object["metadata"], "spec": map[string]any{"match": "*", "stdout": map[string]any{}}}
			docs[i] = resource.New(object, nil)
			break
		}
	}
	after := c.FluentBit(resource.NewSet(docs))[0]
	made := 0
	for _, e := range after.Entries {
		if e.Role != RoleService && e.Role != RoleRoute && !slices.Contains(before.Entries, e) {
			made++
		}
	}
	if made != 1 {
		t.Errorf("%d entries were made anew", made)
	}
	got, err := after.Files()
	if err != nil {
		t.Fatal(err)
	}
	want, err := (&Compiler{Found: resource.FoundMap{}}).FluentBit(resource.NewSet(docs))[0].Files()
	if err != nil {
		t.Fatal(err)
	}
	for name := range want {
		if string(got[name]) != string(want[name]) {
			t.Errorf("%s differs from what rendering everything gives", name)
		}
	}
}
