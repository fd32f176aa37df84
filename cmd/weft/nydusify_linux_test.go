package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weft-dev/weft/image"
	"github.com/weft-dev/weft/image/imagetest"
	"github.com/weft-dev/weft/registry"
	"github.com/weft-dev/weft/registry/registrytest"
)

// ordinaryImage is an image of one layer.
func ordinaryImage(t *testing.T, arch, user string) v1.Image {
	t.Helper()
	layer := imagetest.Layer(t, imagetest.File{Name: "first", Content: "comes first"}, imagetest.File{Name: "file", Content: strings.Repeat(arch, 10000)})
	return imagetest.Image(t, v1.ConfigFile{Architecture: arch, Config: v1.Config{User: user}}, layer)
}

// nydusified is what lies under a name: its media type, and the documents.
func nydusified(t *testing.T, client *registry.Client, name string, manifest any) ocispec.Descriptor {
	t.Helper()
	place, err := image.OpenPlace(client, name, t.TempDir(), false)
	if err != nil {
		t.Fatal(err)
	}
	defer place.Close()
	desc, body, err := place.Manifest(t.Context())
	if err == nil {
		err = json.Unmarshal(body, manifest)
	}
	if err != nil {
		t.Fatal(err)
	}
	return desc
}

func TestNydusify(t *testing.T) {
	w := newWorld(t)
	reg := registrytest.New(t, registrytest.Config{})
	client := registry.New(registry.Options{})
	defer client.Close()
	push := func(name string, im v1.Image) string {
		t.Helper()
		imagetest.Push(t, client, reg.Host+"/"+name, im)
		return reg.Host + "/" + name
	}
	work := filepath.Join(t.TempDir(), "work")
	run := func(want int, text string, args ...string) {
		t.Helper()
		code, out, errs := w.as("nydusify", append(args, "--work-dir", work)...)
		if code != want || !strings.Contains(out+errs, text) {
			t.Errorf("%s: exit code %d, want %d and %q\n%s%s", strings.Join(args, " "), code, want, text, out, errs)
		}
	}
	source := push("app:v1", ordinaryImage(t, runtime.GOARCH, "1000"))
	other := push("app:other", ordinaryImage(t, runtime.GOARCH, "0"))
	figures := filepath.Join(t.TempDir(), "figures.json")
	run(0, "Converted to", "convert", "--source", source, "--target-suffix", "-nydus", "--output-json", figures)
	var metric nydusMetric
	if b, err := os.ReadFile(figures); err != nil || json.Unmarshal(b, &metric) != nil || metric.SourceImageSize == 0 || metric.TargetImageSize == 0 {
		t.Errorf("figures: %v %+v", err, metric)
	}
	// Docker's media types stay, as nydusify leaves them; with --oci they become OCI's.
	var m ocispec.Manifest
	if d := nydusified(t, client, source+"-nydus", &m); d.MediaType != string(types.DockerManifestSchema2) || m.Config.MediaType != string(types.DockerConfigJSON) ||
		m.Layers[len(m.Layers)-1].MediaType != string(types.DockerLayer) {
		t.Errorf("%s, with %s and %+v", d.MediaType, m.Config.MediaType, m.Layers)
	}
	run(0, "", "convert", "--source", source, "--target", source+"-oci", "--oci")
	if d := nydusified(t, client, source+"-oci", &m); d.MediaType != ocispec.MediaTypeImageManifest || m.Config.MediaType != ocispec.MediaTypeImageConfig {
		t.Errorf("with --oci %s, with %s", d.MediaType, m.Config.MediaType)
	}

	// What is checked is kept where nydusify keeps it.
	run(0, "sound", "check", "--source", source, "--target", source+"-nydus")
	for _, name := range []string{"target/nydus_manifest.json", "target/nydus_config.json", "target/nydus_output.json", "target/nydus_bootstrap/image/image.boot",
		"source/oci_manifest.json", "source/oci_config.json"} {
		if _, err := os.Stat(filepath.Join(work, name)); err != nil {
			t.Error(err)
		}
	}
	run(1, "User", "check", "--source", other, "--target", source+"-nydus")
	run(1, "no index with both", "check", "--target", source+"-nydus", "--multi-platform")
	run(0, "", "convert", "--source", source, "--target", source+"-both", "--merge-platform")
	run(0, "sound", "check", "--source", source, "--target", source+"-both", "--multi-platform")
	// The other way round: the target was made of a converted image.
	run(0, "", "convert", "--source", source+"-nydus", "--target", source+"-back", "--reverse")
	run(0, "sound", "check", "--source", source+"-nydus", "--target", source+"-back")

	// A dictionary in a registry: nothing is stored again.
	run(0, "", "convert", "--source", other, "--target", other+"-nydus", "--chunk-dict", "bootstrap:registry:"+source+"-nydus")
	var again ocispec.Manifest
	nydusified(t, client, other+"-nydus", &again)
	nydusified(t, client, source+"-nydus", &m)
	if len(again.Layers) != 2 || again.Layers[0].Digest != m.Layers[0].Digest {
		t.Errorf("with a dictionary the layers are %+v", again.Layers)
	}
	for _, args := range [][]string{{"--oci-ref"}, {"--backend-type", "oss"}, {"--build-cache-tag", "cache", "--build-cache", other}, {"--build-cache-max-records", "201"},
		{"--build-cache", source + "-x"}, {"--fs-version", "5"}, {"--platform", "linux"},
		{"--push-retry-delay", "soon"}, {"--reverse", "--all-platforms"}, {"--batch-size", "0x1234"}, {"--chunk-dict", "local:x"}, {"--log-level", "loud"}} {
		run(2, args[0], append([]string{"convert", "--source", source, "--target", source + "-x"}, args...)...)
	}
	t.Setenv("BACKEND_TYPE", "s3")
	run(2, "-backend-type is not answered", "check", "--target", source+"-nydus")
	run(2, "-backend-type is not answered", "convert", "--source", source, "--target", source+"-x")
}

// TestNydusifyBuildCache converts two images with one cache: what they have together is converted once, and what comes out passes the check.
func TestNydusifyBuildCache(t *testing.T) {
	w := newWorld(t)
	reg := registrytest.New(t, registrytest.Config{})
	client := registry.New(registry.Options{})
	defer client.Close()
	base := imagetest.Layer(t, imagetest.File{Name: "base", Content: strings.Repeat("base", 10000)})
	for i, top := range []string{"one", "two"} {
		name := reg.Host + "/app:" + top
		imagetest.Push(t, client, name, imagetest.Image(t, v1.ConfigFile{}, base, imagetest.Layer(t, imagetest.File{Name: "top", Content: top})))
		code, _, errs := w.as("nydusify", "convert", "--source", name, "--target-suffix", "-nydus", "--build-cache-tag", "cache", "--work-dir", filepath.Join(t.TempDir(), "w"))
		if want := []string{"build cache: 0 of 2", "build cache: 1 of 2"}[i]; code != 0 || !strings.Contains(errs, want) {
			t.Errorf("%s: exit code %d, %q was expected: %s", top, code, want, errs)
		}
		code, out, errs := w.as("nydusify", "check", "--source", name, "--target", name+"-nydus", "--work-dir", filepath.Join(t.TempDir(), "w"))
		if code != 0 || !strings.Contains(out, "sound") {
			t.Errorf("%s: exit code %d: %s%s", top, code, out, errs)
		}
	}
	var cache ocispec.Manifest
	if nydusified(t, client, reg.Host+"/app:cache", &cache); len(cache.Layers) != 3 {
		t.Errorf("%d records, 3 were expected", len(cache.Layers))
	}
	code, _, errs := w.as("nydusify", "convert", "--source", reg.Host+"/app:two", "--target", reg.Host+"/app:v2", "--build-cache", reg.Host+"/app:cache", "--build-cache-version", "v2",
		"--build-cache-max-records", "1", "--source-insecure", "--target-insecure", "--build-cache-insecure", "--work-dir", t.TempDir())
	if nydusified(t, client, reg.Host+"/app:cache", &cache); code != 0 || len(cache.Layers) != 1 || !strings.Contains(errs, `"v2" was expected`) {
		t.Errorf("another version: exit code %d, %d records, %s", code, len(cache.Layers), errs)
	}
}

// TestNydusifyPlatforms converts two of the images of an index.
func TestNydusifyPlatforms(t *testing.T) {
	w := newWorld(t)
	reg := registrytest.New(t, registrytest.Config{})
	client := registry.New(registry.Options{})
	defer client.Close()
	index := mutate.IndexMediaType(empty.Index, types.DockerManifestList)
	for _, arch := range []string{"amd64", "arm64", "s390x"} {
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: ordinaryImage(t, arch, ""), Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}})
	}
	name := reg.Host + "/app:v1"
	ref, err := registry.ParseReference(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.PushIndex(t.Context(), ref, index, registry.PushOptions{}); err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]int{"--platform=linux/amd64,linux/arm64": 2, "--all-platforms": 3} {
		if code, _, errs := w.as("nydusify", "convert", "--source", name, "--target", name+"-nydus", "--work-dir", t.TempDir(), args); code != 0 {
			t.Fatal(errs)
		}
		var made ocispec.Index
		if d := nydusified(t, client, name+"-nydus", &made); len(made.Manifests) != want || d.MediaType != string(types.DockerManifestList) {
			t.Errorf("%s: %s of %+v", args, d.MediaType, made.Manifests)
		}
	}
	if code, out, _ := w.as("nydusify", "check", "--target", name+"-nydus", "--work-dir", t.TempDir(), "--platform", "linux/arm64", "--multi-platform"); code != 1 ||
		!strings.Contains(out, "no index with both") {
		t.Errorf("an index with Nydus's images alone: exit code %d, %s", code, out)
	}
	code, _, errs := w.as("nydusify", "convert", "--source", name, "--target", name+"-x", "--work-dir", t.TempDir(), "--platform", "linux/riscv64,windows/amd64")
	if code != 1 || !strings.Contains(errs, "linux/riscv64 or windows/amd64") {
		t.Errorf("exit code %d: %s", code, errs)
	}
}
