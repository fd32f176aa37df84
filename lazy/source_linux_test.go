package lazy

import (
	"path/filepath"
	"testing"

	"github.com/weft-dev/weft/image"
	"github.com/weft-dev/weft/registry"
	"github.com/weft-dev/weft/registry/registrytest"
)

// TestLayout mounts an image of an OCI layout.
func TestLayout(t *testing.T) {
	needWatch(t)
	r := registrytest.New(t, registrytest.Config{})
	dir := content(t, 21, 12, 200<<10)
	push(t, r.Host+"/app:v1", dir, image.Options{})
	name := "oci:" + filepath.Join(t.TempDir(), "layout") + ":v1"
	client := registry.New(registry.Options{})
	defer client.Close()
	from, err := image.OpenPlace(client, r.Host+"/app:v1", t.TempDir(), false)
	if err != nil {
		t.Fatal(err)
	}
	to, err := image.OpenPlace(client, name, t.TempDir(), true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := image.Convert(t.Context(), from, to, image.ConvertOptions{TempDir: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	readThrough(t, Options{}, name, dir)
}

// TestMirror reads from a mirror what the registry itself does not give.
func TestMirror(t *testing.T) {
	needWatch(t)
	origin, mirror := registrytest.New(t, registrytest.Config{}), registrytest.New(t, registrytest.Config{})
	dir := content(t, 22, 12, 200<<10)
	push(t, origin.Host+"/app:v1", dir, image.Options{})
	push(t, mirror.Host+"/app:v1", dir, image.Options{})
	origin.Fail(registrytest.Fault{Method: "GET", Path: "/blobs/", Status: 503})
	readThrough(t, Options{Registry: registry.Options{Mirrors: registry.ExplicitMirrors{origin.Host: {mirror.URL}}}}, origin.Host+"/app:v1", dir)
}

// readThrough mounts an image and compares all of it.
func readThrough(t *testing.T, o Options, ref, dir string) {
	t.Helper()
	o.Root, o.Mode, o.Learn = stateDir(t), Fanotify, -1
	s := openService(t, o)
	defer s.Close()
	im, err := s.Prepare(t.Context(), Request{Reference: ref})
	if err != nil {
		t.Fatal(err)
	}
	target := mountImage(t, im)
	if failed := readAll(t, filesOf(t, dir), target); len(failed) > 0 {
		t.Errorf("%v could not be read", failed)
	}
	if st := im.Stats(); st.Fetched == 0 || st.Failed != 0 {
		t.Errorf("after all was read: %+v", st)
	}
	if err := im.Unmount(t.Context(), target); err != nil {
		t.Error(err)
	}
}

// TestCacheLimit keeps the cache small: content that nothing mounts goes, what is mounted stays, and what went comes again.
func TestCacheLimit(t *testing.T) { inBothModes(t, testCacheLimit) }

func testCacheLimit(t *testing.T, mode Mode) {
	s := openService(t, Options{Root: stateDir(t), Mode: mode, Learn: -1, CacheLimit: 1})
	defer s.Close()
	var images []*Image
	var wants []map[string][]byte
	for seed := range uint64(2) {
		dir, to := content(t, 30+seed, 12, 200<<10), filepath.Join(t.TempDir(), "image")
		if _, err := image.Build(t.Context(), to, image.Options{}, image.Folder(dir)); err != nil {
			t.Fatal(err)
		}
		im, err := s.Prepare(t.Context(), Request{Reference: to})
		if err != nil {
			t.Fatal(err)
		}
		images, wants = append(images, im), append(wants, filesOf(t, dir))
	}
	unused, used := mountImage(t, images[0]), mountImage(t, images[1])
	readAll(t, wants[0], unused)
	readAll(t, wants[1], used)
	if err := images[0].Unmount(t.Context(), unused); err != nil {
		t.Fatal(err)
	}
	before := images[1].Stats().Present
	s.keepLimit()
	list, err := s.Cached()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range list {
		if c.Mounted != (c.Disk > 0) {
			t.Errorf("mounted %v, and %d bytes on the disk", c.Mounted, c.Disk)
		}
	}
	if now := images[1].Stats().Present; now < before || before == 0 {
		t.Errorf("%d bytes of the mounted image are present, before it were %d", now, before)
	}
	unused = mountImage(t, images[0])
	if failed := readAll(t, wants[0], unused); len(failed) > 0 {
		t.Errorf("%v could not be read after it was dropped", failed)
	}
	for i, target := range []string{unused, used} {
		if err := images[i].Unmount(t.Context(), target); err != nil {
			t.Error(err)
		}
	}
}

// TestManyDevices mounts an image of more devices than one request to the keeper names, and lets all of them go.
func TestManyDevices(t *testing.T) {
	needWatch(t)
	dir, to := content(t, 23, 60, 200<<10), filepath.Join(t.TempDir(), "image")
	if _, err := image.Build(t.Context(), to, image.Options{ChunkSize: 16 << 10, Stripe: 32 << 10}, image.Folder(dir)); err != nil {
		t.Fatal(err)
	}
	s := openService(t, Options{Root: stateDir(t), Mode: Fanotify, Learn: -1})
	defer s.Close()
	im, err := s.Prepare(t.Context(), Request{Reference: to})
	if err != nil {
		t.Fatal(err)
	}
	if n := im.Stats().Devices; n < 100 {
		t.Fatalf("the image has %d devices: the test tests nothing", n)
	}
	target := mountImage(t, im)
	if failed := readAll(t, filesOf(t, dir), target); len(failed) > 0 {
		t.Errorf("%v could not be read", failed)
	}
	if err := im.Unmount(t.Context(), target); err != nil {
		t.Error(err)
	}
	if left := s.guard.(*watch).client.Devices(); len(left) > 0 {
		t.Errorf("the keeper still has %d devices", len(left))
	}
}
