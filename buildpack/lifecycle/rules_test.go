package lifecycle

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weft-dev/weft/buildpack/layer"
	"github.com/weft-dev/weft/buildpack/spec"
)

func namesOf(o spec.Order) string {
	var groups []string
	for _, g := range o {
		var list []string
		for _, e := range g.Group {
			list = append(list, e.String())
		}
		groups = append(groups, strings.Join(list, " "))
	}
	return strings.Join(groups, " | ")
}

// TestSystemBuildpacks: platform.md, "system.toml".
func TestSystemBuildpacks(t *testing.T) {
	one := func(id string) spec.Element { return spec.Element{ID: id, Version: "1"} }
	order := spec.Order{{Group: []spec.Element{one("a")}}, {Group: []spec.Element{one("b"), one("first")}}}
	got := namesOf(WithSystem(order, []spec.Element{one("first")}, []spec.Element{one("last")}))
	if want := "first@1 a@1 last@1 | b@1 first@1 last@1"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := namesOf(WithSystem(order, nil, nil)); got != namesOf(order) {
		t.Errorf("without system buildpacks: %q", got)
	}
}

// TestTargets: platform.md, "Target Data"; buildpack.md, "Targets": what either side leaves open matches.
func TestTargets(t *testing.T) {
	debian := &spec.Distro{Name: "debian", Version: "12"}
	image := spec.ImageTarget{OS: "linux", Arch: "arm64", ArchVariant: "v8", Distro: debian}
	for name, tt := range map[string]struct {
		targets []spec.Target
		want    bool
	}{
		"none declared":         {nil, true},
		"os":                    {[]spec.Target{{OS: "linux"}}, true},
		"other os":              {[]spec.Target{{OS: "windows"}}, false},
		"arch":                  {[]spec.Target{{OS: "linux", Arch: "arm64"}}, true},
		"other arch":            {[]spec.Target{{OS: "linux", Arch: "amd64"}}, false},
		"variant":               {[]spec.Target{{Arch: "arm64", ArchVariant: "v8"}}, true},
		"other variant":         {[]spec.Target{{Arch: "arm64", ArchVariant: "v7"}}, false},
		"distribution":          {[]spec.Target{{Distros: []spec.Distro{{Name: "ubuntu", Version: "24.04"}, {Name: "debian", Version: "12"}}}}, true},
		"any of a distribution": {[]spec.Target{{Distros: []spec.Distro{{Name: "debian"}}}}, true},
		"other version":         {[]spec.Target{{Distros: []spec.Distro{{Name: "debian", Version: "11"}}}}, false},
		"second of two":         {[]spec.Target{{OS: "windows"}, {OS: "linux"}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			d := &Detector{Target: image}
			if got := d.targetMatches(&Buildpack{Descriptor: spec.Descriptor{Targets: tt.targets}}); got != tt.want {
				t.Errorf("got %v", got)
			}
		})
	}
	// A rebase needs the same target; what the new run image leaves open is no obstacle.
	same := image
	if !rebasableTarget(same, image) || !rebasableTarget(spec.ImageTarget{OS: "linux", Arch: "arm64"}, image) {
		t.Error("a run image of the same target is refused")
	}
	for _, other := range []spec.ImageTarget{{OS: "linux", Arch: "amd64"}, {OS: "windows", Arch: "arm64"}, {OS: "linux", Arch: "arm64", ArchVariant: "v7"},
		{OS: "linux", Arch: "arm64", Distro: &spec.Distro{Name: "debian", Version: "13"}}, {OS: "linux", Arch: "arm64", Distro: &spec.Distro{Name: "alpine"}}} {
		if rebasableTarget(other, image) {
			t.Errorf("%+v is taken for the same target", other)
		}
	}
}

// TestUnmet: buildpack.md, "Unmet Buildpack Plan Entries".
func TestUnmet(t *testing.T) {
	asked := []spec.Require{{Name: "node"}, {Name: "npm"}}
	met, err := metRequires(asked, []spec.Provide{{Name: "npm"}})
	if err != nil || !slices.Equal(met, []string{"node"}) {
		t.Errorf("%v %v", met, err)
	}
	for _, unmet := range []string{"", "java"} {
		if _, err := metRequires(asked, []spec.Provide{{Name: unmet}}); err == nil {
			t.Errorf("the unmet entry %q was taken", unmet)
		}
	}
}

// TestSlices: buildpack.md, "Slices": files of an earlier slice are gone for later ones, empty slices stay, the rest is a last one.
func TestSlices(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a/one.js", "a/two.css", "b/three.js", "top.js", "rest"} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	groups, err := sliced(root.FS().(layer.Tree), []spec.Slice{{Paths: []string{"a/*.js"}}, {Paths: []string{"nothing/*"}}, {Paths: []string{"a", "*.js"}}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, g := range groups {
		got = append(got, fmt.Sprint(g))
	}
	want := []string{"[. a a/one.js]", "[]", "[. a a/two.css top.js]", "[. b b/three.js rest]"}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if _, err := sliced(root.FS().(layer.Tree), []spec.Slice{{Paths: []string{"["}}}); err == nil {
		t.Error("a bad pattern was taken")
	}
}
