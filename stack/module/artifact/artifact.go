// Package artifact makes what a registry has of a Kusion module: its program and its KCL in one layer, an image for each system, and an
// index of all of them.
package artifact

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/match"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/weft-dev/weft/registry"
)

// Media types of a module in a registry (KusionStack/kusion pkg/oci/client).
const (
	ConfigType  types.MediaType = "application/vnd.io.kusion.config.v1+json"
	ContentType types.MediaType = "application/vnd.io.kusion.content.v1.tar+gzip"
)

// Compile makes the program of a module from the Go source in a folder, for a system; what the compiler says goes to out.
func Compile(ctx context.Context, source, program, system, arch string, out io.Writer) error {
	if found, err := filepath.Glob(filepath.Join(source, "*.go")); err != nil || len(found) == 0 {
		return errors.Join(err, fmt.Errorf("no go source code files found for 'go build' matching %s", filepath.Join(source, "*.go")))
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", program)
	cmd.Dir, cmd.Stdout, cmd.Stderr = source, out, out
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+system, "GOARCH="+arch)
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("failed to build the module: go build in %s: %w", source, err)
	}
	return nil
}

// Pack writes an archive of the program and of a module without its source. The same content makes the same bytes.
func Pack(to, program, dir string) (err error) {
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	z := gzip.NewWriter(f)
	t := tar.NewWriter(z)
	if err := addFile(t, filepath.Base(program), program, 0o755); err != nil {
		return err
	}
	err = filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		switch {
		case err != nil || rel == ".":
			return err
		case rel == ".git" || rel == ".idea" || rel == "src":
			if e.IsDir() {
				return fs.SkipDir
			}
			return nil
		case e.IsDir():
			return t.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: filepath.ToSlash(rel) + "/", Mode: 0o755})
		case !e.Type().IsRegular():
			return nil // as upstream does
		}
		return addFile(t, filepath.ToSlash(rel), name, 0o644)
	})
	return errors.Join(err, t.Close(), z.Close())
}

func addFile(t *tar.Writer, name, file string, mode int64) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := t.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: int64(len(data))}); err != nil {
		return err
	}
	_, err = t.Write(data)
	return err
}

// Image makes the image of a module for one system from its archive.
func Image(archive string, annotations map[string]string, system, arch string) (v1.Image, error) {
	layer, err := tarball.LayerFromFile(archive, tarball.WithMediaType(ContentType))
	if err != nil {
		return nil, err
	}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), ConfigType)
	if image, err = mutate.ConfigFile(image, &v1.ConfigFile{Architecture: arch, OS: system}); err != nil {
		return nil, err
	}
	annotated, ok := mutate.Annotations(image, annotations).(v1.Image)
	if !ok {
		return nil, errors.New("annotations made something else of an image")
	}
	return mutate.Append(annotated, mutate.Addendum{Layer: layer, Annotations: map[string]string{"org.opencontainers.image.title": filepath.Base(archive)}})
}

// Push pushes a module for one system: by itself under REPOSITORY-OS_ARCH, and in the index of all systems, which has the tag of the
// version, and latest if asked for. It gives what was pushed, by digest.
func Push(ctx context.Context, client *registry.Client, repo registry.Repository, version string, latest bool, image v1.Image) ([]string, error) {
	desc, err := partial.Descriptor(image)
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	desc.Platform = config.Platform()
	ref := registry.Reference{Repository: repo, Tag: version}
	index, err := client.Index(ctx, ref)
	if errors.Is(err, fs.ErrNotExist) {
		index, err = mutate.IndexMediaType(empty.Index, types.OCIImageIndex), nil
	}
	if err != nil {
		return nil, err
	}
	alone := ref
	alone.Name += "-" + config.OS + "_" + config.Architecture
	if _, err := client.PushImage(ctx, alone, image, registry.PushOptions{}); err != nil {
		return nil, err
	}
	index = mutate.AppendManifests(mutate.RemoveManifests(index, match.Platforms(*desc.Platform)), mutate.IndexAddendum{Add: image, Descriptor: *desc})
	tags := []string{version}
	if latest {
		tags = append(tags, "latest")
	}
	for _, ref.Tag = range tags {
		if _, err := client.PushIndex(ctx, ref, index, registry.PushOptions{}); err != nil {
			return nil, err
		}
	}
	digest, err := index.Digest()
	if err != nil {
		return nil, err
	}
	return []string{repo.String() + "@" + desc.Digest.String(), repo.String() + "@" + digest.String()}, nil
}
