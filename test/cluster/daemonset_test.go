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
	"strings"
	"testing"
	"time"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	grpcstatus "google.golang.org/grpc/status"

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

// mountOn asks a snapshotter for the layer of the image that pushLazy pushed, as containerd does. It has to be mounted.
func mountOn(t *testing.T, c *Cluster, socket, name string) {
	t.Helper()
	im, err := tarball.ImageFromPath(filepath.Join(filepath.Dir(c.Node), "node", "images", "testpod.tar"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if im, err = mutate.Time(im, time.Unix(1e9, 0)); err != nil {
		t.Fatal(err)
	}
	config, err := im.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	layer := config.RootFS.DiffIDs[0].String()
	_, manifest, _ := strings.Cut(name, "@")
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, err = snapshotsapi.NewSnapshotsClient(conn).Prepare(t.Context(), &snapshotsapi.PrepareSnapshotRequest{Snapshotter: "weft", Key: "extract", Labels: map[string]string{
		"containerd.io/snapshot.ref": layer, "containerd.io/snapshot/cri.image-ref": name, "containerd.io/snapshot/cri.manifest-digest": manifest,
	}})
	if grpcstatus.Code(err) != codes.AlreadyExists {
		t.Fatalf("the image is not mounted: %v", err)
	}
}

// TestSnapshotterAsDaemonSet applies the manifests for clusters of others, and deletes the pod: the processes that guard readers have a control group of
// their own, their program and their mounts are the node's, they outlive the pod, and the next one goes on with them.
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
	if _, err := c.Kubectl(t.Context(), string(out), "apply", "-f", "-"); err != nil {
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
	mountOn(t, c, filepath.Join(c.State, "data/daemonset/run/snapshotter.sock"), pushLazy(t, c, status.Registry))
	before := look()
	if before.Keeper == 0 || before.Holder == 0 {
		t.Fatalf("nobody guards the readers: keeper %d, holder %d", before.Keeper, before.Holder)
	}
	for pid, want := range map[int]string{before.Keeper: group, before.Holder: group + "-holder"} {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
		if err != nil || !strings.Contains(string(b), ":/"+want+"\n") {
			t.Errorf("process %d is not in %s: %v\n%s", pid, want, err, b)
		}
	}
	program, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", before.Keeper))
	if err != nil || !strings.HasPrefix(program, inNode+"/root/bin/keeper-") {
		t.Errorf("the keeper's program is %s, %v", program, err)
	}
	for _, pid := range []int{before.Keeper, before.Holder} {
		own, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", pid))
		node, err2 := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", containerd))
		if err != nil || err2 != nil || own != node {
			t.Errorf("process %d has the mounts of %s, and the node those of %s: %v, %v", pid, own, node, err, err2)
		}
	}
	if out, err := c.Kubectl(t.Context(), "", "-n", "weft-system", "delete", "pod", "-l", "app.kubernetes.io/name=weft-snapshotter"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	ready()
	if im := look().Images; len(im) != 1 || len(im[0].Mounts) != 1 {
		t.Errorf("the next pod knows of %+v", im)
	}
	await(t, "the next pod to serve", func() bool { return look().Served })
	if after := look(); after.Keeper != before.Keeper || after.Holder != before.Holder {
		t.Errorf("keeper %d and holder %d ended with their pod; now there are %d and %d", before.Keeper, before.Holder, after.Keeper, after.Holder)
	}
}
