// Package remote gets KCL packages from OCI registries and Git repositories,
// and pushes them to registries.
//
// A package in a registry is an image whose single layer is a tar archive of
// its files, with annotations that name it (kcl-lang/kpm pkg/oci).
//
// The package knows packages and the registry client, nothing of the language.
package remote

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weft-dev/weft/kcl/mod"
	"github.com/weft-dev/weft/registry"
)

// The annotations of a package's manifest.
const (
	annotationName        = "org.kcllang.package.name"
	annotationVersion     = "org.kcllang.package.version"
	annotationDescription = "org.kcllang.package.description"
	annotationSum         = "org.kcllang.package.sum"
)

// The default registry of packages that are named by a version alone.
const (
	DefaultHost = "ghcr.io"
	DefaultRepo = "kcl-lang"
)

// maxPackage is the most bytes that the archive of a package may have.
const maxPackage = 512 << 20

// Source gets packages; it is a mod.Source.
type Source struct {
	Client *registry.Client
	// Host and Repo are where packages are that name no place: Host/Repo/name.
	Host, Repo string
	// Git is the program that clones; empty means "git".
	Git string
	// Env is the environment of Git.
	Env []string
}

// repository is where a dependency lies in a registry.
func (s *Source) repository(d mod.Dependency) (registry.Repository, error) {
	switch {
	case d.OCI != "":
		return registry.ParseRepository(d.OCI)
	case d.Repo != "":
		return registry.ParseRepository(s.Host + "/" + d.Repo)
	}
	name := s.Host + "/" + s.Repo + "/" + d.PackageName()
	return registry.ParseRepository(strings.ReplaceAll(name, "//", "/"))
}

// Versions implements mod.Source.
func (s *Source) Versions(ctx context.Context, d mod.Dependency) ([]string, error) {
	if d.Git != "" {
		return s.gitTags(ctx, d.Git)
	}
	repo, err := s.repository(d)
	if err != nil {
		return nil, err
	}
	return s.Client.Tags(ctx, repo)
}

// Fetch implements mod.Source.
func (s *Source) Fetch(ctx context.Context, d mod.Dependency, dir string) error {
	if d.Git != "" {
		return s.clone(ctx, d, dir)
	}
	repo, err := s.repository(d)
	if err != nil {
		return err
	}
	ref := registry.Reference{Repository: repo, Tag: d.Ref()}
	if ref.Tag == "" {
		tags, err := s.Client.Tags(ctx, repo)
		if err != nil {
			return err
		}
		if ref.Tag = mod.Latest(tags); ref.Tag == "" {
			return fmt.Errorf("%s/%s has no version", repo.Host, repo.Name)
		}
	}
	return s.pull(ctx, ref, dir)
}

func (s *Source) pull(ctx context.Context, ref registry.Reference, dir string) error {
	desc, body, err := s.Client.Manifest(ctx, ref)
	if err == nil && desc.MediaType == ocispec.MediaTypeImageIndex { // Kusion's modules have a program for each system
		if ref.Digest, err = chosen(body); err == nil {
			ref.Tag = ""
			_, body, err = s.Client.Manifest(ctx, ref)
		}
	}
	if err != nil {
		return err
	}
	var manifest ocispec.Manifest
	if err := json.Unmarshal(body, &manifest); err != nil {
		return fmt.Errorf("the manifest of %s is damaged: %w", ref.Name, err)
	}
	if len(manifest.Layers) == 0 {
		return fmt.Errorf("%s is no KCL package: its manifest has no layer", ref.Name)
	}
	layer := manifest.Layers[0]
	if layer.Size > maxPackage {
		return fmt.Errorf("%s is too large: %d bytes", ref.Name, layer.Size)
	}
	blob, err := s.Client.Blob(ctx, ref.Repository, layer) // verifies the digest at its end
	if err != nil {
		return err
	}
	defer blob.Close()
	archive, err := os.CreateTemp("", "kcl-package-*")
	if err != nil {
		return err
	}
	defer os.Remove(archive.Name())
	defer archive.Close()
	if _, err := io.Copy(archive, blob); err != nil {
		return err
	}
	if _, err := archive.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return unpack(archive, dir)
}

// chosen is the manifest of an index that is for this machine, else its first one: the KCL is the same in all.
func chosen(body []byte) (digest.Digest, error) {
	var index ocispec.Index
	if err := json.Unmarshal(body, &index); err != nil {
		return "", fmt.Errorf("the index is damaged: %w", err)
	}
	if len(index.Manifests) == 0 {
		return "", errors.New("the index has no package")
	}
	best := index.Manifests[0].Digest
	for _, m := range index.Manifests {
		if m.Platform != nil && m.Platform.OS == runtime.GOOS && m.Platform.Architecture == runtime.GOARCH {
			best = m.Digest
		}
	}
	return best, nil
}

// unpack reads a tar archive, compressed or not.
func unpack(f io.ReadSeeker, dir string) error {
	var magic [2]byte
	if _, err := io.ReadFull(f, magic[:]); err != nil {
		return errors.New("the archive is empty")
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if magic != [2]byte{0x1f, 0x8b} {
		return mod.Unpack(f, dir)
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		return fmt.Errorf("the archive is damaged: %w", err)
	}
	return mod.Unpack(z, dir)
}

// Push sends the package in dir to a registry under its version, which it must
// not have yet unless force is set. It returns the reference it has there.
func (s *Source) Push(ctx context.Context, dir string, p mod.Package, target string, force bool) (string, error) {
	if p.Name == "" || p.Version == "" {
		return "", errors.New("kcl.mod: package.name and package.version are needed to push")
	}
	if target == "" {
		target = s.Host + "/" + s.Repo + "/" + p.Name
	}
	repo, err := registry.ParseRepository(target)
	if err != nil {
		return "", err
	}
	ref := registry.Reference{Repository: repo, Tag: p.Version}
	shown := repo.Host + "/" + repo.Name + ":" + p.Version
	if !force {
		switch _, err := s.Client.Resolve(ctx, ref); {
		case err == nil:
			return "", fmt.Errorf("%s exists already: raise package.version, or push with --force", shown)
		case !errors.Is(err, fs.ErrNotExist):
			return "", err
		}
	}
	sum, err := mod.Sum(dir)
	if err != nil {
		return "", err
	}
	var layer bytes.Buffer
	if err := mod.Pack(&layer, dir, p); err != nil {
		return "", err
	}
	manifest := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Annotations: map[string]string{
		annotationName: p.Name, annotationVersion: p.Version, annotationDescription: p.Description, annotationSum: sum,
		ocispec.AnnotationCreated: time.Unix(0, 0).UTC().Format(time.RFC3339),
	}}
	manifest.SchemaVersion = 2
	manifest.ArtifactType = "application/vnd.oci.image.config.v1+json"
	if manifest.Config, err = s.blob(ctx, repo, ocispec.MediaTypeImageConfig, []byte("{}")); err != nil {
		return "", err
	}
	data, err := s.blob(ctx, repo, ocispec.MediaTypeImageLayer, layer.Bytes())
	if err != nil {
		return "", err
	}
	data.Annotations = map[string]string{ocispec.AnnotationTitle: filepath.Base(p.Name + "_" + p.Version + ".tar")}
	manifest.Layers = []ocispec.Descriptor{data}
	body, err := json.Marshal(manifest)
	if err != nil {
		return "", err
	}
	_, err = s.Client.PutManifest(ctx, ref, ocispec.MediaTypeImageManifest, body)
	return shown, err
}

func (s *Source) blob(ctx context.Context, repo registry.Repository, mediaType string, data []byte) (ocispec.Descriptor, error) {
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	return desc, s.Client.PushBlob(ctx, repo, desc, func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(data)), nil
	})
}
