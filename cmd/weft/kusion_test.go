package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weft-dev/weft/cmd/internal/kcltool"
	"github.com/weft-dev/weft/registry/registrytest"
)

// kusionWorld is a home and a folder for Kusion's verbs.
type kusionWorld struct {
	t    *testing.T
	home string
	dir  string
	env  map[string]string
}

func newKusionWorld(t *testing.T) *kusionWorld {
	home := t.TempDir()
	return &kusionWorld{t: t, home: home, dir: t.TempDir(), env: map[string]string{"HOME": home, "KUSION_HOME": filepath.Join(home, "kusion"), "WEFT_STATE": filepath.Join(home, "state"), "KCL_CACHE_PATH": "off"}}
}

// run is the program under the name kusion.
func (w *kusionWorld) run(args ...string) (code int, out, errs string) {
	w.t.Helper()
	var o, e bytes.Buffer
	code = run(context.Background(), append([]string{"kusion"}, args...), strings.NewReader(""), &o, &e, func(name string) string { return w.env[name] })
	return code, o.String(), e.String()
}

func (w *kusionWorld) path(name string) string { return filepath.Join(w.dir, name) }

func (w *kusionWorld) write(name, text string) string {
	w.t.Helper()
	path := w.path(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
	return path
}

// TestKusionFiles goes through the verbs that keep files, with upstream's texts and exit codes.
func TestKusionFiles(t *testing.T) {
	w := newKusionWorld(t)
	shop := w.path("shop")
	good := w.write("dev.yaml", "context: {a: b}\n")
	bad := w.write("bad.yaml", "modules: {m: {}}\n")
	for _, step := range []struct {
		args string
		code int
		want string // in standard output, or in errors for code 1
	}{
		{"init --target " + shop, 0, "Initiated demo project 'shop' successfully\n"},
		{"init --target " + shop, 1, "should be empty"},
		{"init a", 1, "no args accepted"},
		{"stack create prod --target " + shop + " --copy-from default", 0, "Created stack 'prod' under project directory '" + shop + "' successfully\n"},
		{"stack create prod --target " + shop, 1, "not empty existing target directory for stack creation"},
		{"stack create prod --target " + w.dir, 1, "invalid target project directory"},
		{"stack create a/b --target " + shop, 1, "the stack name must have"},
		{"stack create", 1, "only one argument is accepted"},
		{"project create --target " + w.path("other"), 0, "Created project 'other' successfully\n"},
		{"generate -w " + shop + "/prod", 0, "id: apps/v1:Deployment:shop:shop-prod-quickstart\n"},
		{"generate -w " + shop, 1, "has the stacks default, prod"},
		{"generate -w " + w.path("other"), 1, "has no stack"},
		{"generate -w " + w.dir, 1, "there is no project.yaml"},
		{"generate -w " + shop + "/prod --workspace none", 1, "workspace does not exist: none"},
		{"generate -w " + shop + "/prod --backend none", 1, "config of backend none does not exist"},
		{"generate -w " + shop + "/prod -D novalue", 1, "value novalue is invalid format"},
		{"generate -w " + shop + "/prod more", 1, "Unexpected args: [more]\nSee 'kusion generate -h' for help and examples"},
		{"generate -w " + shop + "/prod --odd", 1, "unknown flag: --odd\nSee 'kusion generate -h' for help and examples"},
		{"generate -w " + shop + "/prod -o " + w.path("spec.yaml"), 0, ""},
		{"workspace list", 0, "* default\n"},
		{"workspace create dev", 1, "empty configuration file path"},
		{"workspace create default -f " + good, 1, "default workspace cannot be modified"},
		{"workspace create dev -f " + bad, 1, "modules.m.path: is missing"},
		{"workspace create dev -f " + good + " --current", 0, "create workspace dev successfully\n"},
		{"workspace create dev -f " + good, 1, "workspace has already existed"},
		{"workspace show", 0, "show configuration of workspace dev:\ncontext:\n    a: b\n"},
		{"workspace update dev", 1, "new name or file path is required"},
		{"workspace update dev --rename test -f " + good, 0, "update workspace test successfully\n"},
		{"workspace switch none", 1, "workspace does not exist"},
		{"workspace switch test", 0, "switch current workspace to test successfully\n"},
		{"workspace list", 0, "- default\n* test\n"},
		{"workspace delete a b", 1, "more than one args are not accepted"},
		{"workspace delete", 0, "delete workspace test successfully\n"},
		{"workspace delete", 1, "default workspace cannot be modified"},
		{"config set backends.pre.type local", 0, "set config item backends.pre.type successfully"},
		{"config set backends.pre", 1, "only two args are accepted"},
		{"config get backends.pre", 0, `{"type":"local"}`},
		{"config get backends.current", 0, "default"},
		{"config list", 0, "backends:\n    current: default\n"},
		{"config unset backends.pre", 0, "successfully"},
		{"project list", 0, "No projects found\n"},
		{"release list -w " + shop + "/prod", 0, "No releases found for project: shop, workspace: default\n"},
		{"release unlock -w " + shop + "/prod", 0, "No release file found for project: shop, workspace: default\n"},
		{"release show --project shop", 1, "release does not exist"},
		{"resource graph", 1, "project is a must"},
		{"resource graph --project shop", 0, "No graph found for project: shop in workspace [default]\n"},
		{"resource show --project shop", 1, "resource ID is required"},
		{"resource show --project shop --id a", 1, "no release found for project: shop, workspace: default"},
		{"mod list", 0, "Name  Version  URL\n"},
		{"mod add mysql -w " + shop + "/prod", 1, "module: mysql not found in the workspace: default"},
		{"mod pull " + w.dir, 1, "no kcl.mod file found"},
		{"mod login", 1, "less or more than one arg is not accepted"},
		{"version -o json", 0, `"releaseVersion"`},
		{"version -o xml", 1, "output must be 'json'"},
		{"nonsense", 1, `unknown command "nonsense" for "kusion"`},
		{"workspace nonsense", 1, `unknown command "nonsense" for "kusion workspace"`},
		{"", 0, "Usage:\n"},
	} {
		code, out, errs := w.run(strings.Fields(step.args)...)
		text := out
		if step.code != 0 {
			text = errs
		}
		if code != step.code || !strings.Contains(text, step.want) {
			t.Errorf("kusion %s: code %d, out %q, errors %q; want %d, %q", step.args, code, out, errs, step.code, step.want)
		}
	}
	text, err := os.ReadFile(w.path("spec.yaml"))
	if err != nil || !strings.HasPrefix(string(text), "resources:\n    - id: v1:Namespace:shop\n") {
		t.Errorf("the Spec is %s, %v", text, err)
	}
}

// TestKusionModules logs in to a registry, pushes a module there, and pulls it for a stack, with and without the credentials.
func TestKusionModules(t *testing.T) {
	reg := registrytest.New(t, registrytest.Config{Basic: &registrytest.Basic{User: "me", Password: "hunter22"}})
	w := newKusionWorld(t)
	w.env["KCL_PKG_PATH"], w.env["DOCKER_CONFIG"] = filepath.Join(w.home, "packages"), filepath.Join(w.home, "docker")
	w.write("caches/kcl.mod", "[package]\nname = \"caches\"\nversion = \"0.3.0\"\n")
	w.write("caches/cache.k", "schema Cache:\n    size: int = 7\n")
	app := filepath.Dir(w.write("app/kcl.mod", "[package]\nname = \"app\"\nversion = \"0.0.1\"\n[dependencies]\ncaches = { oci = \"oci://"+reg.Host+"/team/caches\", tag = \"0.3.0\" }\n"))
	expect := func(code int, want string, args ...string) {
		t.Helper()
		got, out, errs := w.run(args...)
		if got != code || !strings.Contains(out+errs, want) || strings.Contains(out+errs, "hunter22") {
			t.Errorf("kusion %s: code %d\n%s%s\nwant %d, %q", strings.Join(args, " "), got, out, errs, code, want)
		}
	}
	expect(1, "empty kusion module registry username", "mod", "login", reg.Host)
	expect(1, "empty kusion module registry password", "mod", "login", reg.Host, "--username", "me")
	expect(1, "401", "mod", "pull", app)
	w.env["KUSION_MODULE_REGISTRY_USERNAME"], w.env["KUSION_MODULE_REGISTRY_PASSWORD"] = "me", "hunter22"
	expect(0, "Login Succeeded", "mod", "login", reg.Host)
	push := &kcltool.Tool{In: strings.NewReader(""), Out: io.Discard, Err: io.Discard, Dir: w.path("caches"), Getenv: func(name string) (string, bool) { return w.env[name], w.env[name] != "" }}
	c := push.Command("kcl")
	c.SetArgs([]string{"mod", "push", "oci://" + reg.Host + "/team/caches"})
	if err := c.Execute(); err != nil {
		t.Fatal(err)
	}
	expect(0, "", "mod", "pull", app)
	if found, err := filepath.Glob(filepath.Join(w.env["KCL_PKG_PATH"], "*caches*", "cache.k")); err != nil || len(found) != 1 {
		t.Errorf("pulled: %v, %v", found, err)
	}
	// Flags name the registry too, as upstream's do.
	w.env["DOCKER_CONFIG"], w.env["KCL_PKG_PATH"] = filepath.Join(w.home, "other"), filepath.Join(w.home, "again")
	expect(0, "Login Succeeded", "mod", "pull", app, "--host", reg.Host, "--username", "me", "--password", "hunter22")
}

// TestKusionReleases shows releases as upstream wrote them, and unlocks one that it left in progress.
func TestKusionReleases(t *testing.T) {
	w := newKusionWorld(t)
	w.write("shop/project.yaml", "name: shop\n")
	w.write("shop/dev/stack.yaml", "name: dev\n")
	releases := filepath.Join(w.env["KUSION_HOME"], "releases/shop/default")
	if err := os.MkdirAll(releases, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		".metadata.yml": "latestRevision: 1\nreleaseMetaDatas:\n    - revision: 1\n      stack: dev\n",
		"1.yaml": `project: shop
workspace: default
revision: 1
stack: dev
spec:
    resources:
        - id: v1:Namespace:shop
          type: Kubernetes
          attributes:
            apiVersion: v1
            kind: Namespace
            metadata:
                name: shop
        - id: apps/v1:Deployment:shop:web
          type: Kubernetes
          attributes:
            apiVersion: apps/v1
            kind: Deployment
            metadata:
                name: web
                namespace: shop
          dependsOn:
            - v1:Namespace:shop
          extensions:
            kusion.io/is-workload: true
    secretStore: null
    context: {}
state:
    resources:
        - id: v1:Namespace:shop
          type: Kubernetes
          attributes:
            apiVersion: v1
            kind: Namespace
            metadata:
                name: shop
phase: applying
createTime: 2024-05-10T16:48:00Z
modifiedTime: 2024-05-10T16:48:00Z
`} {
		if err := os.WriteFile(filepath.Join(releases, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []struct{ args, want string }{
		{"release list -w " + w.path("shop/dev"), "Revision   Phase           Creation Time                 \n------------------------------------------------------\n1          applying        2024-05-10 16:48:00           \n"},
		{"release show --project shop --revision 1", "phase: applying\n"},
		{"release show --project shop -o json", `    "phase": "applying",`},
		{"resource show --project shop --id v1:Namespace:shop", "# Resource Spec:\nid: v1:Namespace:shop\n"},
		{"resource graph --project shop", "Workload Resources:\nID                                                      Kind                           Name                           CloudResourceID                Status\napps/v1:Deployment:shop:web                             Kubernetes:apps/v1:Deployment  shop/web                                                      Apply failed\n"},
		{"resource graph --project shop -o json", `"DependencyResources":{"v1:Namespace:shop":{"ID":"v1:Namespace:shop","Type":"Kubernetes:v1:Namespace","Name":"shop"`},
		{"release unlock -w " + w.path("shop/dev"), "Successfully update release phase to Failed, project: shop, workspace: default, revision: 1\n"},
		{"release unlock -w " + w.path("shop/dev"), "No need to update the release phase, current phase: failed\n"},
		{"project list", "Current Workspace: default\n  - shop\n"},
	} {
		code, out, errs := w.run(strings.Fields(step.args)...)
		if code != 0 || !strings.Contains(out, step.want) {
			t.Errorf("kusion %s: code %d, out %s, errors %s; want %s", step.args, code, out, errs, step.want)
		}
	}
}
