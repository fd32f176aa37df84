package target

import (
	"archive/tar"
	"bytes"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// savedStream is a tar stream of files, two for each: name and content.
func savedStream(t testing.TB, files ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	tw := tar.NewWriter(&out)
	for i := 0; i < len(files); i += 2 {
		if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: files[i], Mode: 0o644, Size: int64(len(files[i+1]))}); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write([]byte(files[i+1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func readSaved(stream []byte, dir string) error {
	files, manifest, err := unpackSaved(bytes.NewReader(stream), dir+"/blobs/sha256")
	if err != nil {
		return err
	}
	return savedLayout(dir, files, manifest)
}

// TestSavedImagesAreDistrusted gives what a daemon must not say.
func TestSavedImagesAreDistrusted(t *testing.T) {
	const layer, config = "layer", `{"rootfs":{"type":"layers","diff_ids":["sha256:c8b8c1c3fe92b1d1a3ad4d3d0bfa5de6ab3bf16be3a3f4dd03b6b3f6bbf9b2b0"]}}`
	for name, files := range map[string][]string{
		"no manifest":    {"c.json", config},
		"two images":     {"manifest.json", `[{},{}]`},
		"no config":      {"manifest.json", `[{"Config":"c.json"}]`},
		"no layer":       {"c.json", config, "manifest.json", `[{"Config":"c.json","Layers":["a/layer.tar"]}]`},
		"another layer":  {"c.json", config, "a/layer.tar", layer, "manifest.json", `[{"Config":"c.json","Layers":["a/layer.tar"]}]`},
		"more layers":    {"c.json", config, "a/layer.tar", layer, "manifest.json", `[{"Config":"c.json","Layers":["a/layer.tar","a/layer.tar"]}]`},
		"broken config":  {"c.json", "{", "manifest.json", `[{"Config":"c.json"}]`},
		"broken listing": {"c.json", config, "manifest.json", `{`},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := makeBlobs(dir); err != nil {
				t.Fatal(err)
			}
			if err := readSaved(savedStream(t, files...), dir); err == nil {
				t.Error("it was taken")
			}
			if img, err := ReadLayout(dir); img != nil || err != nil {
				t.Errorf("an image was left: %v %v", img, err)
			}
		})
	}
}

func FuzzSaved(f *testing.F) {
	layer := "layer"
	h, _, err := v1.SHA256(bytes.NewReader([]byte(layer)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(savedStream(f, "c.json", `{"rootfs":{"type":"layers","diff_ids":["`+h.String()+`"]}}`, "a/layer.tar", layer,
		"manifest.json", `[{"Config":"c.json","Layers":["a/layer.tar"]}]`))
	f.Add(savedStream(f, "../../x", "x", "manifest.json", `[{"Config":"../../x","Layers":null}]`))
	f.Fuzz(func(t *testing.T, stream []byte) {
		dir := t.TempDir()
		if err := makeBlobs(dir); err != nil {
			t.Fatal(err)
		}
		if readSaved(stream, dir) != nil {
			return
		}
		img, err := ReadLayout(dir)
		if err != nil || img == nil {
			t.Fatalf("taken, but not to be read: %v", err)
		}
		if _, err := img.ConfigFile(); err != nil {
			t.Fatal(err)
		}
	})
}
