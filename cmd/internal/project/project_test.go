package project

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// write lays out a project from a txtar archive.
func write(t *testing.T, archive string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "My_Shop")
	for _, f := range txtar.Parse([]byte(archive)).Files {
		path := filepath.Join(dir, f.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, f.Data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const deployment = `
-- k8s/web.yaml --
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  template:
    spec:
      initContainers:
        - {name: migrate, image: "shop/api:v1"}
      containers:
        - {name: web, image: my-shop}
        - {name: proxy, image: "nginx:1.29"}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: report}
spec:
  jobTemplate: {spec: {template: {spec: {containers: [{name: report, image: "shop/api@sha256:0000000000000000000000000000000000000000000000000000000000000000"}]}}}}
-- api/main.go --
package main
`

func TestAProjectWithConfiguration(t *testing.T) {
	dir := write(t, `
-- weft.yaml --
version: 1
name: shop
namespace: shop-test
registry: ghcr.io/me/
manifests: [k8s]
images:
  my-shop:
  shop/api:
    source: api
    env: {CGO_ENABLED: 0, GOFLAGS: "-tags=x"}
    process: worker
`+deployment)
	p, err := Load(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if p.Name != "shop" || p.Namespace != "shop-test" || p.Registry != "ghcr.io/me" || len(p.Objects) != 2 || len(p.Images) != 2 {
		t.Fatalf("project %+v", p)
	}
	api := p.Images[1]
	if p.Images[0].Source != dir || api.Source != filepath.Join(dir, "api") || api.Process != "worker" || fmt.Sprint(api.Env) != "map[CGO_ENABLED:0 GOFLAGS:-tags=x]" {
		t.Errorf("images %+v", p.Images)
	}
	built := map[string]string{"my-shop": "r/shop@sha256:1", "shop/api": "r/api@sha256:2"}
	var objects []*unstructured.Unstructured
	for _, o := range p.Objects {
		u := o.DeepCopy()
		ReplaceImages(u.Object, func(reference string) any { return cmp.Or(built[Repository(reference)], reference) })
		objects = append(objects, u)
	}
	var got []string
	for _, o := range objects {
		eachImage(o.Object, func(_ map[string]any, reference string) { got = append(got, reference) })
	}
	if want := "[r/shop@sha256:1 nginx:1.29 r/api@sha256:2 r/api@sha256:2]"; fmt.Sprint(got) != want {
		t.Errorf("images of the objects: %v, want %s", got, want)
	}
	if pos, _ := p.Objects[0].Position("spec.template.spec.containers[0].image"); pos.Line != 10 {
		t.Errorf("the place of a field: %v", pos)
	}
	eachImage(p.Objects[0].Object, func(_ map[string]any, reference string) {
		if strings.HasPrefix(reference, "r/") {
			t.Error("replacing images changed the project's own objects")
		}
	})
}

func TestAProjectWithoutConfiguration(t *testing.T) {
	p, err := Load(t.Context(), write(t, deployment))
	if err != nil {
		t.Fatal(err)
	}
	if p.Name != "my-shop" || len(p.Images) != 1 || p.Images[0].Name != "my-shop" || p.Images[0].Source != p.Dir {
		t.Errorf("project %+v", p)
	}
}

func TestAnUnusedGuessIsDropped(t *testing.T) {
	p, err := Load(t.Context(), write(t, "-- deploy/a.yaml --\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"))
	if err != nil || len(p.Images) != 0 {
		t.Errorf("images %+v, %v", p, err)
	}
}

// position is where an error says it is, as LINE:COLUMN field.
func position(t *testing.T, dir string, err error) string {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		return ""
	}
	file, line, column := e.Position()
	if file != filepath.Join(dir, ConfigName) {
		t.Errorf("the error names the file %s", file)
	}
	return fmt.Sprintf("%d:%d %s", line, column, e.Field())
}

func TestBadConfiguration(t *testing.T) {
	for _, test := range []struct{ name, config, at, want string }{
		{"no YAML", "version: 1\n  name: [", "2:0 ", "mapping values are not allowed"},
		{"a list", "- version: 1", "1:1 ", "must be fields with values (name: value), got a list"},
		{"no version", "name: shop", "1:1 version", "is missing"},
		{"version of another kind", "version: v1", "1:10 version", `must be a whole number from 1 on, got "v1"`},
		{"newer version", "version: 2", "1:10 version", "made for a newer weft"},
		{"unknown field", "version: 1\nimage: {}", "2:1 image", "is no field of weft.yaml"},
		{"unknown field of an image", "version: 1\nimages:\n  my-shop:\n    path: .", "4:5 images.my-shop.path", "is no field"},
		{"twice", "version: 1\nname: a\nname: b", "3:1 name", "is there twice"},
		{"name", "version: 1\nname: My Shop", "2:7 name", "must be lower-case letters"},
		{"long name", "version: 1\nname: " + strings.Repeat("a", 41), "2:7 name", "at most 40 characters"},
		{"name that is a number", "version: 1\nname: 7", "2:7 name", `must be a text, got "7"`},
		{"name that is nothing", "version: 1\nname:", "2:6 name", "must be a text, got nothing"},
		{"manifests not a list", "version: 1\nmanifests: k8s", "2:12 manifests", `must be a list of files and folders, got "k8s"`},
		{"manifests not there", "version: 1\nmanifests: [k8s, other]", "2:18 manifests[1]", "other cannot be read: no such file"},
		{"source not there", "version: 1\nimages:\n  my-shop: {source: src}", "3:21 images.my-shop.source", "src cannot be read"},
		{"source is a file", "version: 1\nimages:\n  my-shop: {source: api/main.go}", "3:21 images.my-shop.source", "must be a folder"},
		{"image with a tag", "version: 1\nimages:\n  my-shop:v1: {}", "3:3 images.my-shop:v1", "without tag and digest"},
		{"image that nobody uses", "version: 1\nimages:\n  other: {}", "3:3 images.other", "is used by no manifest"},
		{"env not a text", "version: 1\nimages:\n  my-shop: {env: {A: [1]}}", "3:22 images.my-shop.env.A", "must be a text, got a list"},
		{"registry with a scheme", "version: 1\nregistry: https://ghcr.io", "2:11 registry", "must be a host and a path"},
		{"an alias that is wrong", "version: 1\nname: &x [a]\nnamespace: *x", "2:7 name", "must be a text, got a list"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := write(t, deployment)
			if err := os.WriteFile(filepath.Join(dir, ConfigName), []byte(test.config), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Load(t.Context(), dir)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v, want %q", err, test.want)
			}
			if got := position(t, dir, err); got != test.at {
				t.Errorf("at %q, want %q", got, test.at)
			}
		})
	}
}

func TestAllFaultsAreToldAtOnce(t *testing.T) {
	dir := write(t, "-- weft.yaml --\nversion: 1\nname: A\nmanifests: x\nbogus: 1\n"+deployment)
	_, err := Load(t.Context(), dir)
	if joined, ok := err.(interface{ Unwrap() []error }); !ok || len(joined.Unwrap()) != 3 {
		t.Errorf("got %v", err)
	}
}

func TestBadFolders(t *testing.T) {
	empty := write(t, "-- README --\n")
	for _, test := range []struct{ dir, want string }{
		{filepath.Join(empty, "nowhere"), "there is no folder"},
		{filepath.Join(empty, "README"), "is a file; name the folder of a project"},
		{empty, "has no Kubernetes manifests: put them into a folder k8s"},
		{write(t, "-- k8s/README --\n"), "no .yaml, .yml or .json file in this folder"},
		{write(t, "-- k8s/a.yaml --\nkind: [\n"), "a.yaml:"},
		{write(t, "-- weft.yaml --\n# "+strings.Repeat("x", maxConfig)+"\n"), "is larger than"},
	} {
		if _, err := Load(t.Context(), test.dir); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", test.dir, err, test.want)
		}
	}
}

func TestRepository(t *testing.T) {
	for reference, want := range map[string]string{
		"web": "web", "web:v1": "web", "localhost:5000/web": "localhost:5000/web", "localhost:5000/web:v1": "localhost:5000/web",
		"a/b@sha256:00": "a/b", "a/b:v1@sha256:00": "a/b", "": "",
	} {
		if got := Repository(reference); got != want {
			t.Errorf("Repository(%q) = %q, want %q", reference, got, want)
		}
	}
}

// FuzzParse holds that no configuration makes the reader panic, and that every fault has a place in the file.
func FuzzParse(f *testing.F) {
	f.Add([]byte("version: 1\nname: shop\nimages:\n  a: {source: ., env: {A: b}}\n"))
	f.Add([]byte("a: &a [*a]"))
	f.Add([]byte("version: 1\n? [a, b]\n: c\n"))
	f.Add([]byte("x: &x {<<: *x}\nversion: 99999999999999999999"))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, content []byte) {
		p := &Project{Dir: dir}
		err := p.parse("weft.yaml", content)
		if joined, ok := err.(interface{ Unwrap() []error }); ok {
			for _, e := range joined.Unwrap() {
				var located *Error
				if !errors.As(e, &located) || located.Place.Line < 1 {
					t.Errorf("a fault without a place: %v", e)
				}
			}
		}
	})
}
