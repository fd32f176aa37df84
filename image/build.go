package image

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/weft-dev/weft/image/chunk"
	"github.com/weft-dev/weft/image/rafs"
	"github.com/weft-dev/weft/image/tree"
)

var background = context.Background()

// DefaultStripe is how many decoded bytes a blob of an EROFS image has at most.
const DefaultStripe = 64 << 20

// Options say how images are made. The zero value makes EROFS with chunks of 64 KiB, not compressed.
type Options struct {
	Format    Format
	ChunkSize int // bytes; 0 means 64 KiB for EROFS and 1 MiB for RAFS
	Codec     chunk.Codec
	Level     int             // of zstd; 0 means 3
	Algorithm chunk.Algorithm // 0 means blake3
	Batch     int             // bytes; small chunks are compressed together until they have that many; 0 means never
	Stripe    int64           // decoded bytes after which a new blob begins; 0 means DefaultStripe for EROFS, and never for RAFS; less: never
	Inline    int             // files up to this size lie in the metadata of EROFS; 0 means 512, less: none
	Whiteouts tree.Whiteouts  // how layers mark deletions; empty means oci
	Prefetch  []string        // paths of files and folders whose content comes first: of EROFS in blobs of its own, of RAFS in the layer's blob
	NoOwners  bool            // RAFS only: without owners
	Dicts     []*Opened       // images whose chunks are not written again
	Jobs      int
	TOC       bool // RAFS only: blobs with digests and a table of contents
	InBlob    bool // RAFS only: the bootstrap lies in the blob

	Skipped  func(path, why string) // told what the format cannot hold
	Progress func(bytes int64)      // told as content is read
}

func (o *Options) chunkSize() int {
	switch {
	case o.ChunkSize != 0:
		return o.ChunkSize
	case o.Format == RAFS:
		return rafs.DefaultChunkSize
	}
	return 64 << 10
}

func (o *Options) writer() chunk.Options {
	c := chunk.Options{ChunkSize: o.chunkSize(), Codec: o.Codec, Level: o.Level, Algorithm: o.Algorithm, Batch: o.Batch, Stripe: o.Stripe, Jobs: o.Jobs}
	if o.Format == RAFS {
		c.KeepZeros = true
	} else if c.Stripe == 0 {
		c.Stripe = max(DefaultStripe, int64(c.ChunkSize))
	}
	c.Stripe = max(c.Stripe, 0)
	return c
}

func (o *Options) inline() int {
	switch {
	case o.Format == RAFS || o.Inline < 0:
		return -1
	case o.Inline == 0:
		return 512
	}
	return o.Inline
}

// Source is a tree to be read, once or several times.
type Source interface {
	// Read reads it from its beginning.
	Read(ctx context.Context, whiteouts tree.Whiteouts, content tree.Content) (*tree.Node, error)
}

// Folder is a folder as a source.
type Folder string

// Read reads the folder.
func (f Folder) Read(ctx context.Context, whiteouts tree.Whiteouts, content tree.Content) (*tree.Node, error) {
	return tree.FromDir(ctx, string(f), whiteouts, content)
}

// Tar is a tar stream as a source, as it is or compressed with gzip or zstd.
type Tar func() (io.ReadCloser, error)

// Stream is a tar stream that can be read only once, such as a pipe: what comes first in it lies first in its blob.
type Stream Tar

// Read reads the stream.
func (s Stream) Read(ctx context.Context, whiteouts tree.Whiteouts, content tree.Content) (*tree.Node, error) {
	return Tar(s).Read(ctx, whiteouts, content)
}

// TarFile is a tar file as a source.
func TarFile(name string) Tar {
	return func() (io.ReadCloser, error) { return os.Open(name) }
}

// Read reads the stream.
func (t Tar) Read(ctx context.Context, whiteouts tree.Whiteouts, content tree.Content) (*tree.Node, error) {
	r, err := t()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	d, err := decompress(&cancellable{ctx, r})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", tree.ErrLayer, err)
	}
	defer d.Close()
	return tree.FromTar(d, whiteouts, content)
}

type cancellable struct {
	ctx context.Context
	r   io.Reader
}

func (c *cancellable) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// decompress finds out by the first bytes how a stream is compressed.
func decompress(r io.Reader) (io.ReadCloser, error) {
	b := bufio.NewReaderSize(r, 256<<10)
	head, err := b.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return gzip.NewReader(b)
	case bytes.Equal(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(256<<20))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	}
	return io.NopCloser(b), nil
}

// builder makes images layer by layer.
type builder struct {
	o     Options
	known *chunk.Table // of dictionaries, and of the layers so far
	blobs []rafs.Blob
}

// newBuilder begins with the chunks of the dictionaries.
func newBuilder(o Options) (*builder, error) {
	if o.Format == "" {
		o.Format = EROFS
	}
	if o.Whiteouts == "" {
		o.Whiteouts = tree.OCI
	}
	if o.Algorithm == 0 {
		o.Algorithm = chunk.Blake3
	}
	b := &builder{o: o, known: &chunk.Table{Algorithm: o.Algorithm}}
	for _, d := range o.Dicts {
		if d.Format != o.Format {
			return nil, fmt.Errorf("the chunk dictionary %s is %s: images of %s need one of their own form", d.Name, d.Format, o.Format)
		}
		if err := b.add(d.Table, d.Blobs); err != nil {
			return nil, fmt.Errorf("the chunk dictionary %s: %w", d.Name, err)
		}
	}
	return b, nil
}

// add adds known devices.
func (b *builder) add(table *chunk.Table, blobs []rafs.Blob) error {
	if len(table.Devices) == 0 {
		return nil
	}
	if table.Algorithm != b.o.Algorithm {
		return fmt.Errorf("its chunks have digests of %s, those of this image %s", table.Algorithm, b.o.Algorithm)
	}
	for i := range table.Devices {
		d := table.Devices[i]
		if slices.ContainsFunc(b.known.Devices, func(k chunk.Device) bool { return k.Blob == d.Blob }) {
			continue
		}
		b.known.Devices = append(b.known.Devices, d)
		if b.o.Format == RAFS {
			b.blobs = append(b.blobs, blobs[i])
		}
	}
	return nil
}

// layer packs one layer, whose blobs go to out. Its tree refers to the devices of the builder, to which its own are added.
func (b *builder) layer(ctx context.Context, out chunk.Output, source Source) (*tree.Node, chunk.Stats, error) {
	co := b.o.writer()
	co.Known = b.known
	var ro *rafs.Output
	var root *tree.Node
	if b.o.Format == RAFS {
		ro = &rafs.Output{To: out, ChunkSize: b.o.chunkSize(), Batch: b.o.Batch > 0, TOC: b.o.TOC, Algorithm: b.o.Algorithm}
		if b.o.InBlob {
			ro.Inline = func(d *chunk.Device, entry rafs.Blob) ([]byte, error) {
				root.PutOpaque()
				defer root.TakeOpaque()
				im := Image{RAFS, root, &chunk.Table{Algorithm: b.o.Algorithm, Devices: append(slices.Clone(b.known.Devices), *d)}, append(slices.Clone(b.blobs), entry)}
				return im.bootstrap(b.o)
			}
		}
		out = ro
	}
	w, err := chunk.NewWriter(ctx, out, co)
	if err != nil {
		return nil, chunk.Stats{}, err
	}
	if err := b.preload(ctx, w, source); err != nil {
		w.Abort()
		return nil, chunk.Stats{}, err
	}
	content := tree.Content(tree.Chunks{Writer: w, Inline: b.o.inline()})
	if b.o.Progress != nil {
		content = &progress{content, b.o.Progress}
	}
	if root, err = source.Read(ctx, b.o.Whiteouts, content); err != nil {
		w.Abort()
		return nil, chunk.Stats{}, err
	}
	table, stats, err := w.Close()
	if err != nil {
		return nil, stats, err
	}
	b.known = table
	if ro != nil {
		b.blobs = append(b.blobs, ro.Blobs...)
	}
	return root, stats, nil
}

// preload writes what is to come first. In RAFS it lies first in the layer's blob, of which there is one: Nydus's merge takes no more.
func (b *builder) preload(ctx context.Context, w *chunk.Writer, source Source) error {
	if len(b.o.Prefetch) == 0 || slices.Contains(b.o.Prefetch, "/") { // all comes first
		return nil
	}
	var err error
	switch source := source.(type) {
	case Folder:
		err = preloadFolder(ctx, w, string(source), b.o.Prefetch, b.o.inline())
	case Tar:
		err = source.preload(ctx, w, b.o.Prefetch, b.o.inline())
	}
	if err != nil || b.o.Format == RAFS {
		return err
	}
	return w.Cut()
}

// preloadFolder writes the files below the paths, in their order.
func preloadFolder(ctx context.Context, w *chunk.Writer, dir string, paths []string, inline int) error {
	for _, p := range paths {
		top := filepath.Join(dir, filepath.FromSlash(path.Clean("/"+p)))
		err := filepath.WalkDir(top, func(at string, d os.DirEntry, err error) error {
			if errors.Is(err, os.ErrNotExist) && at == top {
				return nil // a list may name what this image does not have
			}
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			f, err := os.Open(at)
			if err != nil {
				return err
			}
			defer f.Close()
			st, err := f.Stat()
			if err != nil || st.Size() <= int64(inline) {
				return err
			}
			return w.Preload(f, st.Size())
		})
		if err != nil {
			return fmt.Errorf("what is to come first: %w", err)
		}
	}
	return nil
}

// preload writes the files below the paths, in the order of the stream. It reads the stream once more.
func (t Tar) preload(ctx context.Context, w *chunk.Writer, paths []string, inline int) error {
	r, err := t()
	if err != nil {
		return err
	}
	defer r.Close()
	d, err := decompress(&cancellable{ctx, r})
	if err != nil {
		return fmt.Errorf("%w: %w", tree.ErrLayer, err)
	}
	defer d.Close()
	for t := tar.NewReader(d); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: %w", tree.ErrLayer, err)
		}
		if h.Typeflag != tar.TypeReg || h.Size <= int64(inline) || !below(path.Clean("/"+h.Name), paths) {
			continue
		}
		if err := w.Preload(t, h.Size); err != nil {
			return err
		}
	}
}

// below says whether a path is one of paths or in one of them.
func below(p string, paths []string) bool {
	return slices.ContainsFunc(paths, func(top string) bool {
		top = path.Clean("/" + top)
		return p == top || strings.HasPrefix(p, strings.TrimSuffix(top, "/")+"/")
	})
}

type progress struct {
	tree.Content
	told func(int64)
}

// File takes a file's content.
func (p *progress) File(n *tree.Node, r io.Reader) error {
	return p.Content.File(n, &tellingReader{r, p.told})
}

type tellingReader struct {
	r    io.Reader
	told func(int64)
}

func (t *tellingReader) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	t.told(int64(n))
	return n, err
}

// bootstrap is the metadata as bytes.
func (im *Image) bootstrap(o Options) ([]byte, error) {
	var b bytes.Buffer
	_, err := im.WriteMetadata(&b, o)
	return b.Bytes(), err
}

// Built says what Build has made.
type Built struct {
	Format   Format      `json:"format"`
	Metadata string      `json:"metadata"` // path
	Size     int64       `json:"metadataBytes"`
	Blobs    []BuiltBlob `json:"blobs"` // all that the image needs, those of dictionaries too
	Stats    chunk.Stats `json:"stats"`
}

// BuiltBlob is a blob that an image needs.
type BuiltBlob struct {
	Digest  string `json:"digest"` // sha256:HEX
	Size    int64  `json:"bytes"`
	Decoded int64  `json:"decodedBytes"`
	Chunks  int    `json:"chunks"`
}

// Build makes an image of a source in a folder: metadata under its name, and blobs named by their digests. Several sources are layers,
// the lowest first, and give one image.
func Build(ctx context.Context, dir string, o Options, sources ...Source) (*Built, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	return BuildTo(ctx, chunk.Folder(dir), "", dir, o, sources...)
}

// BuildTo is Build with another place for blobs, and a path for the metadata; without one they go to the folder dir under their usual name.
func BuildTo(ctx context.Context, out chunk.Output, metadata, dir string, o Options, sources ...Source) (*Built, error) {
	b, err := newBuilder(o)
	if err != nil {
		return nil, err
	}
	built := &Built{Format: b.o.Format}
	var root *tree.Node
	for _, s := range sources {
		upper, stats, err := b.layer(ctx, out, s)
		if err != nil {
			return nil, err
		}
		built.Stats.Add(stats)
		root = tree.Merge(root, upper)
	}
	if len(sources) > 1 {
		root.DropMarks()
	} else {
		root.PutOpaque() // one layer keeps its marks, for the layers below it
	}
	im := Image{b.o.Format, root, b.known, b.blobs}
	if err := im.Prune(); err != nil {
		return nil, err
	}
	built.describe(im.Table)
	if b.o.InBlob && len(sources) == 1 && built.Stats.Written > 0 {
		return built, nil
	}
	if built.Metadata = metadata; metadata == "" {
		built.Metadata = filepath.Join(dir, map[Format]string{EROFS: MetadataName, RAFS: BootstrapName}[b.o.Format])
	}
	built.Size, err = writeFile(built.Metadata, func(w io.Writer) (int64, error) { return im.WriteMetadata(w, b.o) })
	return built, err
}

func (b *Built) describe(t *chunk.Table) {
	b.Blobs = []BuiltBlob{}
	for i := range t.Devices {
		d := &t.Devices[i]
		b.Blobs = append(b.Blobs, BuiltBlob{"sha256:" + d.Name(), d.Size, d.Space, len(d.Chunks)})
	}
}

// writeFile writes a file beside its place and then gives it its name.
func writeFile(name string, fill func(io.Writer) (int64, error)) (int64, error) {
	f, err := os.CreateTemp(filepath.Dir(name), ".image-*")
	if err != nil {
		return 0, err
	}
	n, err := fill(f)
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return 0, errors.Join(err, os.Remove(f.Name()))
	}
	return n, nil
}

// PrefetchList reads a list of paths, one in each line. Empty lines and those that begin with # do not count; a path must begin with a slash.
func PrefetchList(r io.Reader) ([]string, error) {
	var paths []string
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if !strings.HasPrefix(line, "/") {
			return nil, fmt.Errorf("line %d: %q does not begin with a slash", n, line)
		}
		paths = append(paths, path.Clean(line))
	}
	return paths, lines.Err()
}

// WriteFile writes the metadata to a file.
func (im *Image) WriteFile(name string, o Options) (*Built, error) {
	o.Format = im.Format
	b := &Built{Format: im.Format, Metadata: name}
	b.describe(im.Table)
	var err error
	b.Size, err = writeFile(name, func(w io.Writer) (int64, error) { return im.WriteMetadata(w, o) })
	return b, err
}
