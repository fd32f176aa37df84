package place

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// docker is a Docker daemon of the test's own.
type docker struct {
	*world
	client *http.Client
}

// newDocker starts dockerd without a network, in namespaces of its own. It is not among the packages that `make test` installs: with it
// comes a service that runs from then on.
func newDocker(t *testing.T) *docker {
	t.Helper()
	if _, err := exec.LookPath("dockerd"); err != nil || os.Geteuid() != 0 {
		t.Skip("needs root and dockerd, of Debian's package docker.io")
	}
	w := newWorld(t)
	dir, err := os.MkdirTemp("", "docker-") // not t.TempDir: a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	var log bytes.Buffer
	cmd := exec.Command("sh", "-c", `mount -t tmpfs tmpfs /run && exec dockerd --iptables=false --ip6tables=false --bridge=none --storage-driver vfs -H "unix://$1/s" `+
		`--data-root "$1/data" --exec-root "$1/exec" -p "$1/pid"`, "sh", dir)
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET}
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
	d := &docker{world: w, client: &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, "unix", socket)
	}}}}
	t.Cleanup(d.client.CloseIdleConnections)
	w.env = []string{"CNB_USE_DAEMON=true", "DOCKER_HOST=unix://" + socket, "CNB_LAUNCH_CACHE_DIR=" + w.dir + "/launch-cache"}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		if resp, err := d.client.Get("http://docker/_ping"); err == nil {
			resp.Body.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("dockerd does not come up:\n%s", log.String())
		}
	}
	return d
}

// importImage makes an image with one file.
func (d *docker) importImage(name, tag, content string) {
	d.t.Helper()
	var layer bytes.Buffer
	tw := tar.NewWriter(&layer)
	if err := tw.WriteHeader(&tar.Header{Name: "file", Mode: 0o644, Size: int64(len(content))}); err != nil {
		d.t.Fatal(err)
	}
	if _, err := tw.Write([]byte(content)); err != nil {
		d.t.Fatal(err)
	}
	if err := tw.Close(); err != nil {
		d.t.Fatal(err)
	}
	resp, err := d.client.Post("http://docker/images/create?fromSrc=-&repo="+name+"&tag="+tag, "application/x-tar", &layer)
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		d.t.Fatalf("importing an image: %s", resp.Status)
	}
}

// inspected is what the daemon says of an image.
type inspected struct {
	ID     string `json:"Id"`
	RootFS struct{ Layers []string }
	Config struct {
		Entrypoint []string
		Labels     map[string]string
	}
}

func (d *docker) inspect(name string) inspected {
	d.t.Helper()
	resp, err := d.client.Get("http://docker/images/" + name + "/json")
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	var i inspected
	if err := json.NewDecoder(resp.Body).Decode(&i); err != nil || i.ID == "" {
		d.t.Fatalf("the daemon does not have %s: %s %v", name, resp.Status, err)
	}
	return i
}

// TestDocker builds into a real Docker daemon with the lifecycle and with the verbs, builds again, rebases and inspects.
func TestDocker(t *testing.T) {
	d := newDocker(t)
	d.importImage("run", "one", "one")
	d.importImage("run", "two", "two")
	d.write("run.toml", "[[images]]\nimage = \"run:one\"\nmirrors = [\"run:two\"]\n")
	d.freshLayers()
	d.must("lifecycle", d.phase("create", "-tag", "app:other", "app:v1")...)
	first := d.inspect("app:v1")
	if other := d.inspect("app:other"); other.ID != first.ID {
		t.Error("the other tag means another image")
	}
	if got := fmt.Sprint(first.Config.Entrypoint); got != "[/cnb/process/web]" || first.Config.Labels["io.buildpacks.lifecycle.metadata"] == "" {
		t.Errorf("the image starts %s, labels %v", got, first.Config.Labels)
	}
	if report, err := os.ReadFile(d.dir + "/reports/report.toml"); err != nil || !strings.Contains(string(report), "image-id = \""+first.ID) {
		t.Errorf("report.toml is %s (%v)", report, err)
	}
	d.freshLayers()
	if out := d.must("lifecycle", d.phase("create", "app:v1")...); !strings.Contains(out, "Reusing layer 'x:l'") {
		t.Errorf("the second build reuses nothing:\n%s", out)
	}
	if again := d.inspect("app:v1"); again.ID != first.ID {
		t.Error("the same source gave another image")
	}
	d.must("lifecycle", "rebase", "-run-image", "run:two", "-report", d.dir+"/reports/report.toml", "app:v1")
	moved := d.inspect("app:v1")
	last := len(first.RootFS.Layers) - 1
	if moved.RootFS.Layers[0] == first.RootFS.Layers[0] || moved.RootFS.Layers[last] != first.RootFS.Layers[last] {
		t.Errorf("rebase made %v of %v", moved.RootFS.Layers, first.RootFS.Layers)
	}
	if out := d.must("weft", "inspect", "docker-daemon:app:v1"); !strings.Contains(out, moved.ID) || !strings.Contains(out, "serve") {
		t.Errorf("inspect shows\n%s", out)
	}
	d.must("weft", "rebase", "docker-daemon:app:v1", "--run-image", "run:one")
	if back := d.inspect("app:v1"); fmt.Sprint(back.RootFS.Layers) != fmt.Sprint(first.RootFS.Layers) {
		t.Errorf("rebase made %v, not %v", back.RootFS.Layers, first.RootFS.Layers)
	}
	build := []string{"build", "docker-daemon:verb:v1", "--path", d.dir + "/app", "--buildpack", d.dir + "/buildpacks/x/1"}
	if out := d.must("weft", build...); !strings.Contains(out, "verb:v1 is in the Docker daemon") {
		t.Errorf("the end does not say where the image is:\n%s", out)
	}
	d.inspect("verb:v1")
	if out := d.must("weft", build...); !strings.Contains(out, "Nothing has changed") {
		t.Errorf("the second build:\n%s", out)
	}
}
