package target

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Bounds of what a daemon says about an image, in bytes, and of the files in the stream of a saved image.
const (
	maxInspect   = 32 << 20
	maxSaved     = 10000
	maxSavedJSON = 32 << 20
)

// inspected is what the daemon answers to "inspect this image" (GET /images/NAME/json of its interface).
type inspected struct {
	ID           string    `json:"Id"`
	OS           string    `json:"Os"`
	Architecture string    `json:"Architecture"`
	Variant      string    `json:"Variant"`
	Config       v1.Config `json:"Config"`
	RootFS       struct {
		Type   string    `json:"Type"`
		Layers []v1.Hash `json:"Layers"`
	} `json:"RootFS"`
}

// inspect gives nil if there is no image of that name or identity.
func (d *Daemon) inspect(ctx context.Context, name string) (*inspected, error) {
	body, err := d.call(ctx, "GET", "/images/"+url.PathEscape(name)+"/json", nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("ask the Docker daemon for %s: %w", name, err)
	}
	var found inspected
	err = json.NewDecoder(io.LimitReader(body, maxInspect)).Decode(&found)
	if err = errors.Join(err, finish(body)); err != nil {
		return nil, fmt.Errorf("ask the Docker daemon for %s: %w", name, err)
	}
	if _, err := v1.NewHash(found.ID); err != nil {
		return nil, fmt.Errorf("ask the Docker daemon for %s: its identity %q is no digest", name, found.ID)
	}
	return &found, nil
}

// DaemonImage is an image in a daemon. Its configuration is known at once, without history and dates; the rest makes the daemon save
// the image once, into a folder.
type DaemonImage struct {
	ID string

	found  *inspected
	daemon *Daemon
	ctx    context.Context //nolint:containedctx // the methods of v1.Image have none
	dir    string
	once   sync.Once
	img    v1.Image
	err    error
}

// Image gives the image of a name or identity, nil if there is none. Layers that are looked at go to a folder below dir, where they are
// found again as long as it lasts; ctx ends that.
func (d *Daemon) Image(ctx context.Context, name, dir string) (*DaemonImage, error) {
	found, err := d.inspect(ctx, name)
	if err != nil || found == nil {
		return nil, err
	}
	h, err := v1.NewHash(found.ID)
	if err != nil {
		return nil, err
	}
	return &DaemonImage{ID: found.ID, found: found, daemon: d, ctx: ctx, dir: filepath.Join(dir, h.Hex)}, nil
}

// Dir is the folder that takes the image's layers.
func (i *DaemonImage) Dir() string { return i.dir }

// Whole gives the image with all that belongs to it.
func (i *DaemonImage) Whole() (v1.Image, error) {
	i.once.Do(func() {
		if i.img, i.err = ReadLayout(i.dir); i.img != nil && i.err == nil {
			return
		}
		if i.err = os.RemoveAll(i.dir); i.err != nil {
			return
		}
		if i.err = i.daemon.save(i.ctx, i.ID, i.dir); i.err != nil {
			i.err = fmt.Errorf("read the image %s from the Docker daemon: %w", i.ID, i.err)
			return
		}
		i.img, i.err = ReadLayout(i.dir)
	})
	return i.img, i.err
}

// ConfigFile is what the daemon tells without saving the image.
func (i *DaemonImage) ConfigFile() (*v1.ConfigFile, error) {
	return &v1.ConfigFile{OS: i.found.OS, Architecture: i.found.Architecture, Variant: i.found.Variant, Config: i.found.Config,
		RootFS: v1.RootFS{Type: i.found.RootFS.Type, DiffIDs: i.found.RootFS.Layers}}, nil
}

// The other methods of v1.Image.

func (i *DaemonImage) MediaType() (types.MediaType, error) { return types.DockerManifestSchema2, nil }

func (i *DaemonImage) Layers() ([]v1.Layer, error) { return ofWhole(i, v1.Image.Layers) }

func (i *DaemonImage) Size() (int64, error) { return ofWhole(i, v1.Image.Size) }

func (i *DaemonImage) ConfigName() (v1.Hash, error) { return ofWhole(i, v1.Image.ConfigName) }

func (i *DaemonImage) RawConfigFile() ([]byte, error) { return ofWhole(i, v1.Image.RawConfigFile) }

func (i *DaemonImage) Digest() (v1.Hash, error) { return ofWhole(i, v1.Image.Digest) }

func (i *DaemonImage) Manifest() (*v1.Manifest, error) { return ofWhole(i, v1.Image.Manifest) }

func (i *DaemonImage) RawManifest() ([]byte, error) { return ofWhole(i, v1.Image.RawManifest) }

func (i *DaemonImage) LayerByDigest(h v1.Hash) (v1.Layer, error) {
	return ofWhole(i, func(img v1.Image) (v1.Layer, error) { return img.LayerByDigest(h) })
}

func (i *DaemonImage) LayerByDiffID(h v1.Hash) (v1.Layer, error) {
	return ofWhole(i, func(img v1.Image) (v1.Layer, error) { return img.LayerByDiffID(h) })
}

// ofWhole asks the whole image.
func ofWhole[T any](i *DaemonImage, get func(v1.Image) (T, error)) (T, error) {
	img, err := i.Whole()
	if err != nil {
		var none T
		return none, err
	}
	return get(img)
}

// save makes the daemon save an image and keeps it as a layout folder. Layers are kept as they come: most daemons give them
// uncompressed, those on containerd as they were pulled.
func (d *Daemon) save(ctx context.Context, id, dir string) error {
	body, err := d.call(ctx, "GET", "/images/"+url.PathEscape(id)+"/get", nil)
	if err != nil {
		return err
	}
	if err := makeBlobs(dir); err != nil {
		return errors.Join(err, body.Close())
	}
	files, manifest, err := unpackSaved(body, filepath.Join(dir, "blobs", "sha256"))
	if err = errors.Join(err, finish(body)); err != nil {
		return err
	}
	return savedLayout(dir, files, manifest)
}

func makeBlobs(dir string) error { return os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o755) }

// unpackSaved writes the files of the stream under their digests and gives those by the names that they had.
func unpackSaved(r io.Reader, blobs string) (files map[string]v1.Descriptor, manifest []byte, err error) {
	files = map[string]v1.Descriptor{}
	links := map[string]string{}
	tr := tar.NewReader(r)
	for n := 0; ; n++ {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, nil, err
		}
		if n > maxSaved {
			return nil, nil, fmt.Errorf("it has more than %d files", maxSaved)
		}
		name := path.Clean(h.Name)
		switch {
		case h.Typeflag == tar.TypeSymlink: // a layer that another image of the stream has, too
			links[name] = path.Join(path.Dir(name), h.Linkname)
		case h.Typeflag == tar.TypeLink:
			links[name] = path.Clean(h.Linkname)
		case h.Typeflag != tar.TypeReg:
		case name == "manifest.json":
			if h.Size > maxSavedJSON {
				return nil, nil, errors.New("its manifest.json is too large")
			}
			if manifest, err = io.ReadAll(tr); err != nil {
				return nil, nil, err
			}
		default:
			if files[name], err = saveBlob(tr, blobs); err != nil {
				return nil, nil, err
			}
		}
	}
	for name, to := range links {
		if f, ok := files[to]; ok {
			files[name] = f
		}
	}
	return files, manifest, nil
}

func saveBlob(r io.Reader, blobs string) (v1.Descriptor, error) {
	f, err := os.CreateTemp(blobs, ".new-")
	if err != nil {
		return v1.Descriptor{}, err
	}
	defer os.Remove(f.Name())
	digest, size, err := v1.SHA256(io.TeeReader(r, f))
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		return v1.Descriptor{}, err
	}
	return v1.Descriptor{Digest: digest, Size: size}, os.Rename(f.Name(), filepath.Join(blobs, digest.Hex))
}

// savedLayout writes manifest and index for what manifest.json names (image specification of Docker 1.2, "Combined Image JSON + File
// system Changeset Format").
func savedLayout(dir string, files map[string]v1.Descriptor, manifest []byte) error {
	var saved []struct {
		Config string
		Layers []string
	}
	if manifest == nil {
		return errors.New("what it saved has no manifest.json")
	}
	if err := json.Unmarshal(manifest, &saved); err != nil {
		return fmt.Errorf("manifest.json of what it saved: %w", err)
	}
	if len(saved) != 1 {
		return fmt.Errorf("it saved %d images, one is expected", len(saved))
	}
	config, ok := files[path.Clean(saved[0].Config)]
	if !ok || config.Size > maxSavedJSON {
		return fmt.Errorf("what it saved has no configuration %s of a sensible size", saved[0].Config)
	}
	data, err := os.ReadFile(blobPath(dir, config.Digest))
	if err != nil {
		return err
	}
	file, err := v1.ParseConfigFile(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("the configuration that it saved: %w", err)
	}
	if len(file.RootFS.DiffIDs) != len(saved[0].Layers) {
		return fmt.Errorf("it saved %d layers, the configuration names %d", len(saved[0].Layers), len(file.RootFS.DiffIDs))
	}
	config.MediaType = types.DockerConfigJSON
	out := v1.Manifest{SchemaVersion: 2, MediaType: types.DockerManifestSchema2, Config: config, Layers: []v1.Descriptor{}}
	for i, name := range saved[0].Layers {
		l, ok := files[path.Clean(name)]
		if !ok {
			return fmt.Errorf("what it saved lacks the layer %s", name)
		}
		if l.MediaType, err = savedLayerType(blobPath(dir, l.Digest)); err != nil {
			return err
		}
		if l.MediaType == types.DockerUncompressedLayer && l.Digest != file.RootFS.DiffIDs[i] {
			return fmt.Errorf("the layer %s that it saved has the digest %s, the configuration says %s", name, l.Digest, file.RootFS.DiffIDs[i])
		}
		out.Layers = append(out.Layers, l)
	}
	raw, err := json.Marshal(out)
	if err != nil {
		return err
	}
	digest, size, err := v1.SHA256(bytes.NewReader(raw))
	if err != nil {
		return err
	}
	if err := replaceFile(blobPath(dir, digest), raw); err != nil {
		return err
	}
	return writeIndex(dir, v1.Descriptor{MediaType: types.DockerManifestSchema2, Digest: digest, Size: size})
}

// savedLayerType tells a compressed layer from a plain one by its first bytes.
func savedLayerType(file string) (types.MediaType, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	head := make([]byte, 4)
	if _, err := io.ReadFull(f, head); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return "", err
	}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return types.DockerLayer, nil
	case bytes.Equal(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return types.OCILayerZStd, nil
	}
	return types.DockerUncompressedLayer, nil
}
