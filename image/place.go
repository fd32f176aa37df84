package image

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weft-dev/weft/image/chunk"
	"github.com/weft-dev/weft/registry"
)

// Place is where an image of a name lies, or will: in a registry, or in a folder in the OCI image layout.
type Place interface {
	// Manifest gets what the name leads to: a manifest or an index. fs.ErrNotExist if there is nothing.
	Manifest(ctx context.Context) (ocispec.Descriptor, []byte, error)
	// Child gets a manifest by its digest.
	Child(ctx context.Context, d ocispec.Descriptor) ([]byte, error)
	// Referrers lists manifests whose subject is a digest, of one artifact type.
	Referrers(ctx context.Context, subject digest.Digest, artifactType string) ([]ocispec.Descriptor, error)
	// Blob reads a blob from its beginning and verifies it at the end.
	Blob(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error)
	// At gives access to parts of a blob.
	At(ctx context.Context, d ocispec.Descriptor) (Blob, error)
	// PutBlob keeps a blob unless it is there.
	PutBlob(ctx context.Context, d ocispec.Descriptor, open func() (io.ReadCloser, error)) error
	// PutManifest keeps a manifest or index, with named under the name.
	PutManifest(ctx context.Context, mediaType string, body []byte, named bool) (ocispec.Descriptor, error)
	// Close ends the work; an archive is written now.
	Close() error
}

// OpenPlace understands the names of images: [HOST/]NAME[:TAG][@DIGEST] in a registry, oci:FOLDER[:TAG], oci-archive:FILE[:TAG] (a tar file of
// such a folder) and docker-archive:FILE (what `docker save` writes; to read only). Archives are unpacked below tmp; with fresh true what the
// archive holds does not count.
func OpenPlace(client *registry.Client, name, tmp string, fresh bool) (Place, error) {
	kind, rest, ok := strings.Cut(name, ":")
	switch {
	case ok && kind == "oci":
		return openLayout(rest)
	case ok && kind == "oci-archive":
		return openArchive(rest, tmp, fresh)
	case ok && kind == "docker-archive":
		return openDocker(rest, tmp)
	}
	ref, err := registry.ParseReference(name)
	if err != nil {
		return nil, err
	}
	return &repository{client, ref}, nil
}

// repository is a place in a registry.
type repository struct {
	client *registry.Client
	ref    registry.Reference
}

func (r *repository) Manifest(ctx context.Context) (ocispec.Descriptor, []byte, error) {
	return r.client.Manifest(ctx, r.ref)
}

func (r *repository) Child(ctx context.Context, d ocispec.Descriptor) ([]byte, error) {
	_, body, err := r.client.Manifest(ctx, r.ref.WithDigest(d.Digest))
	return body, err
}

func (r *repository) Referrers(ctx context.Context, subject digest.Digest, artifactType string) ([]ocispec.Descriptor, error) {
	return r.client.Referrers(ctx, r.ref.Repository, subject, artifactType)
}

func (r *repository) Blob(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	return r.client.Blob(ctx, r.ref.Repository, d)
}

func (r *repository) At(ctx context.Context, d ocispec.Descriptor) (Blob, error) {
	ranged, err := r.client.Ranged(r.ref.Repository, d)
	if err != nil {
		return nil, err
	}
	return remoteBlob{ranged.WithContext(ctx)}, nil
}

type remoteBlob struct{ io.ReaderAt }

func (remoteBlob) Close() error { return nil }

func (r *repository) PutBlob(ctx context.Context, d ocispec.Descriptor, open func() (io.ReadCloser, error)) error {
	return r.client.PushBlob(ctx, r.ref.Repository, d, open)
}

func (r *repository) PutManifest(ctx context.Context, mediaType string, body []byte, named bool) (ocispec.Descriptor, error) {
	ref := r.ref
	if !named || ref.Tag == "" {
		ref = r.ref.WithDigest(digest.FromBytes(body))
	}
	return r.client.PutManifest(ctx, ref, mediaType, body)
}

func (r *repository) Close() error { return nil }

// RepositoryBlobs finds blobs in a repository by their digest.
func RepositoryBlobs(ctx context.Context, client *registry.Client, repo registry.Repository) Blobs {
	return repositoryBlobs{ctx, client, repo}
}

type repositoryBlobs struct {
	ctx    context.Context
	client *registry.Client
	repo   registry.Repository
}

// Open opens the blob of a device. The registry says how large it is: not every bootstrap counts what follows the chunks.
func (r repositoryBlobs) Open(d *chunk.Device) (Blob, error) {
	desc := ocispec.Descriptor{Digest: digest.NewDigestFromEncoded(digest.SHA256, d.Name())}
	var err error
	if desc.Size, err = r.client.StatBlob(r.ctx, r.repo, desc.Digest); err != nil {
		return nil, err
	}
	return (&repository{client: r.client, ref: registry.Reference{Repository: r.repo}}).At(r.ctx, desc)
}

// folder is a place in an OCI image layout (image-spec, image-layout.md).
type folder struct {
	dir  string
	tag  string
	done func() error
}

const refName = "org.opencontainers.image.ref.name"

func openLayout(name string) (*folder, error) {
	dir, tag := name, ""
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		dir, tag = name[:i], name[i+1:]
	}
	if dir == "" {
		return nil, fmt.Errorf("oci:%s names no folder: oci:FOLDER[:TAG] was expected", name)
	}
	return &folder{dir: dir, tag: tag, done: func() error { return nil }}, nil
}

func (f *folder) index() (*ocispec.Index, error) {
	b, err := os.ReadFile(filepath.Join(f.dir, ocispec.ImageIndexFile))
	if err != nil {
		return nil, err
	}
	var index ocispec.Index
	if err := json.Unmarshal(b, &index); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(f.dir, ocispec.ImageIndexFile), err)
	}
	return &index, nil
}

func (f *folder) Manifest(ctx context.Context) (ocispec.Descriptor, []byte, error) {
	var none ocispec.Descriptor
	index, err := f.index()
	if err != nil {
		return none, nil, err
	}
	var found []ocispec.Descriptor
	for _, d := range index.Manifests {
		if d.ArtifactType != "" && f.tag == "" && len(index.Manifests) > 1 {
			continue // a referrer
		}
		if f.tag == "" || d.Annotations[refName] == f.tag || strings.HasSuffix(d.Annotations[refName], ":"+f.tag) {
			found = append(found, d)
		}
	}
	if len(found) == 0 {
		return none, nil, fmt.Errorf("%s has no image %q: %w", f.dir, f.tag, fs.ErrNotExist)
	}
	if len(found) > 1 {
		return none, nil, fmt.Errorf("%s has %d images: choose one with oci:%s:TAG", f.dir, len(found), f.dir)
	}
	body, err := f.Child(ctx, found[0])
	return found[0], body, err
}

func (f *folder) Child(ctx context.Context, d ocispec.Descriptor) ([]byte, error) {
	r, err := f.Blob(ctx, d)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(io.LimitReader(r, 64<<20))
}

func (f *folder) Referrers(ctx context.Context, subject digest.Digest, artifactType string) ([]ocispec.Descriptor, error) {
	index, err := f.index()
	if err != nil {
		return nil, err
	}
	var found []ocispec.Descriptor
	for _, d := range index.Manifests {
		var m ocispec.Manifest
		body, err := f.Child(ctx, d)
		if err != nil {
			return nil, err
		}
		if json.Unmarshal(body, &m) == nil && m.Subject != nil && m.Subject.Digest == subject && m.ArtifactType == artifactType {
			found = append(found, d)
		}
	}
	return found, nil
}

func (f *folder) path(d digest.Digest) (string, error) {
	if err := d.Validate(); err != nil {
		return "", fmt.Errorf("the digest %q: %w", d, err)
	}
	return filepath.Join(f.dir, ocispec.ImageBlobsDir, d.Algorithm().String(), d.Encoded()), nil
}

func (f *folder) Blob(_ context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	path, err := f.path(d.Digest)
	if err != nil {
		return nil, err
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return &verified{file, d.Digest.Verifier(), d.Digest}, nil
}

// verified compares a file with its digest as it is read to its end.
type verified struct {
	file     *os.File
	verifier digest.Verifier
	digest   digest.Digest
}

func (v *verified) Read(p []byte) (int, error) {
	n, err := v.file.Read(p)
	if _, werr := v.verifier.Write(p[:n]); werr != nil {
		return n, werr
	}
	if errors.Is(err, io.EOF) && !v.verifier.Verified() {
		return n, fmt.Errorf("%s: %w", v.digest, registry.ErrDigest)
	}
	return n, err
}

func (v *verified) Close() error { return v.file.Close() }

func (f *folder) At(_ context.Context, d ocispec.Descriptor) (Blob, error) {
	path, err := f.path(d.Digest)
	if err != nil {
		return nil, err
	}
	return os.Open(path)
}

func (f *folder) PutBlob(_ context.Context, d ocispec.Descriptor, open func() (io.ReadCloser, error)) error {
	path, err := f.path(d.Digest)
	if err != nil {
		return err
	}
	if st, err := os.Stat(path); err == nil && st.Size() == d.Size {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	r, err := open()
	if err != nil {
		return err
	}
	defer r.Close()
	v := d.Digest.Verifier()
	_, err = writeFile(path, func(w io.Writer) (int64, error) {
		n, err := io.Copy(io.MultiWriter(w, v), r)
		if err == nil && (n != d.Size || !v.Verified()) {
			err = fmt.Errorf("%s: %w", d.Digest, registry.ErrDigest)
		}
		return n, err
	})
	return err
}

func (f *folder) PutManifest(ctx context.Context, mediaType string, body []byte, named bool) (ocispec.Descriptor, error) {
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(body), Size: int64(len(body))}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	if err := f.PutBlob(ctx, d, open); err != nil {
		return d, err
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(body, &m); err != nil {
		return d, err
	}
	d.ArtifactType = m.ArtifactType
	if !named && m.Subject == nil {
		return d, nil
	}
	if named && f.tag != "" {
		d.Annotations = map[string]string{refName: f.tag}
	}
	return d, f.list(d, named)
}

// list puts a manifest into the index, in place of the one that had its name.
func (f *folder) list(d ocispec.Descriptor, named bool) error {
	index, err := f.index()
	if errors.Is(err, fs.ErrNotExist) {
		index = &ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
		err = os.WriteFile(filepath.Join(f.dir, ocispec.ImageLayoutFile), []byte(`{"imageLayoutVersion":"`+ocispec.ImageLayoutVersion+`"}`), 0o644)
	}
	if err != nil {
		return err
	}
	index.Manifests = slices.DeleteFunc(index.Manifests, func(o ocispec.Descriptor) bool {
		return o.Digest == d.Digest || named && o.Annotations[refName] == f.tag && (f.tag != "" || o.ArtifactType == d.ArtifactType)
	})
	index.Manifests = append(index.Manifests, d)
	b, err := json.MarshalIndent(index, "", "  ")
	if err != nil {
		return err
	}
	_, err = writeFile(filepath.Join(f.dir, ocispec.ImageIndexFile), func(w io.Writer) (int64, error) {
		n, err := w.Write(b)
		return int64(n), err
	})
	return err
}

func (f *folder) Close() error { return f.done() }

// openArchive is a layout in a tar file.
func openArchive(name, tmp string, fresh bool) (Place, error) {
	file, tag := name, ""
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		file, tag = name[:i], name[i+1:]
	}
	dir, err := os.MkdirTemp(tmp, "archive-")
	if err != nil {
		return nil, err
	}
	f := &folder{dir: dir, tag: tag, done: func() error { return os.RemoveAll(dir) }}
	if fresh {
		f.done = func() error {
			_, err := writeFile(file, func(w io.Writer) (int64, error) { return 0, packFolder(w, dir) })
			return errors.Join(err, os.RemoveAll(dir))
		}
		return f, nil
	}
	if err := unpackLayout(file, dir); err != nil {
		return nil, errors.Join(fmt.Errorf("unpacking %s: %w", file, err), os.RemoveAll(dir))
	}
	return f, nil
}

// unpackLayout unpacks the files of an OCI layout, and nothing else.
func unpackLayout(file, dir string) error {
	in, err := os.Open(file)
	if err != nil {
		return err
	}
	defer in.Close()
	r, err := decompress(in)
	if err != nil {
		return err
	}
	defer r.Close()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name := filepath.Clean(h.Name)
		if h.Typeflag != tar.TypeReg || !filepath.IsLocal(name) {
			continue
		}
		if name != ocispec.ImageIndexFile && name != ocispec.ImageLayoutFile && !strings.HasPrefix(name, "blobs/") {
			continue
		}
		if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		out, err := root.Create(name)
		if err != nil {
			return err
		}
		_, err = io.Copy(out, t)
		if err = errors.Join(err, out.Close()); err != nil {
			return err
		}
	}
}

// packFolder writes a folder's files as tar, sorted, without times and owners.
func packFolder(w io.Writer, dir string) error {
	t := tar.NewWriter(w)
	err := filepath.WalkDir(dir, func(at string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		name, err := filepath.Rel(dir, at)
		if err != nil {
			return err
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: filepath.ToSlash(name), Size: st.Size(), Mode: 0o644}); err != nil {
			return err
		}
		in, err := os.Open(at)
		if err != nil {
			return err
		}
		defer in.Close()
		_, err = io.Copy(t, in)
		return err
	})
	return errors.Join(err, t.Close())
}

// openDocker reads what `docker save` writes, by way of a layout.
func openDocker(file, tmp string) (Place, error) {
	im, err := tarball.ImageFromPath(file, nil)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", file, err)
	}
	dir, err := os.MkdirTemp(tmp, "docker-")
	if err != nil {
		return nil, err
	}
	f := &folder{dir: dir, done: func() error { return os.RemoveAll(dir) }}
	if err := os.WriteFile(filepath.Join(dir, ocispec.ImageIndexFile), []byte(`{"schemaVersion":2,"manifests":[]}`), 0o644); err != nil {
		return nil, err
	}
	if err := layout.Path(dir).AppendImage(im); err != nil {
		return nil, errors.Join(fmt.Errorf("reading %s: %w", file, err), f.done())
	}
	return f, nil
}
