package logging_test

import (
	"embed"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	fluentbit "github.com/weft-dev/weft/api/fluentbit/v1alpha2"
	fluentd "github.com/weft-dev/weft/api/fluentd/v1alpha1"
	"github.com/weft-dev/weft/logging"
	"github.com/weft-dev/weft/logging/resource"
)

// upstream is a checkout of github.com/fluent/fluent-operator.
func upstream(t *testing.T) string {
	t.Helper()
	root := os.Getenv("UPSTREAM")
	if root == "" {
		t.Skip("UPSTREAM names no folder with a checkout fluent-operator; `make conformance UPSTREAM=DIR` does")
	}
	return filepath.Join(root, "fluent-operator")
}

type object = map[string]any

func readYAML(t *testing.T, data []byte) object {
	t.Helper()
	var o object
	if err := yaml.Unmarshal(data, &o); err != nil {
		t.Fatal(err)
	}
	return o
}

// Every object that the operator's definitions accept is accepted by ours.
func TestUpstreamDefinitions(t *testing.T) {
	root := upstream(t)
	ours := map[string]object{}
	for _, fs := range []embed.FS{fluentbit.CRDs, fluentd.CRDs} {
		entries, err := fs.ReadDir("crds")
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			data, err := fs.ReadFile("crds/" + e.Name())
			if err != nil {
				t.Fatal(err)
			}
			o := readYAML(t, data)
			ours[o["metadata"].(object)["name"].(string)] = o
		}
	}
	files, err := filepath.Glob(filepath.Join(root, "config/crd/bases/*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatal("no definitions", err)
	}
	var theirs, more int
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		their := readYAML(t, data)
		name := their["metadata"].(object)["name"].(string)
		our := ours[name]
		if our == nil {
			t.Errorf("%s is missing", name)
			continue
		}
		a, b := version(their), version(our)
		if a["name"] != b["name"] || their["spec"].(object)["scope"] != our["spec"].(object)["scope"] || fmt.Sprint(their["spec"].(object)["names"].(object)["shortNames"]) != fmt.Sprint(our["spec"].(object)["names"].(object)["shortNames"]) {
			t.Errorf("%s: other version, scope or names", name)
		}
		c := &comparison{t: t, name: name}
		c.compare("", spec(a), spec(b))
		theirs += c.leaves
		more += count(spec(b))
	}
	t.Logf("definitions: %d; leaves of the operator: %d; ours: %d", len(files), theirs, more)
}

func version(crd object) object { return crd["spec"].(object)["versions"].([]any)[0].(object) }

func spec(version object) object {
	return version["schema"].(object)["openAPIV3Schema"].(object)["properties"].(object)["spec"].(object)
}

func count(s object) int {
	properties, _ := s["properties"].(object)
	if items, ok := s["items"].(object); ok {
		return count(items)
	}
	if len(properties) == 0 {
		return 1
	}
	n := 0
	for _, p := range properties {
		n += count(p.(object))
	}
	return n
}

type comparison struct {
	t      *testing.T
	name   string
	leaves int
}

func (c *comparison) compare(path string, their, our object) {
	fail := func(format string, args ...any) { c.t.Errorf("%s%s: %s", c.name, path, fmt.Sprintf(format, args...)) }
	if our["x-kubernetes-preserve-unknown-fields"] == true {
		return
	}
	if their["type"] != our["type"] {
		fail("type %v, not %v", our["type"], their["type"])
		return
	}
	if p := our["pattern"]; p != nil && p != their["pattern"] {
		fail("pattern %v, not %v", p, their["pattern"])
	}
	for _, limit := range []string{"minimum", "maximum"} {
		if our[limit] != nil && fmt.Sprint(our[limit]) != fmt.Sprint(their[limit]) {
			fail("%s %v, not %v", limit, our[limit], their[limit])
		}
	}
	if values, ok := our["enum"].([]any); ok {
		wanted, _ := their["enum"].([]any)
		if wanted == nil {
			fail("only %v, the operator takes anything", values)
		}
		for _, v := range wanted {
			if !slices.Contains(values, v) {
				fail("%v is not among %v", v, values)
			}
		}
	}
	// Pods get their defaults from the API server in any case.
	workload := strings.HasPrefix(c.name, "fluentbits.") || strings.HasPrefix(c.name, "collectors.") || strings.HasPrefix(c.name, "fluentds.")
	if fmt.Sprint(their["default"]) != fmt.Sprint(our["default"]) && !(our["default"] == nil && (their["default"] == "" || workload)) {
		fail("default %v, not %v", our["default"], their["default"])
	}
	required, _ := our["required"].([]any)
	wanted, _ := their["required"].([]any)
	for _, r := range required {
		if !slices.Contains(wanted, r) {
			fail("%v is required, the operator takes objects without", r)
		}
	}
	if items, ok := their["items"].(object); ok {
		c.compare(path+"[]", items, our["items"].(object))
		return
	}
	if extra, ok := their["additionalProperties"].(object); ok {
		if inner, ok := our["additionalProperties"].(object); ok {
			c.compare(path+"{}", extra, inner)
		} else {
			fail("no map")
		}
	}
	properties, _ := their["properties"].(object)
	if len(properties) == 0 {
		c.leaves++
	}
	have, _ := our["properties"].(object)
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		inner, ok := have[name].(object)
		if !ok {
			fail("no field %s", name)
			continue
		}
		c.compare(path+"."+name, properties[name].(object), inner)
	}
}

// The operator's samples and manifests are rendered. What is wrong with them is listed here.
func TestUpstreamSamples(t *testing.T) {
	root := upstream(t)
	known := []string{
		"FluentBit fluentbit-sample: spec.fluentBitConfigName: there is no ClusterFluentBitConfig",      // the sample's name is that of another sample
		"ClusterOutput prometheus-remote-write-edge: spec.prometheusRemoteWrite.port: expected a whole", // a text to be replaced by hand
		"Fluentd fluentd-sample: spec.image: no image is named",                                         // the sample says nothing but foo
	}
	var folders []string
	for _, pattern := range []string{"config/samples", "manifests/*", "manifests/*/*"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		folders = append(folders, found...)
	}
	documents := 0
	for _, folder := range folders {
		files, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		var all []*resource.Document
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for part := range strings.SplitSeq("\n"+string(data), "\n---") {
				if o := readYAML(t, []byte(part)); o != nil {
					all = append(all, resource.New(o, nil))
				}
			}
		}
		set := resource.NewSet(all)
		for _, d := range set.All() {
			if strings.HasSuffix(d.Group, "fluent.io") {
				documents++
			}
		}
		planner := logging.Planner{Namespace: "fluent"}
		result := planner.Plan(set, everything{})
		for _, p := range result.Problems {
			if p.Severity == resource.Error && !slices.ContainsFunc(known, func(k string) bool { return strings.HasPrefix(p.Error(), k) }) {
				t.Errorf("%s: %v", folder, p)
			}
		}
	}
	t.Logf("documents: %d", documents)
}

// everything finds every reference.
type everything struct{}

func (everything) Lookup(resource.Reference) (string, bool) { return "x", true }
