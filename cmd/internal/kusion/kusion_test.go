package kusion

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/weft-dev/weft/engine"
	"github.com/weft-dev/weft/stack"
	"github.com/weft-dev/weft/stack/spec"
)

func TestConfig(t *testing.T) {
	home := t.TempDir()
	c, err := OpenConfig(home)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct{ do, key, value, want string }{
		{"get", "backends.current", "", "default"},
		{"set", "backends.current", "pre", "there is no backend pre"},
		{"set", "backends.pre.configs.path", "/x", "empty backend type"},
		{"set", "backends.pre.type", "moon", "unsupported backend type"},
		{"set", "backends.pre.type", "local", ""},
		{"set", "backends.pre.configs.bucket", "b", "do not support bucket for backend with type local"},
		{"set", "backends.pre.configs", "{path: 5}", "value of path with backend type local is not string type"},
		{"set", "backends.pre.configs.path", "/x", ""},
		{"set", "backends.pre.type", "s3", "conflict backend type"},
		{"set", "backends.current", "pre", ""},
		{"set", "backends.default.type", "s3", "should not be default"},
		{"set", "backends.current.type", "s3", "should not be current"},
		{"set", "other", "x", "unsupported config item"},
		{"set", "backends.pre.configs.odd", "x", "unsupported config item"},
		{"set", "backends.s", `{"type":"s3","configs":{"bucket":"kusion"}}`, ""},
		{"get", "backends.s.configs", "", "map[bucket:kusion]"},
		{"unset", "backends.pre", "", "in-use current backend"},
		{"unset", "backends.pre.type", "", "in-use current backend"},
		{"unset", "backends.s.type", "", "non-empty backend config items"},
		{"unset", "backends.s.configs.bucket", "", ""},
		{"unset", "backends.s.type", "", ""},
		{"get", "backends.s", "", "empty config item"},
		{"unset", "backends.current", "", ""},
		{"unset", "backends.current", "", "cannot unset default current backend"},
	} {
		got := ""
		switch step.do {
		case "get":
			v, err := c.Get(step.key)
			if got = fmt.Sprint(v); err != nil {
				got = err.Error()
			}
		case "set":
			if err := c.Set(step.key, step.value); err != nil {
				got = err.Error()
			}
		case "unset":
			if err := c.Unset(step.key); err != nil {
				got = err.Error()
			}
		}
		if !strings.Contains(got, step.want) || step.want == "" && got != "" {
			t.Errorf("%s %s %s: got %q, want %q", step.do, step.key, step.value, got, step.want)
		}
	}
	if err := c.Save(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(home, "config.yaml"))
	if want := "backends:\n    current: default\n    default:\n        type: local\n    pre:\n        configs:\n            path: /x\n        type: local\n"; err != nil || string(text) != want {
		t.Errorf("the file is %s, %v", text, err)
	}
	b, err := OpenBackend(home, "pre")
	if err != nil || b.Dir != "/x" {
		t.Errorf("the backend is %v, %v", b, err)
	}
	if _, err := OpenBackend(home, "none"); err == nil || !strings.Contains(err.Error(), "config of backend none does not exist") {
		t.Errorf("a backend that is not there: %v", err)
	}
}

func TestBrokenConfigIsTold(t *testing.T) {
	home := t.TempDir()
	if err := os.WriteFile(filepath.Join(home, "config.yaml"), []byte("backends: [a]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenBackend(home, ""); err == nil || !strings.Contains(err.Error(), "must be fields with values") {
		t.Errorf("got %v", err)
	}
}

func TestWorkspaces(t *testing.T) {
	b := &Backend{Dir: t.TempDir()}
	open := func() *Workspaces {
		t.Helper()
		w, err := b.Workspaces()
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	parse := func(name string) *stack.Workspace {
		ws, err := stack.ParseWorkspace("f", name, []byte("context: {a: b}\nmodules: {m: {path: p, version: 1.0, configs: {default: {x: 1}, one: {projectSelector: [q], y: [2]}}}}\n"))
		if err != nil {
			t.Fatal(err)
		}
		return ws
	}
	w := open()
	if err := w.Put(parse("dev"), true); err != nil {
		t.Fatal(err)
	}
	if err := w.Put(parse("dev"), true); !errors.Is(err, ErrWorkspaceExists) {
		t.Errorf("made twice: %v", err)
	}
	if err := w.Put(parse("gone"), false); !errors.Is(err, ErrWorkspaceMissing) {
		t.Errorf("updated what is not there: %v", err)
	}
	if err := w.Put(parse("../out"), true); err == nil {
		t.Error("a name that leads out of the folder is taken")
	}
	if err := w.SetCurrent("dev"); err != nil {
		t.Fatal(err)
	}
	w = open()
	if got := w.Names(); !slices.Equal(got, []string{"default", "dev"}) || w.Current() != "dev" {
		t.Errorf("there are %v, current is %s", got, w.Current())
	}
	ws, err := w.Get("")
	if err != nil || ws.Name != "dev" || ws.Config("m", "q").Get("y") == nil || ws.Config("m", "q").Get("x").Int != 1 || ws.Config("m", "r").Get("y") != nil {
		t.Errorf("read back: %v, %v", ws, err)
	}
	if err := w.Rename("dev", "test"); err != nil {
		t.Fatal(err)
	}
	w = open()
	if _, err := w.Get("test"); err != nil || w.Current() != "default" || w.Has("dev") {
		t.Errorf("renamed: %v, current %s", err, w.Current())
	}
	if err := w.Delete("test"); err != nil {
		t.Fatal(err)
	}
	if _, err := open().Get("test"); !errors.Is(err, ErrWorkspaceMissing) {
		t.Errorf("deleted: %v", err)
	}
}

func releaseSpec() *spec.Spec {
	object := func(kind, name string, more map[string]any) spec.Resource {
		o := map[string]any{"apiVersion": "v1", "kind": kind, "metadata": map[string]any{"name": name}}
		for k, v := range more {
			o[k] = v
		}
		return spec.Object(o)
	}
	return &spec.Spec{Resources: []spec.Resource{
		object("ConfigMap", "a", nil),
		object("Secret", "s", map[string]any{
			"data":       map[string]any{"plain": base64.StdEncoding.EncodeToString([]byte("hunter2")), "kept": base64.StdEncoding.EncodeToString([]byte("ref://a/b"))},
			"stringData": map[string]any{"more": "hunter3"},
		}),
	}}
}

// A failed apply leaves in the release what exists: upstream wrote an empty state then, and forgot what it had made.
func TestFailedApplyKeepsState(t *testing.T) {
	b := &Backend{Dir: t.TempDir()}
	now := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	record := func(s *spec.Spec, failed, destroyed bool, made ...string) *spec.Release {
		t.Helper()
		r, err := b.Releases("shop", "default")
		if err != nil {
			t.Fatal(err)
		}
		ids := map[string]bool{}
		for _, id := range made {
			ids[id] = true
		}
		if err := r.Record(Outcome{Project: "shop", Stack: "dev", Workspace: "default", Spec: s, Made: ids, Failed: failed, Destroyed: destroyed, Now: now}); err != nil {
			t.Fatal(err)
		}
		if r, err = b.Releases("shop", "default"); err != nil {
			t.Fatal(err)
		}
		rel, err := r.Get(r.Latest())
		if err != nil {
			t.Fatal(err)
		}
		return rel
	}
	ids := func(rel *spec.Release) string {
		var list []string
		for _, r := range rel.State.Resources {
			list = append(list, r.ID)
		}
		return strings.Join(list, " ")
	}
	all := releaseSpec()
	rel := record(all, false, false, "v1:ConfigMap:a", "v1:Secret:s")
	if rel.Revision != 1 || rel.Phase != spec.Succeeded || ids(rel) != "v1:ConfigMap:a v1:Secret:s" || !rel.CreateTime.Equal(now) {
		t.Errorf("the first release is %+v", rel)
	}
	less := &spec.Spec{Resources: all.Resources[:1]}
	rel = record(less, true, false, "v1:ConfigMap:a", "v1:Secret:s") // the Secret could not be deleted
	if rel.Revision != 2 || rel.Phase != spec.Failed || ids(rel) != "v1:ConfigMap:a v1:Secret:s" {
		t.Errorf("after a failure: %+v", rel)
	}
	rel = record(less, true, false) // nothing exists, and nothing could be made
	if ids(rel) != "" || rel.Phase != spec.Failed {
		t.Errorf("nothing was made: %+v", rel)
	}
	if rel = record(all, false, true); len(rel.Spec.Resources) != 0 {
		t.Errorf("destroyed: %+v", rel)
	}
}

// No value of a Secret is in a release file; what stands for one is.
func TestReleaseHoldsNoSecrets(t *testing.T) {
	b := &Backend{Dir: t.TempDir()}
	r, err := b.Releases("shop", "default")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Record(Outcome{Project: "shop", Stack: "dev", Workspace: "default", Spec: releaseSpec(), Made: map[string]bool{"v1:Secret:s": true}, Now: time.Now()}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(b.Dir, "releases/shop/default/1.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"hunter2", "hunter3", base64.StdEncoding.EncodeToString([]byte("hunter2"))} {
		if bytes.Contains(text, []byte(secret)) {
			t.Errorf("the file holds %s:\n%s", secret, text)
		}
	}
	if !bytes.Contains(text, []byte(base64.StdEncoding.EncodeToString([]byte("ref://a/b")))) {
		t.Errorf("the reference is gone:\n%s", text)
	}
}

func TestOwner(t *testing.T) {
	owner := func(project, st, workspace string) string {
		return (&Place{Project: &stack.Project{Name: project}, Stack: &stack.Stack{Name: st}}).Owner(workspace)
	}
	if got := owner("shop", "dev", "default") + " " + owner("shop", "dev", "dev") + " " + owner("shop", "dev", "east"); got != "shop-dev shop-dev shop-dev-east" {
		t.Errorf("owners are %s", got)
	}
	seen := map[string]string{}
	for _, p := range []string{"Shop", "shop.", "shop_a", "shop-a", strings.Repeat("a", 90), strings.Repeat("a", 91)} {
		name := owner(p, "dev", "default")
		if other := seen[name]; other != "" || len(name) > 40 || name != strings.ToLower(name) {
			t.Errorf("%s is %s, as is %q", p, name, other)
		}
		seen[name] = p
	}
}

func TestSecretsOfVault(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Vault-Token") != "token" {
			http.Error(w, "{}", http.StatusForbidden)
			return
		}
		answers := map[string]string{
			"/v1/secret/data/shop":           `{"data":{"data":{"password":"p2","deep":{"a":["x","y"]},"n":5,"a.b":"dotted"}}}`,
			"/v1/secret/data/shop?version=1": `{"data":{"data":{"password":"p1"}}}`,
			"/v1/secret/data/team/shop":      `{"data":{"data":{"password":"team"}}}`,
			"/v1/kv/shop":                    `{"data":{"password":"v1"}}`,
			"/v1/secret/data/gone":           `{"data":{"data":null}}`,
			"/v1/secret/data/odd":            `not json`,
			"/v1/secret/data/flat":           `{"data":{"password":"x"}}`,
		}
		answer, ok := answers[r.URL.RequestURI()]
		if r.URL.Path == "/v1/secret/data/away" {
			http.Redirect(w, r, "http://elsewhere.invalid/", http.StatusFound)
			return
		}
		if !ok {
			http.NotFound(w, r)
			return
		}
		fmt.Fprint(w, answer)
	}))
	defer server.Close()
	mount, kv := "secret", "kv"
	for _, c := range []struct {
		path, version, ref, want string
		token                    string
	}{
		{"secret", "v2", "ref://shop/password", "p2", "token"},
		{"secret", "", "ref://shop/password?version=1", "p1", "token"},
		{"", "v2", "ref://secret/shop/password", "p2", "token"},
		{"", "v2", "ref://secret/data/shop/password", "p2", "token"},
		{"secret", "v2", "ref://secret/data/shop/password", "p2", "token"},
		{"secret", "v2", "ref://team/shop/password", "team", "token"},
		{"kv", "v1", "ref://shop/password", "v1", "token"},
		{"", "v1", "ref://kv/shop/password", "v1", "token"},
		{"secret", "v2", "ref://shop/n", "5", "token"},
		{"secret", "v2", "ref://shop/a.b", "dotted", "token"},
		{"secret", "v2", "ref://shop/deep.a.1", "y", "token"},
		{"secret", "v2", "ref://shop/none", "error: the secret ref://shop/none cannot be read from the store vault: it has no property none", "token"},
		{"secret", "v2", "ref://none/x", "it is not there", "token"},
		{"secret", "v2", "ref://gone/x", "it is not there", "token"},
		{"secret", "v2", "ref://odd/x", "something else than JSON", "token"},
		{"secret", "v2", "ref://flat/x", "no field data.data", "token"},
		{"secret", "v2", "ref://away/x", "another address", "token"},
		{"secret", "v2", "ref://shop/password", "the token may not read /v1/secret/data/shop", "wrong"},
		{"secret", "v2", "ref://shop/password", "set VAULT_TOKEN", ""},
	} {
		p := &spec.Vault{Server: server.URL, Version: c.version}
		switch c.path {
		case "secret":
			p.Path = &mount
		case "kv":
			p.Path = &kv
		}
		got := resolve(t, &spec.SecretStore{Provider: &spec.Provider{Vault: p}}, c.ref, map[string]string{"VAULT_TOKEN": c.token})
		if c.want != got && !strings.HasPrefix(got, "error") || !strings.Contains(got, c.want) {
			t.Errorf("%s of %s %s: got %s, want %s", c.ref, c.path, c.version, got, c.want)
		}
		if strings.Contains(got, "token") && strings.Contains(got, "wrong") {
			t.Errorf("an error shows the token: %s", got)
		}
	}
}

// resolve returns a secret, or error: and what is wrong.
func resolve(t *testing.T, store *spec.SecretStore, ref string, env map[string]string) string {
	t.Helper()
	m, err := store.Map()
	if err != nil {
		t.Fatal(err)
	}
	v, err := Secrets{Getenv: func(name string) string { return env[name] }}.Resolve(context.Background(), engine.External{URL: ref, Store: m})
	if err != nil {
		return "error: " + err.Error()
	}
	return fmt.Sprint(v)
}

func TestSecretsOfOtherStores(t *testing.T) {
	home := t.TempDir()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(home, "secrets.age")
	var sealed bytes.Buffer
	w, err := age.Encrypt(&sealed, id.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(w, "shop:\n  password: from-age\n  port: 5\n")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, sealed.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"SHOP_PASSWORD": "from-env", "JSON": `{"a":{"b":"c"}}`, "WEFT_IDENTITY": id.String()}
	other, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	ageStore := &spec.Provider{Age: &spec.AgeStore{File: file}}
	fakeStore := &spec.Provider{Fake: &spec.Fake{Data: []spec.FakeData{{Key: "k", Value: "v", Version: "1"}, {Key: "m", ValueMap: map[string]string{"p": "q"}}}}}
	for _, c := range []struct {
		p         *spec.Provider
		ref, want string
		env       map[string]string
	}{
		{&spec.Provider{Environment: &spec.EnvironmentStore{Prefix: "SHOP_"}}, "ref://PASSWORD", "from-env", env},
		{&spec.Provider{Environment: &spec.EnvironmentStore{}}, "ref://JSON/a.b", "c", env},
		{&spec.Provider{Environment: &spec.EnvironmentStore{}}, "ref://NONE", "the variable NONE is not set", env},
		{ageStore, "ref://shop/password", "from-age", env},
		{ageStore, "ref://shop/port", "5", env},
		{ageStore, "ref://shop/none", "has no field shop.none", env},
		{ageStore, "ref://shop/password", "cannot be decrypted with the key age1", map[string]string{"WEFT_IDENTITY": other.String()}},
		{&spec.Provider{Age: &spec.AgeStore{File: file + "x"}}, "ref://a/b", "no such file", env},
		{fakeStore, "ref://k", "v", env},
		{fakeStore, "ref://k?version=2", "it is not there", env},
		{fakeStore, "ref://m/p", "q", env},
		{&spec.Provider{AWS: &spec.AWS{Region: "r"}}, "ref://a/b", "Weft does not speak to this store yet", env},
		{&spec.Provider{Kubernetes: &spec.KubernetesStore{}}, "ref://a/b", "no cluster is reachable", env},
	} {
		got := resolve(t, &spec.SecretStore{Provider: c.p}, c.ref, c.env)
		if !strings.Contains(got, c.want) || strings.HasPrefix(got, "error") && got == c.want {
			t.Errorf("%s: got %s, want %s", c.ref, got, c.want)
		}
	}
	generated := func(name string) string {
		return resolve(t, &spec.SecretStore{Provider: fakeStore}, stack.GeneratedURL+"ns/"+name+"/password", env)
	}
	if a, b := generated("one"), generated("two"); a == b || len(a) != 54 || a != generated("one") {
		t.Errorf("made-up secrets are %s and %s", a, b)
	}
}

func TestFind(t *testing.T) {
	root := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("a/project.yaml", "name: a\n")
	write("a/one/stack.yaml", "name: first\n")
	write("a/one/sub/x.k", "")
	write("a/two/stack.yaml", "name: second\n")
	write("b/project.yaml", "name: b\n")
	write("b/only/stack.yaml", "name: only\n")
	write("c/project.yaml", "name: c\n")
	write("d/project.yaml", "name: d\n")
	write("d/x/stack.yaml", "name: same\n")
	write("d/y/stack.yaml", "name: same\n")
	for _, c := range []struct{ dir, name, want string }{
		{"a/one", "", "a first"}, {"a/one/sub", "", "a first"}, {"a/one", "second", "a second"}, {"a", "first", "a first"}, {"a", "two", "a second"},
		{"a", "", "has the stacks first, second"}, {"a", "third", "has no stack third"}, {"b", "", "b only"}, {"c", "", "has no stack"},
		{"d", "", "two stacks of the project are called same"}, {".", "", "there is no project.yaml"}, {"gone", "", "is no folder"},
	} {
		p, err := Find(filepath.Join(root, c.dir), c.name)
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			got = p.Project.Name + " " + p.Stack.Name
		}
		if !strings.Contains(got, c.want) {
			t.Errorf("%s %s: got %s, want %s", c.dir, c.name, got, c.want)
		}
	}
}
