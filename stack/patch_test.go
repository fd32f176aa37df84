package stack

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/weft-dev/weft/stack/module"
)

// TestPatchesOfAnyResource applies both kinds of patches that modules give for resources by id, with upstream's leniency.
func TestPatchesOfAnyResource(t *testing.T) {
	const before = `{"metadata":{"labels":{"app":"web"}},"spec":{"replicas":3,"ports":[80,81]}}`
	for _, test := range []struct{ kind, payload, want string }{
		{"MergePatch", `{"spec":{"replicas":null,"paused":true}}`, `{"metadata":{"labels":{"app":"web"}},"spec":{"paused":true,"ports":[80,81]}}`},
		{"JSONPatch", `[{"op":"replace","path":"/spec/ports/0","value":8080}]`, `{"metadata":{"labels":{"app":"web"}},"spec":{"ports":[8080,81],"replicas":3}}`},
		{"JSONPatch", `[{"op":"add","path":"/spec/template/metadata/labels/a","value":"b"}]`, `{"metadata":{"labels":{"app":"web"}},"spec":{"ports":[80,81],"replicas":3,"template":{"metadata":{"labels":{"a":"b"}}}}}`},
		{"JSONPatch", `[{"op":"remove","path":"/spec/nothing"}]`, `{"metadata":{"labels":{"app":"web"}},"spec":{"ports":[80,81],"replicas":3}}`},
		{"JSONPatch", `[{"op":"test","path":"/spec/replicas","value":4}]`, "error: test"},
		{"JSONPatch", `[{"op":"replace","path":"/nowhere/x","value":4}]`, "error: "},
		{"JSONPatch", `{"op":"add"}`, "error: "},
		{"MergePatch", `[`, "error: "},
		{"StrategicPatch", `{}`, "error: its type must be MergePatch or JSONPatch, got StrategicPatch"},
	} {
		var attributes map[string]any
		if err := json.Unmarshal([]byte(before), &attributes); err != nil {
			t.Fatal(err)
		}
		after, err := patchJSON(attributes, module.JSONPatch{Type: test.kind, Payload: []byte(test.payload)})
		got := ""
		if err != nil {
			got = "error: " + err.Error()
		} else {
			data, err := json.Marshal(after)
			if err != nil {
				t.Fatal(err)
			}
			got = string(data)
		}
		if got != test.want && (!strings.HasPrefix(test.want, "error: ") || !strings.Contains(got, strings.TrimPrefix(test.want, "error: ")) || err == nil) {
			t.Errorf("%s %s\ngot  %s\nwant %s", test.kind, test.payload, got, test.want)
		}
		if now, err := json.Marshal(attributes); err != nil || string(now) != `{"metadata":{"labels":{"app":"web"}},"spec":{"ports":[80,81],"replicas":3}}` {
			t.Errorf("%s changed what it was given: %s", test.kind, now)
		}
	}
}
