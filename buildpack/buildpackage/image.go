package buildpackage

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"

	"github.com/weft-dev/weft/buildpack/layer"
	"github.com/weft-dev/weft/buildpack/spec"
)

var (
	emptyIndex = mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	modTime    = layer.ModTime
)

// Blob is a layer whose bytes are in memory or can be made again.
type Blob struct {
	v1.Layer
	diffID v1.Hash
}

// DiffID gives the digest of the tar stream.
func (b Blob) DiffID() (v1.Hash, error) { return b.diffID, nil }

// Uncompressed gives the tar stream.
func (b Blob) Uncompressed() (io.ReadCloser, error) {
	rc, err := b.Compressed()
	if err != nil {
		return nil, err
	}
	return gzip.NewReader(rc)
}

// LayerOf makes a layer of a tar stream, in memory.
func LayerOf(content layer.Content) (Blob, error) {
	var buf bytes.Buffer
	measured, err := layer.Stream(&buf, layer.Gzip, content)
	if err != nil {
		return Blob{}, err
	}
	return Blob{static.NewLayer(buf.Bytes(), types.OCILayer), measured.DiffID}, nil
}

// ModuleLayer makes the layer of a buildpack, as images have it below /cnb/buildpacks. Everything belongs to root.
func ModuleLayer(m Module) (Blob, error) {
	root, err := os.OpenRoot(m.Dir)
	if err != nil {
		return Blob{}, err
	}
	defer root.Close()
	tree, ok := root.FS().(layer.Tree)
	if !ok {
		return Blob{}, fmt.Errorf("links of %s cannot be read", m.Dir)
	}
	at := path.Join("/", buildpacksDir, spec.EscapeID(m.Buildpack.ID))
	return LayerOf(func(w io.Writer) error {
		lw := layer.NewWriter(w)
		for _, dir := range []string{"/cnb", "/" + buildpacksDir, at} {
			if err := lw.Folder(layer.Parent{Path: dir, Mode: 0o755}); err != nil {
				return err
			}
		}
		if err := lw.Tree(readable{tree}, ".", path.Join(at, m.Buildpack.Version), layer.Owner{}); err != nil {
			return err
		}
		return lw.Close()
	})
}

// readable is a tree whose files everybody may read, whatever the umask was where they were made.
type readable struct{ layer.Tree }

// Lstat gives a file's information with the bits for reading, and for executing if somebody may.
func (r readable) Lstat(name string) (fs.FileInfo, error) {
	info, err := r.Tree.Lstat(name)
	if err != nil || info.Mode()&fs.ModeSymlink != 0 {
		return info, err
	}
	mode := info.Mode().Type() | 0o644
	if info.IsDir() || info.Mode()&0o111 != 0 {
		mode |= 0o755
	}
	return withMode{info, mode}, nil
}

type withMode struct {
	fs.FileInfo
	mode fs.FileMode
}

func (w withMode) Mode() fs.FileMode { return w.mode }

// AddModules adds a layer for each buildpack that layers does not tell of, and tells of it.
func AddModules(img v1.Image, modules []Module, layers Layers) (v1.Image, error) {
	modules = slices.Clone(modules)
	SortModules(modules)
	for _, m := range modules {
		blob, err := ModuleLayer(m)
		if err != nil {
			return nil, fmt.Errorf("the buildpack %s: %w", m, err)
		}
		known, ok := layers[m.Buildpack.ID][m.Buildpack.Version]
		if ok && known.DiffID == blob.diffID.String() {
			continue
		}
		if img, err = mutate.Append(img, mutate.Addendum{Layer: blob, History: v1.History{CreatedBy: "Buildpack: " + m.String(), Created: v1.Time{Time: modTime}}}); err != nil {
			return nil, err
		}
		if layers[m.Buildpack.ID] == nil {
			layers[m.Buildpack.ID] = map[string]LayerInfo{}
		}
		layers[m.Buildpack.ID][m.Buildpack.Version] = LayerInfo{API: m.API, Stacks: m.Stacks, Targets: m.Targets, Order: m.Order,
			DiffID: blob.diffID.String(), Homepage: m.Buildpack.Homepage, Name: m.Buildpack.Name}
	}
	return img, nil
}

// Labels sets labels; values that are no strings become JSON.
func Labels(img v1.Image, labels map[string]any) (v1.Image, error) {
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	if config.Config.Labels == nil {
		config.Config.Labels = map[string]string{}
	}
	for name, value := range labels {
		if text, ok := value.(string); ok {
			config.Config.Labels[name] = text
			continue
		}
		data, err := json.Marshal(value)
		if err != nil {
			return nil, err
		}
		config.Config.Labels[name] = string(data)
	}
	return mutate.ConfigFile(img, config)
}

// Make makes the image of a package. Targets are those of its architecture; labels are the user's.
func Make(p Package, arch string, labels map[string]string) (v1.Image, error) {
	if err := CheckComplete(p.Modules); err != nil {
		return nil, err
	}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	layers := Layers{}
	made, err := AddModules(img, p.Modules, layers)
	if err != nil {
		return nil, err
	}
	all := map[string]any{LabelLayers: layers, LabelPackage: PackageMetadata{Info: p.Main.Buildpack, Stacks: commonStacks(p.Modules)}}
	for name, value := range labels {
		if strings.HasPrefix(name, "io.buildpacks.") {
			return nil, fmt.Errorf("the label %s is one of the specification's and cannot be set", name)
		}
		all[name] = value
	}
	if made, err = Labels(made, all); err != nil {
		return nil, err
	}
	config, err := made.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = "linux", arch, v1.Time{Time: modTime}
	return mutate.ConfigFile(made, config)
}

// commonStacks gives the stacks that all buildpacks with programs run on; none if one of them names targets instead.
func commonStacks(modules []Module) []spec.Stack {
	var common []spec.Stack
	first := true
	for _, m := range modules {
		if m.Composite() {
			continue
		}
		if len(m.Stacks) == 0 {
			return nil
		}
		if first {
			common, first = slices.Clone(m.Stacks), false
			continue
		}
		common = slices.DeleteFunc(common, func(s spec.Stack) bool {
			return !slices.ContainsFunc(m.Stacks, func(o spec.Stack) bool { return o.ID == s.ID || o.ID == "*" })
		})
	}
	return common
}
