package lifecycle

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/weft-dev/weft/buildpack/layer"
	"github.com/weft-dev/weft/buildpack/spec"
	"github.com/weft-dev/weft/store"
)

// cacheMetadataName is the file of a volume cache and the label of a cache image (lifecycle cache/image_cache.go).
const cacheMetadataName = "io.buildpacks.lifecycle.cache.metadata"

// CacheMetadata says which layer of a cache holds what.
type CacheMetadata struct {
	SBOM       spec.LayerRef          `json:"sbom"`
	Buildpacks []spec.BuildpackLayers `json:"buildpacks"`
}

// For gives the layers of a buildpack.
func (m CacheMetadata) For(id string) spec.BuildpackLayers {
	return spec.LayersMetadata{Buildpacks: m.Buildpacks}.For(id)
}

// ErrCacheLayer is wrapped when a layer of a cache is missing or is not what it says. Builds go on without it.
var ErrCacheLayer = errors.New("unusable cache layer")

// Cache keeps layers for the next build.
type Cache interface {
	// Metadata is empty if there is no cache or it cannot be understood.
	Metadata(ctx context.Context) (CacheMetadata, error)
	// Layer gives the tar of a layer. It is verified while it is read: at its end comes ErrCacheLayer instead of io.EOF if it was wrong.
	Layer(ctx context.Context, diffID string) (io.ReadCloser, error)
	// Add puts a layer into the next state of the cache and gives its diffID, or another name if nobody but the cache asks for it.
	// A layer that is there already is not written again.
	Add(ctx context.Context, a Addition) (diffID string, err error)
	// Commit makes the next state the present one, all at once.
	Commit(ctx context.Context, md CacheMetadata) error
}

// An Addition is a layer to be cached.
type Addition struct {
	Dir     string // below the layers folder
	Content layer.Content
	Before  string // diffID that the layer had in the last build, "" if it is new
	Known   string // diffID that it has now, "" if it has not been measured
	Same    bool   // it came back with Before and is known not to have changed since
}

// Unpacker is a Cache that has layers unpacked, to be mounted.
type Unpacker interface {
	// Unpacked gives the folder with the files of a layer, from the root of an image on, after it has been verified. It stays until
	// the next Commit.
	Unpacked(ctx context.Context, diffID string) (string, error)
}

// VolumeCache is a folder in the form that upstream's lifecycle uses: committed/DIFFID.tar and the metadata.
type VolumeCache struct {
	dir      string
	verified map[string]bool
	store    *store.Store // of unpacked layers, nil until it is needed
	from     Folder       // new layers are moved from here; the zero one: they stay
}

// NewVolumeCache opens the cache in a folder that exists. What an interrupted build left is cleaned up.
func NewVolumeCache(dir string) (*VolumeCache, error) {
	if _, err := os.Stat(dir); err != nil {
		return nil, err
	}
	c := &VolumeCache{dir: dir, verified: map[string]bool{}}
	// An interrupted commit may have moved the old state away and not yet put the new one in its place.
	if _, err := os.Stat(c.at("committed")); errors.Is(err, fs.ErrNotExist) {
		if err := os.Rename(c.at("committed-backup"), c.at("committed")); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	if err := errors.Join(os.RemoveAll(c.at("staging")), os.RemoveAll(c.at("committed-backup"))); err != nil {
		return nil, err
	}
	return c, errors.Join(os.MkdirAll(c.at("staging"), 0o777), os.MkdirAll(c.at("committed"), 0o777))
}

func (c *VolumeCache) at(parts ...string) string {
	return filepath.Join(append([]string{c.dir}, parts...)...)
}

// Metadata implements Cache.
func (c *VolumeCache) Metadata(context.Context) (CacheMetadata, error) {
	var md CacheMetadata
	data, err := readFile(c.at("committed", cacheMetadataName))
	if errors.Is(err, fs.ErrNotExist) {
		return md, nil
	}
	if err != nil {
		return md, err
	}
	if err := json.Unmarshal(data, &md); err != nil {
		return CacheMetadata{}, nil // as if there were none: it is written anew
	}
	return md, nil
}

func layerFile(diffID string) (string, error) {
	hex, ok := strings.CutPrefix(diffID, "sha256:")
	if !ok || len(hex) != 64 || strings.Trim(hex, "0123456789abcdef") != "" {
		return "", fmt.Errorf("%w: %q is no digest", ErrCacheLayer, diffID)
	}
	return diffID + ".tar", nil
}

// Layer implements Cache.
func (c *VolumeCache) Layer(_ context.Context, diffID string) (io.ReadCloser, error) {
	name, err := layerFile(diffID)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(c.at("committed", name))
	if err != nil {
		return nil, missingLayer(diffID, err)
	}
	return &verifyingReader{f, sha256.New(), diffID}, nil
}

// verifyingReader compares the digest of a tar at its end.
type verifyingReader struct {
	io.ReadCloser
	hash hash.Hash
	want string
}

func (v *verifyingReader) Read(p []byte) (int, error) {
	n, err := v.ReadCloser.Read(p)
	v.hash.Write(p[:n])
	if errors.Is(err, io.EOF) {
		if got := fmt.Sprintf("sha256:%x", v.hash.Sum(nil)); got != v.want {
			return n, fmt.Errorf("%w: expected layer contents to have SHA '%s'; found '%s'", ErrCacheLayer, v.want, got)
		}
	}
	return n, err
}

func (c *VolumeCache) verify(diffID string) error {
	name, err := layerFile(diffID)
	if err != nil {
		return err
	}
	if c.verified[diffID] {
		return nil
	}
	f, err := os.Open(c.at("committed", name))
	if err != nil {
		return missingLayer(diffID, err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if got := fmt.Sprintf("sha256:%x", h.Sum(nil)); got != diffID {
		return fmt.Errorf("%w: expected layer contents to have SHA '%s'; found '%s'", ErrCacheLayer, diffID, got)
	}
	c.verified[diffID] = true
	return nil
}

// missingLayer says why a layer cannot be opened.
func missingLayer(diffID string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: failed to find cache layer with SHA '%s'", ErrCacheLayer, diffID)
	}
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w: failed to read cache layer with SHA '%s' due to insufficient permissions", ErrCacheLayer, diffID)
	}
	return err
}

// Add implements Cache.
func (c *VolumeCache) Add(ctx context.Context, a Addition) (string, error) {
	diffID, err := c.addTar(a)
	if err == nil && c.from != (Folder{}) && !a.Same {
		err = c.take(ctx, a.Dir, diffID)
	}
	return diffID, err
}

func (c *VolumeCache) addTar(a Addition) (string, error) {
	content, before, known := a.Content, a.Before, a.Known
	if a.Same { // what was mounted has been verified; the tar is, when it is unpacked again
		err := os.Link(c.at("committed", before+".tar"), c.at("staging", before+".tar"))
		if err == nil || errors.Is(err, fs.ErrExist) {
			return before, nil
		}
	}
	if before != "" && (known == "" || known == before) && c.verify(before) == nil {
		if known == "" {
			diffID, err := layer.DiffID(content)
			if err != nil {
				return "", err
			}
			known = diffID.String()
		}
		if known == before {
			err := os.Link(c.at("committed", before+".tar"), c.at("staging", before+".tar"))
			if err == nil || errors.Is(err, fs.ErrExist) {
				return before, nil
			}
		}
	}
	f, err := os.CreateTemp(c.at("staging"), ".layer-")
	if err != nil {
		return "", err
	}
	defer os.Remove(f.Name())
	h := sha256.New()
	if err := content(io.MultiWriter(f, h)); err != nil {
		f.Close()
		return "", err
	}
	if err := errors.Join(f.Chmod(0o644), f.Close()); err != nil {
		return "", err
	}
	diffID := fmt.Sprintf("sha256:%x", h.Sum(nil))
	return diffID, os.Rename(f.Name(), c.at("staging", diffID+".tar"))
}

// Commit implements Cache: two renames, the first of which can be taken back.
func (c *VolumeCache) Commit(ctx context.Context, md CacheMetadata) error {
	data, err := json.Marshal(md)
	if err != nil {
		return err
	}
	if err := os.WriteFile(c.at("staging", cacheMetadataName), append(data, '\n'), 0o644); err != nil {
		return err
	}
	if err := os.Rename(c.at("committed"), c.at("committed-backup")); err != nil {
		return fmt.Errorf("backing up cache: %w", err)
	}
	if err := os.Rename(c.at("staging"), c.at("committed")); err != nil {
		return errors.Join(fmt.Errorf("committing cache: %w", err), os.Rename(c.at("committed-backup"), c.at("committed")))
	}
	return errors.Join(os.RemoveAll(c.at("committed-backup")), c.keepUnpacked(ctx, md))
}
