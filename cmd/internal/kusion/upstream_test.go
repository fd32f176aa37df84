package kusion

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-dev/weft/stack"
	"github.com/weft-dev/weft/stack/schema"
)

// upstreamStacks are the stacks of upstream's checkouts, by their folder relative to UPSTREAM: what is wrong with them is told for those
// that upstream refuses as well.
var upstreamStacks = map[string]string{
	"konfig/example/ai-agent-demo/dev":         "",
	"konfig/example/nginx/dev":                 "",
	"konfig/example/quickstart/default":        "",
	"konfig/example/service-multi-stack/dev":   "",
	"konfig/example/service-multi-stack/prod":  "",
	"konfig/example/simple-job/dev":            "",
	"konfig/example/simple-service/dev":        "",
	"konfig/example/wordpress-cloud-rds/prod":  "",
	"konfig/example/wordpress-local-db/prod":   "",
	"catalog/modules/inference/example/dev":    "attribute 'Inference' not found", // its variable hides what it imports
	"catalog/modules/k8s_manifest/example/dev": "",
	"catalog/modules/monitoring/example/dev":   "",
	"catalog/modules/mysql/example/dev":        "",
	"catalog/modules/network/example/dev":      "",
	"catalog/modules/opensearch/example/dev":   "Cannot find the module opensearch.OpenSearch", // the file is opensearch.k
	"catalog/modules/opsrule/example/dev":      "is missing",                                   // its workspace gives a module neither path nor version
	"catalog/modules/postgres/example/dev":     "",
	"kam/example/dev":                          "Cannot find the module kam.v1.workload.container", // of an older kam
}

// TestUpstreamStacks evaluates every stack of upstream's checkouts (UPSTREAM is a folder with konfig, catalog and kam), once with the
// modules' schemas from the checkouts and once with those that are built in: both give the same Spec.
func TestUpstreamStacks(t *testing.T) {
	upstream := os.Getenv("UPSTREAM")
	if upstream == "" {
		t.Skip("UPSTREAM names no folder of upstream's checkouts")
	}
	modules := map[string]string{"kam": filepath.Join(upstream, "kam")}
	for _, name := range schema.Names() {
		if name != "kam" {
			modules[name] = filepath.Join(upstream, "catalog/modules", name)
		}
	}
	seen := map[string]bool{}
	for _, root := range []string{"konfig", "catalog", "kam"} {
		err := filepath.WalkDir(filepath.Join(upstream, root), func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.Name() != stack.StackFile {
				return err
			}
			rel, err := filepath.Rel(upstream, filepath.Dir(path))
			if err != nil {
				return err
			}
			seen[rel] = true
			fault, known := upstreamStacks[rel]
			if !known {
				t.Errorf("%s is not in the table", rel)
			}
			t.Run(rel, func(t *testing.T) {
				byPath := evaluateIn(t, filepath.Dir(path), modules)
				builtIn := evaluateIn(t, filepath.Dir(path), nil)
				if fault != "" {
					if !strings.Contains(byPath, fault) {
						t.Errorf("expected the error %q, got %s", fault, byPath)
					}
					return
				}
				if strings.HasPrefix(byPath, "error") {
					t.Error(byPath)
				}
				if diff := cmp.Diff(byPath, builtIn); diff != "" {
					t.Errorf("modules by path (-) and built in (+) differ:\n%s", diff)
				}
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for rel := range upstreamStacks {
		if !seen[rel] {
			t.Errorf("%s is in the table and not in %s", rel, upstream)
		}
	}
}

// evaluateIn returns the Spec of a stack, or error and what is wrong. An example's own workspace file is used where it has one.
func evaluateIn(t *testing.T, dir string, modules map[string]string) string {
	t.Helper()
	place, err := Find(dir, "")
	if err != nil {
		return "error: " + err.Error()
	}
	workspace := &stack.Workspace{Name: "default"}
	if strings.Contains(dir, "cloud") { // as the example's page asks for
		if workspace, err = stack.ParseWorkspace("workspace.yaml", "default", []byte(cloudWorkspace)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"workspace.yaml", "example_workspace.yaml"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			continue
		}
		if workspace, err = stack.ParseWorkspace(filepath.Join(dir, name), "default", text); err != nil {
			t.Logf("%v", err)
			return "error: " + err.Error()
		}
	}
	s, _, err := place.Evaluate(context.Background(), Options{Workspace: workspace, Modules: modules, Getenv: environment(t)})
	if err != nil {
		return "error: " + err.Error()
	}
	text, err := s.YAML()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// environment has no variables but folders of its own.
func environment(t *testing.T) func(string) string {
	home := t.TempDir()
	return func(name string) string {
		switch name {
		case "HOME":
			return home
		case "AWS_REGION", "ALICLOUD_REGION":
			return "region-1"
		}
		return ""
	}
}

const cloudWorkspace = `
modules:
  mysql:
    path: oci://ghcr.io/kusionstack/mysql
    version: 0.2.0
    configs:
      default: {cloud: aws, instanceType: db.t3.micro}
`
