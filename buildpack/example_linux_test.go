package buildpack_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/weft-dev/weft/buildpack/rootfs"
	"github.com/weft-dev/weft/buildpack/sandbox"
	"github.com/weft-dev/weft/buildpack/sandbox/sandboxtest"
)

// TestExamples builds the example of each language with what `weft build` takes without being told, starts the image's process in a sandbox
// over the image's files, and asks it for its page. A second build after a change of the source takes what the first one kept.
func TestExamples(t *testing.T) {
	m := newMachine(t)
	for _, tt := range []struct {
		name, page, change, kept string
		packages                 bool // needs Debian's archive
	}{
		{"static", "Hello from a folder of web pages", "public/other.html", "", false},
		{"python", "Hello from Python 3", "other.py", "The packages are those of the last build", true},
		{"node", "Hello from Node.js, up for", "other.js", "The modules are those of the last build", true},
		{"java", "Hello from Java", "src/main/java/example/Other.java", "2 cached layers", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m.t = t
			if tt.packages {
				useArchive(t, m.state)
			}
			source := copyOf(t, filepath.Join("..", "examples", tt.name))
			image := "examples/" + tt.name
			first := m.build(source, image)
			if got := askPage(t, m.pull(first.Ref)); !strings.Contains(got, tt.page) {
				t.Errorf("the page is %q, want %q", got, tt.page)
			}
			text := map[bool]string{true: "package example;\nclass Other {}\n", false: "\n"}[tt.name == "java"]
			if err := os.WriteFile(filepath.Join(source, tt.change), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			second := m.build(source, image)
			if second.Unchanged || !strings.Contains(m.output(), tt.kept) && tt.name != "java" {
				t.Errorf("the second build did not take what the first one kept, want %q:\n%s", tt.kept, m.output())
			}
			if strings.Contains(m.output(), "prepare") {
				t.Errorf("the packages were looked for again:\n%s", m.output())
			}
			if n := sharedLayers(t, m.pull(first.Ref), m.pull(second.Ref)); n < 4 {
				t.Errorf("only %d layers are the same after a small change", n)
			}
		})
	}
}

// useArchive lets a build take Debian packages, those that earlier runs fetched first, and skips where there is no archive.
func useArchive(t *testing.T, state string) {
	t.Helper()
	if testing.Short() {
		t.Skip("fetches Debian packages")
	}
	if _, err := os.Stat("/usr/share/keyrings/debian-archive-keyring.gpg"); err != nil {
		t.Skip("needs the keys of Debian's archive: apt-get install debian-archive-keyring")
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Skip("needs a folder for fetched packages:", err)
	}
	dir := filepath.Join(cache, "weft", "build", "debian")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(dir, filepath.Join(state, "debian")); err != nil && !errors.Is(err, os.ErrExist) {
		t.Fatal(err)
	}
	client := http.Client{Timeout: 20 * time.Second}
	resp, err := client.Head("http://deb.debian.org/debian/dists/stable/InRelease")
	if err != nil {
		t.Skip("needs Debian's archive:", err)
	}
	resp.Body.Close()
}

func copyOf(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

// askPage starts the image's process with more variables and gives the page that it serves.
func askPage(t *testing.T, img v1.Image, env ...string) string {
	t.Helper()
	root, upper, work := t.TempDir(), t.TempDir(), t.TempDir()
	if err := rootfs.Unpack(t.Context(), img, root, func(int, int) (int, int) { return 0, 0 }); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{root, upper, work} {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	ctx, cancel := context.WithCancel(t.Context())
	var out bytes.Buffer
	ended := make(chan error, 1)
	go func() {
		runner := sandbox.Runner{Program: sandboxtest.Program(t, "github.com/weft-dev/weft/cmd/sandbox"), Scratch: t.TempDir()}
		_, err := runner.Run(ctx, sandbox.Spec{
			Root: sandbox.Mount{Kind: sandbox.Overlay, Lower: []string{root}, Upper: upper, Work: work},
			Args: config.Config.Entrypoint, Env: append(append(config.Config.Env, fmt.Sprintf("PORT=%d", port)), portIn(env, port)...), Dir: config.Config.WorkingDir,
			UID: 1000, GID: 1000, HostUID: 64646, HostGID: 64646, Network: true,
		}, nil, &out, &out)
		ended <- err
	}()
	defer func() {
		cancel()
		<-ended
	}()
	client := http.Client{Timeout: 5 * time.Second}
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		select {
		case err := <-ended:
			ended <- nil
			t.Fatalf("the process ended by itself: %v\n%s", err, out.String())
		default:
		}
		resp, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/", port))
		if err != nil {
			continue
		}
		defer resp.Body.Close()
		page, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(page)
	}
	t.Fatal("no page came")
	return ""
}

// portIn fills in the port where variables have PORT.
func portIn(env []string, port int) []string {
	var out []string
	for _, kv := range env {
		out = append(out, strings.ReplaceAll(kv, "PORT", fmt.Sprint(port)))
	}
	return out
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
