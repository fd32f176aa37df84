package main

import (
	"context"
	"os"
	"regexp"
	"strings"
	"testing"
)

// The versions that the programs print have to be those that are linked.
func TestVersionsAreThoseOfGoMod(t *testing.T) {
	for file, modules := range map[string]map[string]string{
		"../go.mod":        {"github.com/containerd/containerd/v2": containerdVersion, "github.com/containernetworking/plugins": pluginsVersion},
		"../../dns/go.mod": {"github.com/coredns/coredns": corednsVersion},
	} {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for module, version := range modules {
			found := regexp.MustCompile(`\s` + regexp.QuoteMeta(module) + ` (\S+)`).FindSubmatch(content)
			if found == nil || string(found[1]) != version {
				t.Errorf("%s asks for %s %s, the program says %s", file, module, found, version)
			}
		}
	}
}

func TestRuncFitsTheMachine(t *testing.T) {
	names := func(c features) string {
		var list []string
		for _, p := range runcPrograms(c) {
			text := p.name
			if p.missing != "" {
				text += "(missing)"
			}
			if p.warning != "" {
				text += "(warning)"
			}
			list = append(list, text)
		}
		return strings.Join(list, " ")
	}
	for want, c := range map[string]features{
		"runc":                    {compiler: true, static: true, seccomp: true},
		"runc-core(warning) runc": {compiler: true, static: true},
		"runc(missing)":           {},
	} {
		if got := names(c); got != want {
			t.Errorf("%+v: %s, expected %s", c, got, want)
		}
	}
}

func TestCompilerFeaturesAreFoundOut(t *testing.T) {
	t.Setenv("CC", "false")
	if c := cFeatures(context.Background()); c != (features{}) {
		t.Errorf("with a compiler that fails: %+v", c)
	}
}

// Each program's stamp has to change with what it is built from.
func TestStampChanges(t *testing.T) {
	p := program{name: "x", pkg: "./cmd/x", tags: "a"}
	base := p.stamp("sources")
	changed := []string{p.stamp("other sources")}
	for _, change := range []func(*program){
		func(p *program) { p.pkg = "./cmd/y" }, func(p *program) { p.tags = "b" },
		func(p *program) { p.vars = "-X a=b" }, func(p *program) { p.cgo = true }, func(p *program) { p.trim = true },
	} {
		q := p
		change(&q)
		changed = append(changed, q.stamp("sources"))
	}
	for i, stamp := range changed {
		if stamp == base {
			t.Errorf("change %d leaves the stamp as it is", i)
		}
	}
}
