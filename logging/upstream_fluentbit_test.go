package logging_test

import (
	"cmp"
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/diff"
	"sigs.k8s.io/yaml"

	"github.com/weft-dev/weft/logging/render"
	"github.com/weft-dev/weft/logging/resource"
	"github.com/weft-dev/weft/logging/route"
)

// fluentBitDiffers are cases whose text is another one here, with the reason.
var fluentBitDiffers = map[string]string{
	"TestClusterFilter_RecordModifier_Generated Load":                                oneUUID,
	"TestClusterFilter_RecordModifier_Generated_Load_As_Yaml LoadAsYaml":             oneUUID,
	"TestRenderMainConfigK8s RenderMainConfigInYaml":                                 "the operator changes the resource while it renders, so that the second rendering has the namespace's suffix twice",
	"TestClusterFluentBitConfig_Service_MultilineBufferLimit RenderMainConfigInYaml": "empty inputs and outputs, which the engine refuses as wrong YAML",
	"TestClusterInputListProcessors_Load_As_Yaml LoadAsYaml":                         "a text that looks like a map is not quoted, so that the engine reads a map",
	"TestLokiOutputWithStructuredMetadata_Load Load":                                 lokiKeys,
	"TestLokiOutputWithStructuredMetadata_LoadAsYaml LoadAsYaml":                     lokiKeys,
}

const (
	oneUUID  = "the engine refuses a second uuid_key"
	lokiKeys = "the engine has no option structured_metadata_keys and refuses to start"
)

// The operator's Fluent Bit cases: resources as Go literals in its tests, and the text that is expected. The classic format is compared byte for byte, YAML by
// what it means, since the operator does not quote.
func TestUpstreamFluentBit(t *testing.T) {
	folder := filepath.Join(upstream(t), "apis/fluentbit/v1alpha2")
	inner, err := filepath.Glob(filepath.Join(folder, "plugins", "*"))
	if err != nil {
		t.Fatal(err)
	}
	types := readTypes(t, append([]string{folder, filepath.Join(folder, "plugins")}, inner...)...)
	all := expectations(t, folder, types, "v1alpha2")
	equal := 0
	for _, e := range all {
		name := e.where + " " + e.method
		want, got := e.rendered(t)
		if reflect.DeepEqual(want, got) {
			equal++
			if why := fluentBitDiffers[name]; why != "" {
				t.Errorf("%s is equal, though it is said: %s", name, why)
			}
			continue
		}
		if why := fluentBitDiffers[name]; why != "" {
			t.Logf("%s: %s", name, why)
			continue
		}
		t.Errorf("%s:\n%s", name, diff.Diff("want", []byte(shown(want)), "got", []byte(shown(got))))
	}
	if t.Logf("%d of %d equal", equal, len(all)); len(all) < 30 {
		t.Errorf("only %d cases were found", len(all))
	}
}

func shown(v any) string {
	if text, ok := v.(string); ok {
		return text
	}
	text, err := yaml.Marshal(v)
	return fmt.Sprint(string(text), cmp.Or(err))
}

const testTenant = "testnamespace"

// rendered is what the operator expects of its resources, and what they become here.
func (e expectation) rendered(t *testing.T) (want, got any) {
	t.Helper()
	isYAML := strings.HasSuffix(strings.ToLower(e.method), "yaml")
	config := object{"apiVersion": "fluentbit.fluent.io/v1alpha2", "kind": "ClusterFluentBitConfig", "metadata": object{"name": "config"}, "spec": object{}}
	if own, ok := e.on.(object); ok && strings.HasPrefix(e.method, "Render") {
		config["spec"] = maps.Clone(own["spec"].(object))
	}
	if isYAML {
		config["spec"].(object)["configFileFormat"] = "yaml"
	}
	for _, s := range []string{"inputSelector", "filterSelector", "outputSelector", "parserSelector", "multilineParserSelector"} {
		config["spec"].(object)[s] = object{"matchLabels": object{"of": "cluster"}}
	}
	selected := object{"matchLabels": object{"of": "tenant"}}
	objects := []object{config}
	suffixed := e.want
	spaces := map[string]bool{}
	add := func(list any, of, kind string) {
		o, _ := list.(object)
		items, _ := o["items"].([]any)
		for i, item := range items {
			o := named(item.(object), of, kind, i)
			metadata := o["metadata"].(object)
			if space, ok := metadata["namespace"].(string); ok {
				spaces[space] = true
			}
			if of == "tenant" && strings.HasPrefix(o["kind"].(string), "Cluster") { // the operator's controller does this before
				spaces[testTenant] = true
				name := metadata["name"].(string)
				suffixed = strings.ReplaceAll(suffixed, "    Name    "+name+"\n", "    Name    "+name+"-"+route.Prefix(testTenant)+"\n")
			}
			objects = append(objects, o)
		}
	}
	own := ""
	if strings.HasPrefix(e.where, "TestFilterList") {
		own = "Filter"
	}
	add(e.on, "cluster", own)
	kinds := make([]string, len(e.args))
	if strings.HasPrefix(e.method, "RenderMainConfig") {
		kinds = []string{"", "ClusterInput", "ClusterFilter", "ClusterOutput", "Filter", "Output", ""}
	}
	for i, a := range e.args {
		add(a, "cluster", kinds[i])
		lists, _ := a.([]any)
		for _, list := range lists {
			add(list, "tenant", kinds[i])
		}
	}
	for space := range spaces {
		objects = append(objects, object{"apiVersion": "fluentbit.fluent.io/v1alpha2", "kind": "FluentBitConfig", "metadata": object{"name": "tenant", "namespace": space},
			"spec": object{"clusterParserSelector": selected, "clusterMultilineParserSelector": selected}})
	}
	var documents []*resource.Document
	for _, o := range objects {
		documents = append(documents, resource.New(o, nil))
	}
	set := resource.NewSet(documents)
	c := render.Compiler{Found: resource.FoundIn(set), Namespace: "fluent"}
	p := c.FluentBit(set)[0]
	p.Entries = slices.DeleteFunc(p.Entries, func(e *render.Entry) bool { return e.Role == render.RoleRoute }) // no case here asks for these
	for _, problem := range p.Problems {
		t.Logf("%s: %v", e.where, problem)
	}
	files, err := p.Files()
	if err != nil {
		t.Fatal(err)
	}
	// Resources without a namespace have the prefix of the empty name there.
	expected := strings.ReplaceAll(suffixed, route.Prefix(""), route.Prefix(testTenant))
	switch {
	case isYAML:
		return meaning(t, expected), pipelineOf(expected, meaning(t, string(files["fluent-bit.yaml"])))
	case e.method == "RenderParserConfig":
		return expected, string(files["parsers.conf"])
	case strings.Contains(e.where, "MultilineParser"):
		return expected, string(files["parsers_multiline.conf"])
	}
	text := strings.TrimSuffix(string(files["fluent-bit.conf"]), "[Output]\n    Name    null\n    Match   *")
	return expected, text
}

// named gives a resource what a cluster would ask for: a name, and the label by which it is selected.
func named(o object, of, kind string, n int) object {
	o = maps.Clone(o)
	o["apiVersion"] = "fluentbit.fluent.io/v1alpha2"
	if kind != "" { // several cases name a wrong one, which there nobody reads
		o["kind"] = kind
	}
	metadata, _ := o["metadata"].(object)
	metadata = maps.Clone(metadata)
	if metadata == nil {
		metadata = object{}
	}
	metadata["labels"] = object{"of": of}
	if metadata["name"] == nil {
		metadata["name"] = fmt.Sprintf("item-%02d", n)
	}
	if !strings.HasPrefix(o["kind"].(string), "Cluster") && metadata["namespace"] == nil {
		metadata["namespace"] = testTenant
	}
	o["metadata"] = metadata
	return o
}

// meaning is a text of YAML as values, of which numbers and booleans are texts, as for the engine.
func meaning(t *testing.T, text string) any {
	t.Helper()
	var v any
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		return "no YAML: " + err.Error()
	}
	return plainly(v)
}

func plainly(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for key, inner := range v {
			if v[key] = plainly(inner); key == "name" && inner == nil {
				v[key] = "null" // the engine knows texts only
			}
		}
		return v
	case []any:
		for i, inner := range v {
			v[i] = plainly(inner)
		}
		return v
	case nil:
		return nil
	}
	return fmt.Sprint(v)
}

// pipelineOf is the part of a configuration that a piece of one shows.
func pipelineOf(piece string, whole any) any {
	pipeline, _ := whole.(object)["pipeline"].(object)
	switch {
	case strings.HasPrefix(piece, "service:"):
		return whole
	case strings.HasPrefix(strings.TrimSpace(piece), "- "):
		return pipeline["filters"]
	}
	key, _, _ := strings.Cut(piece, ":")
	return object{key: pipeline[key]}
}
