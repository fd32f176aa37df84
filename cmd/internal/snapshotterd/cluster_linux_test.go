package snapshotterd

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/google/go-containerregistry/pkg/authn"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weft-dev/weft/cmd/internal/lazytool"
	"github.com/weft-dev/weft/image"
	"github.com/weft-dev/weft/image/imagetest"
	"github.com/weft-dev/weft/lazy"
	"github.com/weft-dev/weft/lazy/fanotify"
	"github.com/weft-dev/weft/registry"
	"github.com/weft-dev/weft/registry/registrytest"
	"github.com/weft-dev/weft/test/kube"
	"github.com/weft-dev/weft/test/mounts"
)

// TestMain is the program lazyd, too: tests start this program as its snapshotter, and that as its keeper.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "snapshotter" || os.Args[1] == "keeper") {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		root := &cobra.Command{Use: "lazyd", SilenceUsage: true}
		root.AddCommand(Command("snapshotter", "keeper"), lazytool.KeeperCommand())
		err := root.ExecuteContext(ctx)
		stop()
		if err != nil {
			os.Exit(1)
		}
		return
	}
	mounts.Enter()
	kube.Main(m)
}

// output of a process.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// daemon is a running snapshotter.
type daemon struct {
	*exec.Cmd
	log    *output
	client snapshotsapi.SnapshotsClient
}

// startDaemon starts the snapshotter as a process of its own, and ends it with the test.
func startDaemon(t *testing.T, root string, args ...string) *daemon {
	t.Helper()
	address := filepath.Join(root, "s.sock")
	d := &daemon{Cmd: exec.Command("/proc/self/exe", append([]string{"snapshotter", "--root", root, "--address", address}, args...)...), log: &output{}}
	d.Stdout, d.Stderr = d.log, d.log
	d.Cmd.Env = append(os.Environ(), "DOCKER_CONFIG="+root)
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = d.Wait(); close(ended) }()
	t.Cleanup(func() {
		_ = d.Process.Signal(syscall.SIGTERM)
		<-ended
		if t.Failed() {
			t.Log(d.log.String())
		}
	})
	conn, err := grpc.NewClient("unix://"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	d.client = snapshotsapi.NewSnapshotsClient(conn)
	await(t, "the snapshotter to answer", func() bool {
		select {
		case <-ended:
			t.Fatalf("the snapshotter ended: %s", d.log)
		default:
		}
		_, err := d.client.Usage(t.Context(), &snapshotsapi.UsageRequest{Key: "none"})
		return status.Code(err) != codes.Unavailable
	})
	return d
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited for %s", what)
		}
	}
}

// pushImage pushes an image of one layer with one file of random content, and its EROFS form. It returns the name by digest, the layer's diffID,
// and the content.
func pushImage(t *testing.T, keychain authn.Keychain, name string) (ref, layer string, content []byte) {
	t.Helper()
	content = make([]byte, 1<<20)
	_, _ = rand.Read(content)
	b := imagetest.Layer(t, imagetest.File{Name: "file", Content: string(content)})
	client := registry.New(registry.Options{Keychain: keychain})
	defer client.Close()
	desc := imagetest.Push(t, client, name, imagetest.Image(t, v1.ConfigFile{}, b))
	imagetest.Convert(t, client, name, image.Options{})
	parsed, err := registry.ParseReference(name)
	if err != nil {
		t.Fatal(err)
	}
	return parsed.WithDigest(desc.Digest).String(), digest.FromBytes(b).String(), content
}

// mounts says whether the snapshotter mounts an image when containerd wants to unpack its layer.
func (d *daemon) mounts(t *testing.T, ref, layer string) bool {
	t.Helper()
	_, manifest, _ := strings.Cut(ref, "@")
	_, err := d.client.Prepare(t.Context(), &snapshotsapi.PrepareSnapshotRequest{Snapshotter: "weft", Key: "k8s.io/1/extract " + manifest, Labels: map[string]string{
		"containerd.io/snapshot.ref": layer, "containerd.io/snapshot/cri.image-ref": ref, "containerd.io/snapshot/cri.manifest-digest": manifest,
	}})
	if err != nil && status.Code(err) != codes.AlreadyExists {
		t.Fatal(errgrpc.ToNative(err))
	}
	return err != nil
}

// stateDir is a folder on a disk whose files the kernel watches, with a short name for the socket.
func stateDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "weft-snapshotterd-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b, _ := os.ReadFile("/proc/self/mountinfo")
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); strings.HasPrefix(f[4], dir+"/") {
				_ = unix.Unmount(f[4], unix.MNT_DETACH)
			}
		}
		endGuards(dir)
		os.RemoveAll(dir)
	})
	return dir
}

// endGuards ends what goes on to guard readers when a snapshotter has ended. They start each other again, so all are looked for until there is none.
func endGuards(root string) {
	for range 1000 {
		list := guards(root)
		if len(list) == 0 {
			return
		}
		for _, pid := range list {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		time.Sleep(time.Millisecond)
	}
}

// guards are the processes that name a folder: keeper, holder and stand-bys.
func guards(root string) (pids []int) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		line, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if pid, failed := strconv.Atoi(e.Name()); failed == nil && err == nil && strings.Contains(string(line), root) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() == 0 {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatal("mounting needs root, and CI must have it")
	}
	t.Skip("mounting needs root")
}

// TestImagesOfSecrets mounts an image of a registry that wants tokens with what a Secret in a real API server holds. Another registry's image is
// left to containerd.
func TestImagesOfSecrets(t *testing.T) {
	needRoot(t)
	p := kube.Namespace(t)
	token := &registrytest.Token{User: "pod", Password: "topsecret"}
	known, unknown := registrytest.New(t, registrytest.Config{Token: token}), registrytest.New(t, registrytest.Config{Token: token})
	keychain := registry.Explicit(map[string]authn.AuthConfig{known.Host: {Username: "pod", Password: "topsecret"}, unknown.Host: {Username: "pod", Password: "topsecret"}})
	ref, layer, _ := pushImage(t, keychain, known.Host+"/team/app:1")
	other, otherLayer, _ := pushImage(t, keychain, unknown.Host+"/team/app:1")
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "pull"}, Type: corev1.SecretTypeDockerConfigJson, Data: map[string][]byte{
		corev1.DockerConfigJsonKey: fmt.Appendf(nil, `{"auths": {"%s/team": {"username": "pod", "password": "topsecret"}}}`, known.Host)}}
	if _, err := p.Clients.CoreV1().Secrets(p.Namespace).Create(t.Context(), secret, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	d := startDaemon(t, stateDir(t), "--mode", "eager", "--kubeconfig", p.Kubeconfig, "--pull-secrets", p.Namespace, "--log-level", "debug")
	if !d.mounts(t, ref, layer) {
		t.Error("the image whose registry the Secret names is not mounted")
	}
	if d.mounts(t, other, otherLayer) {
		t.Error("an image is mounted for which there are no credentials")
	}
	if strings.Contains(d.log.String(), "topsecret") {
		t.Error("the log has a secret")
	}
}

// TestEventsOfUnguardedPods kills every process that guards readers of an image. When the snapshotter runs again the pod on it gets an event in a real API
// server, and a pod that has another image none.
func TestEventsOfUnguardedPods(t *testing.T) {
	needRoot(t)
	p, root := kube.Namespace(t), stateDir(t)
	if err := fanotify.Check(root); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	reg := registrytest.New(t, registrytest.Config{})
	ref, layer, _ := pushImage(t, nil, reg.Host+"/app:1")
	args := []string{"--mode", "fanotify", "--background=false", "--kubeconfig", p.Kubeconfig, "--pod-events", "--node-name", p.Namespace}
	d := startDaemon(t, root, args...)
	if !d.mounts(t, ref, layer) {
		t.Fatal("the image is not mounted")
	}
	var snapshot string
	list, err := d.client.List(t.Context(), &snapshotsapi.ListSnapshotsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for answer, err := list.Recv(); err == nil; answer, err = list.Recv() {
		for _, i := range answer.Info {
			snapshot = i.Name
		}
	}
	if _, err := d.client.Prepare(t.Context(), &snapshotsapi.PrepareSnapshotRequest{Snapshotter: "weft", Key: "k8s.io/2/c1", Parent: snapshot}); err != nil {
		t.Fatal(err)
	}
	// Another container stands on a layer that was unpacked.
	if _, err := d.client.Prepare(t.Context(), &snapshotsapi.PrepareSnapshotRequest{Snapshotter: "weft", Key: "unpacked"}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.client.Commit(t.Context(), &snapshotsapi.CommitSnapshotRequest{Snapshotter: "weft", Name: "ordinary", Key: "unpacked"}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.client.Prepare(t.Context(), &snapshotsapi.PrepareSnapshotRequest{Snapshotter: "weft", Key: "k8s.io/3/c2", Parent: "ordinary"}); err != nil {
		t.Fatal(err)
	}
	for name, container := range map[string]string{"hurt": "c1", "unhurt": "c2"} {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{NodeName: p.Namespace, Containers: []corev1.Container{{Name: "main", Image: ref}}}}
		pod, err := p.Clients.CoreV1().Pods(p.Namespace).Create(t.Context(), pod, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "main", Image: ref, ImageID: ref, ContainerID: "containerd://" + container}}
		if _, err := p.Clients.CoreV1().Pods(p.Namespace).UpdateStatus(t.Context(), pod, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	v, err := lazy.Look(filepath.Join(root, "lazy"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range []int{d.Process.Pid, v.Keeper, v.Holder} {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	again := startDaemon(t, root, args...)
	var events []corev1.Event
	await(t, "the pod's event", func() bool {
		list, err := p.Clients.CoreV1().Events(p.Namespace).List(t.Context(), metav1.ListOptions{FieldSelector: "reason=ImageUnguarded"})
		if err != nil {
			t.Fatal(err)
		}
		events = list.Items
		return len(events) > 0
	})
	e := events[0]
	if len(events) != 1 || e.InvolvedObject.Name != "hurt" || e.Type != "Warning" || e.InvolvedObject.FieldPath != "spec.containers{main}" || e.Source.Host != p.Namespace {
		t.Errorf("events: %+v", events)
	}
	for _, part := range []string{ref, filepath.Join(root, "snapshots"), "zeros", "Start the pod again"} {
		if !strings.Contains(e.Message, part) {
			t.Errorf("the event does not name %s: %s", part, e.Message)
		}
	}
	await(t, "the log to name the pod", func() bool { return strings.Contains(again.log.String(), "pod=hurt") })
	if strings.Contains(again.log.String(), "pod=unhurt") {
		t.Error("the log names a pod on another image")
	}
}
