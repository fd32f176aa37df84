package buildpackage

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/klauspost/compress/gzip"

	"github.com/weft-dev/weft/buildpack/rootfs"
	"github.com/weft-dev/weft/buildpack/spec"
)

// Labels of a buildpackage (distribution.md, "Labels").
const (
	LabelPackage = "io.buildpacks.buildpackage.metadata"
	LabelLayers  = "io.buildpacks.buildpack.layers"
)

// PackageMetadata is the label io.buildpacks.buildpackage.metadata.
type PackageMetadata struct {
	spec.Info
	Stacks []spec.Stack `json:"stacks,omitempty"`
}

// LayerInfo is what the label io.buildpacks.buildpack.layers says of a buildpack.
type LayerInfo struct {
	API      string        `json:"api"`
	Stacks   []spec.Stack  `json:"stacks,omitempty"`
	Targets  []spec.Target `json:"targets,omitempty"`
	Order    spec.Order    `json:"order,omitempty"`
	DiffID   string        `json:"layerDiffID"`
	Homepage string        `json:"homepage,omitempty"`
	Name     string        `json:"name,omitempty"`
}

// Layers is the label: by ID and version.
type Layers map[string]map[string]LayerInfo

// buildpacksDir is where images have buildpacks.
const buildpacksDir = "cnb/buildpacks"

// file gives the package in a file: a .cnb file, or an archive with a buildpack.
func (f *Finder) file(ctx context.Context, file, name string) (Package, error) {
	in, err := os.Open(file)
	if err != nil {
		return Package{}, err
	}
	defer in.Close()
	r, err := plainTar(in)
	if err != nil {
		return Package{}, fmt.Errorf("%s: %w", name, err)
	}
	h := sha256.New()
	if err := os.MkdirAll(f.Cache, 0o755); err != nil {
		return Package{}, err
	}
	temp, err := os.MkdirTemp(f.Cache, ".unpack-")
	if err != nil {
		return Package{}, err
	}
	defer os.RemoveAll(temp)
	tee := io.TeeReader(r, h)
	err = rootfs.Layer(ctx, tee, temp, nil)
	if err == nil {
		_, err = io.Copy(io.Discard, tee)
	}
	if err != nil {
		return Package{}, fmt.Errorf("%s is no archive of a buildpack: %w", name, err)
	}
	if _, err := os.Stat(filepath.Join(temp, "index.json")); err == nil {
		img, err := layoutImage(temp, name)
		if err != nil {
			return Package{}, err
		}
		return f.unpack(ctx, img, name)
	}
	from, err := descriptorFolder(temp)
	if err != nil {
		return Package{}, fmt.Errorf("%s: %w", name, err)
	}
	at := filepath.Join(f.Cache, "archives", fmt.Sprintf("%x", h.Sum(nil)))
	if err := settle(from, at); err != nil {
		return Package{}, err
	}
	return folder(at)
}

// plainTar undoes gzip if the stream has it.
func plainTar(r io.Reader) (io.Reader, error) {
	in := bufio.NewReaderSize(r, 64<<10)
	magic, err := in.Peek(2)
	if err != nil {
		return nil, errors.New("it is empty")
	}
	if bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		return gzip.NewReader(in)
	}
	return in, nil
}

// descriptorFolder finds the folder with buildpack.toml: the archive itself or the only folder in it.
func descriptorFolder(dir string) (string, error) {
	for range 3 {
		if _, err := os.Stat(filepath.Join(dir, "buildpack.toml")); err == nil {
			return dir, nil
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			return "", err
		}
		if len(entries) != 1 || !entries[0].IsDir() {
			break
		}
		dir = filepath.Join(dir, entries[0].Name())
	}
	return "", errors.New("the archive has no buildpack.toml")
}

// settle moves a folder to its place unless it is there already.
func settle(from, at string) error {
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		return err
	}
	if err := os.Chmod(from, 0o755); err != nil {
		return err
	}
	err := os.Rename(from, at)
	if err != nil {
		if _, statErr := os.Stat(at); statErr == nil {
			return nil
		}
	}
	return err
}

// layoutImage gives the only image of an OCI layout, whose blobs are verified when they are read.
func layoutImage(dir, name string) (v1.Image, error) {
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(manifest.Manifests) != 1 {
		return nil, fmt.Errorf("%s has %d images, one is expected", name, len(manifest.Manifests))
	}
	if err := verifyLayout(dir); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return index.Image(manifest.Manifests[0].Digest)
}

// verifyLayout checks that each blob is what its name says.
func verifyLayout(dir string) error {
	entries, err := os.ReadDir(filepath.Join(dir, "blobs", "sha256"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		f, err := os.Open(filepath.Join(dir, "blobs", "sha256", e.Name()))
		if err != nil {
			return err
		}
		h := sha256.New()
		_, err = io.Copy(h, f)
		f.Close()
		if err != nil {
			return err
		}
		if got := fmt.Sprintf("%x", h.Sum(nil)); got != e.Name() {
			return fmt.Errorf("the blob sha256:%s has the digest sha256:%s: the package is damaged", e.Name(), got)
		}
	}
	return nil
}

// ReadLabel reads a label that has JSON; false if the image has none.
func ReadLabel(img v1.Image, name, label string, v any) (bool, error) {
	config, err := img.ConfigFile()
	if err != nil {
		return false, err
	}
	text, ok := config.Config.Labels[label]
	if !ok {
		return false, nil
	}
	if len(text) > spec.MaxFile {
		return false, fmt.Errorf("the label %s of %s is longer than %d bytes", label, name, spec.MaxFile)
	}
	if err := json.Unmarshal([]byte(text), v); err != nil {
		return false, fmt.Errorf("the label %s of %s: %w", label, name, err)
	}
	return true, nil
}

// unpack gives the package of an image.
func (f *Finder) unpack(ctx context.Context, img v1.Image, name string) (Package, error) {
	var md PackageMetadata
	ok, err := ReadLabel(img, name, LabelPackage, &md)
	if err != nil {
		return Package{}, err
	}
	if !ok {
		return Package{}, fmt.Errorf("%s is no buildpackage: it has no label %s", name, LabelPackage)
	}
	var layers Layers
	if _, err := ReadLabel(img, name, LabelLayers, &layers); err != nil {
		return Package{}, err
	}
	var p Package
	for id, versions := range layers {
		for version, info := range versions {
			m, err := f.fromLayer(ctx, img, id, version, info.DiffID)
			if err != nil {
				return Package{}, fmt.Errorf("%s: buildpack %s@%s: %w", name, id, version, err)
			}
			p.Modules = append(p.Modules, m)
			if id == md.ID && version == md.Version {
				p.Main = m
			}
		}
	}
	if p.Main.Descriptor == nil {
		return Package{}, fmt.Errorf("%s: the label %s does not tell of %s@%s", name, LabelLayers, md.ID, md.Version)
	}
	p.sort()
	return p, nil
}

// fromLayer unpacks the layer of a buildpack, once.
func (f *Finder) fromLayer(ctx context.Context, img v1.Image, id, version, diffID string) (Module, error) {
	hash, err := v1.NewHash(diffID)
	if err != nil {
		return Module{}, fmt.Errorf("its layer %q: %w", diffID, err)
	}
	at := filepath.Join(f.Cache, "layers", hash.Hex)
	if _, err := os.Stat(at); errors.Is(err, fs.ErrNotExist) {
		if err := f.unpackLayer(ctx, img, hash, at); err != nil {
			return Module{}, err
		}
	} else if err != nil {
		return Module{}, err
	}
	dir := filepath.Join(at, filepath.FromSlash(buildpacksDir), spec.EscapeID(id), version)
	if rel, err := filepath.Rel(at, dir); err != nil || strings.HasPrefix(rel, "..") {
		return Module{}, errors.New("its version leads out of the package")
	}
	m, err := ReadModule(dir)
	if err != nil {
		return Module{}, err
	}
	if m.Buildpack.ID != id || m.Buildpack.Version != version {
		return Module{}, fmt.Errorf("its buildpack.toml says that it is %s", m)
	}
	return m, nil
}

func (f *Finder) unpackLayer(ctx context.Context, img v1.Image, hash v1.Hash, at string) error {
	l, err := img.LayerByDiffID(hash)
	if err != nil {
		return fmt.Errorf("its layer %s: %w", hash, err)
	}
	rc, err := l.Uncompressed()
	if err != nil {
		return err
	}
	defer rc.Close()
	if err := os.MkdirAll(f.Cache, 0o755); err != nil {
		return err
	}
	temp, err := os.MkdirTemp(f.Cache, ".unpack-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	h := sha256.New()
	tee := io.TeeReader(rc, h)
	if err := rootfs.Layer(ctx, tee, temp, nil); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, tee); err != nil {
		return err
	}
	if got := fmt.Sprintf("%x", h.Sum(nil)); got != hash.Hex {
		return fmt.Errorf("its layer has the digest sha256:%s, the label says %s", got, hash)
	}
	return settle(temp, at)
}

// WriteFile writes an image as a .cnb file: an uncompressed tar of an OCI layout (distribution.md, "Buildpackage file").
func WriteFile(img v1.Image, file string) error {
	dir, err := os.MkdirTemp(filepath.Dir(file), ".cnb-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	path, err := layout.Write(dir, emptyIndex)
	if err != nil {
		return err
	}
	if err := path.AppendImage(img); err != nil {
		return err
	}
	out, err := os.Create(file + ".new")
	if err != nil {
		return err
	}
	defer os.Remove(out.Name())
	if err := errors.Join(tarFolder(out, dir), out.Close()); err != nil {
		return err
	}
	return os.Rename(out.Name(), file)
}

func tarFolder(w io.Writer, dir string) error {
	tw := tar.NewWriter(w)
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || name == dir {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		h := &tar.Header{Typeflag: tar.TypeReg, Name: path.Join("/", filepath.ToSlash(name[len(dir):])), Mode: 0o644, Size: info.Size(), ModTime: modTime}
		if e.IsDir() {
			h.Typeflag, h.Mode, h.Size = tar.TypeDir, 0o755, 0
		}
		if err := tw.WriteHeader(h); err != nil || e.IsDir() {
			return err
		}
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(tw, f)
		return err
	})
	return errors.Join(err, tw.Close())
}

// Folder gives the folder that an archive with one folder unpacks to, or the folder itself: for what is no buildpack.
func (f *Finder) Folder(ctx context.Context, l Locator) (string, error) {
	at := l.Place
	if l.Kind == FromWeb {
		file, err := f.download(ctx, l.Place)
		if err != nil {
			return "", err
		}
		defer os.Remove(file)
		at = file
	}
	if info, err := os.Stat(at); err != nil || info.IsDir() {
		return at, err
	}
	in, err := os.Open(at)
	if err != nil {
		return "", err
	}
	defer in.Close()
	r, err := plainTar(in)
	if err != nil {
		return "", fmt.Errorf("%s: %w", l.Place, err)
	}
	if err := os.MkdirAll(f.Cache, 0o755); err != nil {
		return "", err
	}
	temp, err := os.MkdirTemp(f.Cache, ".unpack-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(temp)
	h := sha256.New()
	tee := io.TeeReader(r, h)
	if err := rootfs.Layer(ctx, tee, temp, nil); err != nil {
		return "", fmt.Errorf("%s: %w", l.Place, err)
	}
	if _, err := io.Copy(io.Discard, tee); err != nil {
		return "", fmt.Errorf("%s: %w", l.Place, err)
	}
	from := temp
	if entries, err := os.ReadDir(temp); err == nil && len(entries) == 1 && entries[0].IsDir() {
		from = filepath.Join(temp, entries[0].Name())
	}
	to := filepath.Join(f.Cache, "folders", fmt.Sprintf("%x", h.Sum(nil)))
	return to, settle(from, to)
}
