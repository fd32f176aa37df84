package stack

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/weft-dev/weft/engine"
	"github.com/weft-dev/weft/kcl"
	"github.com/weft-dev/weft/stack/config"
	"github.com/weft-dev/weft/stack/frontend"
	"github.com/weft-dev/weft/stack/module"
	"github.com/weft-dev/weft/stack/schema"
	"github.com/weft-dev/weft/stack/spec"
)

var update = flag.Bool("update", false, "write what comes out into testdata")

// rooted is a file system whose names are absolute.
type rooted struct{ fstest.MapFS }

func (r rooted) name(name string) string {
	if name = strings.TrimPrefix(name, "/"); name == "" {
		return "."
	}
	return name
}
func (r rooted) Open(name string) (fs.File, error)          { return r.MapFS.Open(r.name(name)) }
func (r rooted) Stat(name string) (fs.FileInfo, error)      { return r.MapFS.Stat(r.name(name)) }
func (r rooted) ReadFile(name string) ([]byte, error)       { return r.MapFS.ReadFile(r.name(name)) }
func (r rooted) ReadDir(name string) ([]fs.DirEntry, error) { return r.MapFS.ReadDir(r.name(name)) }

// TestStacks runs each case of testdata: a project, a stack, a workspace and a program, and the Spec that comes of them (spec.yaml), the
// engine's resources where a case asks for them (resources.json), or what is wrong (error.txt).
func TestStacks(t *testing.T) {
	names, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(names) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			files := map[string]string{}
			for _, f := range archive.Files {
				files[f.Name] = string(f.Data)
			}
			got := runCase(files)
			if *update {
				var kept []txtar.File
				for _, f := range archive.Files {
					if f.Name != "spec.yaml" && f.Name != "error.txt" && f.Name != "resources.json" && f.Name != "warnings.txt" {
						kept = append(kept, f)
					}
				}
				for _, out := range []string{"spec.yaml", "resources.json", "warnings.txt", "error.txt"} {
					if text, ok := got[out]; ok {
						kept = append(kept, txtar.File{Name: out, Data: []byte(text)})
					}
				}
				archive.Files = kept
				if err := os.WriteFile(name, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			for _, out := range []string{"spec.yaml", "resources.json", "warnings.txt", "error.txt"} {
				if diff := cmp.Diff(files[out], got[out]); diff != "" {
					t.Errorf("%s differs (-want +got):\n%s", out, diff)
				}
			}
		})
	}
}

// runCase returns the files that tell what came of a case.
func runCase(files map[string]string) map[string]string {
	s, warnings, err := evaluate(files)
	if err != nil {
		return map[string]string{"error.txt": tell(err)}
	}
	got := map[string]string{}
	if len(warnings) > 0 {
		got["warnings.txt"] = strings.Join(warnings, "\n") + "\n"
	}
	text, err := s.YAML()
	if err != nil {
		return map[string]string{"error.txt": err.Error()}
	}
	if _, ok := files["resources.json"]; !ok {
		got["spec.yaml"] = string(text)
		return got
	}
	resources, problems := Resources(s, Types{Kubernetes: "kubernetes", Terraform: "terraform"})
	if len(problems) > 0 {
		return map[string]string{"error.txt": tell(errors.Join(problems...))}
	}
	var out strings.Builder
	for _, r := range resources {
		b, err := json.MarshalIndent(map[string]any{"id": r.ID, "type": r.Type, "inputs": showReferences(r.Inputs), "dependsOn": r.DependsOn, "origin": r.Origin}, "", "  ")
		if err != nil {
			return map[string]string{"error.txt": err.Error()}
		}
		out.Write(b)
		out.WriteByte('\n')
	}
	got["resources.json"] = out.String()
	return got
}

func showReferences(v any) any {
	switch v := v.(type) {
	case engine.Reference:
		return "(reference to " + v.String() + ")"
	case map[string]any:
		m := map[string]any{}
		for k, e := range v {
			m[k] = showReferences(e)
		}
		return m
	case []any:
		list := make([]any, len(v))
		for i := range v {
			list[i] = showReferences(v[i])
		}
		return list
	}
	return v
}

func evaluate(files map[string]string) (*spec.Spec, []string, error) {
	if text, ok := files["given-spec.yaml"]; ok {
		s, err := spec.ParseSpec("given-spec.yaml", []byte(text))
		return s, nil, err
	}
	p, warnings, err := ParseProject("project.yaml", []byte(files["project.yaml"]))
	if err != nil {
		return nil, nil, err
	}
	st, more, err := ParseStack("stack.yaml", []byte(files["stack.yaml"]))
	if err != nil {
		return nil, nil, err
	}
	warnings = append(warnings, more...)
	w, err := ParseWorkspace("workspace.yaml", "dev", []byte(files["workspace.yaml"]))
	if err != nil {
		return nil, nil, err
	}
	apps := &frontend.Apps{}
	if text, ok := files["apps.yaml"]; ok {
		if apps.ByName, err = config.ParseYAML("apps.yaml", []byte(text)); err != nil {
			return nil, nil, err
		}
	} else {
		program := rooted{fstest.MapFS{}}
		packages := map[string]string{}
		for _, name := range schema.Names() {
			packages[name] = schema.Folder(name)
		}
		for name, text := range files {
			if strings.HasSuffix(name, ".k") {
				program.MapFS[name] = &fstest.MapFile{Data: []byte(text)}
			}
		}
		apps, err = frontend.KCL{}.Apps(context.Background(), frontend.Program{KCL: kcl.Options{
			Files: []string{"/main.k"}, WorkDir: "/", Externals: packages, FileSystem: schema.Over(program)}})
		if err != nil {
			return nil, nil, err
		}
	}
	s, more, err := Generate(Input{Project: p, Stack: st, Workspace: w, Apps: apps.ByName,
		Getenv: func(string) string { return "eu-1" },
		Random: func(n int) string { return strings.Repeat("r", n) },
		Manifests: func(path string) ([]module.Manifest, error) {
			docs, err := config.ParseYAMLStream(path, []byte(files[path]))
			var list []module.Manifest
			for _, d := range docs {
				list = append(list, module.Manifest{Object: d.Plain().(map[string]any), At: d.At})
			}
			return list, err
		}})
	return s, append(warnings, more...), err
}

func tell(err error) string {
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		var all []string
		for _, e := range joined.Unwrap() {
			all = append(all, strings.TrimSuffix(tell(e), "\n"))
		}
		return strings.Join(all, "\n") + "\n"
	}
	var p *config.Problem
	if errors.As(err, &p) {
		text := strings.TrimSpace(p.At.String() + " " + p.Path + ": " + p.What)
		if p.Fix != "" {
			text += "\n  " + p.Fix
		}
		return text + "\n"
	}
	return err.Error() + "\n"
}
