// Package images writes the container images that a Weft node brings with
// itself, so that nothing has to be pulled: the pause image of every pod and
// an image for tests. An archive is an OCI image layout in a tar file, which
// containerd imports, with a manifest.json beside it, so that `docker load`
// takes it too.
//
// The same input gives the same bytes: files are sorted, times are fixed,
// and layers are not compressed.
package images

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"runtime"
	"sort"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// File is one entry of an image's only layer.
type File struct {
	Path    string // absolute and clean, for example /bin/sh
	Mode    int64  // permission bits, with 01000 for sticky
	Content []byte // of a regular file
	Target  string // of a symbolic link; a hard link when Hard is set
	Hard    bool
	Dir     bool
}

// Image describes an image of one layer.
type Image struct {
	Name         string // full reference with registry and tag
	Architecture string // as Go spells it; that of this program when empty
	Files        []File // parent directories are added
	Config       v1.ImageConfig
}

// created is the time of every file and image: a fixed moment, for equal
// input has to give equal bytes.
var created = time.Unix(0, 0).UTC()

// annotationName is what containerd reads an imported image's name from.
const annotationName = "io.containerd.image.name"

// Write writes the images as one archive.
func Write(w io.Writer, list ...Image) error {
	archive := &archive{tar: tar.NewWriter(w), seen: map[digest.Digest]bool{}}
	if err := archive.file(v1.ImageLayoutFile, mustJSON(v1.ImageLayout{Version: v1.ImageLayoutVersion})); err != nil {
		return err
	}
	for _, image := range list {
		if err := archive.add(image); err != nil {
			return fmt.Errorf("image %s: %w", image.Name, err)
		}
	}
	index := v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex, Manifests: archive.manifests}
	if err := archive.file(v1.ImageIndexFile, mustJSON(index)); err != nil {
		return err
	}
	if err := archive.file("manifest.json", mustJSON(archive.docker)); err != nil {
		return err
	}
	return archive.tar.Close()
}

// dockerImage is an entry of the manifest.json that `docker save` writes.
type dockerImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

type archive struct {
	tar       *tar.Writer
	seen      map[digest.Digest]bool
	manifests []v1.Descriptor
	docker    []dockerImage
}

func (a *archive) add(image Image) error {
	if !strings.Contains(image.Name, "/") || !strings.Contains(path.Base(image.Name), ":") {
		return fmt.Errorf("the name has to have a registry and a tag")
	}
	if image.Architecture == "" {
		image.Architecture = runtime.GOARCH
	}
	layer, err := layerOf(image.Files)
	if err != nil {
		return err
	}
	layerDescriptor, err := a.blob(v1.MediaTypeImageLayer, layer)
	if err != nil {
		return err
	}
	config, err := a.blob(v1.MediaTypeImageConfig, mustJSON(v1.Image{
		Created:  &created,
		Platform: v1.Platform{Architecture: image.Architecture, OS: "linux"},
		Config:   image.Config,
		RootFS:   v1.RootFS{Type: "layers", DiffIDs: []digest.Digest{layerDescriptor.Digest}},
		History:  []v1.History{{Created: &created, CreatedBy: "weft"}},
	}))
	if err != nil {
		return err
	}
	manifest, err := a.blob(v1.MediaTypeImageManifest, mustJSON(v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: v1.MediaTypeImageManifest,
		Config:    config,
		Layers:    []v1.Descriptor{layerDescriptor},
	}))
	if err != nil {
		return err
	}
	manifest.Platform = &v1.Platform{Architecture: image.Architecture, OS: "linux"}
	manifest.Annotations = map[string]string{
		annotationName:       image.Name,
		v1.AnnotationRefName: image.Name[strings.LastIndex(image.Name, ":")+1:],
	}
	a.manifests = append(a.manifests, manifest)
	a.docker = append(a.docker, dockerImage{
		Config:   blobPath(config.Digest),
		RepoTags: []string{image.Name},
		Layers:   []string{blobPath(layerDescriptor.Digest)},
	})
	return nil
}

func (a *archive) blob(mediaType string, content []byte) (v1.Descriptor, error) {
	d := digest.FromBytes(content)
	descriptor := v1.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(content))}
	if a.seen[d] {
		return descriptor, nil
	}
	a.seen[d] = true
	return descriptor, a.file(blobPath(d), content)
}

func (a *archive) file(name string, content []byte) error {
	return writeFile(a.tar, &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}, content)
}

func blobPath(d digest.Digest) string { return "blobs/" + string(d.Algorithm()) + "/" + d.Encoded() }

// layerOf writes the files as a layer. Missing parent directories are added
// with mode 0755.
func layerOf(files []File) ([]byte, error) {
	all := map[string]File{}
	for _, f := range files {
		if !path.IsAbs(f.Path) || path.Clean(f.Path) != f.Path || f.Path == "/" {
			return nil, fmt.Errorf("file %q: the path has to be absolute and clean", f.Path)
		}
		if _, twice := all[f.Path]; twice {
			return nil, fmt.Errorf("file %q is there twice", f.Path)
		}
		all[f.Path] = f
	}
	for _, f := range files {
		for dir := path.Dir(f.Path); dir != "/"; dir = path.Dir(dir) {
			if parent, ok := all[dir]; ok && !parent.Dir && parent.Target == "" {
				return nil, fmt.Errorf("file %q: %q is not a directory", f.Path, dir)
			} else if !ok {
				all[dir] = File{Path: dir, Mode: 0o755, Dir: true}
			}
		}
	}
	names := make([]string, 0, len(all))
	for name, f := range all {
		if !f.Hard {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	links := make([]string, 0, len(all)) // after what they lead to
	for name, f := range all {
		if f.Hard {
			links = append(links, name)
		}
	}
	sort.Strings(links)

	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	for _, name := range append(names, links...) {
		f := all[name]
		header := &tar.Header{Name: strings.TrimPrefix(name, "/"), Mode: f.Mode}
		switch {
		case f.Dir:
			header.Typeflag, header.Name = tar.TypeDir, header.Name+"/"
		case f.Hard:
			header.Typeflag, header.Linkname = tar.TypeLink, strings.TrimPrefix(f.Target, "/")
		case f.Target != "":
			header.Typeflag, header.Linkname, header.Mode = tar.TypeSymlink, f.Target, 0o777
		default:
			header.Typeflag = tar.TypeReg
		}
		if err := writeFile(w, header, f.Content); err != nil {
			return nil, fmt.Errorf("file %q: %w", name, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return layer.Bytes(), nil
}

func writeFile(w *tar.Writer, header *tar.Header, content []byte) error {
	header.ModTime = created
	header.Format = tar.FormatUSTAR
	if header.Typeflag == tar.TypeReg {
		header.Size = int64(len(content))
	}
	if err := w.WriteHeader(header); err != nil {
		return err
	}
	_, err := w.Write(content)
	return err
}

// mustJSON encodes one of the types above, none of which can fail.
func mustJSON(value any) []byte {
	content, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return content
}
