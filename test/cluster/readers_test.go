package cluster

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
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

	"github.com/weft-dev/weft/image"
	"github.com/weft-dev/weft/image/chunk"
	"github.com/weft-dev/weft/registry"
)

// large is an image of files that can be made half as large and no smaller, and its EROFS form.
type large struct {
	name, layer string // by digest, and the layer's
	files       []string
	content     map[string][]byte
}

// pushLarge makes one of 3 times 12 MiB and pushes it.
func pushLarge(t *testing.T, host string) large {
	t.Helper()
	l := large{content: map[string][]byte{}}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	r := rand.NewChaCha8([32]byte{1})
	for i := range 36 {
		name, p := fmt.Sprintf("f%02d", i), make([]byte, 1<<20)
		for at := 0; at < len(p); at += 64 << 10 { // each piece: then its blob is a compressed one
			_, _ = r.Read(p[at : at+32<<10])
		}
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(p))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(p); err != nil {
			t.Fatal(err)
		}
		l.files, l.content[name] = append(l.files, name), p
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	im, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: "linux", Architecture: runtime.GOARCH})
	if err == nil {
		im, err = mutate.AppendLayers(im, layer)
	}
	if err != nil {
		t.Fatal(err)
	}
	ref, err := registry.ParseReference(host + "/large:1")
	if err != nil {
		t.Fatal(err)
	}
	client := registry.New(registry.Options{})
	defer client.Close()
	desc, err := client.PushImage(t.Context(), ref, im, registry.PushOptions{})
	if err != nil {
		t.Fatal(err)
	}
	place, err := image.OpenPlace(client, ref.String(), t.TempDir(), false)
	if err != nil {
		t.Fatal(err)
	}
	// Of a compressed blob nothing can be mounted as it lies in the registry's store.
	if _, err := image.Convert(t.Context(), place, place, image.ConvertOptions{Options: image.Options{ChunkSize: 64 << 10, Codec: chunk.Zstd}, Referrer: true, TempDir: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	id, err := layer.DiffID()
	if err != nil {
		t.Fatal(err)
	}
	l.name, l.layer = ref.WithDigest(desc.Digest).String(), id.String()
	return l
}

// mountOn asks a snapshotter for the layer of the image, as containerd does. It has to be mounted.
func (l large) mountOn(t *testing.T, socket string) {
	t.Helper()
	_, manifest, _ := strings.Cut(l.name, "@")
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, err = snapshotsapi.NewSnapshotsClient(conn).Prepare(t.Context(), &snapshotsapi.PrepareSnapshotRequest{Snapshotter: "weft", Key: "extract", Labels: map[string]string{
		"containerd.io/snapshot.ref": l.layer, "containerd.io/snapshot/cri.image-ref": l.name, "containerd.io/snapshot/cri.manifest-digest": manifest,
	}})
	if grpcstatus.Code(err) != codes.AlreadyExists {
		t.Fatalf("the image is not mounted: %v", err)
	}
}

// reading is what somebody who reads a part of the image sees.
type reading struct {
	reads   atomic.Int64
	longest time.Duration
	err     error
	did     chan struct{}
}

// read reads a third of the files from a folder, a piece after the other, and compares every byte.
func (l large) read(folder string, third int, pause time.Duration) *reading {
	r := &reading{did: make(chan struct{})}
	go func() {
		defer close(r.did)
		for _, name := range l.files[12*third:][:12] {
			if r.err = r.compare(filepath.Join(folder, name), l.content[name], pause); r.err != nil {
				return
			}
		}
	}()
	return r
}

func (r *reading) compare(name string, want []byte, pause time.Duration) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	p := make([]byte, 64<<10)
	for at := 0; at < len(want); at += len(p) {
		began := time.Now()
		if _, err := f.ReadAt(p, int64(at)); err != nil {
			return err
		}
		r.longest = max(r.longest, time.Since(began))
		if !bytes.Equal(p, want[at:at+len(p)]) {
			return fmt.Errorf("%s differs after %d bytes", name, at)
		}
		r.reads.Add(1)
		time.Sleep(pause)
	}
	return nil
}

// end waits until all is read. Nobody waits as long as a kubelet takes, on an idle machine at least.
func (r *reading) end(t *testing.T, what string) {
	t.Helper()
	<-r.did
	if r.err != nil {
		t.Errorf("reading while %s: %v", what, r.err)
	}
	t.Logf("%d reads while %s, the longest took %s", r.reads.Load(), what, r.longest)
	if r.longest > 3*time.Second {
		t.Errorf("a reader waited %s while %s", r.longest, what)
	}
}
