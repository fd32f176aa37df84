package driver

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weft-dev/weft/buildpack"
	"github.com/weft-dev/weft/buildpack/bundled"
	"github.com/weft-dev/weft/buildpack/sandbox/sandboxtest"
	"github.com/weft-dev/weft/engine"
	"github.com/weft-dev/weft/engine/drivertest"
	"github.com/weft-dev/weft/registry"
	"github.com/weft-dev/weft/registry/registrytest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	sandboxtest.Clean()
	os.Exit(code)
}

// bench is a source with an inline buildpack, and a registry.
type bench struct {
	driver *Driver
	root   string
	image  string
	client *registry.Client
}

func newBench(t testing.TB) *bench {
	t.Helper()
	sandboxtest.NeedKernel(t)
	b := &bench{root: t.TempDir(), client: registry.New(registry.Options{})}
	if err := os.Mkdir(filepath.Join(b.root, "app"), 0o755); err != nil {
		t.Fatal(err)
	}
	b.write(t, "project.toml", "[_]\nschema-version = \"0.2\"\n[[io.buildpacks.group]]\nid = \"test/inline\"\n[io.buildpacks.group.script]\napi = \"0.10\"\ninline = \"ls >list\"\n")
	b.write(t, "page", "one")
	b.image = registrytest.New(t, registrytest.Config{}).Host + "/shop"
	b.driver = New(Options{Root: b.root, State: t.TempDir(), Registry: b.client, Programs: buildpack.Programs{
		Sandbox:  sandboxtest.Program(t, "github.com/weft-dev/weft/cmd/sandbox"),
		Launcher: sandboxtest.Program(t, "github.com/weft-dev/weft/cmd/launcher"),
		Programs: bundled.Programs{Web: sandboxtest.Program(t, "github.com/weft-dev/weft/cmd/webfiles"), Certificates: sandboxtest.Program(t, "github.com/weft-dev/weft/cmd/certificates")},
	}})
	return b
}

func (b *bench) write(t testing.TB, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(b.root, "app", name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (b *bench) inputs(more ...string) map[string]any {
	m := map[string]any{"source": "app", "image": b.image}
	for i := 0; i+1 < len(more); i += 2 {
		m[more[i]] = more[i+1]
	}
	return m
}

// digest is what the image's name leads to, "" if to nothing.
func (b *bench) digest(t testing.TB) string {
	t.Helper()
	ref, err := registry.ParseReference(b.image)
	if err != nil {
		t.Fatal(err)
	}
	desc, err := b.client.Resolve(context.Background(), ref)
	if errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	return desc.Digest.String()
}

func TestCompliance(t *testing.T) {
	b := newBench(t)
	n := 0
	drivertest.Kit{
		Driver:   b.driver,
		Resource: engine.Resource{ID: "image", Inputs: b.inputs()},
		Changed:  engine.Resource{ID: "image", Inputs: map[string]any{"source": "app", "image": b.image, "env": map[string]any{"COLOUR": "green"}}},
		Disturb: func(t testing.TB) {
			n++
			b.write(t, "page", strings.Repeat("two", n))
		},
		Remove: func(t testing.TB) {
			if err := b.driver.Delete(t.Context(), engine.Request{Record: &engine.Record{Inputs: b.inputs(), Identity: b.digest(t)}}); err != nil {
				t.Fatal(err)
			}
		},
		Exists: func(t testing.TB) bool { return b.digest(t) != "" },
	}.Run(t)
}

func TestPinnedImages(t *testing.T) {
	b := newBench(t)
	r := engine.Request{ID: "image", Inputs: b.inputs()}
	first, err := b.driver.Create(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	b.write(t, "page", "two")
	second, err := b.driver.Create(t.Context(), r)
	if err != nil || second.Identity == first.Identity {
		t.Fatalf("%v, %v", second, err)
	}
	pinned := engine.Request{ID: "image", Inputs: b.driver.Pin(r.Inputs, first.Outputs), Record: &engine.Record{Identity: second.Identity}}
	got, err := b.driver.Create(t.Context(), pinned)
	if err != nil || got.Identity != first.Identity || got.Outputs["ref"] != first.Outputs["ref"] {
		t.Errorf("got %v, %v, want %v", got, err, first)
	}
	if c, err := b.driver.Compare(t.Context(), pinned, got); err != nil || len(c.Changes) != 1 || c.Changes[0].After != first.Identity {
		t.Errorf("%v, %v", c, err)
	}
	if err := b.driver.Delete(t.Context(), engine.Request{Record: &engine.Record{Inputs: r.Inputs, Identity: first.Identity}}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.driver.Compare(t.Context(), pinned, nil); err == nil || !strings.Contains(err.Error(), "so it cannot be gone back to") {
		t.Errorf("error %v", err)
	}
}

func TestWrongInputs(t *testing.T) {
	b := New(Options{})
	for want, inputs := range map[string]map[string]any{
		"sauce: is no input of a build":  {"sauce": "x"},
		"image: is missing":              {"source": "."},
		"source: is missing":             {"image": "x"},
		"image: expected a text":         {"image": int64(1)},
		"env.A: expected a text":         {"image": "x", "source": ".", "env": map[string]any{"A": int64(1)}},
		"env: expected names with value": {"image": "x", "source": ".", "env": "A"},
	} {
		if _, err := b.Read(t.Context(), engine.Request{Inputs: inputs}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v", inputs, err)
		}
	}
}
