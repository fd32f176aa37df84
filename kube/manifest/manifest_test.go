package manifest

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"
)

// TestRead runs the txtar cases: every file beside "want" is an input in one folder; want lists the objects as
// "place identity", or the errors, one a line.
func TestRead(t *testing.T) {
	cases, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(cases) == 0 {
		t.Fatal("no cases", err)
	}
	for _, path := range cases {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			want := -1
			for i, f := range ar.Files {
				if f.Name == "want" {
					want = i
					continue
				}
				name := filepath.Join(dir, f.Name)
				if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(name, f.Data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			r := Reader{Recursive: strings.Contains(string(ar.Comment), "recursive"),
				Limits: Limits{Depth: 12, Values: 200, Objects: 20, FileBytes: 4096}}
			objects, err := r.Read(context.Background(), dir)
			var got strings.Builder
			for _, e := range Errors(err) {
				got.WriteString(strings.ReplaceAll(strings.ReplaceAll(e.Error(), dir+"/", ""), dir, "DIR") + "\n")
			}
			for _, o := range objects {
				body, err := json.Marshal(o.Object)
				if err != nil {
					t.Fatal(err)
				}
				got.WriteString(strings.TrimPrefix(o.Start().String(), dir+"/") + " " + o.Identity().String() + "\n  " + string(body) + "\n")
			}
			if os.Getenv("UPDATE") != "" {
				if want < 0 {
					ar.Files, want = append(ar.Files, txtar.File{Name: "want"}), len(ar.Files)
				}
				ar.Files[want].Data = []byte(got.String())
				if err := os.WriteFile(path, txtar.Format(ar), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if want < 0 || got.String() != string(ar.Files[want].Data) {
				t.Errorf("got\n%s\nwant\n%s", got.String(), ar.Files[want].Data)
			}
		})
	}
}

// TestMeaningIsKubectls compares every value with what sigs.k8s.io/yaml, kubectl's reader, makes of it.
func TestMeaningIsKubectls(t *testing.T) {
	for _, v := range []string{"yes", "No", "on", "OFF", "y", "n", "N", "true", "TRUE", "~", "null", "", "0644", "0o17", "0x1f", "0b101", "-0b11", "1_000",
		"+1", "1e3", "1.5", ".5", "5.", "2001-01-02", "2001-01-02T03:04:05Z", "12:30:45", "1.2.3", "'1'", `"yes"`, "!!str 1", "!!str yes", "!!int 5", "!!float 5",
		"!!bool yes", "9223372036854775807", "9223372036854775808", "[1, a, {b: c}]", "{a: 1}", "|\n  x\n  y", ">-\n  x\n  y", "=", "<", "0", "-0", "1e400",
		"&x 5", "{<<: {p: 1, q: 2}, q: 3}", "{<<: [{p: 1}, {p: 2, r: 3}]}", "{1: a, 1.5: b, true: c, no: d, 0x10: e}", ".inf", "!!binary aGk="} {
		text := "v: " + v + "\n"
		want, wantErr := yaml.YAMLToJSON([]byte(text))
		docs, errs := parseYAML("x.yaml", []byte(text), Limits{}.orDefault())
		if len(errs) > 0 {
			if wantErr == nil && v != "!!binary aGk=" {
				t.Errorf("%q: refused (%v), kubectl reads %s", v, errs, want)
			}
			continue
		}
		if wantErr != nil {
			t.Errorf("%q: read as %v, kubectl refuses it: %v", v, docs, wantErr)
			continue
		}
		budget := 100
		got, _ := docs[0].value(&budget)
		if !reflect.DeepEqual(got, kubectlReads(t, want)) {
			t.Errorf("%q: got %v, kubectl reads %s", v, got, want)
		}
	}
}

// kubectlReads decodes JSON as kubectl decodes what its YAML reader made.
func kubectlReads(t *testing.T, data []byte) any {
	var v any
	if err := utiljson.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

const deployment = `apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  labels: {app.kubernetes.io/name: web}
spec:
  template:
    spec:
      containers:
      - name: app
        image: x
      - name: side
        ports:
        - containerPort: 80
          protocol: TCP
`

func TestPosition(t *testing.T) {
	objects, err := Parse("web.yaml", []byte(deployment), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path, want string
		exact      bool
	}{
		{"spec.template.spec.containers[0].image", "web.yaml:11:9", true},
		{".spec.template.spec.containers[1].ports[0].protocol", "web.yaml:15:11", true},
		{`.spec.template.spec.containers[name="side"].ports[containerPort=80,protocol="TCP"].protocol`, "web.yaml:15:11", true},
		{".metadata.labels.app.kubernetes.io/name", "web.yaml:5:12", true},
		{"metadata.labels[app.kubernetes.io/name]", "web.yaml:5:12", true},
		{`metadata.labels["app.kubernetes.io/name"]`, "web.yaml:5:12", true},
		{"spec.selector", "web.yaml:6:1", false},
		{"spec.template.spec.containers[7].image", "web.yaml:9:7", false},
		{"", "web.yaml:1:1", true},
		{"spec[", "web.yaml:6:1", false},
	} {
		got, exact := objects[0].Position(c.path)
		if got.String() != c.want || exact != c.exact {
			t.Errorf("%s: got %v %t, want %s %t", c.path, got, exact, c.want, c.exact)
		}
	}
}

func TestJSONAndYAMLAgree(t *testing.T) {
	const text = `{"apiVersion":"v1","kind":"ConfigMap",
  "metadata":{"name":"ä","labels":{"a":"b"}},
  "data":{"k":"v","n":"1e3"},"x":[1,2.5,-3,true,null,{"y":{}}]}`
	fromJSON, err := Parse("a.json", []byte(text), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	fromYAML, errs := parseYAML("a.yaml", []byte(text), Limits{}.orDefault())
	if errs != nil {
		t.Fatal(errs)
	}
	budget := 100
	v, _ := fromYAML[0].value(&budget)
	if !reflect.DeepEqual(fromJSON[0].Object, v) {
		t.Errorf("JSON %v, YAML %v", fromJSON[0].Object, v)
	}
	for _, path := range []string{"data.k", "x[5].y", "metadata.labels.a"} {
		p, _ := fromJSON[0].Position(path)
		line, column, _ := fromYAML[0].find(path)
		if p.Line != line || p.Column != column {
			t.Errorf("%s: JSON %v, YAML %d:%d", path, p, line, column)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("a.yaml", []byte(deployment))
	f.Add("a.json", []byte(`{"apiVersion":"v1","kind":"List","items":[{"kind":"X"}]}`))
	f.Add("a.yaml", []byte("a: &a [*a]\n---\n%YAML 1.1\n---\nb: {<<: *x}\n"))
	f.Add("a.yaml", []byte("a: &a {x: 1}\nb: &b [*a,*a,*a]\nc: [*b,*b,*b,*b]\n"))
	f.Add("a.json", []byte(`{"a":1,"a":2}{`))
	f.Add("a.yaml", []byte("? [1]\n: 2\n"))
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		lim := Limits{Depth: 50, Values: 5000, Objects: 50}
		objects, err := Parse(name, data, lim)
		if err != nil {
			for _, e := range Errors(err) {
				if e.Error() == "" {
					t.Error("an error says nothing")
				}
			}
			return
		}
		for _, o := range objects {
			if o.GetName() == "" || o.GetKind() == "" || o.Start().Line < 1 {
				t.Errorf("accepted without kind, name or place: %v", o.Object)
			}
			if _, err := json.Marshal(o.Object); err != nil {
				t.Errorf("cannot be written as JSON: %v", err)
			}
			o.Position("spec.x[0][a=\"b\"].y")
		}
	})
}

// FuzzMeaning holds any document that both readers accept to kubectl's meaning.
func FuzzMeaning(f *testing.F) {
	f.Add([]byte("a: yes\nb: [1, 0x1, '1', ~]\n"))
	f.Add([]byte("{no: 1e3, x: {<<: {a: 1}}}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		docs, errs := parseYAML("x.yaml", data, Limits{Depth: 50, Values: 5000}.orDefault())
		if len(errs) > 0 || len(docs) != 1 || bytes.ContainsRune(data, '!') {
			return // the tag "!" alone is lost before we see it
		}
		want, err := yaml.YAMLToJSON(data)
		if err != nil {
			return // kubectl refuses more, for example large keys
		}
		budget := 5000
		v, ok := docs[0].value(&budget)
		if !ok {
			return
		}
		if !reflect.DeepEqual(v, kubectlReads(t, want)) {
			t.Errorf("got %v, kubectl reads %s", v, want)
		}
	})
}
