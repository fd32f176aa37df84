package image_test

import (
	"bytes"
	"encoding/json"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weft-dev/weft/image"
	"github.com/weft-dev/weft/image/chunk"
	"github.com/weft-dev/weft/image/imagetest"
	"github.com/weft-dev/weft/image/tree"
	"github.com/weft-dev/weft/registry"
	"github.com/weft-dev/weft/registry/registrytest"
)

// pushed pushes an image of random layers and gives its reference.
func pushed(t testing.TB, client *registry.Client, host, name string, seed uint64) string {
	t.Helper()
	r := rand.New(rand.NewPCG(2, seed))
	var layers [][]byte
	for range 3 {
		layers = append(layers, layerTar(t, randomLayer(r)))
	}
	config := v1.ConfigFile{Architecture: "amd64", Config: v1.Config{Env: []string{"A=b"}, Entrypoint: []string{"/run"}}}
	imagetest.Push(t, client, host+"/"+name, imagetest.Image(t, config, layers...))
	return host + "/" + name
}

func place(t testing.TB, client *registry.Client, name string, fresh bool) image.Place {
	t.Helper()
	p, err := image.OpenPlace(client, name, t.TempDir(), fresh)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestConvert(t *testing.T) {
	server := registrytest.New(t, registrytest.Config{})
	client := registry.New(registry.Options{})
	defer client.Close()
	source := pushed(t, client, server.Host, "team/app:v1", 1)
	layout := filepath.Join(t.TempDir(), "layout")
	archive := filepath.Join(t.TempDir(), "image.tar")
	for name, c := range map[string]struct {
		to string
		o  image.Options
	}{
		"erofs":           {server.Host + "/team/app:erofs", image.Options{Codec: chunk.Zstd, ChunkSize: 4096}},
		"erofs to layout": {"oci:" + layout + ":erofs", image.Options{}},
		"nydus":           {server.Host + "/team/app:nydus", image.Options{Format: image.RAFS, Codec: chunk.Zstd}},
		"nydus archive":   {"oci-archive:" + archive, image.Options{Format: image.RAFS, Codec: chunk.LZ4, Batch: 64 << 10}},
	} {
		t.Run(name, func(t *testing.T) {
			from, to := place(t, client, source, false), place(t, client, c.to, true)
			converted, err := image.Convert(t.Context(), from, to, image.ConvertOptions{Options: c.o, TempDir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			if err := to.Close(); err != nil {
				t.Fatal(err)
			}
			back := place(t, client, c.to, false)
			defer back.Close()
			found, err := image.OpenImage(t.Context(), back, c.to, nil)
			if err != nil {
				t.Fatal(err)
			}
			if len(found.Problems) > 0 {
				t.Error(found.Problems)
			}
			if found.Desc.Digest != converted.Manifest.Digest {
				t.Errorf("%s was found instead of %s", found.Desc.Digest, converted.Manifest.Digest)
			}
			report, err := found.CheckBlobs(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			layers, err := image.Layers(t.Context(), from, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := found.Against(t.Context(), report, tree.OCI, false, layers...); err != nil || !report.OK() {
				t.Errorf("%v: %+v", err, report)
			}
			config := configOf(t, back, found.Manifest)
			if len(config.Config.Env) != 1 || config.Config.Entrypoint[0] != "/run" || len(config.RootFS.DiffIDs) != len(found.Manifest.Layers) {
				t.Errorf("the configuration is %+v", config)
			}
			reverse(t, client, server.Host, found, layers)
		})
	}
}

func configOf(t testing.TB, p image.Place, m ocispec.Manifest) ocispec.Image {
	t.Helper()
	r, err := p.Blob(t.Context(), m.Config)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var config ocispec.Image
	if err := json.NewDecoder(r).Decode(&config); err != nil {
		t.Fatal(err)
	}
	return config
}

// reverse makes an ordinary image of a converted one and compares its files with the source's.
func reverse(t *testing.T, client *registry.Client, host string, found *image.Found, layers []image.Source) {
	t.Helper()
	name := host + "/team/back:v1"
	to := place(t, client, name, true)
	if _, err := found.ToOCI(t.Context(), to, t.TempDir(), nil); err != nil {
		t.Fatal(err)
	}
	got, err := image.Layers(t.Context(), to, nil)
	if err != nil {
		t.Fatal(err)
	}
	var want tree.Side
	for _, s := range layers {
		side := scanOCI(t, s, want.Table)
		want = tree.Side{Root: tree.Merge(want.Root, side.Root), Table: side.Table}
	}
	want.Root.DropMarks()
	same(t, "back to an ordinary image", want, scanOCI(t, got[0], nil))
}

func scanOCI(t testing.TB, source image.Source, known *chunk.Table) tree.Side {
	t.Helper()
	w, err := chunk.NewWriter(t.Context(), chunk.Discard{}, chunk.Options{ChunkSize: 4096, Known: known})
	if err != nil {
		t.Fatal(err)
	}
	root, err := source.Read(t.Context(), tree.OCI, tree.Chunks{Writer: w, Inline: -1})
	if err != nil {
		t.Fatal(err)
	}
	table, _, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	return tree.Side{Root: root, Table: table}
}

func TestReferrer(t *testing.T) {
	server := registrytest.New(t, registrytest.Config{})
	client := registry.New(registry.Options{})
	defer client.Close()
	source := pushed(t, client, server.Host, "team/app:v1", 3)
	at := place(t, client, source, false)
	if _, err := image.OpenImage(t.Context(), at, source, nil); err == nil || !strings.Contains(err.Error(), "ordinary image") {
		t.Errorf("got %v, expected that it is an ordinary image", err)
	}
	converted, err := image.Convert(t.Context(), at, at, image.ConvertOptions{Referrer: true, TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	found, err := image.OpenImage(t.Context(), at, source, nil)
	if err != nil {
		t.Fatal(err)
	}
	if found.Desc.Digest != converted.Manifest.Digest || found.Manifest.Subject == nil {
		t.Errorf("found %s, subject %v", found.Desc.Digest, found.Manifest.Subject)
	}
	ref, err := registry.ParseReference(source)
	if err != nil {
		t.Fatal(err)
	}
	if d, err := client.Resolve(t.Context(), ref); err != nil || d.Digest != found.Manifest.Subject.Digest {
		t.Errorf("the name leads to %s (%v): it must still lead to the ordinary image", d.Digest, err)
	}
}

func TestIndexOfBoth(t *testing.T) {
	server := registrytest.New(t, registrytest.Config{})
	client := registry.New(registry.Options{})
	defer client.Close()
	source := pushed(t, client, server.Host, "team/app:v1", 4)
	to := place(t, client, server.Host+"/team/both:v1", true)
	o := image.ConvertOptions{Options: image.Options{Format: image.RAFS, Codec: chunk.Zstd}, Merge: true, TempDir: t.TempDir()}
	if _, err := image.Convert(t.Context(), place(t, client, source, false), to, o); err != nil {
		t.Fatal(err)
	}
	_, body, err := to.Manifest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var index ocispec.Index
	if err := json.Unmarshal(body, &index); err != nil || len(index.Manifests) != 2 {
		t.Fatalf("%v: %s", err, body)
	}
	if f := index.Manifests[1].Platform.OSFeatures; len(f) != 1 || f[0] != image.NydusFeature {
		t.Errorf("the second image has the features %v", f)
	}
	if _, err := image.OpenImage(t.Context(), to, "both", nil); err != nil {
		t.Error(err)
	}
	if layers, err := image.Layers(t.Context(), to, nil); err != nil || len(layers) != 3 {
		t.Errorf("%d layers of the ordinary image: %v", len(layers), err)
	}
}

func TestDictionary(t *testing.T) {
	server := registrytest.New(t, registrytest.Config{})
	client := registry.New(registry.Options{})
	defer client.Close()
	for _, format := range []image.Format{image.EROFS, image.RAFS} {
		o := image.ConvertOptions{Options: image.Options{Format: format, Codec: chunk.Zstd, Inline: -1}, TempDir: t.TempDir()}
		first := place(t, client, server.Host+"/team/first:"+string(format), true)
		if _, err := image.Convert(t.Context(), place(t, client, pushed(t, client, server.Host, "team/a:v1", 5), false), first, o); err != nil {
			t.Fatal(err)
		}
		dict, err := image.OpenImage(t.Context(), first, "first", nil)
		if err != nil {
			t.Fatal(err)
		}
		o.Dicts = []*image.Opened{dict.Opened}
		second := place(t, client, server.Host+"/team/second:"+string(format), true)
		converted, err := image.Convert(t.Context(), place(t, client, pushed(t, client, server.Host, "team/b:v1", 5), false), second, o)
		if err != nil {
			t.Fatal(err)
		}
		var written, known int64
		for _, l := range converted.Images[0].Layers {
			written += l.Written
			known += l.KnownChunks
		}
		// A bootstrap lists only the chunks of files that are left in the end.
		if known == 0 || written > 0 && (format == image.EROFS || written >= known) {
			t.Errorf("%s: %d chunks written and %d found in the dictionary, of the same image", format, written, known)
		}
		// A dictionary of another form, or with other digests, is refused by its name.
		for what, other := range map[string]image.Options{
			"images of":  {Format: map[image.Format]image.Format{image.EROFS: image.RAFS, image.RAFS: image.EROFS}[format], Dicts: o.Dicts},
			"digests of": {Format: format, Dicts: o.Dicts, Algorithm: chunk.SHA256},
		} {
			if _, err := image.Build(t.Context(), t.TempDir(), other, image.Folder(t.TempDir())); err == nil || !strings.Contains(err.Error(), what) || !strings.Contains(err.Error(), "first") {
				t.Errorf("%s: a dictionary of another kind: %v", format, err)
			}
		}
		again, err := image.OpenImage(t.Context(), second, "second", nil)
		if err != nil {
			t.Fatal(err)
		}
		if r, err := again.CheckBlobs(t.Context()); err != nil || !r.OK() {
			t.Errorf("%v %+v", err, r)
		}
	}
}

// TestDamage changes a byte of each part of an image: the check must find it.
func TestDamage(t *testing.T) {
	dir := t.TempDir()
	source := filepath.Join(t.TempDir(), "source")
	if err := os.MkdirAll(source, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(source, "file"), bytes.Repeat([]byte("content "), 50000), 0o644); err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		format, codec := []image.Format{image.EROFS, image.RAFS}[i%2], []chunk.Codec{chunk.Zstd, chunk.None}[i/2]
		at := filepath.Join(dir, string(format)+codec.String())
		built, err := image.Build(t.Context(), at, image.Options{Format: format, Codec: codec}, image.Folder(source))
		if err != nil {
			t.Fatal(err)
		}
		blob := filepath.Join(at, digest.Digest(built.Blobs[0].Digest).Encoded())
		whole, err := os.ReadFile(blob)
		if err != nil {
			t.Fatal(err)
		}
		o, err := image.OpenPath(at, nil)
		if err != nil {
			t.Fatal(err)
		}
		for what, content := range map[string][]byte{"a changed byte": flip(whole, 10), "a truncated blob": whole[:len(whole)/2], "an empty blob": nil,
			"a longer blob": append(bytes.Clone(whole), 0)} {
			if err := os.WriteFile(blob, content, 0o644); err != nil {
				t.Fatal(err)
			}
			r, err := o.CheckBlobs(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			// The blob as a whole is compared, too: not all of it lies in chunks.
			why := map[string]string{"a changed byte": "does not match its digest"}[what]
			if why == "" {
				why = "bytes instead of"
			}
			if !slices.ContainsFunc(r.Problems, func(p image.Problem) bool { return strings.Contains(p.What, why) }) {
				t.Errorf("%s: %s was not found: %+v", format, what, r.Problems)
			}
			if what == "a longer blob" {
				continue // its chunks are right
			}
			if err := o.Unpack(t.Context(), io.Discard, nil); err == nil && what != "a truncated blob" { // what is missing may be its table
				t.Errorf("%s: %s was unpacked", format, what)
			}
		}
		if err := os.Remove(blob); err != nil {
			t.Fatal(err)
		}
		if r, err := o.CheckBlobs(t.Context()); err != nil || r.OK() || !strings.Contains(r.Problems[0].What, "missing") {
			t.Errorf("%s: a missing blob: %v %+v", format, err, r)
		}
	}
}

// TestManifestsThatLie changes what manifest and configuration of an image say: opening it finds the problem.
func TestManifestsThatLie(t *testing.T) {
	server := registrytest.New(t, registrytest.Config{})
	client := registry.New(registry.Options{})
	defer client.Close()
	source := pushed(t, client, server.Host, "team/app:v1", 1)
	from, to := place(t, client, source, false), place(t, client, server.Host+"/team/app:erofs", true)
	if _, err := image.Convert(t.Context(), from, to, image.ConvertOptions{TempDir: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	found, err := image.OpenImage(t.Context(), to, "erofs", nil)
	if err != nil || len(found.Problems) > 0 {
		t.Fatal(err, found.Problems)
	}
	blob := slices.IndexFunc(found.Manifest.Layers, func(d ocispec.Descriptor) bool { return d.MediaType == image.MediaTypeBlob })
	for name, c := range map[string]struct {
		change func(m *ocispec.Manifest, config *ocispec.Image)
		want   string
	}{
		"size":   {func(m *ocispec.Manifest, _ *ocispec.Image) { m.Layers[blob].Size++ }, "the metadata says"},
		"gone":   {func(m *ocispec.Manifest, _ *ocispec.Image) { m.Layers = slices.Delete(m.Layers, blob, blob+1) }, "it has no layer for the blob"},
		"diffID": {func(_ *ocispec.Manifest, i *ocispec.Image) { i.RootFS.DiffIDs[blob] = digest.FromString("x") }, "its configuration says"},
		"fewer":  {func(_ *ocispec.Manifest, i *ocispec.Image) { i.RootFS.DiffIDs = i.RootFS.DiffIDs[1:] }, "its configuration lists"},
	} {
		m, config := found.Manifest, configOf(t, to, found.Manifest)
		m.Layers = slices.Clone(m.Layers)
		c.change(&m, &config)
		body, err := json.Marshal(config)
		if err != nil {
			t.Fatal(err)
		}
		m.Config.Digest, m.Config.Size = digest.FromBytes(body), int64(len(body))
		lying := place(t, client, server.Host+"/team/app:"+strings.ToLower(name), true)
		if err := lying.PutBlob(t.Context(), m.Config, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }); err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := lying.PutManifest(t.Context(), ocispec.MediaTypeImageManifest, text, true); err != nil {
			t.Fatal(err)
		}
		opened, err := image.OpenImage(t.Context(), lying, name, nil)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(opened.Problems, func(p image.Problem) bool { return strings.Contains(p.What, c.want) }) {
			t.Errorf("%s: %+v, %q expected", name, opened.Problems, c.want)
		}
	}
}

func flip(b []byte, i int) []byte {
	c := bytes.Clone(b)
	c[i] ^= 0x40
	return c
}
