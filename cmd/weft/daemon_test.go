package main

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/random"

	"github.com/weft-dev/weft/buildpack/target"
)

// fakeDaemon answers the three calls of a Docker daemon that are made. test/place has a real one, where it is installed; this one can refuse.
type fakeDaemon struct {
	mu    sync.Mutex
	files map[string][]byte // of the stream that was loaded
	fail  string
}

func (d *fakeDaemon) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case r.URL.Path == "/_ping":
		fmt.Fprint(w, "OK")
	case strings.HasSuffix(r.URL.Path, "/json"):
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"message":"No such image"}`)
	case r.URL.Path == "/images/load":
		d.files = map[string][]byte{}
		tr := tar.NewReader(r.Body)
		for {
			h, err := tr.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			data, err := io.ReadAll(tr)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			d.files[h.Name] = data
		}
		if d.fail != "" {
			fmt.Fprintf(w, "{\"error\":%q}\n", d.fail)
			return
		}
		fmt.Fprintln(w, `{"stream":"Loaded image: app:latest\n"}`)
	default:
		http.NotFound(w, r)
	}
}

// TestDaemon gives an image to a daemon at a socket, in the two forms that daemons read.
func TestDaemon(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "docker.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	daemon := &fakeDaemon{}
	server := &http.Server{Handler: daemon} //nolint:gosec // a test
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { server.Close() })
	getenv := func(name string) string { return map[string]string{"DOCKER_HOST": "unix://" + socket}[name] }
	a := &app{getenv: getenv, out: io.Discard, err: io.Discard}
	to, err := a.placeOf(t.Context(), "app", placeFlags{})
	if err != nil || to.daemon == nil || !strings.Contains(to.where, socket) {
		t.Fatalf("%+v %v", to, err)
	}
	img, err := random.Image(1000, 3)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.put(t.Context(), nil, img, to, []string{"app:two"}); err != nil {
		t.Fatal(err)
	}
	var saved []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	if err := json.Unmarshal(daemon.files["manifest.json"], &saved); err != nil || len(saved) != 1 || len(saved[0].Layers) != 3 || saved[0].RepoTags[1] != "app:two" {
		t.Fatalf("manifest.json is %s (%v)", daemon.files["manifest.json"], err)
	}
	for _, name := range append(saved[0].Layers, saved[0].Config, "index.json", "oci-layout") {
		if len(daemon.files[name]) == 0 {
			t.Errorf("the stream has no %s", name)
		}
	}
	daemon.fail = "no space left on device"
	if _, err := a.put(t.Context(), nil, img, to, nil); err == nil || !strings.Contains(err.Error(), "no space left on device") {
		t.Errorf("a refused image gave %v", err)
	}
	if _, err := target.ConnectDaemon(t.Context(), "unix:///nonesuch.sock", os.Getenv); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing daemon gave %v", err)
	}
	if _, err := target.ConnectDaemon(t.Context(), "ssh://host", os.Getenv); err == nil || !strings.Contains(err.Error(), "unix://PATH or tcp://HOST:PORT") {
		t.Errorf("an address of another kind gave %v", err)
	}
}
