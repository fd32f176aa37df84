//go:build linux

package place

import (
	"os"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// filled is a world with a containerd of its own.
type filled struct {
	*world
	*machine
}

func newFilled(t *testing.T) *filled {
	t.Helper()
	f := &filled{newWorld(t), start(t)}
	f.env = []string{"CNB_USE_CONTAINERD=true", "CONTAINERD_ADDRESS=" + f.socket}
	return f
}

// image gives an image that must be in containerd, with its layers' diffIDs.
func (w *filled) image(name string) (v1.Image, []v1.Hash) {
	w.world.t.Helper()
	img, err := w.connect("").Image(w.world.t.Context(), name)
	if err != nil || img == nil {
		w.world.t.Fatalf("%s: %v %v", name, img, err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		w.world.t.Fatal(err)
	}
	return img, config.RootFS.DiffIDs
}

// TestLifecycleContainerd builds with the lifecycle's programs, builds again, and rebases.
func TestLifecycleContainerd(t *testing.T) {
	w := newFilled(t)
	w.freshLayers()
	w.must("lifecycle", w.phase("create", "-tag", "other.example.com/app:v2", "app")...)
	first, ids := w.image("app")
	if second, _ := w.image("other.example.com/app:v2"); digest(t, second) != digest(t, first) {
		t.Error("the other tag means another image")
	}
	report, err := os.ReadFile(w.dir + "/reports/report.toml")
	if err != nil || !strings.Contains(string(report), digest(t, first)) {
		t.Errorf("report.toml is %s (%v)", report, err)
	}
	w.collect("k8s.io")
	blobs := len(w.blobs("k8s.io"))
	if blobs != len(ids)+2 || len(w.leases("k8s.io")) != 0 {
		t.Errorf("%d blobs for %d layers, leases %v", blobs, len(ids), w.leases("k8s.io"))
	}
	w.freshLayers()
	if out := w.must("lifecycle", w.phase("create", "app")...); !strings.Contains(out, "Reusing layer 'x:l'") {
		t.Errorf("the second build reuses nothing:\n%s", out)
	}
	if again, _ := w.image("app"); digest(t, again) != digest(t, first) {
		t.Error("the same source gave another image")
	}
	w.must("lifecycle", "rebase", "-run-image", w.host+"/run:two", "-report", w.dir+"/reports/report.toml", "app")
	if _, rebased := w.image("app"); rebased[0] == ids[0] || rebased[len(rebased)-1] != ids[len(ids)-1] {
		t.Errorf("rebase made %v of %v", rebased, ids)
	}
	if out, code := w.run("lifecycle", w.phase("create", "-daemon", "app")...); code != 3 || !strings.Contains(out, "exclude each other") {
		t.Errorf("-daemon and -containerd gave exit code %d: %s", code, out)
	}
	if out, code := w.run("lifecycle", w.phase("create", "-containerd-address", w.dir+"/none.sock", "app")...); code != 1 || !strings.Contains(out, "no containerd answers at "+w.dir) {
		t.Errorf("a missing containerd gave exit code %d: %s", code, out)
	}
}

// TestVerbsContainerd builds with weft build, which finds what is there, and inspects and rebases.
func TestVerbsContainerd(t *testing.T) {
	w := newFilled(t)
	build := []string{"build", "containerd:team/app:v1", "--path", w.dir + "/app", "--buildpack", w.dir + "/buildpacks/x/1", "--run-image", w.host + "/run:one"}
	if out := w.must("weft", build...); !strings.Contains(out, "docker.io/team/app:v1") && !strings.Contains(out, "team/app:v1 is in containerd at "+w.socket+", namespace k8s.io") {
		t.Errorf("the end does not say where the image is:\n%s", out)
	}
	first, ids := w.image("team/app:v1")
	if len(w.leases("k8s.io")) != 0 {
		t.Error("the build has left a lease")
	}
	if out := w.must("weft", build...); !strings.Contains(out, "Nothing has changed") {
		t.Errorf("the second build:\n%s", out)
	}
	if out := w.must("weft", "inspect", "containerd:team/app:v1"); !strings.Contains(out, digest(t, first)) || !strings.Contains(out, "serve") {
		t.Errorf("inspect shows\n%s", out)
	}
	w.must("weft", "rebase", "containerd:team/app:v1", "--run-image", w.host+"/run:two", "--force", "--unpack", "--snapshotter", snapshotter)
	rebased, moved := w.image("team/app:v1")
	if moved[0] == ids[0] || moved[len(moved)-1] != ids[len(ids)-1] {
		t.Errorf("rebase made %v of %v", moved, ids)
	}
	name, err := rebased.ConfigName()
	if err != nil || w.blobs("k8s.io")[name.String()]["containerd.io/gc.ref.snapshot."+snapshotter] == "" {
		t.Errorf("the rebased image was not unpacked (%v)", err)
	}
	w.must("weft", "rebase", "oci:"+w.layout(), "--run-image", w.host+"/run:two", "--force")
	if out := w.must("weft", "inspect", "oci:"+w.layout(), "-o", "json"); !strings.Contains(out, moved[0].String()) {
		t.Errorf("the rebased folder has\n%s", out)
	}
	if out, code := w.run("weft", "inspect", "containerd:nonesuch"); code != 1 || !strings.Contains(out, "containerd:nonesuch was not found") {
		t.Errorf("a missing image gave exit code %d: %s", code, out)
	}
	if out, code := w.run("weft", "inspect", "containerd:x", "--containerd-address", w.dir+"/none.sock"); code != 1 || !strings.Contains(out, "--containerd-address") {
		t.Errorf("a missing containerd gave exit code %d: %s", code, out)
	}
	if out, code := w.run("weft", "build", "containerd:UPPER"); code != 2 {
		t.Errorf("a bad name gave exit code %d: %s", code, out)
	}
}
