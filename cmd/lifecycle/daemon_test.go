package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
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

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/weft-dev/weft/buildpack/sandbox/sandboxtest"
)

// fakeDaemon keeps images as a Docker daemon does. test/place has a real one, where it is installed; this one can refuse. It knows the calls "ping", "load", "save"
// and "inspect" (Docker Engine API 1.47). With containerd behind it, images are called by their manifest and layers are kept compressed.
type fakeDaemon struct {
	t          *testing.T
	containerd bool

	mu     sync.Mutex
	images map[string]map[string][]byte // by identity: the stream that was loaded
	names  map[string]string
	refuse string
	saved  []string // identities
}

type savedManifest struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// start listens on a socket that only root may use.
func (d *fakeDaemon) start() string {
	d.images, d.names = map[string]map[string][]byte{}, map[string]string{}
	socket := filepath.Join(d.t.TempDir(), "docker.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		d.t.Fatal(err)
	}
	if err := os.Chmod(socket, 0o600); err != nil {
		d.t.Fatal(err)
	}
	server := &http.Server{Handler: d} //nolint:gosec // a test
	go func() { _ = server.Serve(l) }()
	d.t.Cleanup(func() { server.Close() })
	return "unix://" + socket
}

func (d *fakeDaemon) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	name, verb := strings.TrimPrefix(r.URL.Path, "/images/"), ""
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		name, verb = name[:i], name[i+1:]
	}
	if _, last, _ := strings.Cut(name[strings.LastIndexByte(name, '/')+1:], ":"); last == "" {
		name += ":latest"
	}
	id := name
	if d.names[name] != "" {
		id = d.names[name]
	}
	switch {
	case r.URL.Path == "/_ping":
		fmt.Fprint(w, "OK")
	case r.URL.Path == "/images/load":
		d.load(w, r.Body)
	case d.images[id] == nil:
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprintf(w, "{\"message\":\"No such image: %s\"}\n", name)
	case verb == "json":
		d.inspect(w, id)
	case verb == "get":
		d.saved = append(d.saved, id)
		d.save(w, id)
	default:
		http.NotFound(w, r)
	}
}

func (d *fakeDaemon) load(w io.Writer, r io.Reader) {
	files := map[string][]byte{}
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		data, readErr := io.ReadAll(tr)
		if err = errors.Join(err, readErr); err != nil {
			d.t.Error(err)
			return
		}
		files[h.Name] = data
	}
	if d.refuse != "" {
		fmt.Fprintf(w, "{\"errorDetail\":{\"message\":%q},\"error\":%q}\n", d.refuse, d.refuse)
		return
	}
	var all []savedManifest
	var index v1.IndexManifest
	if err := errors.Join(json.Unmarshal(files["manifest.json"], &all), json.Unmarshal(files["index.json"], &index)); err != nil || len(all) != 1 {
		d.t.Errorf("a stream that no daemon reads: %v", err)
		return
	}
	id := index.Manifests[0].Digest.String()
	if !d.containerd {
		id = strings.ReplaceAll(strings.TrimPrefix(all[0].Config, "blobs/"), "/", ":")
	}
	d.images[id] = files
	for _, n := range all[0].RepoTags {
		d.names[n] = id
	}
	fmt.Fprintln(w, `{"stream":"Loaded image\n"}`)
}

// image gives what was loaded.
func (d *fakeDaemon) image(id string) (config *v1.ConfigFile, rawConfig []byte, layers [][]byte) {
	var all []savedManifest
	if err := json.Unmarshal(d.images[id]["manifest.json"], &all); err != nil {
		d.t.Fatal(err)
	}
	rawConfig = d.images[id][all[0].Config]
	config, err := v1.ParseConfigFile(bytes.NewReader(rawConfig))
	if err != nil {
		d.t.Fatal(err)
	}
	for i, name := range all[0].Layers {
		data := d.images[id][name]
		if bytes.HasPrefix(data, []byte{0x1f, 0x8b}) && !d.containerd {
			z, err := gzip.NewReader(bytes.NewReader(data))
			if err != nil {
				d.t.Fatal(err)
			}
			if data, err = io.ReadAll(z); err != nil {
				d.t.Fatal(err)
			}
			if h, _, err := v1.SHA256(bytes.NewReader(data)); err != nil || h != config.RootFS.DiffIDs[i] {
				d.t.Errorf("the layer %s is %s, the configuration says %s (%v)", name, h, config.RootFS.DiffIDs[i], err)
			}
		}
		if len(data) == 0 {
			d.t.Errorf("the layer %s is missing", name)
		}
		layers = append(layers, data)
	}
	return config, rawConfig, layers
}

func (d *fakeDaemon) inspect(w io.Writer, id string) {
	config, _, _ := d.image(id)
	err := json.NewEncoder(w).Encode(map[string]any{"Id": id, "RepoTags": []string{}, "Os": config.OS, "Architecture": config.Architecture,
		"Config": config.Config, "RootFS": map[string]any{"Type": "layers", "Layers": config.RootFS.DiffIDs}})
	if err != nil {
		d.t.Error(err)
	}
}

func (d *fakeDaemon) save(w io.Writer, id string) {
	_, rawConfig, layers := d.image(id)
	m := savedManifest{Config: strings.Repeat("c", 64) + ".json"}
	tw := tar.NewWriter(w)
	put := func(name string, data []byte) {
		if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(data))}); err != nil {
			d.t.Error(err)
		}
		if _, err := tw.Write(data); err != nil {
			d.t.Error(err)
		}
	}
	for i, l := range layers {
		name := fmt.Sprintf("%064d/layer.tar", i)
		m.Layers = append(m.Layers, name)
		put(name, l)
	}
	put(m.Config, rawConfig)
	data, err := json.Marshal([]savedManifest{m})
	if err != nil {
		d.t.Error(err)
	}
	put("manifest.json", data)
	if err := tw.Close(); err != nil {
		d.t.Error(err)
	}
}

// loaded is image, for the test.
func (d *fakeDaemon) loaded(id string) (config *v1.ConfigFile, layers [][]byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	config, _, layers = d.image(id)
	return config, layers
}

// id is the identity of the image of a name, "" without one.
func (d *fakeDaemon) id(name string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.names[name]
}

// answer makes the daemon refuse what is loaded from now on, unless the message is "".
func (d *fakeDaemon) answer(refuse string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refuse = refuse
}

// takeSaved gives the identities saved since the last call.
func (d *fakeDaemon) takeSaved() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	saved := d.saved
	d.saved = nil
	return saved
}

// add puts an image of the registry into the daemon.
func (d *fakeDaemon) add(w *world, image string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	img := w.image(image)
	raw, err := img.RawConfigFile()
	if err != nil {
		d.t.Fatal(err)
	}
	id, err := img.ConfigName()
	if d.containerd {
		id, err = img.Digest()
	}
	if err != nil {
		d.t.Fatal(err)
	}
	files := map[string][]byte{"config": raw}
	m := savedManifest{Config: "config"}
	layers, err := img.Layers()
	if err != nil {
		d.t.Fatal(err)
	}
	for i, l := range layers {
		rc, err := l.Compressed()
		if err != nil {
			d.t.Fatal(err)
		}
		name := fmt.Sprint("layer", i)
		if files[name], err = io.ReadAll(rc); err != nil {
			d.t.Fatal(err)
		}
		m.Layers = append(m.Layers, name)
	}
	if files["manifest.json"], err = json.Marshal([]savedManifest{m}); err != nil {
		d.t.Fatal(err)
	}
	d.images[id.String()], d.names[w.registry.Host+"/"+image] = files, id.String()
}

// TestDaemon builds into a daemon, builds again on what it has, and rebases there, under names of two registries that do not exist.
func TestDaemon(t *testing.T) {
	sandboxtest.NeedKernel(t)
	if os.Geteuid() != 0 {
		t.Skip("the socket of the test is root's; run it as root")
	}
	program := sandboxtest.Program(t, lifecycleProgram)
	for _, containerd := range []bool{false, true} {
		for _, cache := range []bool{false, true} {
			t.Run(fmt.Sprintf("containerd=%v/launch-cache=%v", containerd, cache), func(t *testing.T) {
				d := &fakeDaemon{t: t, containerd: containerd}
				socket := d.start()
				w := newWorld(t, faulty)
				w.furnish("0.15")
				w.program = program
				w.env = append(w.env, "DOCKER_HOST="+socket, "CNB_USE_DAEMON=true", "CNB_USER_ID=1000", "CNB_GROUP_ID=1000")
				if cache {
					w.env = append(w.env, "CNB_LAUNCH_CACHE_DIR="+w.dir+"/launch")
					if err := os.Mkdir(w.dir+"/launch", 0o755); err != nil {
						t.Fatal(err)
					}
				}
				d.add(w, "run:one")
				d.add(w, "run:two")
				w.daemonStory(d, cache)
			})
		}
	}
}

func (w *world) daemonStory(d *fakeDaemon, cache bool) {
	t := w.t
	t.Helper()
	names := []string{"one.invalid/app:v1", "two.invalid/app:v2"}
	create := append(w.flags("app", "layers", "platform", "buildpacks", "order.toml", "cache", "launcher"), "-tag", names[1], "-report", w.dir+"/layers/report.toml", names[0])
	for round, want := range []string{"Adding layer 'a:kept'", "Reusing layer 'a:kept'"} {
		d.takeSaved()
		code, text := w.run("create", create...)
		if code != 0 || !strings.Contains(text, want) {
			t.Fatalf("round %d: exit code %d, want 0 and %q\n%s", round, code, want, text)
		}
		report, err := os.ReadFile(w.dir + "/layers/report.toml")
		id := d.id(names[0])
		if err != nil || !strings.Contains(string(report), `image-id = "`+id+`"`) || strings.Contains(string(report), "digest") || d.id(names[1]) != id || id == "" {
			t.Errorf("round %d: report.toml (%v) is\n%s\nand the daemon has %q", round, err, report, id)
		}
		if saved := d.takeSaved(); cache && round == 1 && len(saved) != 0 {
			t.Errorf("with a launch cache the daemon had to save %v", saved)
		}
		config, layers := d.loaded(id)
		if len(layers) < 4 || config.Config.Labels["io.buildpacks.lifecycle.metadata"] == "" || len(layers) != len(config.RootFS.DiffIDs) {
			t.Errorf("round %d: the image has %d layers and the labels %v", round, len(layers), config.Config.Labels)
		}
	}
	before := d.id(names[0])
	code, text := w.run("rebase", "-run-image", w.registry.Host+"/run:two", "-report", w.dir+"/layers/report.toml", names[0])
	if code != 0 || d.id(names[0]) == before {
		t.Fatalf("rebase: exit code %d\n%s", code, text)
	}
	config, _ := d.loaded(d.id(names[0]))
	if _, ok := config.Config.Labels["io.buildpacks.base.new"]; !ok {
		t.Errorf("the rebased image has the labels %v", config.Config.Labels)
	}
	if left, err := filepath.Glob("/tmp/lifecycle-daemon-*"); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	w.daemonFaults(d, names[0], create)
}

// daemonFaults are a daemon that refuses, one that lacks the run image, and none at all.
func (w *world) daemonFaults(d *fakeDaemon, name string, create []string) {
	t := w.t
	t.Helper()
	fails := func(want int, message string, args ...string) {
		t.Helper()
		before := d.id(name)
		code, text := w.run(args[0], args[1:]...)
		if code != want || !strings.Contains(text, message) || d.id(name) != before {
			t.Errorf("%s: exit code %d, want %d and %q, and the image as it was\n%s", args[0], code, want, message, text)
		}
	}
	const full = "no space left on device"
	d.answer(full)
	fails(62, full, append([]string{"create"}, create...)...)
	d.answer("")
	fails(32, "run image nonesuch:1 was not found", append([]string{"create", "-run-image", "nonesuch:1"}, create...)...)
	fails(3, "exclude each other", append([]string{"create", "-layout", "-layout-dir", w.dir}, create...)...)
	w.env = append(w.env, "DOCKER_HOST=unix:///nonesuch.sock")
	fails(1, "no Docker daemon answers at unix:///nonesuch.sock", append([]string{"create"}, create...)...)
}

// TestDaemonPhases runs the phases one after the other as the build's user, who may use the socket.
func TestDaemonPhases(t *testing.T) {
	sandboxtest.NeedKernel(t)
	if os.Geteuid() != 0 {
		t.Skip("the test becomes another user; run it as root")
	}
	d := &fakeDaemon{t: t}
	socket := d.start()
	if err := os.Chmod(strings.TrimPrefix(socket, "unix://"), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(strings.TrimPrefix(socket, "unix://")), 0o755); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, faulty)
	w.furnish("0.15")
	w.program = sandboxtest.Program(t, lifecycleProgram)
	w.env = append(w.env, "DOCKER_HOST="+socket, "CNB_USE_DAEMON=true")
	d.add(w, "run:one")
	d.add(w, "run:two")
	for range 2 {
		if code, text := w.phases("app"); code != 0 {
			t.Fatalf("exit code %d\n%s", code, text)
		}
	}
	analyzed, err := os.ReadFile(w.dir + "/layers/analyzed.toml")
	if err != nil || !strings.Contains(string(analyzed), `reference = "`+d.id(w.registry.Host+"/run:one")+`"`) {
		t.Errorf("analyzed.toml does not name the run image by its identity: %v\n%s", err, analyzed)
	}
}
