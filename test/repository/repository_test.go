package repository

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/semver"
)

const (
	module = "github.com/weft-dev/weft"
	root   = "../.."
	// kubernetesVersions lists what the go.mod of Kubernetes v1.37.2 requires, without its staging modules.
	kubernetesVersions = "testdata/kubernetes-v1.37.2.txt"
	// windowsOnly are modules that nothing of ours compiles: containerd asks for versions of its own.
	windowsOnly = "github.com/Microsoft/"
)

// goList runs go list in the main module and returns its lines.
func goList(t *testing.T, env []string, args ...string) []string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list"}, args...)...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), env...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %s: %v\n%s", strings.Join(args, " "), err, errs.String())
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

// TestVersionsSharedWithKubernetes holds that the main module never forces a newer version on the embedded Kubernetes than the one that
// Kubernetes was tested with.
func TestVersionsSharedWithKubernetes(t *testing.T) {
	content, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	file, err := modfile.Parse("go.mod", content, nil)
	if err != nil {
		t.Fatal(err)
	}
	list, err := os.ReadFile(kubernetesVersions)
	if err != nil {
		t.Fatal(err)
	}
	kubernetes := map[string]string{}
	for line := range strings.Lines(string(list)) {
		path, version, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok || !semver.IsValid(version) {
			t.Fatalf("%s: not a module and its version: %q", kubernetesVersions, line)
		}
		kubernetes[path] = version
	}
	shared := 0
	for _, r := range file.Require {
		want, ok := kubernetes[r.Mod.Path]
		if !ok || strings.HasPrefix(r.Mod.Path, windowsOnly) {
			continue
		}
		shared++
		if semver.Compare(r.Mod.Version, want) > 0 {
			t.Errorf("go.mod:%d: %s %s is newer than %s, which Kubernetes asks for", r.Syntax.Start.Line, r.Mod.Path, r.Mod.Version, want)
		}
	}
	if shared < 10 {
		t.Errorf("only %d modules are shared with Kubernetes: is the list complete?", shared)
	}
}

// heavy are packages that a program which is started often, or runs on every node, must not link.
var heavy = []string{
	"k8s.io/", "sigs.k8s.io/controller-runtime", "helm.sh/", "github.com/nats-io/", "github.com/go-git/", "github.com/google/cel-go/",
	module + "/kube", module + "/manager", module + "/console", module + "/api", module + "/engine", module + "/stack", module + "/toolchain",
}

// smallPrograms are the folders of cmd whose programs link only their part, with exceptions from heavy.
var smallPrograms = map[string][]string{
	"kcl":          nil,
	"lifecycle":    nil,
	"launcher":     nil,
	"webfiles":     nil,
	"certificates": nil,
	"sandbox":      nil,
	"lazyd":        {"k8s.io/cri-api"},
	"keeper":       nil,
	"logagent":     nil,
}

func TestSmallProgramsLinkOnlyTheirPart(t *testing.T) {
	entries, err := os.ReadDir(filepath.Join(root, "cmd"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() == "weft" || e.Name() == "internal" || !e.IsDir() {
			continue
		}
		allowed, ok := smallPrograms[e.Name()]
		if !ok {
			t.Errorf("cmd/%s is neither weft nor in the list of small programs", e.Name())
			continue
		}
		t.Run(e.Name(), func(t *testing.T) {
			for _, dependency := range goList(t, []string{"GOOS=linux", "CGO_ENABLED=0"}, "-deps", "./cmd/"+e.Name()) {
				if hasAnyPrefix(dependency, heavy) && !hasAnyPrefix(dependency, allowed) {
					t.Errorf("links %s", dependency)
				}
			}
		})
	}
}

func hasAnyPrefix(s string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(s, p) })
}

// floors are the levels of the house, the lowest first. A package may know lower floors only, and on its own floor itself.
var floors = [][]string{
	{"api", "registry", "store", "kube", "network", "supervise"},
	{"kcl", "image", "engine"},
	{"stack", "toolchain", "buildpack", "lazy", "function", "level", "logging"},
	{"cmd", "manager", "console", "embedded", "test", "examples"},
}

// neighbours are the pairs of one floor in which the first may know the second.
var neighbours = []string{"store registry"}

func TestArrowsRunDownward(t *testing.T) {
	floor := map[string]int{}
	for i, names := range floors {
		for _, n := range names {
			floor[n] = i
		}
	}
	top := func(path string) (string, bool) {
		rest, ours := strings.CutPrefix(path, module+"/")
		name, _, _ := strings.Cut(rest, "/")
		return name, ours
	}
	for _, line := range goList(t, []string{"GOOS=linux"}, "-f", `{{.ImportPath}}{{range .Imports}} {{.}}{{end}}`, "./...") {
		packages := strings.Fields(line)
		from, ours := top(packages[0])
		if !ours {
			continue
		}
		if _, known := floor[from]; !known {
			t.Errorf("%s: the folder %s stands on no floor", packages[0], from)
		}
		for _, path := range packages[1:] {
			to, ours := top(path)
			if !ours || to == from || floor[to] < floor[from] || floor[from] == len(floors)-1 {
				continue
			}
			if !slices.Contains(neighbours, fmt.Sprint(from, " ", to)) {
				t.Errorf("%s must not know %s", packages[0], path)
			}
		}
	}
}
