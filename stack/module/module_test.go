package module

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"go.yaml.in/yaml/v3"

	"github.com/weft-dev/weft/stack/config"
)

var update = flag.Bool("update", false, "write what the modules make into testdata")

// world is the environment of the cases.
var world = map[string]string{"AWS_REGION": "eu-1", "ALICLOUD_REGION": "cn-1"}

// TestModules runs each case of testdata: what a developer and a platform wrote, and the resources and patches that a module makes of
// it. Unless a case says otherwise, what is wanted was made by upstream's module; see TestUpstream.
func TestModules(t *testing.T) {
	for _, name := range cases(t) {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			file, got := generate(t, archive)
			if *update {
				archive.Files = append(withoutFiles(archive.Files, "want.yaml", "error.txt"), txtar.File{Name: file, Data: []byte(got)})
				if err := os.WriteFile(name, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if want := fileOf(archive, file); got != want {
				t.Errorf("%s differs (-want +got):\n%s", file, cmp.Diff(want, got))
			}
		})
	}
}

// TestUpstream compares with upstream's modules: UPSTREAM_KUSION_MODULES is a folder of programs named after them that read a request
// (fields project, stack, app, workload, devconfig, platformconfig, the last three as YAML texts) and write upstream's GeneratorResponse
// as YAML.
func TestUpstream(t *testing.T) {
	folder := os.Getenv("UPSTREAM_KUSION_MODULES")
	if folder == "" {
		t.Skip("UPSTREAM_KUSION_MODULES names no folder of upstream's modules")
	}
	for _, name := range cases(t) {
		archive, err := txtar.ParseFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(archive.Comment), "Other than upstream") {
			continue
		}
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			file, got := generate(t, archive)
			want, failed := upstream(t, folder, archive)
			if failed != "" {
				if file != "error.txt" {
					t.Errorf("upstream refuses: %s", failed)
				}
				return
			}
			var have any
			if err := yaml.Unmarshal([]byte(got), &have); err != nil || file == "error.txt" {
				t.Fatalf("refused, and upstream makes something: %s", got)
			}
			if diff := cmp.Diff(want, have); diff != "" {
				t.Errorf("other than upstream (-upstream +weft):\n%s", diff)
			}
		})
	}
}

func cases(t *testing.T) []string {
	names, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(names) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	return names
}

func fileOf(a *txtar.Archive, name string) string {
	for _, f := range a.Files {
		if f.Name == name {
			return string(f.Data)
		}
	}
	return ""
}

func withoutFiles(files []txtar.File, names ...string) []txtar.File {
	var rest []txtar.File
	for _, f := range files {
		if !strings.Contains(strings.Join(names, " "), f.Name) {
			rest = append(rest, f)
		}
	}
	return rest
}

// generate runs a case. It returns the name and the text of the file that tells what came of it.
func generate(t *testing.T, a *txtar.Archive) (file, text string) {
	t.Helper()
	parse := func(name string) *config.Tree {
		tree, err := config.ParseYAML(name, []byte(fileOf(a, name)))
		if err != nil {
			t.Fatal(err)
		}
		return tree
	}
	var head struct{ Module, Project, Stack, App, Namespace string }
	if err := yaml.Unmarshal([]byte(fileOf(a, "request.yaml")), &head); err != nil {
		t.Fatal(err)
	}
	r := &Request{Project: head.Project, Stack: head.Stack, App: head.App, Namespace: head.Namespace, Path: "dev",
		Workload: parse("workload.yaml"), Dev: parse("dev.yaml"), Platform: parse("platform.yaml"),
		Getenv: func(name string) string { return world[name] }, Manifests: manifestsOf(a)}
	if r.Namespace == "" {
		r.Namespace = r.Project
	}
	response, err := Find(head.Module)(r)
	if err != nil {
		return "error.txt", tell(err)
	}
	if response == nil {
		return "want.yaml", "null\n"
	}
	out := map[string]any{}
	if response.Resources != nil {
		out["resources"] = response.Resources
	}
	if response.Patcher != nil {
		out["patcher"] = patcherTree(response.Patcher)
	}
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(out); err != nil {
		t.Fatal(err)
	}
	return "want.yaml", b.String()
}

func manifestsOf(a *txtar.Archive) func(string) ([]Manifest, error) {
	return func(path string) ([]Manifest, error) {
		text := fileOf(a, path)
		if text == "" {
			return nil, errors.New("no such file")
		}
		docs, err := config.ParseYAMLStream(path, []byte(text))
		var list []Manifest
		for _, d := range docs {
			list = append(list, Manifest{d.Plain().(map[string]any), d.At})
		}
		return list, err
	}
}

func tell(err error) string {
	var all []string
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		for _, e := range joined.Unwrap() {
			var p *config.Problem
			if errors.As(e, &p) {
				all = append(all, strings.TrimSpace(p.At.String()+" "+p.Path+": "+p.What+"\n  "+p.Fix))
			}
		}
	}
	return strings.Join(all, "\n") + "\n"
}

func patcherTree(p *Patcher) map[string]any {
	m := map[string]any{}
	for name, v := range map[string]any{"labels": p.Labels, "podLabels": p.PodLabels, "annotations": p.Annotations, "podAnnotations": p.PodAnnotations} {
		if !reflect.ValueOf(v).IsZero() {
			m[name] = v
		}
	}
	if p.Environments != nil {
		m["environments"] = p.Environments
	}
	return m
}

// upstream runs upstream's module on a case.
func upstream(t *testing.T, folder string, a *txtar.Archive) (tree any, failed string) {
	t.Helper()
	var head map[string]string
	if err := yaml.Unmarshal([]byte(fileOf(a, "request.yaml")), &head); err != nil {
		t.Fatal(err)
	}
	request := map[string]string{"project": head["project"], "stack": head["stack"], "app": head["app"],
		"workload": fileOf(a, "workload.yaml"), "devconfig": fileOf(a, "dev.yaml"), "platformconfig": fileOf(a, "platform.yaml")}
	if request["workload"] == "" {
		request["workload"] = request["devconfig"]
	}
	in, err := yaml.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	cmd := exec.Command(filepath.Join(folder, head["module"]))
	cmd.Dir = t.TempDir()
	for _, f := range a.Files {
		if err := os.WriteFile(filepath.Join(cmd.Dir, filepath.Base(f.Name)), f.Data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd.Env = append(os.Environ(), "HOME="+cmd.Dir)
	for name, value := range world {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, &errs
	if err := cmd.Run(); err != nil {
		return nil, err.Error() + ": " + errs.String()
	}
	if err := yaml.Unmarshal(out.Bytes(), &tree); err != nil {
		t.Fatal(err)
	}
	if m, ok := tree.(map[string]any); ok {
		if p, ok := m["patcher"].(map[string]any); ok && p["environments"] != nil {
			p["environments"] = variables(p["environments"].([]any))
		}
	}
	return tree, ""
}

// variables brings the variables of a patcher into the form of a Pod: upstream writes them without the names that Kubernetes gives
// its fields.
func variables(list []any) []any {
	for i, v := range list {
		m := v.(map[string]any)
		e := map[string]any{"name": m["name"]}
		if m["value"] != "" {
			e["value"] = m["value"]
		}
		if from, ok := m["valuefrom"].(map[string]any); ok {
			ref := from["secretkeyref"].(map[string]any)
			e["valueFrom"] = map[string]any{"secretKeyRef": map[string]any{"name": ref["localobjectreference"].(map[string]any)["name"], "key": ref["key"]}}
		}
		list[i] = e
	}
	return list
}

func TestNothingIsMadeOfNothing(t *testing.T) {
	for _, name := range Names() {
		if name == "k8s_manifest" {
			continue // names files or is wrong
		}
		if response, err := Find(name)(&Request{Project: "p", Stack: "s", App: "a"}); response != nil || err != nil {
			t.Errorf("%s makes %v, %v of nothing", name, response, err)
		}
	}
}
