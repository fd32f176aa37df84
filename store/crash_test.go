package store_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weft-dev/weft/registry"
	"github.com/weft-dev/weft/registry/server"
	"github.com/weft-dev/weft/store"
)

const crashFolder = "WEFT_TEST_STORE"

// TestMain lets the test binary be the registry that is killed.
func TestMain(m *testing.M) {
	dir := os.Getenv(crashFolder)
	if dir == "" {
		os.Exit(m.Run())
	}
	st, err := store.Open(dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(l.Addr())
	reg := server.New(server.Config{Storage: st.Registry()})
	go func() { // collections all the time: they must not take what was acknowledged
		for {
			if _, err := reg.Collect(context.Background(), server.Policy{Grace: time.Minute}); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	_ = http.Serve(l, reg)
}

// A registry that is killed at any moment loses nothing that it has acknowledged, and starts again without help.
func TestKilledRegistryLosesNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("20 processes are started and killed: left out with -short")
	}
	dir := t.TempDir()
	var mu sync.Mutex
	acknowledged := map[string]digest.Digest{} // by reference without host
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(acknowledged)
	}
	n := 0
	for round := range 20 {
		host, kill := startRegistry(t, dir)
		stop := make(chan struct{})
		var group sync.WaitGroup
		for range 3 {
			group.Go(func() {
				c := registry.New(registry.Options{Retry: registry.Retry{Attempts: 1}, ChunkSize: 20_000})
				defer c.Close()
				for {
					select {
					case <-stop:
						return
					default:
					}
					mu.Lock()
					n++
					tag := fmt.Sprintf("v%d", n)
					mu.Unlock()
					if d, err := pushSome(t, c, registry.Repository{Host: host, Name: "app"}.WithTag(tag)); err == nil {
						mu.Lock()
						acknowledged[tag] = d
						mu.Unlock()
					}
				}
			})
		}
		for before, tries := count(), 0; count() < before+2 && tries < 1000; tries++ {
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(time.Duration(rand.IntN(100)) * time.Millisecond)
		kill()
		close(stop)
		group.Wait()
		if round%5 == 4 {
			checkAcknowledged(t, dir, acknowledged)
		}
	}
	if len(acknowledged) < 20 {
		t.Errorf("only %d pushes were acknowledged: the test shows little", len(acknowledged))
	}
}

func startRegistry(t *testing.T, dir string) (host string, kill func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), crashFolder+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the registry did not start again: %v", err)
	}
	return strings.TrimSpace(line), func() {
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = cmd.Wait() // says that it was killed
	}
}

// pushSome pushes an image with a layer that is streamed in chunks.
func pushSome(t *testing.T, c *registry.Client, ref registry.Reference) (digest.Digest, error) {
	image, err := random.Image(30_000, 2)
	if err != nil {
		return "", err
	}
	w, err := c.BlobWriter(t.Context(), ref.Repository)
	if err != nil {
		return "", err
	}
	defer w.Abort()
	if _, err := io.CopyN(w, rand.NewChaCha8([32]byte{byte(rand.IntN(256)), byte(rand.IntN(256))}), 50_000); err != nil {
		return "", err
	}
	if _, err := w.Commit("application/octet-stream"); err != nil {
		return "", err
	}
	desc, err := c.PushImage(t.Context(), ref, image, registry.PushOptions{})
	return desc.Digest, err
}

func checkAcknowledged(t *testing.T, dir string, acknowledged map[string]digest.Digest) {
	t.Helper()
	host, kill := startRegistry(t, dir)
	defer kill()
	c := registry.New(registry.Options{})
	defer c.Close()
	for tag, d := range acknowledged {
		ref := registry.Repository{Host: host, Name: "app"}.WithTag(tag)
		desc, err := c.Resolve(t.Context(), ref)
		if err != nil || desc.Digest != d {
			t.Errorf("%s was acknowledged as %s, now it is %s, %v", tag, d, desc.Digest, err)
			continue
		}
		image, err := c.Image(t.Context(), ref, nil)
		if err == nil {
			err = validate.Image(image)
		}
		if err != nil {
			t.Errorf("%s: %v", tag, err)
		}
	}
	st, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Blobs(t.Context(), func(i store.Info) error { return st.Verify(t.Context(), i.Digest) }); err != nil {
		t.Error(err)
	}
}

// Constant memory: a blob much larger than all buffers passes through client, server and store.
func BenchmarkRegistryPushAndPull(b *testing.B) {
	st, err := store.Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	web := &http.Server{Handler: server.New(server.Config{Storage: st.Registry()})}
	go func() { _ = web.Serve(l) }()
	defer web.Close()
	c := registry.New(registry.Options{})
	defer c.Close()
	repo := registry.Repository{Host: l.Addr().String(), Name: "app"}
	data := make([]byte, 64<<20)
	b.Run("push", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		for i := 0; b.Loop(); i++ {
			data[0], data[1] = byte(i), byte(i>>8)
			w, err := c.BlobWriter(b.Context(), repo)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := io.Copy(w, bytes.NewReader(data)); err != nil {
				b.Fatal(err)
			}
			if _, err := w.Commit(""); err != nil {
				b.Fatal(err)
			}
		}
	})
	desc := ocispec.Descriptor{Digest: digest.FromBytes(data), Size: int64(len(data))}
	if err := c.PushBlob(b.Context(), repo, desc, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }); err != nil {
		b.Fatal(err)
	}
	b.Run("pull", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			rc, err := c.Blob(b.Context(), repo, desc)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, rc); err != nil {
				b.Fatal(err)
			}
			rc.Close()
		}
	})
}
