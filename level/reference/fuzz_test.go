package reference

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/weft-dev/weft/level"
)

// Whatever an object holds, it is judged or refused, and a low object with a hidden reference to a high secret is never let through.
func FuzzJudge(f *testing.F) {
	archives, _ := filepath.Glob("testdata/*.txtar")
	for _, path := range archives {
		a, err := txtar.ParseFile(path)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range a.Files {
			if file.Name == "want" {
				continue
			}
			_, o := input(f, string(file.Data))
			data, _ := json.Marshal(o.New)
			f.Add(o.Resource.Group, o.Resource.Resource, o.Subresource, string(data))
		}
	}
	f.Add("", "pods", "", `{"spec":`+strings.Repeat(`{"a":`, 200)+`1`+strings.Repeat(`}`, 200)+`}`)
	s := snapshot(f)
	lois := Requester{"lois", nil, s.Resolve("lois", nil)}
	f.Fuzz(func(t *testing.T, group, resource, sub, text string) {
		var m map[string]any
		if json.Unmarshal([]byte(text), &m) != nil {
			return
		}
		o := &Object{Operation: Create, Resource: level.Kind{Group: group, Resource: resource}, Subresource: sub, Namespace: "low", Name: "x", New: m}
		if _, err := Judge(s, lois, o, lookup); err != nil {
			return
		}
		spec, ok := m["spec"].(map[string]any)
		if _, special := specials[o.Resource]; !ok || special && o.Resource != pods || sub == "binding" {
			return
		}
		spec["hidden"] = map[string]any{"containers": []any{map[string]any{"name": "c", "envFrom": []any{map[string]any{"secretRef": map[string]any{"name": "key"}}}}}}
		if Label(m) != "" {
			return
		}
		found, err := Judge(s, lois, o, lookup)
		if err == nil && len(found) == 0 {
			t.Fatalf("%s: a reference to a high secret is let through", text)
		}
	})
}

// A deployment of a common size: the time of a handler is mostly this.
func BenchmarkJudge(b *testing.B) {
	s := snapshot(b)
	data, err := os.ReadFile("testdata/pods.txtar")
	if err != nil {
		b.Fatal(err)
	}
	a := txtar.Parse(data)
	for _, f := range a.Files {
		if f.Name != "host" && f.Name != "deployment" {
			continue
		}
		user, o := input(b, string(f.Data))
		who := Requester{user, nil, s.Resolve(user, nil)}
		b.Run(f.Name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if found, err := Judge(s, who, o, lookup); err != nil || len(found) == 0 {
					b.Fatal(err)
				}
			}
		})
	}
}
