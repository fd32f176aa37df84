package cluster

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/weft-dev/weft/lazy"
	"github.com/weft-dev/weft/registry"
)

// pushLazyd pushes an image that holds nothing but lazyd and keeper.
func pushLazyd(t *testing.T, c *Cluster, host string) string {
	return pushPrograms(t, c, host, "lazyd", "keeper")
}

// pushPrograms pushes an image that holds nothing but some of our programs, named after the first.
func pushPrograms(t *testing.T, c *Cluster, host string, names ...string) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range names {
		program, err := os.ReadFile(filepath.Join(filepath.Dir(c.Node), name))
		if err != nil {
			t.Fatal(err)
		}
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o755, Size: int64(len(program))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(program); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	im, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: "linux", Architecture: runtime.GOARCH})
	if err != nil {
		t.Fatal(err)
	}
	if im, err = mutate.AppendLayers(im, layer); err != nil {
		t.Fatal(err)
	}
	client := registry.New(registry.Options{})
	defer client.Close()
	ref, err := registry.ParseReference(host + "/" + names[0] + ":1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.PushImage(t.Context(), ref, im, registry.PushOptions{}); err != nil {
		t.Fatal(err)
	}
	return ref.String()
}

// podOf is the process of the snapshotter that runs in a pod, and all processes of that pod; 0 if there is none.
func podOf(t *testing.T, root string) (snapshotter int, all []int) {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	groups, own := map[int]string{}, ""
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		line, err1 := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		group, err2 := os.ReadFile(filepath.Join("/proc", e.Name(), "cgroup"))
		if err1 != nil || err2 != nil {
			continue // it has ended
		}
		first, _, _ := strings.Cut(string(group), "\n")
		groups[pid] = filepath.Dir(first)
		if strings.HasPrefix(string(line), "/lazyd\x00snapshotter\x00--root\x00"+root+"\x00") {
			snapshotter, own = pid, groups[pid]
		}
	}
	for pid, group := range groups {
		if own != "" && group == own {
			all = append(all, pid)
		}
	}
	return snapshotter, all
}

// TestSnapshotterAsDaemonSet applies the manifests for clusters of others, and lets somebody read while all processes of the pod are killed, while it is
// deleted, and when there is no pod any more: the processes that guard readers have control groups of their own, their programs and their mounts are the
// node's, they outlive the pod, what is missing is fetched without it, and the next one goes on with them.
func TestSnapshotterAsDaemonSet(t *testing.T) {
	c := runOnDisk(t, "overlayfs")
	status, err := c.Control.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// Within the cluster's own tree of control groups, which its end removes, and outside of the pods'.
	containerd := c.component(t, "containerd").PID
	tree, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", containerd))
	if err != nil {
		t.Fatal(err)
	}
	_, name, _ := strings.Cut(string(tree), ":/weft-")
	name, _, _ = strings.Cut(name, "/")
	group := "weft-" + name + "/keeper"
	inNode := "/run/weft/data/daemonset"
	out, err := exec.CommandContext(t.Context(), filepath.Join(filepath.Dir(c.Node), "weft"), "snapshotter", "manifests", "--image", pushLazyd(t, c, status.Registry),
		"--root", inNode+"/root", "--address", inNode+"/run/snapshotter.sock", "--image-service", "/run/weft/run/containerd.sock", "--keeper-cgroup", group,
		// The embedded cluster's node is not the host: it has mounts of its own.
		"--keeper-mounts", fmt.Sprintf("/proc/%d/ns/mnt", containerd)).Output()
	if err != nil {
		t.Fatal(err)
	}
	// What nobody reads is not to be fetched.
	manifests := strings.Replace(string(out), "- --metrics\n", "- --background=false\n            - --metrics\n", 1)
	if _, err := c.Kubectl(t.Context(), manifests, "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	ready := func() {
		t.Helper()
		if out, err := c.Kubectl(t.Context(), "", "-n", "weft-system", "rollout", "status", "daemonset/weft-snapshotter", "--timeout=90s"); err != nil {
			pods, _ := c.Kubectl(t.Context(), "", "-n", "weft-system", "describe", "pods")
			logs, _ := c.Kubectl(t.Context(), "", "-n", "weft-system", "logs", "-l", "app.kubernetes.io/name=weft-snapshotter", "--tail=20")
			t.Fatalf("%v: %s\n%s\n%s", err, out, pods, logs)
		}
	}
	ready()
	look := func() *lazy.View {
		t.Helper()
		v, err := lazy.Look(filepath.Join(c.State, "data/daemonset/root/lazy"), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	content := pushLarge(t, status.Registry)
	content.mountOn(t, filepath.Join(c.State, "data/daemonset/run/snapshotter.sock"))
	await(t, "somebody to stand by", func() bool { return look().StandBy != 0 })
	before := look()
	if before.Keeper == 0 || before.Holder == 0 {
		t.Fatalf("nobody guards the readers: keeper %d, holder %d", before.Keeper, before.Holder)
	}
	for pid, want := range map[int]string{before.Keeper: group, before.Holder: group + "-holder", before.StandBy: group + "-stand-by"} {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
		if err != nil || !strings.Contains(string(b), ":/"+want+"\n") {
			t.Errorf("process %d is not in %s: %v\n%s", pid, want, err, b)
		}
	}
	for pid, want := range map[int]string{before.Keeper: "keeper-", before.StandBy: "lazyd-"} {
		program, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		if err != nil || !strings.HasPrefix(program, inNode+"/root/bin/"+want) {
			t.Errorf("a program is %s, %v, expected one of %s", program, err, want)
		}
	}
	for _, pid := range []int{before.Keeper, before.Holder, before.StandBy} {
		own, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", pid))
		node, err2 := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", containerd))
		if err != nil || err2 != nil || own != node {
			t.Errorf("process %d has the mounts of %s, and the node those of %s: %v, %v", pid, own, node, err, err2)
		}
	}
	if len(before.Images) != 1 || len(before.Images[0].Mounts) != 1 {
		t.Fatalf("the images are %+v", before.Images)
	}
	folder := fmt.Sprintf("/proc/%d/root%s", containerd, before.Images[0].Mounts[0])

	r := content.read(folder, 0, 5*time.Millisecond)
	await(t, "the reader to begin", func() bool { return r.reads.Load() > 10 })
	killed, all := podOf(t, inNode+"/root")
	if killed == 0 || len(all) < 2 {
		t.Fatalf("the pod has the processes %v, the snapshotter is %d", all, killed)
	}
	for _, pid := range all {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Errorf("process %d: %v", pid, err)
		}
	}
	r.end(t, "all processes of the pod are killed")
	await(t, "another snapshotter", func() bool { now, _ := podOf(t, inNode+"/root"); return now != 0 && now != killed })
	ready()

	r = content.read(folder, 1, 20*time.Millisecond)
	await(t, "the reader to begin", func() bool { return r.reads.Load() > 10 })
	if out, err := c.Kubectl(t.Context(), "", "-n", "weft-system", "delete", "pod", "-l", "app.kubernetes.io/name=weft-snapshotter"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	r.end(t, "the pod is deleted")
	ready()

	for _, args := range [][]string{{"delete", "daemonset", "weft-snapshotter"}, {"wait", "--for=delete", "pod", "-l", "app.kubernetes.io/name=weft-snapshotter", "--timeout=60s"}} {
		if out, err := c.Kubectl(t.Context(), "", append([]string{"-n", "weft-system"}, args...)...); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	if now, _ := podOf(t, inNode+"/root"); now != 0 {
		t.Fatalf("the snapshotter still runs as process %d", now)
	}
	content.read(folder, 2, 0).end(t, "there is no pod")
	if v := look(); !v.Served {
		t.Errorf("nobody serves the folder: %+v", v)
	}
	if _, err := c.Kubectl(t.Context(), manifests, "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	ready()
	if im := look().Images; len(im) != 1 || len(im[0].Mounts) != 1 || len(im[0].Unguarded) > 0 {
		t.Errorf("the next pod knows of %+v", im)
	}
	await(t, "the next pod to serve, with a stand-by", func() bool { v := look(); return v.Served && v.StandBy != 0 })
	if after := look(); after.Keeper != before.Keeper || after.Holder != before.Holder {
		t.Errorf("keeper %d and holder %d ended with their pod; now there are %d and %d", before.Keeper, before.Holder, after.Keeper, after.Holder)
	}
}
