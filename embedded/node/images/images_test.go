package images

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

func example() []Image {
	return []Image{
		Pause([]byte("pause program")),
		Testpod([]byte("box"), []string{"sh", "busybox", "cat"}, []byte("testpod"), []byte("init")),
	}
}

func TestEqualInputGivesEqualBytes(t *testing.T) {
	var first, second bytes.Buffer
	if err := Write(&first, example()...); err != nil {
		t.Fatal(err)
	}
	if err := Write(&second, example()...); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Fatal("two archives of the same images differ")
	}
}

// Every descriptor has to lead to a blob of its digest and size, and the
// layer has to hold the files.
func TestArchiveIsAnImageLayout(t *testing.T) {
	var out bytes.Buffer
	if err := Write(&out, example()...); err != nil {
		t.Fatal(err)
	}
	files := untar(t, out.Bytes())
	var index v1.Index
	decode(t, files["index.json"], &index)
	if len(index.Manifests) != 2 {
		t.Fatalf("%d manifests in the index, expected 2", len(index.Manifests))
	}
	blob := func(d v1.Descriptor) []byte {
		content := files["blobs/sha256/"+d.Digest.Encoded()]
		if digest.FromBytes(content) != d.Digest || int64(len(content)) != d.Size {
			t.Fatalf("blob %s does not match its descriptor", d.Digest)
		}
		return content
	}
	var manifest v1.Manifest
	decode(t, blob(index.Manifests[1]), &manifest)
	var config v1.Image
	decode(t, blob(manifest.Config), &config)
	if got := index.Manifests[1].Annotations[annotationName]; got != TestpodName {
		t.Errorf("name %q, expected %q", got, TestpodName)
	}
	if config.OS != "linux" || config.RootFS.DiffIDs[0] != manifest.Layers[0].Digest {
		t.Errorf("config does not fit its layer: %+v", config)
	}
	layer := untar(t, blob(manifest.Layers[0]))
	for name, content := range map[string]string{"bin/busybox": "box", "bin/testpod": "testpod", "bin/sh": "-> busybox", "tmp/": ""} {
		if got, ok := layer[name]; !ok || string(got) != content {
			t.Errorf("layer has %q as %s, expected %q", got, name, content)
		}
	}
}

func TestBadFilesAreRefused(t *testing.T) {
	for _, c := range []struct {
		want  string
		image Image
	}{
		{"registry and a tag", Image{Name: "pause"}},
		{"absolute and clean", Image{Name: "a/b:1", Files: []File{{Path: "/../etc/passwd"}}}},
		{"absolute and clean", Image{Name: "a/b:1", Files: []File{{Path: "bin/x"}}}},
		{"is there twice", Image{Name: "a/b:1", Files: []File{{Path: "/x"}, {Path: "/x"}}}},
		{"is not a directory", Image{Name: "a/b:1", Files: []File{{Path: "/x"}, {Path: "/x/y"}}}},
	} {
		err := Write(io.Discard, c.image)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: error %v, expected one with %q", c.image, err, c.want)
		}
	}
}

func decode(t *testing.T, content []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(content, into); err != nil {
		t.Fatalf("%q: %v", content, err)
	}
}

func untar(t *testing.T, content []byte) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	for r := tar.NewReader(bytes.NewReader(content)); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if header.Linkname != "" {
			files[header.Name] = []byte("-> " + header.Linkname)
			continue
		}
		if files[header.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}
