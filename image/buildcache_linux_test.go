package image_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weft-dev/weft/image"
	"github.com/weft-dev/weft/image/chunk"
	"github.com/weft-dev/weft/image/imagetest"
	"github.com/weft-dev/weft/image/tree"
	"github.com/weft-dev/weft/registry"
	"github.com/weft-dev/weft/registry/registrytest"
)

// Annotations as Nydus's converter writes them.
const (
	versionAnnotation = "containerd.io/snapshot/nydus-cache-version"
	sourceAnnotation  = "containerd.io/snapshot/nydus-source-digest"
	optionsAnnotation = "weft.dev/build-options"
)

// cacheWorld is a registry with ordinary images whose lower layers are the same.
type cacheWorld struct {
	*testing.T
	reg    *registrytest.Registry
	client *registry.Client
	said   []string // warnings
	o      image.Options
}

func newCacheWorld(t *testing.T) *cacheWorld {
	w := &cacheWorld{T: t, reg: registrytest.New(t, registrytest.Config{}), client: registry.New(registry.Options{Retry: registry.Retry{Attempts: 1}}),
		o: image.Options{Format: image.RAFS, Codec: chunk.Zstd, ChunkSize: 4096}}
	t.Cleanup(w.client.Close)
	w.push("team/app:v1", 1)
	w.push("team/app:v2", 2)
	return w
}

// push pushes an image of two random layers, one of deletions, and one that only the image has.
func (w *cacheWorld) push(name string, top uint64) v1.Image {
	w.Helper()
	r := rand.New(rand.NewPCG(2, 7))
	base := append([]imagetest.File{{Name: "gone", Content: "gone"}, {Name: "dir/below", Content: "hidden"}}, imagetest.File{Name: "same", Content: strings.Repeat("same", 9000)})
	im := imagetest.Image(w.T, v1.ConfigFile{Architecture: "amd64", OS: "linux"}, layerTar(w, randomLayer(r)), imagetest.Layer(w, base...),
		imagetest.Layer(w, imagetest.File{Name: ".wh.gone"}, imagetest.File{Name: "dir/.wh..wh..opq"}, imagetest.File{Name: "dir/above", Content: "seen"}),
		imagetest.Layer(w, imagetest.File{Name: "top", Content: strings.Repeat(fmt.Sprint(top), 30000)}, imagetest.File{Name: "again", Content: strings.Repeat("same", 9000)}))
	imagetest.Push(w.T, w.client, w.reg.Host+"/"+name, im)
	return im
}

// convert converts an image with a cache.
func (w *cacheWorld) convert(source, target, cache string, co image.CacheOptions) *image.Converted {
	w.Helper()
	co.Warn = func(format string, args ...any) { w.said = append(w.said, fmt.Sprintf(format, args...)) }
	o := image.ConvertOptions{Options: w.o, TempDir: w.TempDir()}
	var err error
	if cache != "" {
		if o.Cache, err = image.OpenBuildCache(w.Context(), w.client, w.reg.Host+"/"+cache, co); err != nil {
			w.Fatal(err)
		}
	}
	converted, err := image.Convert(w.Context(), place(w, w.client, w.reg.Host+"/"+source, false), place(w, w.client, w.reg.Host+"/"+target, true), o)
	if err != nil {
		w.Fatal(err)
	}
	return converted
}

// sound compares a converted image with its source, file by file and chunk by chunk.
func (w *cacheWorld) sound(source, target string) {
	w.Helper()
	found, err := image.OpenImage(w.Context(), place(w, w.client, w.reg.Host+"/"+target, false), target, nil)
	if err != nil {
		w.Fatal(err)
	}
	report, err := found.CheckBlobs(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	layers, err := image.Layers(w.Context(), place(w, w.client, w.reg.Host+"/"+source, false), nil)
	if err != nil {
		w.Fatal(err)
	}
	if err := found.Against(w.Context(), report, tree.OCI, false, layers...); err != nil || !report.OK() || len(found.Problems) > 0 {
		w.Errorf("%s: %v: %+v %v", target, err, report, found.Problems)
	}
	if _, ok := found.Root.Child("gone"); ok {
		w.Errorf("%s has a file that its third layer deletes", target)
	}
}

// manifest gets a manifest.
func (w *cacheWorld) manifest(name string) ocispec.Manifest {
	w.Helper()
	var m ocispec.Manifest
	_, body, err := w.client.Manifest(w.Context(), w.ref(name))
	if err == nil {
		err = json.Unmarshal(body, &m)
	}
	if err != nil {
		w.Fatal(err)
	}
	return m
}

func (w *cacheWorld) ref(name string) registry.Reference {
	w.Helper()
	ref, err := registry.ParseReference(w.reg.Host + "/" + name)
	if err != nil {
		w.Fatal(err)
	}
	return ref
}

// put replaces the cache.
func (w *cacheWorld) put(name string, m any) {
	w.Helper()
	body, err := json.Marshal(m)
	if err == nil {
		_, err = w.client.PutManifest(w.Context(), w.ref(name), ocispec.MediaTypeImageManifest, body)
	}
	if err != nil {
		w.Fatal(err)
	}
}

// TestBuildCache converts an image whose top layer has changed: only that layer is converted, and the image is the one that an empty cache gives.
func TestBuildCache(t *testing.T) {
	for name, change := range map[string]func(*image.Options){
		"zstd":    func(*image.Options) {},
		"none":    func(o *image.Options) { o.Codec = chunk.None },
		"batches": func(o *image.Options) { o.ChunkSize, o.Batch = 64<<10, 64<<10 },
	} {
		t.Run(name, func(t *testing.T) {
			w := newCacheWorld(t)
			change(&w.o)
			if first := w.convert("team/app:v1", "team/app:v1-nydus", "team/cache:one", image.CacheOptions{}); first.Images[0].Cached != 0 {
				t.Errorf("of an empty cache %d layers were taken", first.Images[0].Cached)
			}
			w.sound("team/app:v1", "team/app:v1-nydus")
			source := w.manifest("team/app:v2")
			w.reg.Forget()
			second := w.convert("team/app:v2", "team/app:v2-nydus", "team/cache:one", image.CacheOptions{})
			if second.Images[0].Cached != 3 || len(second.Images[0].Layers) != 4 {
				t.Errorf("%d of %d layers were taken out of the cache", second.Images[0].Cached, len(second.Images[0].Layers))
			}
			for i, l := range source.Layers {
				if got, want := w.reg.Count("GET", "blobs/"+string(l.Digest)), i/3; (got > 0) != (want > 0) {
					t.Errorf("layer %d was read %d times", i+1, got)
				}
			}
			w.sound("team/app:v2", "team/app:v2-nydus")
			whole := w.convert("team/app:v2", "team/app:v2-whole", "other/cache:two", image.CacheOptions{})
			if whole.Images[0].Cached != 0 || whole.Manifest.Digest != second.Manifest.Digest {
				t.Errorf("with the cache %s, with an empty one %s", second.Manifest.Digest, whole.Manifest.Digest)
			}
			if len(w.said) > 0 {
				t.Error(w.said)
			}
		})
	}
}

// TestBuildCacheForm holds what is written to the form in which Nydus's converter reads and writes caches.
func TestBuildCacheForm(t *testing.T) {
	w := newCacheWorld(t)
	w.convert("team/app:v1", "team/app:v1-nydus", "team/cache:one", image.CacheOptions{})
	w.convert("team/app:v2", "team/app:v2-nydus", "team/cache:one", image.CacheOptions{Records: 4})
	m := w.manifest("team/cache:one")
	if v, ok := m.Annotations[versionAnnotation]; !ok || v != "" || m.MediaType != ocispec.MediaTypeImageManifest || m.Config.MediaType != ocispec.MediaTypeImageConfig || m.Config.Size != 2 {
		t.Errorf("%+v", m)
	}
	source := w.manifest("team/app:v2")
	if len(m.Layers) != 4 { // the top layer of the first image is the oldest record
		t.Fatalf("%d records, 4 are the most", len(m.Layers))
	}
	for i, d := range m.Layers {
		a := d.Annotations
		if d.MediaType != "application/vnd.oci.image.layer.nydus.blob.v1" || a["containerd.io/snapshot/nydus-blob"] != "true" || a["containerd.io/uncompressed"] != string(d.Digest) ||
			a[sourceAnnotation] != string(source.Layers[i].Digest) {
			t.Errorf("record %d: %+v", i, d)
		}
		// Nydus's converter looks for both in the cache's repository.
		for _, want := range []digest.Digest{d.Digest, source.Layers[i].Digest} {
			if there, err := w.client.Exists(t.Context(), w.ref("team/cache:one").Repository, want); err != nil || !there {
				t.Errorf("record %d: %s is not in the cache's repository: %v", i, want, err)
			}
		}
	}
	// A record of Nydus's converter, which says nothing of options, is taken if its blob fits.
	for i := range m.Layers {
		delete(m.Layers[i].Annotations, optionsAnnotation)
	}
	w.put("team/cache:one", m)
	if got := w.convert("team/app:v2", "team/app:again", "team/cache:one", image.CacheOptions{}).Images[0].Cached; got != 4 {
		t.Errorf("%d layers were taken", got)
	}
	w.o.ChunkSize = 8192
	if got := w.convert("team/app:v2", "team/app:larger", "team/cache:one", image.CacheOptions{}).Images[0].Cached; got != 0 || !strings.Contains(fmt.Sprint(w.said), "chunks of 4096 bytes") {
		t.Errorf("%d layers with other chunks were taken: %s", got, w.said)
	}
	w.sound("team/app:v2", "team/app:larger")
}

// TestBadBuildCache converts with caches that cannot be used: it is said why, and the image is the right one.
func TestBadBuildCache(t *testing.T) {
	for name, c := range map[string]struct {
		spoil  func(w *cacheWorld, m *ocispec.Manifest)
		cached int
		said   string
		kept   bool // what is there is not replaced
	}{
		"other version": {func(_ *cacheWorld, m *ocispec.Manifest) { m.Annotations[versionAnnotation] = "v9" }, 0, `version "v9"`, false},
		"older form": {func(_ *cacheWorld, m *ocispec.Manifest) {
			m.Annotations = map[string]string{"containerd.io/snapshot/nydus-cache": "v1"}
		}, 0, "older form", false},
		"no cache":       {func(_ *cacheWorld, m *ocispec.Manifest) { m.Annotations = nil }, 0, "another kind", true},
		"damaged source": {func(_ *cacheWorld, m *ocispec.Manifest) { m.Layers[0].Annotations[sourceAnnotation] = "sha256:12" }, 3, "no digest", false},
		"index over a layer": {func(_ *cacheWorld, m *ocispec.Manifest) {
			m.Layers[1].Annotations["containerd.io/snapshot/nydus-ref"] = "sha256:1"
		}, 3, "is an index over", false},
		"other options": {func(_ *cacheWorld, m *ocispec.Manifest) { m.Layers[1].Annotations[optionsAnnotation] = "2 other" }, 3, "other options", false},
		"wrong size":    {func(_ *cacheWorld, m *ocispec.Manifest) { m.Layers[1].Size++ }, 3, "is not used", false},
		"no Nydus blob": {func(w *cacheWorld, m *ocispec.Manifest) {
			m.Layers[2].Digest, m.Layers[2].Size = m.Config.Digest, m.Config.Size
		}, 3, "is not used", false},
		"blob gone": {func(w *cacheWorld, m *ocispec.Manifest) {
			w.reg.Fail(registrytest.Fault{Method: "GET", Path: "cache/blobs/" + string(m.Layers[3].Digest), Status: http.StatusNotFound, Code: "BLOB_UNKNOWN"})
		}, 3, "is not used", false},
		"broken registry": {func(w *cacheWorld, m *ocispec.Manifest) {
			m.Layers = m.Layers[:2]
			w.reg.Fail(registrytest.Fault{Method: "GET", Path: "cache/manifests/one$", Status: http.StatusForbidden, Code: "DENIED"})
		}, 0, "neither used nor written", true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newCacheWorld(t)
			want := w.convert("team/app:v1", "team/app:v1-nydus", "team/cache:one", image.CacheOptions{}).Manifest.Digest
			m := w.manifest("team/cache:one")
			c.spoil(w, &m)
			w.put("team/cache:one", m)
			got := w.convert("team/app:v1", "team/app:v1-again", "team/cache:one", image.CacheOptions{})
			w.reg.Heal()
			if got.Manifest.Digest != want || got.Images[0].Cached != c.cached {
				t.Errorf("%d layers were taken, %d were expected; %s instead of %s", got.Images[0].Cached, c.cached, got.Manifest.Digest, want)
			}
			if len(w.said) != 1 || !strings.Contains(w.said[0], c.said) {
				t.Errorf("said was %q instead of %q", w.said, c.said)
			}
			after := w.manifest("team/cache:one")
			if kept := slices.EqualFunc(after.Layers, m.Layers, func(a, b ocispec.Descriptor) bool {
				return a.Digest == b.Digest && a.Annotations[optionsAnnotation] == b.Annotations[optionsAnnotation]
			}) &&
				fmt.Sprint(after.Annotations) == fmt.Sprint(m.Annotations); c.kept && !kept {
				t.Errorf("what was there was replaced by %+v", after)
			}
			if !c.kept {
				if got := w.convert("team/app:v1", "team/app:v1-third", "team/cache:one", image.CacheOptions{}).Images[0].Cached; got != 4 {
					t.Errorf("of the cache that was written %d layers were taken", got)
				}
			}
		})
	}
}

// TestBuildCacheIndex converts the images of an index twice, then one of them alone: the other's records stay.
func TestBuildCacheIndex(t *testing.T) {
	w := newCacheWorld(t)
	index := v1.ImageIndex(empty.Index)
	for i, arch := range []string{"amd64", "arm64"} {
		im := imagetest.Image(t, v1.ConfigFile{Architecture: arch, OS: "linux"}, imagetest.Layer(t, imagetest.File{Name: "same", Content: "same"}),
			imagetest.Layer(t, imagetest.File{Name: "arch", Content: strings.Repeat(arch, 5000+i)}))
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: im, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}})
	}
	if _, err := w.client.PushIndex(t.Context(), w.ref("team/many:v1"), index, registry.PushOptions{}); err != nil {
		t.Fatal(err)
	}
	w.convert("team/many:v1", "team/many:nydus", "team/cache:many", image.CacheOptions{})
	again := w.convert("team/many:v1", "team/many:again", "team/cache:many", image.CacheOptions{})
	if again.Images[0].Cached != 2 || again.Images[1].Cached != 2 {
		t.Errorf("%+v", again.Images)
	}
	w.convert("team/app:v1", "team/app:nydus", "team/cache:many", image.CacheOptions{})
	_, body, err := w.client.Manifest(t.Context(), w.ref("team/cache:many"))
	var cache ocispec.Index
	if err != nil || json.Unmarshal(body, &cache) != nil || len(cache.Manifests) != 2 || cache.Manifests[1].Platform == nil {
		t.Fatalf("%v %s", err, body)
	}
	again = w.convert("team/many:v1", "team/many:third", "team/cache:many", image.CacheOptions{})
	if again.Images[0].Cached != 2 || again.Images[1].Cached != 2 || len(w.said) > 0 {
		t.Errorf("%+v %s", again.Images, w.said)
	}
	// What cannot be read now is not lost: nothing is written.
	_, before, err := w.client.Manifest(t.Context(), w.ref("team/cache:many"))
	if err != nil || json.Unmarshal(before, &cache) != nil {
		t.Fatal(err)
	}
	w.reg.Fail(registrytest.Fault{Method: "GET", Path: "cache/manifests/" + string(cache.Manifests[1].Digest), Status: http.StatusForbidden, Code: "DENIED"})
	w.convert("team/app:v2", "team/app:nydus", "team/cache:many", image.CacheOptions{})
	w.reg.Heal()
	if _, after, err := w.client.Manifest(t.Context(), w.ref("team/cache:many")); err != nil || !bytes.Equal(after, before) || len(w.said) != 1 {
		t.Errorf("%v, said was %q; the cache is\n%s, and was\n%s", err, w.said, after, before)
	}
}

// TestBuildCacheBlobsGone writes a cache whose older blobs were removed from the registry: their records are left out, and the others stay.
func TestBuildCacheBlobsGone(t *testing.T) {
	w := newCacheWorld(t)
	w.convert("team/app:v1", "team/app:v1-nydus", "team/cache:one", image.CacheOptions{})
	cache := w.ref("team/cache:one")
	if err := w.client.DeleteBlob(t.Context(), cache.Repository, w.manifest("team/cache:one").Layers[3].Digest); err != nil {
		t.Fatal(err)
	}
	w.convert("team/app:v2", "team/app:v2-nydus", "team/cache:one", image.CacheOptions{})
	if n := len(w.manifest("team/cache:one").Layers); n != 4 || len(w.said) != 1 || !strings.Contains(w.said[0], "blobs of 1 records are gone") {
		t.Errorf("%d records, and %q", n, w.said)
	}
}
