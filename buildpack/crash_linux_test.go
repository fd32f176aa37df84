package buildpack_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/weft-dev/weft/buildpack"
	"github.com/weft-dev/weft/buildpack/sandbox/sandboxtest"
	"github.com/weft-dev/weft/registry"
	"github.com/weft-dev/weft/registry/registrytest"
	"github.com/weft-dev/weft/test/fault"
)

// counting is a buildpack with a layer that each build changes, and one that is made once.
const counting = `#!/bin/sh
set -e
cd "$CNB_LAYERS_DIR"
mkdir -p kept changing
[ -f kept/file ] || { echo fresh; echo kept >kept/file; }
[ "$(cat kept/file)" = kept ]
n=$(cat changing/count 2>/dev/null || echo 0)
echo $((n + 1)) >changing/count
printf '[types]\nlaunch = true\ncache = true\n' >kept.toml
printf '[types]\ncache = true\nbuild = true\n' >changing.toml
printf '[[processes]]\ntype = "web"\ncommand = ["none"]\n' >launch.toml
`

// envHost is the registry of the test, which outlives the builds that are killed.
const envHost = "WEFT_TEST_HOST"

// imageIn is the name of the image that is built in a folder.
func imageIn(dir string) string {
	return fmt.Sprintf("%s/app-%x:v1", os.Getenv(envHost), sha256.Sum256([]byte(dir)))
}

// buildIn builds the application of dir; each event is told.
func buildIn(ctx context.Context, dir, page string, programs buildpack.Programs, event func(buildpack.Event)) (buildpack.Result, error) {
	source := filepath.Join(dir, "source")
	for name, text := range map[string]string{"bp/buildpack.toml": "api = \"0.10\"\n[buildpack]\nid = \"test/count\"\nversion = \"1\"\n", "bp/bin/detect": "#!/bin/sh\n",
		"bp/bin/build": counting, "project.toml": "[_]\nschema-version = \"0.2\"\n[[io.buildpacks.group]]\nuri = \"bp\"\n", "page": page} {
		file := filepath.Join(source, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o755)); err != nil {
			return buildpack.Result{}, err
		}
	}
	return buildpack.Build(ctx, buildpack.Options{Source: source, Image: imageIn(dir), State: filepath.Join(dir, "state"), Programs: programs, Events: event})
}

// TestKilledBuild kills a second build at every event: the image is the first one or the second, each whole, the layers that are kept
// are those of a whole build, and the next build leaves nothing behind.
func TestKilledBuild(t *testing.T) {
	sandboxtest.NeedKernel(t)
	p := programs(t)
	// The children, which run this test again, do not build the programs anew.
	t.Setenv(envSandbox, p.Sandbox)
	t.Setenv(envLauncher, p.Launcher)
	if os.Getenv(envHost) == "" {
		t.Setenv(envHost, registrytest.New(t, registrytest.Config{}).Host)
	}
	every := 2
	if testing.Short() {
		every = 8
	}
	fault.Matrix(t, fault.Case{
		Every: every,
		Prepare: func(t testing.TB, dir string) {
			if _, err := buildIn(t.Context(), dir, "first", p, nil); err != nil {
				t.Fatal(err)
			}
		},
		Run: func(ctx context.Context, dir string, hit func(string)) error {
			_, err := buildIn(ctx, dir, fmt.Sprint(time.Now().UnixNano()), programs(t), func(e buildpack.Event) {
				hit(e.Phase + "-" + string(e.Kind))
				if strings.Contains(e.Line, "fresh") {
					hit("fresh")
				}
			})
			return err
		},
		Killed: func(t testing.TB, dir, point string) { wholeImage(t, dir) },
		Check: func(t testing.TB, dir, point string) {
			if wholeImage(t, dir) == nil {
				t.Error("no image is published")
			}
			points, err := os.ReadFile(filepath.Join(filepath.Dir(dir), "points"))
			if err != nil || strings.Contains(string(points), "fresh") {
				t.Errorf("after a kill at %s the kept layer was made again (%v)", point, err)
			}
			time.Sleep(time.Second) // what is younger is spared
			if _, err := buildIn(context.Background(), dir, "last", p, nil); err != nil {
				t.Errorf("after a kill at %s: %v", point, err)
			}
			for _, pattern := range []string{"state/work/*", "state/store/layers/.tmp-*"} {
				if left, err := filepath.Glob(filepath.Join(dir, pattern)); err != nil || len(left) > 0 {
					t.Errorf("after a kill at %s: left are %v %v", point, left, err)
				}
			}
		},
	})
}

// wholeImage reads the image in the registry of dir and fails if it is not whole.
func wholeImage(t testing.TB, dir string) v1.Image {
	t.Helper()
	ref, err := registry.ParseReference(imageIn(dir))
	if err != nil {
		t.Fatal(err)
	}
	img, err := registry.New(registry.Options{}).Image(context.Background(), ref, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil || len(config.RootFS.DiffIDs) != len(layers) {
		t.Fatal("half an image", err)
	}
	for i, l := range layers {
		rc, err := l.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		h := sha256.New()
		if _, err := io.Copy(h, rc); err != nil {
			t.Fatal(err)
		}
		rc.Close()
		if got := fmt.Sprintf("%x", h.Sum(nil)); got != config.RootFS.DiffIDs[i].Hex {
			t.Errorf("layer %d is %s instead of %s", i, got, config.RootFS.DiffIDs[i])
		}
	}
	return img
}
