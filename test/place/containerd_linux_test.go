//go:build linux

package place

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	contentapi "github.com/containerd/containerd/api/services/content/v1"
	leasesapi "github.com/containerd/containerd/api/services/leases/v1"
	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/weft-dev/weft/buildpack/containerd"
	"github.com/weft-dev/weft/buildpack/layer"
	"github.com/weft-dev/weft/buildpack/target"
)

const (
	bin         = "../../bin"
	snapshotter = "native" // works on every file system that tests run on
)

// machine is a containerd of its own.
type machine struct {
	t      *testing.T
	socket string
	conn   *grpc.ClientConn
}

// start starts containerd without what runs containers.
func start(t *testing.T) *machine {
	t.Helper()
	program, err := filepath.Abs(bin + "/node/containerd")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(program); err != nil || os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatalf("needs root and %s: %v", program, err)
		}
		t.Skipf("needs root and %s, which `make build` makes", program)
	}
	dir := t.TempDir()
	// A path that is longer than the address of a socket.
	long := filepath.Join(dir, strings.Repeat("long-", 20))
	if err := os.MkdirAll(long, 0o755); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "s")
	if err := os.Symlink(long, link); err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, socket: filepath.Join(long, "c.sock")}
	config := fmt.Sprintf(`version = 3
root = %q
state = %q
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.snapshotter.v1.blockfile",
  "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.erofs", "io.containerd.nri.v1.nri", "io.containerd.internal.v1.opt"]
[grpc]
address = %q
[ttrpc]
address = %q
[plugins."io.containerd.gc.v1.scheduler"]
schedule_delay = "0ms"
startup_delay = "0ms"
deletion_threshold = 1
`, dir+"/root", dir+"/state", link+"/c.sock", link+"/t.sock")
	if err := os.WriteFile(dir+"/config.toml", []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	cmd := exec.Command(program, "--config", dir+"/config.toml")
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		c, err := containerd.Connect(t.Context(), m.socket, "")
		if err == nil {
			c.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("containerd does not come up: %v\n%s", err, log.String())
		}
	}
	if m.conn, err = grpc.NewClient("unix://"+link+"/c.sock", grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.conn.Close() })
	return m
}

func (m *machine) connect(namespace string) *containerd.Client {
	m.t.Helper()
	c, err := containerd.Connect(m.t.Context(), m.socket, namespace)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { c.Close() })
	return c
}

func in(t *testing.T, namespace string) context.Context {
	return metadata.AppendToOutgoingContext(t.Context(), "containerd-namespace", namespace)
}

// blobs gives the digests in the content store with their labels.
func (m *machine) blobs(namespace string) map[string]map[string]string {
	m.t.Helper()
	list, err := contentapi.NewContentClient(m.conn).List(in(m.t, namespace), &contentapi.ListContentRequest{})
	if err != nil {
		m.t.Fatal(err)
	}
	out := map[string]map[string]string{}
	for {
		answer, err := list.Recv()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			m.t.Fatal(err)
		}
		for _, i := range answer.Info {
			out[i.Digest] = i.Labels
		}
	}
}

func (m *machine) ingests(namespace string) int {
	m.t.Helper()
	answer, err := contentapi.NewContentClient(m.conn).ListStatuses(in(m.t, namespace), &contentapi.ListStatusesRequest{})
	if err != nil {
		m.t.Fatal(err)
	}
	return len(answer.Statuses)
}

func (m *machine) leases(namespace string) []*leasesapi.Lease {
	m.t.Helper()
	answer, err := leasesapi.NewLeasesClient(m.conn).List(in(m.t, namespace), &leasesapi.ListRequest{})
	if err != nil {
		m.t.Fatal(err)
	}
	return answer.Leases
}

// collect runs the garbage collection.
func (m *machine) collect(namespace string) {
	m.t.Helper()
	leases := leasesapi.NewLeasesClient(m.conn)
	if _, err := leases.Create(in(m.t, namespace), &leasesapi.CreateRequest{ID: "collect"}); err != nil {
		m.t.Fatal(err)
	}
	if _, err := leases.Delete(in(m.t, namespace), &leasesapi.DeleteRequest{ID: "collect", Sync: true}); err != nil {
		m.t.Fatal(err)
	}
}

func someImage(t *testing.T, layers int64) v1.Image {
	t.Helper()
	img, err := random.Image(100_000, layers)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", "amd64"
	if img, err = mutate.ConfigFile(img, config); err != nil {
		t.Fatal(err)
	}
	return mutate.ConfigMediaType(mutate.MediaType(img, types.OCIManifestSchema1), types.OCIConfigJSON)
}

func digest(t *testing.T, img v1.Image) string {
	t.Helper()
	d, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d.String()
}

// TestImages puts images into containerd, reads them back, and lets the garbage collection judge what belongs to them.
func TestImages(t *testing.T) {
	m := start(t)
	c := m.connect("")
	img := someImage(t, 3)
	to := c.NewTarget(snapshotter)
	if err := to.Put(t.Context(), img, []string{"app", "registry.example.com/team/app:v1"}); err != nil {
		t.Fatal(err)
	}
	if got := m.leases("k8s.io"); len(got) != 1 || got[0].Labels["containerd.io/gc.expire"] == "" {
		t.Errorf("during a build the leases are %v", got)
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
	m.collect("k8s.io")
	if got := m.leases("k8s.io"); len(got) != 0 {
		t.Errorf("leases were left: %v", got)
	}
	if got := len(m.blobs("k8s.io")); got != 5 {
		t.Errorf("%d blobs are left after the garbage collection, not 5", got)
	}
	if m.ingests("k8s.io") != 0 {
		t.Error("unfinished blobs were left")
	}
	for _, name := range []string{"app", "docker.io/library/app:latest", "registry.example.com/team/app:v1"} {
		got, err := c.Image(t.Context(), name)
		if err != nil || got == nil {
			t.Fatalf("%s: %v %v", name, got, err)
		}
		if digest(t, got) != digest(t, img) {
			t.Errorf("%s came back as another image", name)
		}
		layers, err := got.Layers()
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range layers {
			r, err := l.Compressed()
			if err != nil {
				t.Fatal(err)
			}
			want, err := l.Digest()
			if err != nil {
				t.Fatal(err)
			}
			if h, _, err := v1.SHA256(r); err != nil || h != want {
				t.Errorf("the layer %s came back as %s (%v)", want, h, err)
			}
			r.Close()
		}
	}
	m.unpacked(c, img)

	// The name moves on: what nothing else needs goes.
	other := someImage(t, 2)
	to = c.NewTarget("")
	if err := errors.Join(to.Put(t.Context(), other, []string{"app", "registry.example.com/team/app:v1"}), to.Close()); err != nil {
		t.Fatal(err)
	}
	m.collect("k8s.io")
	if got := len(m.blobs("k8s.io")); got != 4 {
		t.Errorf("%d blobs are left of the second image, not 4", got)
	}
	if got, err := c.Image(t.Context(), "app"); err != nil || digest(t, got) != digest(t, other) {
		t.Errorf("the name does not mean the second image (%v)", err)
	}
	if got, err := m.connect("elsewhere").Image(t.Context(), "app"); err != nil || got != nil {
		t.Errorf("another namespace has %v (%v)", got, err)
	}
	if got, err := c.Image(t.Context(), "nonesuch"); err != nil || got != nil {
		t.Errorf("an image that does not exist is %v (%v)", got, err)
	}
}

// TestReusedContentIsHeld: what a build finds in containerd stays for it, whatever happens to the image that had it.
func TestReusedContentIsHeld(t *testing.T) {
	m := start(t)
	c := m.connect("")
	img := someImage(t, 1)
	first := c.NewTarget("")
	if err := errors.Join(first.Put(t.Context(), img, []string{"app"}), first.Close()); err != nil {
		t.Fatal(err)
	}
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	known := layer.Blob{}
	if known.Digest, err = layers[0].Digest(); err != nil {
		t.Fatal(err)
	}
	second := c.NewTarget("")
	if _, err := second.Layer(t.Context(), target.Source{Name: "x", Known: &known}); err != nil {
		t.Fatal(err)
	}
	third := c.NewTarget("")
	if err := errors.Join(third.Put(t.Context(), someImage(t, 1), []string{"app"}), third.Close()); err != nil {
		t.Fatal(err)
	}
	m.collect("k8s.io")
	if m.blobs("k8s.io")[known.Digest.String()] == nil {
		t.Error("the layer that the second build reuses is gone")
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	m.collect("k8s.io")
	if m.blobs("k8s.io")[known.Digest.String()] != nil {
		t.Error("the layer stays though nothing needs it")
	}
}

// unpacked checks that the snapshots of an image are there and have a container's files.
func (m *machine) unpacked(c *containerd.Client, img v1.Image) {
	m.t.Helper()
	snapshots := snapshotsapi.NewSnapshotsClient(m.conn)
	list, err := snapshots.List(in(m.t, c.Namespace()), &snapshotsapi.ListSnapshotsRequest{Snapshotter: snapshotter})
	if err != nil {
		m.t.Fatal(err)
	}
	n := 0
	for {
		answer, err := list.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			m.t.Fatal(err)
		}
		for _, i := range answer.Info {
			if i.Kind != snapshotsapi.Kind_COMMITTED {
				m.t.Errorf("the snapshot %s is %s", i.Name, i.Kind)
			}
			n++
		}
	}
	if n != 3 {
		m.t.Errorf("%d snapshots are there, not 3", n)
	}
	config, err := img.ConfigFile()
	if err != nil {
		m.t.Fatal(err)
	}
	name, err := img.ConfigName()
	if err != nil {
		m.t.Fatal(err)
	}
	top := m.blobs(c.Namespace())[name.String()]["containerd.io/gc.ref.snapshot."+snapshotter]
	if _, err := snapshots.Stat(in(m.t, c.Namespace()), &snapshotsapi.StatSnapshotRequest{Snapshotter: snapshotter, Key: top}); err != nil {
		m.t.Errorf("the configuration holds the snapshot %q of %d layers: %v", top, len(config.RootFS.DiffIDs), err)
	}
}

// TestBroken: what fails leaves no name and nothing that stays.
func TestBroken(t *testing.T) {
	m := start(t)
	c := m.connect("")
	boom := errors.New("the disk is full")
	to := c.NewTarget("")
	_, err := to.Layer(t.Context(), target.Source{Name: "x", Compression: layer.Gzip, Content: func(w io.Writer) error {
		if _, err := io.CopyN(w, rand.NewChaCha8([32]byte{}), 8<<20); err != nil { // it does not become smaller
			return err
		}
		return boom
	}})
	if !errors.Is(err, boom) || !strings.Contains(err.Error(), "write layer 'x'") {
		t.Errorf("a layer that cannot be made gave %v", err)
	}
	if m.ingests("k8s.io") != 0 {
		t.Error("what was written of a layer that cannot be made is left")
	}
	blob, err := to.Layer(t.Context(), target.Source{Name: "y", Compression: layer.Gzip, Content: func(w io.Writer) error {
		_, err := w.Write([]byte("whole"))
		return err
	}})
	if err != nil {
		t.Fatal(err)
	}
	m.collect("k8s.io")
	if got := m.blobs("k8s.io"); got[blob.Digest.String()]["containerd.io/uncompressed"] != blob.DiffID.String() {
		t.Errorf("the layer of a build under way is lost or without its diffID: %v", got)
	}
	// A known layer that is nowhere.
	missing := blob
	missing.Digest.Hex = strings.Repeat("0", 64)
	if _, err := to.Layer(t.Context(), target.Source{Name: "z", Known: &missing}); err == nil || !strings.Contains(err.Error(), "there is no copy") {
		t.Errorf("a layer that is nowhere gave %v", err)
	}
	// Other bytes than the digest says.
	wrong, err := random.Layer(1000, types.OCILayer)
	if err != nil {
		t.Fatal(err)
	}
	if missing.Size, err = wrong.Size(); err != nil {
		t.Fatal(err)
	}
	if _, err := to.Layer(t.Context(), target.Source{Name: "w", Known: &missing, Existing: wrong}); err == nil || !strings.Contains(err.Error(), "write layer 'w'") {
		t.Errorf("a layer with other bytes than its digest says gave %v", err)
	}
	if m.ingests("k8s.io") != 0 {
		t.Error("what was written of a wrong layer is left")
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := to.Layer(cancelled, target.Source{Name: "v", Compression: layer.Gzip, Content: func(io.Writer) error { return nil }}); !errors.Is(err, context.Canceled) {
		t.Errorf("an interrupted build gave %v", err)
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
	m.collect("k8s.io")
	if got := m.blobs("k8s.io"); len(got) != 0 {
		t.Errorf("a build without an image has left %v", got)
	}
	if _, err := c.NewTarget("nonesuch").Publish(t.Context(), []byte(`{}`), []byte(`{"config":{"digest":"sha256:`+strings.Repeat("0", 64)+`"}}`), types.OCIManifestSchema1, []string{"app"}); err == nil {
		t.Error("an image was published with a snapshotter that does not exist")
	}
	if got, err := c.Image(t.Context(), "app"); got != nil || err != nil {
		t.Errorf("what failed has a name: %v %v", got, err)
	}
}

// TestMissingLayers: containerd may be configured to throw away layers that it has unpacked; such an image is no base for a build.
func TestMissingLayers(t *testing.T) {
	m := start(t)
	c := m.connect("")
	img := someImage(t, 2)
	to := c.NewTarget("")
	if err := errors.Join(to.Put(t.Context(), img, []string{"app"}), to.Close()); err != nil {
		t.Fatal(err)
	}
	manifest, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := contentapi.NewContentClient(m.conn).Delete(in(t, "k8s.io"), &contentapi.DeleteContentRequest{Digest: manifest.Layers[0].Digest.String()}); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Image(t.Context(), "app"); got != nil || err != nil {
		t.Errorf("an image without a layer is %v (%v)", got, err)
	}
}

func TestConnect(t *testing.T) {
	dir := t.TempDir()
	if _, err := containerd.Connect(t.Context(), dir+"/none.sock", ""); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), dir) {
		t.Errorf("a missing socket gave %v", err)
	}
	for _, address := range []string{"tcp://1.2.3.4:5", "relative.sock"} {
		if _, err := containerd.Connect(t.Context(), address, ""); err == nil || !strings.Contains(err.Error(), "absolute path of its socket") {
			t.Errorf("%q gave %v", address, err)
		}
	}
	for _, namespace := range []string{"a/b", "-a", "a b", strings.Repeat("a", 77)} {
		if _, err := containerd.Connect(t.Context(), dir+"/none.sock", namespace); err == nil || !strings.Contains(err.Error(), "namespace") {
			t.Errorf("the namespace %q gave %v", namespace, err)
		}
	}
}
