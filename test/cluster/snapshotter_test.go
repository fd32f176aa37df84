package cluster

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/weft-dev/weft/image"
	"github.com/weft-dev/weft/image/chunk"
	"github.com/weft-dev/weft/lazy"
	"github.com/weft-dev/weft/registry"
)

// pushLazy pushes the test image and its EROFS form to a registry, and returns its name by digest.
func pushLazy(t *testing.T, c *Cluster, host string) string {
	t.Helper()
	client := registry.New(registry.Options{})
	defer client.Close()
	im, err := tarball.ImageFromPath(filepath.Join(filepath.Dir(c.Node), "node", "images", "testpod.tar"), nil)
	if err != nil {
		t.Fatal(err)
	}
	// Layers that the node does not have: containerd would not ask for those of the image that is there.
	if im, err = mutate.Time(im, time.Unix(1e9, 0)); err != nil {
		t.Fatal(err)
	}
	ref, err := registry.ParseReference(host + "/lazy/testpod:1")
	if err != nil {
		t.Fatal(err)
	}
	desc, err := client.PushImage(t.Context(), ref, im, registry.PushOptions{})
	if err != nil {
		t.Fatal(err)
	}
	place, err := image.OpenPlace(client, ref.String(), t.TempDir(), false)
	if err != nil {
		t.Fatal(err)
	}
	// Of a compressed blob nothing can be mounted as it lies in the registry's store: everything is fetched.
	o := image.ConvertOptions{Options: image.Options{Codec: chunk.Zstd}, Referrer: true, TempDir: t.TempDir()}
	if _, err := image.Convert(t.Context(), place, place, o); err != nil {
		t.Fatal(err)
	}
	return ref.WithDigest(desc.Digest).String()
}

// runOnDisk starts a cluster of its own in a folder that is not on tmpfs, whose files the kernel does not watch.
func runOnDisk(t *testing.T, snapshotter string) *Cluster {
	t.Helper()
	return runIn(t, diskFolder(t), snapshotter)
}

func diskFolder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "weft-snapshotter-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func runIn(t *testing.T, dir, snapshotter string) *Cluster {
	t.Helper()
	c, err := Run(t.Context(), program(t), filepath.Join(dir, "state"), "--snapshotter", snapshotter)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(0); err != nil {
			t.Error(err)
		}
		if err := c.Clean(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// TestPodsOnMountedImages runs pods on the snapshotter that mounts images before they are there: ordinary images as ever, and one with an EROFS form,
// none of whose layers is fetched. Its second start on the node is helped by what the first one read. Then the snapshotter is killed while the pod runs.
func TestPodsOnMountedImages(t *testing.T) {
	podsOnMountedImages(t, runOnDisk(t, "weft"), lazy.Fanotify)
}

// TestPodsOnMountedImagesByFUSE does the same where the kernel does not ask before it reads from files, as older kernels never do: the state is on tmpfs.
func TestPodsOnMountedImagesByFUSE(t *testing.T) {
	dir := diskFolder(t)
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=6g,mode=755"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	podsOnMountedImages(t, runIn(t, dir, "weft"), lazy.FUSE)
}

func podsOnMountedImages(t *testing.T, c *Cluster, mode lazy.Mode) {
	p := place{c, t, "default"}
	p.until("the default service account", func() (bool, string) {
		_, err := c.Clients.CoreV1().ServiceAccounts(p.ns).Get(t.Context(), "default", metav1.GetOptions{})
		return err == nil, fmt.Sprint(err)
	})
	status, err := c.Control.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	name := pushLazy(t, c, status.Registry)
	start := func(pod, image string) {
		t.Helper()
		manifest := strings.ReplaceAll(shell(pod, forever), "IMAGE", image)
		if _, err := c.Kubectl(t.Context(), manifest, "apply", "-f", "-"); err != nil {
			t.Fatal(err)
		}
		if out, err := c.Kubectl(t.Context(), "", "wait", "--for=condition=Ready", "pod/"+pod, "--timeout=180s"); err != nil {
			events, _ := c.Kubectl(t.Context(), "", "get", "events")
			t.Fatalf("%v: %s\n%s\n%s", err, out, events, c.Logs())
		}
	}
	start("ordinary", TestImage)
	start("mounted", name)
	log, err := os.ReadFile(filepath.Join(c.State, "logs", "snapshotter.log"))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(log), "mounted before it is there"); n != 1 {
		t.Errorf("%d images were mounted and not 1:\n%s", n, log)
	}
	for _, line := range strings.Split(string(log), "\n") {
		if strings.Contains(line, "as usual") {
			t.Errorf("an image was not mounted: %s", line)
		}
	}

	if v := lazyView(t, c); v.Mode != mode {
		t.Errorf("images are filled by %s and not by %s: %s", v.Mode, mode, v.Reason)
	}

	// What the image's start read is known now. Without the image on the node it is fetched before the second start asks.
	if out, err := c.Kubectl(t.Context(), "", "delete", "pod", "mounted", "--grace-period=1"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	removeImage(t, c, name)
	await(t, "the image to be unmounted", func() bool { return len(lazyImages(t, c)) == 0 })
	start("learned", name)
	await(t, "the status to tell of the second start", func() bool {
		list := lazyImages(t, c)
		return len(list) == 1 && list[0].Prefetch > 0 && list[0].Prefetch <= list[0].Fetched
	})
	im := lazyImages(t, c)[0]
	if !im.Learned || im.Failed != 0 || len(im.Unguarded) != 0 {
		t.Errorf("the second start: %+v", im)
	}
	t.Logf("second start: %d of %d bytes fetched because of the first, %d reads had to wait", im.Prefetch, im.Fetched, im.Events)

	content := pushLarge(t, status.Registry)
	content.mountOn(t, filepath.Join(c.State, "run", "snapshotter.sock"))
	folder := fmt.Sprintf("/proc/%d/root%s", c.component(t, "containerd").PID, mountOf(t, c, content.name))
	for third := range 3 { // the supervisor waits longer each time
		await(t, "somebody to stand by", func() bool { return lazyView(t, c).StandBy != 0 })
		before, present := c.component(t, "snapshotter"), presentOf(t, c, content.name)
		r := content.read(folder, third, 2*time.Millisecond)
		await(t, "the reader to begin", func() bool { return r.reads.Load() > 10 })
		if err := syscall.Kill(before.PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		r.end(t, "the snapshotter is killed")
		await(t, "the snapshotter to run again", func() bool {
			now := c.component(t, "snapshotter")
			return now.PID != before.PID && now.State == "running"
		})
		await(t, "the status to tell what was fetched", func() bool { return presentOf(t, c, content.name) >= present+8<<20 })
	}
	if out, err := c.Kubectl(t.Context(), "", "exec", "learned", "--", "sh", "-c", "echo still"); err != nil || strings.TrimSpace(out) != "still" {
		t.Errorf("exec after the kill: %q, %v", out, err)
	}
	start("again", name)

	guards := lazyView(t, c)
	if guards.Keeper == 0 || guards.Holder == 0 {
		t.Errorf("nobody guards the readers: keeper %d, holder %d", guards.Keeper, guards.Holder)
	}
	if err := c.Stop(0); err != nil {
		t.Fatal(err)
	}
	for what, pid := range map[string]int{"keeper": guards.Keeper, "holder": guards.Holder, "stand-by": guards.StandBy} {
		if line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err == nil && len(line) > 0 {
			t.Errorf("the %s, process %d, outlives the cluster", what, pid)
		}
	}
}

// lazyView is what the state of the node's snapshotter says.
func lazyView(t *testing.T, c *Cluster) *lazy.View {
	t.Helper()
	v, err := lazy.Look(filepath.Join(c.State, "data", "snapshots", "lazy"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// imageOf is what the node's snapshotter knows of an image that is mounted once.
func imageOf(t *testing.T, c *Cluster, name string) lazy.ImageView {
	t.Helper()
	_, manifest, _ := strings.Cut(name, "@")
	for _, im := range lazyImages(t, c) {
		if slices.ContainsFunc(im.Names, func(n string) bool { return strings.HasSuffix(n, "@"+manifest) }) && len(im.Mounts) == 1 {
			return im
		}
	}
	t.Fatalf("%s is not mounted", name)
	return lazy.ImageView{}
}

func mountOf(t *testing.T, c *Cluster, name string) string  { return imageOf(t, c, name).Mounts[0] }
func presentOf(t *testing.T, c *Cluster, name string) int64 { return imageOf(t, c, name).Present }

func lazyImages(t *testing.T, c *Cluster) []lazy.ImageView { return lazyView(t, c).Images }

// removeImage removes an image from the node, by way of the snapshotter, as the kubelet does it.
func removeImage(t *testing.T, c *Cluster, name string) {
	t.Helper()
	conn, err := grpc.NewClient("unix://"+filepath.Join(c.State, "run", "snapshotter.sock"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	images := cri.NewImageServiceClient(conn)
	await(t, "the image to be removed", func() bool { // not while a container has it
		_, err := images.RemoveImage(t.Context(), &cri.RemoveImageRequest{Image: &cri.ImageSpec{Image: name}})
		return err == nil
	})
}
