package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/weft-dev/weft/buildpack/sandbox/sandboxtest"
	"github.com/weft-dev/weft/buildpack/spec"
)

// TestInputs: platform.md, "Usage": flags before variables before defaults, and which flags an API version has.
func TestInputs(t *testing.T) {
	environ := map[string]string{"CNB_LAYERS_DIR": "/env/layers", "CNB_GROUP_PATH": "/env/group.toml", "CNB_USE_LAYOUT": "true", "CNB_INSECURE_REGISTRIES": "a,b"}
	getenv := func(name string) string { return environ[name] }
	for _, tt := range []struct {
		phase, api, args string
		check            map[string]string
	}{
		{"build", "0.15", "", map[string]string{"layers": "/env/layers", "group": "/env/group.toml", "plan": "/env/layers/plan.toml", "platform": "/platform"}},
		{"build", "0.15", "-layers /flag -group /flag/group", map[string]string{"layers": "/flag", "group": "/flag/group", "plan": "/flag/plan.toml"}},
		{"create", "0.15", "-layers /l -run-image x -tag a -tag b image", map[string]string{"run-image": "x", "order": "/cnb/order.toml", "layout": "true"}},
		{"rebase", "0.12", "-force image", map[string]string{"force": "true", "report": "report.toml"}},
	} {
		api, err := spec.Platform(tt.api)
		if err != nil {
			t.Fatal(err)
		}
		v, err := parse(tt.phase, api, strings.Fields(tt.args), getenv, io.Discard)
		if err != nil {
			t.Fatal(tt, err)
		}
		for name, want := range tt.check {
			if v.get(name) != want {
				t.Errorf("%s %s: -%s is %q, want %q", tt.phase, tt.args, name, v.get(name), want)
			}
		}
		if tt.phase == "create" && fmt.Sprint(v.names(), v.lists["insecure-registry"]) != "[image a b] [a b]" {
			t.Errorf("names %v, registries %v", v.names(), v.lists)
		}
	}
	for _, tt := range []struct{ phase, api, flag string }{
		{"rebase", "0.11", "-force"}, {"build", "0.10", "-build-config=/x"}, {"analyze", "0.11", "-layout"}, {"analyze", "0.8", "-skip-layers"},
		{"analyze", "0.12", "-stack=/x"}, {"detect", "0.14", "-system=/x"}, {"export", "0.12", "-insecure-registry=x"}, {"detect", "0.15", "-cache-dir=/x"},
		{"build", "0.15", "-nonsense"}, {"export", "0.15", "-uid=abc"},
	} {
		api, err := spec.Platform(tt.api)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parse(tt.phase, api, []string{tt.flag}, getenv, io.Discard); err == nil {
			t.Errorf("%s takes %s in Platform API %s", tt.phase, tt.flag, tt.api)
		}
	}
	// Whole runs: the message and the exit code.
	for _, tt := range []struct {
		args, api string
		code      int
		want      string
	}{
		{"lifecycle", "0.15", 3, "name a phase"}, {"lifecycle nonsense", "0.15", 3, "valid phases"}, {"analyzer", "0.15", 3, "expected 1"},
		{"creator a b", "0.15", 3, "expected 1"}, {"exporter", "0.15", 3, "at least one image"}, {"exporter x.io/a y.io/b", "0.15", 3, "multiple registries"},
		{"analyzer -log-level=loud a", "0.15", 3, "log level"}, {"analyzer UPPER", "0.15", 3, "UPPER"}, {"analyzer -layout a", "0.15", 3, "experimental"},
		{"builder x", "0.15", 3, "unexpected arguments"}, {"rebaser", "0.15", 3, "at least one image"},
		{"detector", "", 11, "CNB_PLATFORM_API"}, {"detector", "0.99", 11, "0.99"}, {"detector", "x", 11, "x"}, {"/cnb/lifecycle/analyzer -version", "", 0, version},
	} {
		var out bytes.Buffer
		code := start(t.Context(), strings.Fields(tt.args), func(name string) string {
			return map[string]string{"CNB_PLATFORM_API": tt.api}[name]
		}, &out, &out)
		if code != tt.code || !strings.Contains(out.String(), tt.want) {
			t.Errorf("%s: exit code %d, want %d and %q\n%s", tt.args, code, tt.code, tt.want, out.String())
		}
	}
}

// TestExperimental: platform.md, "Experimental Features".
func TestExperimental(t *testing.T) {
	for mode, tt := range map[string]struct {
		want   string
		warned bool
	}{
		"": {"experimental features are disabled", false}, "error": {"experimental features are disabled", false},
		"warn": {"-layout needs -layout-dir", true}, "silent": {"-layout needs -layout-dir", false},
	} {
		var out bytes.Buffer
		code := start(t.Context(), []string{"analyzer", "-layout", "a"}, func(name string) string {
			return map[string]string{"CNB_PLATFORM_API": "0.15", "CNB_EXPERIMENTAL_MODE": mode}[name]
		}, &out, &out)
		if code != codeArguments || !strings.Contains(out.String(), tt.want) || strings.Contains(out.String(), "Platform requested experimental feature") != tt.warned {
			t.Errorf("CNB_EXPERIMENTAL_MODE=%s: exit code %d, want %q, a warning: %v\n%s", mode, code, tt.want, tt.warned, out.String())
		}
	}
}

// TestRegistryAuth: platform.md, "Registry Authentication". What is wrong is said without the secret.
func TestRegistryAuth(t *testing.T) {
	for text, want := range map[string]string{
		"sEcReT": "is not a JSON object", `["sEcReT"]`: "is not a JSON object", `{"r.io": "Digest sEcReT"}`: "must begin with Basic, Bearer or X-Identity",
	} {
		var out bytes.Buffer
		code := start(t.Context(), []string{"analyzer", "r.io/a"}, func(name string) string {
			return map[string]string{"CNB_PLATFORM_API": "0.15", "CNB_REGISTRY_AUTH": text}[name]
		}, &out, &out)
		if code == 0 || !strings.Contains(out.String(), want) || strings.Contains(out.String(), "sEcReT") {
			t.Errorf("CNB_REGISTRY_AUTH=%s: exit code %d, want %q\n%s", text, code, want, out.String())
		}
	}
}

// TestMalformedFiles: what phases leave for the next is told with its place where it cannot be read; the exit code is upstream's.
func TestMalformedFiles(t *testing.T) {
	program := sandboxtest.Program(t, lifecycleProgram)
	const group = "[[group]]\nid = \"a\"\nversion = \"1\"\napi = \"0.10\"\n"
	for _, tt := range []struct {
		phase, group, plan string
		code               int
		want               string
	}{
		{"build", "[[group\n", "", 1, "failed to read group file: @/layers/group.toml:1:8: expected"},
		{"build", "[[group]]\nid = 3\n", "", 1, "failed to read group file: @/layers/group.toml:2: group.id"},
		{"build", strings.ReplaceAll(group, "0.10", "0.1"), "", 12, "set API for buildpack 'a@1'"},
		{"build", group, "[[entries]]\nx = [\n", 1, "failed to read plan file: @/layers/plan.toml:2:"},
		{"restore", "[[group\n", "", 1, "failed to read group file: @/layers/group.toml:1:8: expected"},
	} {
		w := newWorld(t, "")
		w.program, w.env, w.user = program, []string{"CNB_PLATFORM_API=0.15"}, &syscall.Credential{Uid: 1000, Gid: 1000}
		if os.Getuid() != 0 {
			w.user = nil
		}
		w.write("layers/group.toml", tt.group)
		w.write("layers/plan.toml", tt.plan)
		w.write("layers/analyzed.toml", "")
		flags := w.flags("layers")
		if tt.phase == "build" {
			flags = w.flags("layers", "app", "platform", "buildpacks")
		}
		code, out := w.run(tt.phase, flags...)
		if want := strings.ReplaceAll(tt.want, "@", w.dir); code != tt.code || !strings.Contains(out, want) && !strings.Contains(out, tt.want) {
			t.Errorf("%s with %q and %q: exit code %d, want %d and %q\n%s", tt.phase, tt.group, tt.plan, code, tt.code, want, out)
		}
	}
	w := newWorld(t, "")
	w.program, w.env = program, []string{"CNB_PLATFORM_API=0.15", "CNB_EXEC_ENV=a/b"}
	if code, out := w.run("detect", w.flags("layers")...); code != 3 || !strings.Contains(out, "an execution environment has no slash") {
		t.Errorf("an environment with a slash: exit code %d\n%s", code, out)
	}
}
