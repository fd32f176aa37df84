package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/tools/txtar"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/weft-dev/weft/buildpack/layer"
	"github.com/weft-dev/weft/registry"
	"github.com/weft-dev/weft/registry/registrytest"
)

// world is what a build container has: folders, buildpacks, an order and a registry with a run image.
type world struct {
	t        testing.TB
	dir      string
	registry *registrytest.Registry
	client   *registry.Client
	program  string   // of the lifecycle
	env      []string // CNB_PLATFORM_API and the like
	way      string   // how create builds: "", "cache-image", "parallel" or "phases"
	user     *syscall.Credential
}

// newWorld lays out the files of a txtar archive: those below buildpacks, app, platform, build-config, and order.toml.
// Programs in a bin folder become executable. What the paths of files call @ is the folder of the world.
func newWorld(t testing.TB, archive string) *world {
	t.Helper()
	dir := t.TempDir()
	for at := dir; at != "/tmp" && at != "/"; at = filepath.Dir(at) {
		if err := os.Chmod(at, 0o755); err != nil {
			break // a folder of somebody else, hopefully open
		}
	}
	w := &world{t: t, dir: dir, registry: registrytest.New(t, registrytest.Config{}), client: registry.New(registry.Options{})}
	for _, f := range txtar.Parse([]byte(archive)).Files {
		w.write(f.Name, string(f.Data))
	}
	for _, d := range []string{"layers", "platform/env", "cache", "app", "build-config/env", "buildpacks"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func (w *world) write(name, text string) {
	w.t.Helper()
	file := filepath.Join(w.dir, name)
	mode := os.FileMode(0o644)
	if strings.Contains(name, "/bin/") {
		mode = 0o755
	}
	text = strings.ReplaceAll(strings.ReplaceAll(text, "@REGISTRY@", w.registry.Host), "@WORLD@", w.dir)
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), mode), os.Chmod(file, mode)); err != nil {
		w.t.Fatal(err)
	}
}

// runImage pushes an image with one file and gives its name.
func (w *world) runImage(name, content string, labels map[string]string) string {
	w.t.Helper()
	var blob bytes.Buffer
	measured, err := layer.Stream(&blob, layer.Gzip, func(out io.Writer) error {
		tw := layer.NewWriter(out)
		if err := tw.File("/etc/release", 0o644, layer.Owner{}, int64(len(content)), strings.NewReader(content)); err != nil {
			return err
		}
		return tw.Close()
	})
	if err != nil {
		w.t.Fatal(err)
	}
	img, err := mutate.AppendLayers(mutate.MediaType(empty.Image, types.DockerManifestSchema2), known{static.NewLayer(blob.Bytes(), types.DockerLayer), measured.DiffID})
	if err != nil {
		w.t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		w.t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", "amd64"
	config.Config.Labels = labels
	config.Config.Env = []string{"PATH=/usr/bin:/bin", "CNB_LAYERS_DIR=/old"}
	if img, err = mutate.ConfigFile(img, config); err != nil {
		w.t.Fatal(err)
	}
	full := w.registry.Host + "/" + name
	ref, err := registry.ParseReference(full)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.client.PushImage(context.Background(), ref, img, registry.PushOptions{}); err != nil {
		w.t.Fatal(err)
	}
	return full
}

type known struct {
	v1.Layer
	id v1.Hash
}

func (k known) DiffID() (v1.Hash, error) { return k.id, nil }

func (w *world) image(name string) v1.Image {
	w.t.Helper()
	ref, err := registry.ParseReference(w.registry.Host + "/" + name)
	if err != nil {
		w.t.Fatal(err)
	}
	img, err := w.client.Image(context.Background(), ref, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return img
}

// run starts a phase and gives exit code and output.
func (w *world) run(phase string, args ...string) (int, string) {
	w.t.Helper()
	cmd := exec.Command(w.program, append([]string{phase}, args...)...)
	cmd.Env = append([]string{"PATH=/usr/bin:/bin", "HOME=" + w.dir, "TMPDIR=/tmp"}, w.env...)
	cmd.Dir = w.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: w.user}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), string(out)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return 0, string(out)
}

// create runs all phases at once.
func (w *world) create(image string, more ...string) (int, string) {
	w.t.Helper()
	switch w.way {
	case "phases":
		return w.phases(image)
	case "parallel":
		more = append(more, "-parallel")
	case "cache-image":
		more = append(more, "-cache-image", w.registry.Host+"/"+strings.TrimSuffix(image, "/app")+"/cache")
		return w.run("create", append(append(w.flags("app", "layers", "platform", "buildpacks", "order.toml", "launcher"), more...), w.registry.Host+"/"+image)...)
	}
	return w.run("create", append(append(w.flags("app", "layers", "platform", "buildpacks", "order.toml", "cache", "launcher"), more...), w.registry.Host+"/"+image)...)
}

// phases runs one phase after the other as user 1000.
func (w *world) phases(image string) (int, string) {
	w.t.Helper()
	err := filepath.WalkDir(w.dir, func(name string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(name, 1000, 1000))
	})
	if err != nil {
		w.t.Fatal(err)
	}
	before := w.env
	w.user = &syscall.Credential{Uid: 1000, Gid: 1000}
	defer func() { w.user, w.env = nil, before }()
	w.env = append(slices.Clone(w.env), "CNB_LAYERS_DIR="+w.dir+"/layers", "CNB_APP_DIR="+w.dir+"/app", "CNB_PLATFORM_DIR="+w.dir+"/platform",
		"CNB_BUILDPACKS_DIR="+w.dir+"/buildpacks", "CNB_ORDER_PATH="+w.dir+"/order.toml", "CNB_CACHE_DIR="+w.dir+"/cache", "CNB_USER_ID=1000", "CNB_GROUP_ID=1000")
	name := w.registry.Host + "/" + image
	for _, step := range [][]string{{"analyze", name}, {"detect"}, {"restore"}, {"build"}, {"export", "-launcher", w.dir + "/launcher", name}} {
		if code, text := w.run(step[0], step[1:]...); code != 0 {
			return code, text
		}
	}
	return 0, ""
}

// flags gives the flags that lead to the folders and files of the world.
func (w *world) flags(names ...string) []string {
	var out []string
	for _, n := range names {
		flag := map[string]string{"order.toml": "-order", "cache": "-cache-dir"}[n]
		if flag == "" {
			flag = "-" + strings.TrimSuffix(n, ".toml")
		}
		out = append(out, flag, filepath.Join(w.dir, n))
	}
	return out
}

// reset empties the folders that a build writes.
func (w *world) reset() {
	w.t.Helper()
	for _, d := range []string{"layers", "cache"} {
		if err := errors.Join(os.RemoveAll(filepath.Join(w.dir, d)), os.Mkdir(filepath.Join(w.dir, d), 0o755)); err != nil {
			w.t.Fatal(err)
		}
	}
}
