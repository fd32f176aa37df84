package snapshotter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/weft-dev/weft/image"
	"github.com/weft-dev/weft/image/imagetest"
	"github.com/weft-dev/weft/lazy"
	"github.com/weft-dev/weft/lazy/fanotify"
	"github.com/weft-dev/weft/lazy/fuse"
	"github.com/weft-dev/weft/registry"
	"github.com/weft-dev/weft/registry/registrytest"
)

// file of a layer; with the content imagetest.Whiteout it deletes.
type file struct{ name, content string }

// pushed is an image in the test's registry.
type pushed struct {
	name   Name
	layers *Layers
}

// push puts an image into a registry. With a format a converted image refers to it.
func push(t testing.TB, ref string, format image.Format, layers ...[]file) pushed {
	t.Helper()
	var tars [][]byte
	for _, files := range layers {
		var list []imagetest.File
		for _, f := range files {
			list = append(list, imagetest.File{Name: f.name, Content: f.content})
		}
		tars = append(tars, imagetest.Layer(t, list...))
	}
	client := registry.New(registry.Options{})
	defer client.Close()
	p := pushed{name: Name{Reference: ref, Manifest: imagetest.Push(t, client, ref, imagetest.Image(t, v1.ConfigFile{}, tars...)).Digest}}
	if format != "" {
		imagetest.Convert(t, client, ref, image.Options{Format: format})
	}
	var err error
	if p.layers, err = readLayers(t.Context(), client, p.name); err != nil {
		t.Fatal(err)
	}
	return p
}

// machine is a snapshotter on a folder.
type machine struct {
	*Snapshotter
	root    string
	service *lazy.Service
	log     *bytes.Buffer
	client  *registry.Client
}

func start(t testing.TB, root string) *machine {
	t.Helper()
	return startWith(t, root, lazy.Eager, nil)
}

func startWith(t testing.TB, root string, mode lazy.Mode, credentials *PodCredentials) *machine {
	t.Helper()
	m := &machine{root: root, log: &bytes.Buffer{}}
	log := slog.New(slog.NewTextHandler(&lockedWriter{w: m.log}, nil))
	o := registry.Options{Retry: registry.Retry{Attempts: 1}}
	if credentials != nil {
		o.Keychain = credentials
	}
	m.client = registry.New(o)
	var err error
	m.service, err = lazy.Open(t.Context(), lazy.Options{Root: filepath.Join(root, "lazy"), Mode: mode, Logger: log, Registry: registry.Options{Keychain: o.Keychain}})
	if err != nil {
		t.Fatal(err)
	}
	if m.Snapshotter, err = New(Options{Root: root, Images: NewLazyImages(m.service, m.client, credentials), Log: log}); err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *machine) stop(t testing.TB) {
	t.Helper()
	if err := errors.Join(m.Close(), m.service.Close()); err != nil {
		t.Error(err)
	}
	m.client.Close()
}

// labels are what containerd gives a layer that is to be unpacked.
func (p pushed) labels(i int) map[string]string {
	l := map[string]string{
		labelRef: string(p.layers.List[i].Chain), labelImage: p.name.Reference, labelManifest: string(p.name.Manifest),
		labelLayer: string(p.layers.List[i].Blob.Digest),
	}
	if i > 0 {
		l[labelParent] = string(p.layers.List[i-1].Chain)
	}
	return l
}

// pull does what containerd does to pull an image: each layer is prepared and, unless it is there then, unpacked and committed. With rebase parents
// are given at the end, as for snapshotters with that capability. It returns the topmost snapshot and how many layers were unpacked.
func (m *machine) pull(t testing.TB, p pushed, rebase bool) (top string, unpacked int) {
	t.Helper()
	ctx := t.Context()
	var before string
	for i, l := range p.layers.List {
		key, parent := fmt.Sprintf("extract-%d-%s", i, l.Chain), before
		if rebase {
			parent = ""
		}
		opts := []snapshots.Opt{snapshots.WithLabels(p.labels(i))}
		mounts, err := m.Prepare(ctx, key, parent, opts...)
		if errdefs.IsAlreadyExists(err) {
			before = m.find(t, string(l.Chain), parent)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		m.apply(t, p, l, mounts)
		unpacked++
		if rebase && before != "" {
			opts = append(opts, snapshots.WithParent(before))
		}
		name := "committed/" + key
		if err := m.Commit(ctx, name, key, opts...); err != nil {
			t.Fatal(err)
		}
		before = name
	}
	return before, unpacked
}

// find finds a snapshot as containerd's metadata does.
func (m *machine) find(t testing.TB, target, parent string) (name string) {
	t.Helper()
	if err := m.Walk(t.Context(), func(_ context.Context, i snapshots.Info) error {
		if i.Kind == snapshots.KindCommitted && i.Labels[labelRef] == target && i.Parent == parent {
			name = i.Name
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if name == "" {
		t.Fatalf("there is no snapshot of %s on %q", target, parent)
	}
	return name
}

// apply unpacks a layer onto mounts as containerd's applier for overlayfs does: whiteouts become devices.
func (m *machine) apply(t testing.TB, p pushed, l Layer, mounts []mount.Mount) {
	t.Helper()
	ref, err := registry.ParseReference(p.name.Reference)
	if err != nil {
		t.Fatal(err)
	}
	r, err := m.client.Blob(t.Context(), ref.Repository, l.Blob)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := applyTo(t.Context(), mounts, r); err != nil {
		t.Fatal(err)
	}
}

// run makes a container's snapshot and gives its files.
func (m *machine) run(t testing.TB, key, parent string) map[string]string {
	t.Helper()
	mounts, err := m.Prepare(t.Context(), key, parent)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	err = mount.WithTempMount(t.Context(), mounts, func(root string) error {
		if err := os.WriteFile(filepath.Join(root, "written"), []byte("w"), 0o644); err != nil {
			return err
		}
		return filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			b, err := os.ReadFile(path)
			rel, _ := filepath.Rel(root, path)
			files[rel] = string(b)
			return err
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	if files["written"] != "w" {
		t.Error("what was written is not there")
	}
	delete(files, "written")
	return files
}

func want(t testing.TB, got map[string]string, pairs ...string) {
	t.Helper()
	if len(got) != len(pairs)/2 {
		t.Errorf("there are %d files and not %d: %v", len(got), len(pairs)/2, got)
	}
	for i := 0; i < len(pairs); i += 2 {
		if got[pairs[i]] != pairs[i+1] {
			t.Errorf("%s holds %.40q and not %.40q", pairs[i], got[pairs[i]], pairs[i+1])
		}
	}
}

var big = strings.Repeat("weft mounts before it fetches. ", 5000)

func base() [][]file {
	return [][]file{
		{{"etc/a", "first"}, {"etc/gone", "gone"}, {"big", big}},
		{{"etc/gone", imagetest.Whiteout}, {"etc/b", "second"}},
	}
}

func TestConvertedImagesAreMounted(t *testing.T) {
	needRoot(t)
	for mode, works := range map[lazy.Mode]error{lazy.Eager: nil, lazy.FUSE: fuse.Check(), lazy.Fanotify: fanotify.Check(disk(t))} {
		t.Run(string(mode), func(t *testing.T) {
			if works != nil {
				if os.Getenv("CI") != "" {
					t.Fatal(works)
				}
				t.Skip(works)
			}
			testConverted(t, mode)
		})
	}
}

func testConverted(t *testing.T, mode lazy.Mode) {
	for _, format := range []image.Format{image.EROFS, image.RAFS} {
		for _, rebase := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/rebase=%v", format, rebase), func(t *testing.T) {
				reg := registrytest.New(t, registrytest.Config{})
				p := push(t, reg.Host+"/app:1", format, base()...)
				root := disk(t)
				m := startWith(t, root, mode, nil)
				reg.Forget()
				top, unpacked := m.pull(t, p, rebase)
				if unpacked != 0 {
					t.Errorf("%d layers were unpacked", unpacked)
				}
				for _, l := range p.layers.List {
					if n := reg.Count("GET", string(l.Blob.Digest)); n != 0 {
						t.Errorf("the layer %s was fetched", l.Blob.Digest)
					}
				}
				want(t, m.run(t, "c1", top), "etc/a", "first", "etc/b", "second", "big", big)

				// A second process goes on where the first ended, and one after a restart of the machine mounts again.
				m.stop(t)
				if rebase {
					for _, im := range listMounts(t, root) {
						if err := unix.Unmount(im, 0); err != nil { // containerd's way asks the file system first, which nobody serves
							t.Fatal(err)
						}
					}
				}
				m = startWith(t, root, mode, nil)
				if err := errors.Join(m.service.Restore(t.Context()), m.Restore(t.Context())); err != nil {
					t.Fatal(err)
				}
				want(t, m.run(t, "c2", top), "etc/a", "first", "etc/b", "second", "big", big)

				for _, key := range []string{"c1", "c2"} {
					if err := m.Remove(t.Context(), key); err != nil {
						t.Fatal(err)
					}
				}
				removeAll(t, m)
				if left := listMounts(t, root); len(left) > 0 {
					t.Errorf("still mounted: %v", left)
				}
				if images := m.service.Images(); len(images) > 0 {
					t.Errorf("%d images are still prepared", len(images))
				}
				m.stop(t)
				ended(t, root)
			})
		}
	}
}

// ended waits until nobody guards readers in a folder any more, for nothing is mounted.
func ended(t *testing.T, root string) {
	t.Helper()
	v, err := lazy.Look(filepath.Join(root, "lazy"), slog.New(slog.DiscardHandler))
	for end := time.Now().Add(time.Minute); err == nil && v.Keeper+v.Holder != 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Errorf("the keeper %d and the holder %d go on although nothing is mounted", v.Keeper, v.Holder)
			_ = errors.Join(unix.Kill(v.Keeper, unix.SIGKILL), unix.Kill(v.Holder, unix.SIGKILL))
			return
		}
		v, err = lazy.Look(filepath.Join(root, "lazy"), slog.New(slog.DiscardHandler))
	}
}

// TestOrdinaryImageOnSharedLayers pulls an image that shares layers with a mounted one and has no converted form.
func TestOrdinaryImageOnSharedLayers(t *testing.T) {
	needRoot(t)
	for _, rebase := range []bool{false, true} {
		t.Run(fmt.Sprintf("rebase=%v", rebase), func(t *testing.T) {
			reg := registrytest.New(t, registrytest.Config{})
			layers := base()
			lazyOne := push(t, reg.Host+"/app:1", image.EROFS, append(layers, []file{{"app", "app"}})...)
			plain := push(t, reg.Host+"/plain:1", "", append(layers, []file{{"etc/a", imagetest.Whiteout}, {"plain", "plain"}})...)
			m := start(t, disk(t))
			defer m.stop(t)
			appTop, n := m.pull(t, lazyOne, rebase)
			if n != 0 {
				t.Fatalf("%d layers were unpacked", n)
			}
			// containerd knows the shared layers already and asks for the last one only.
			shared := string(lazyOne.layers.List[1].Chain)
			below := m.find(t, shared, parentOf(m, t, shared))
			top := m.last(t, plain, below, rebase)
			want(t, m.run(t, "plain", top), "etc/b", "second", "big", big, "plain", "plain")
			want(t, m.run(t, "app", appTop), "etc/a", "first", "etc/b", "second", "big", big, "app", "app")
			removeKeys(t, m, "plain", "app")
			removeAll(t, m)
		})
	}
}

// TestImageEndsInTheMiddleOfAnother starts a container of an image whose last layer is a lower one of a mounted image.
func TestImageEndsInTheMiddleOfAnother(t *testing.T) {
	needRoot(t)
	reg := registrytest.New(t, registrytest.Config{})
	p := push(t, reg.Host+"/app:1", image.EROFS, append(base(), []file{{"app", "app"}})...)
	m := start(t, disk(t))
	defer m.stop(t)
	m.pull(t, p, true)
	want(t, m.run(t, "base", string(p.layers.List[1].Chain)), "etc/a", "first", "etc/b", "second", "big", big)
	removeKeys(t, m, "base")
	removeAll(t, m)
}

// TestFallback pulls an image as usual when its converted form cannot be used, and says why.
func TestFallback(t *testing.T) {
	needRoot(t)
	reg := registrytest.New(t, registrytest.Config{})
	p := push(t, reg.Host+"/app:1", image.EROFS, base()...)
	reg.Fail(registrytest.Fault{Path: "referrers", Status: 500})
	m := start(t, disk(t))
	defer m.stop(t)
	top, unpacked := m.pull(t, p, true)
	if unpacked != 2 {
		t.Errorf("%d layers were unpacked and not 2", unpacked)
	}
	want(t, m.run(t, "c", top), "etc/a", "first", "etc/b", "second", "big", big)
	if !strings.Contains(m.log.String(), "pulled and unpacked as usual") || !strings.Contains(m.log.String(), "500") {
		t.Errorf("the log does not say why: %s", m.log)
	}
	if got := counter(t, m.metrics, `weft_snapshotter_fallbacks_total{step="prepare"}`); got != "1" {
		t.Errorf("%s fallbacks are counted and not 1", got)
	}
	removeKeys(t, m, "c")
	removeAll(t, m)
}

// TestBesideInIndex pulls an image of an index in which its converted form stands, too, with no referrer, as nydusify --merge-platform makes it. An index
// that does not list the image says nothing of it.
func TestBesideInIndex(t *testing.T) {
	needRoot(t)
	for _, format := range []image.Format{image.EROFS, image.RAFS} {
		reg := registrytest.New(t, registrytest.Config{})
		p := push(t, reg.Host+"/app:1", "", base()...)
		other := push(t, reg.Host+"/app:other", "", []file{{"other", "other"}})
		m := start(t, disk(t))
		defer m.stop(t)
		place, err := image.OpenPlace(m.client, p.name.Reference, t.TempDir(), false)
		if err != nil {
			t.Fatal(err)
		}
		to, err := image.OpenPlace(m.client, reg.Host+"/app:both", t.TempDir(), false)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := image.Convert(t.Context(), place, to, image.ConvertOptions{Options: image.Options{Format: format}, Merge: true, TempDir: t.TempDir()}); err != nil {
			t.Fatal(err)
		}
		p.name.Reference, other.name.Reference = reg.Host+"/app:both", reg.Host+"/app:both"
		top, unpacked := m.pull(t, p, true)
		if unpacked != 0 {
			t.Errorf("%d layers were unpacked", unpacked)
		}
		want(t, m.run(t, "c", top), "etc/a", "first", "etc/b", "second", "big", big)
		if _, unpacked := m.pull(t, other, true); unpacked != 1 {
			t.Error("an image is mounted that the index does not list")
		}
		removeKeys(t, m, "c")
		removeAll(t, m)
	}
}

// TestLabelsThatChangeNothing gives a layer labels of Nydus's that are not taken: the log tells, without what they hold.
func TestLabelsThatChangeNothing(t *testing.T) {
	needRoot(t)
	reg := registrytest.New(t, registrytest.Config{})
	p := push(t, reg.Host+"/app:1", "", base()...)
	m := start(t, disk(t))
	defer m.stop(t)
	labels := p.labels(0)
	labels["containerd.io/snapshot/pullsecret"], labels["containerd.io/snapshot/tarfs-hint"] = "topsecret", "true"
	if _, err := m.Prepare(t.Context(), "k", "", snapshots.WithLabels(labels)); err != nil {
		t.Fatal(err)
	}
	log := m.log.String()
	if !strings.Contains(log, "pullsecret") || !strings.Contains(log, "tarfs-hint") || strings.Contains(log, "topsecret") {
		t.Errorf("the log: %s", log)
	}
	removeAll(t, m)
}

// TestOrdinaryImage pulls an image that has no other form.
func TestOrdinaryImage(t *testing.T) {
	needRoot(t)
	reg := registrytest.New(t, registrytest.Config{})
	p := push(t, reg.Host+"/app:1", "", base()...)
	m := start(t, disk(t))
	defer m.stop(t)
	for _, rebase := range []bool{false, true} {
		top, unpacked := m.pull(t, p, rebase)
		if unpacked != 2 {
			t.Errorf("%d layers were unpacked and not 2", unpacked)
		}
		want(t, m.run(t, "c", top), "etc/a", "first", "etc/b", "second", "big", big)
		removeKeys(t, m, "c")
		removeAll(t, m)
	}
	if strings.Contains(m.log.String(), "as usual") {
		t.Errorf("an ordinary image is told as a fault: %s", m.log)
	}
}

// TestNewFolder restores and cleans up where nothing was ever made.
func TestNewFolder(t *testing.T) {
	needRoot(t)
	m := start(t, disk(t))
	defer m.stop(t)
	if err := m.Restore(t.Context()); err != nil {
		t.Errorf("restoring nothing: %v", err)
	}
}

func TestDamagedMarks(t *testing.T) {
	good := fmt.Sprintf(`{"version":1,"kind":"empty","reference":"r","manifest":%q,"chain":%q}`, digest.FromString("m"), digest.FromString("c"))
	if _, err := parseMark([]byte(good), "f"); err != nil {
		t.Error(err)
	}
	for what, b := range map[string]string{
		"cut":     good[:20],
		"newer":   strings.Replace(good, `"version":1`, `"version":2`, 1),
		"kind":    strings.Replace(good, "empty", "full", 1),
		"digest":  strings.Replace(good, "sha256:", "sha1:", 1),
		"nothing": "",
	} {
		if _, err := parseMark([]byte(b), "the-file"); err == nil || !strings.Contains(err.Error(), "the-file") {
			t.Errorf("%s: %v", what, err)
		}
	}
}
