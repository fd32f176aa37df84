//go:build linux

package guest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// repository is the folder of the sources.
func repository(t *testing.T) string {
	t.Helper()
	folder, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return folder
}

// TestPodOnControlGroups2 runs the pod test of the node's programs where there
// are only control groups of version 2.
func TestPodOnControlGroups2(t *testing.T) {
	needs(t)
	module := filepath.Join(repository(t), "embedded/node")
	program := filepath.Join(t.TempDir(), "node.test")
	build := exec.Command("go", "test", "-c", "-o", program, ".")
	build.Dir = module
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go test -c: %v\n%s", err, out)
	}
	out := run(t, module, program+" -test.v -test.run '^TestPodOnContainerd$'")
	if !strings.Contains(out, "control groups cgroup2fs") {
		t.Error("the guest has not control groups of version 2 alone")
	}
	if !strings.Contains(out, "--- PASS: TestPodOnContainerd") {
		t.Error("the pod's test did not run")
	}
}

// TestMountedThroughFUSE runs images that are mounted before they are there, and kills whoever fills them, on a kernel that has none of what later ones
// do by themselves: no events before content, no mounts of images from files, no files behind FUSE.
func TestMountedThroughFUSE(t *testing.T) {
	needs(t)
	module := filepath.Join(repository(t), "lazy")
	program := filepath.Join(t.TempDir(), "lazy.test")
	build := exec.Command("go", "test", "-c", "-o", program, ".")
	build.Dir = module
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go test -c: %v\n%s", err, out)
	}
	out := run(t, module, program+" -test.v -test.run '^TestStandBy$/^fuse$'")
	if !strings.Contains(out, "--- PASS: TestStandBy/fuse") {
		t.Error("the test of images mounted through FUSE did not run")
	}
}

// TestClusterOnControlGroups2 starts the embedded cluster with a node there,
// runs a pod, looks at it from within and takes everything down again.
func TestClusterOnControlGroups2(t *testing.T) {
	needs(t)
	folder := repository(t)
	if _, err := os.Stat(filepath.Join(folder, "bin/weft-node")); err != nil {
		t.Skip("bin/weft-node is not built; run `make build` first")
	}
	// Where the processor is emulated everything takes twenty times as long.
	out := run(t, folder, `export WEFT_STATE=/var/lib/weft NO_COLOR=1 PATH=$PWD/bin:$PATH
weft-node run --state $WEFT_STATE --mode node --start-timeout 20m >/run/weft.log 2>&1 &
until weft status -o json 2>/dev/null | grep -q '"phase": *"ready"'; do
  kill -0 $! || { cat /run/weft.log; tail -n 20 /var/lib/weft/logs/*; exit 1; }
  sleep 5
done
weft kubectl run web --image=weft.local/testpod:1 --overrides='{"spec":{"containers":[{"name":"web","image":"weft.local/testpod:1","resources":{"limits":{"memory":"64Mi"}}}]}}' &&
weft kubectl wait --for=condition=Ready pod/web --timeout=600s &&
echo "limit $(weft kubectl exec web -- cat /sys/fs/cgroup/memory.max)" &&
weft kubectl logs web &&
weft kubectl delete pod web --timeout=300s &&
weft down --quiet &&
echo "left in control groups: $(find /sys/fs/cgroup -mindepth 1 -type d -name '*weft*' | wc -l)"`)
	for _, want := range []string{"limit 67108864", "level=INFO msg=serving", "left in control groups: 0"} {
		if !strings.Contains(out, want) {
			t.Errorf("the guest did not print %q", want)
		}
	}
}
