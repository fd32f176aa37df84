package image

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/weft-dev/weft/image/chunk"
	"github.com/weft-dev/weft/image/erofs"
	"github.com/weft-dev/weft/image/rafs"
	"github.com/weft-dev/weft/image/tree"
)

// Format is a form of images.
type Format string

// The formats.
const (
	EROFS Format = "erofs" // Weft's own: EROFS with a chunk table
	RAFS  Format = "rafs"  // Nydus's RAFS v6
)

// Names of the metadata in the folder of an image.
const (
	MetadataName  = "image.erofs"
	BootstrapName = "image.boot"
)

// Image is a tree and the chunks that its files consist of.
type Image struct {
	Format Format
	Root   *tree.Node
	Table  *chunk.Table
	Blobs  []rafs.Blob // of RAFS: one for each device
}

// Opened is an image being read.
type Opened struct {
	Image
	Name      string
	Meta      *erofs.Image    // of both formats
	Bootstrap *rafs.Bootstrap // of RAFS
	Metadata  []byte          // the metadata image or bootstrap as it is
	blobs     Blobs
	others    map[string]bool // IDs of blobs that are not the layer's own
}

// Blob is a blob being read.
type Blob interface {
	io.ReaderAt
	io.Closer
}

// Blobs finds the blobs of devices.
type Blobs interface {
	// Open opens the blob of a device. fs.ErrNotExist if it is not there.
	Open(d *chunk.Device) (Blob, error)
}

// BlobFolder is a folder with blobs that are named by their digest in hexadecimal.
type BlobFolder string

// Open opens the blob of a device.
func (f BlobFolder) Open(d *chunk.Device) (Blob, error) {
	return os.Open(filepath.Join(string(f), d.Name()))
}

// BlobFile is the file of the only blob of an image.
type BlobFile string

// Open opens it.
func (f BlobFile) Open(*chunk.Device) (Blob, error) { return os.Open(string(f)) }

// Limits of images that are read, in bytes.
const (
	maxMetadata = 2 << 30 // is held in memory
	maxBlob     = 1 << 40
)

// OpenPath opens an image on the disk: a folder that Build has made, a metadata image, a bootstrap, or a blob with a bootstrap in it. Blobs
// finds the blobs; if it is nil they lie beside the metadata.
func OpenPath(path string, blobs Blobs) (*Opened, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if st.IsDir() {
		for _, name := range []string{MetadataName, BootstrapName} {
			if _, err := os.Stat(filepath.Join(path, name)); err == nil {
				return OpenPath(filepath.Join(path, name), blobs)
			}
		}
		return nil, fmt.Errorf("%s is no image: it has neither %s nor %s", path, MetadataName, BootstrapName)
	}
	if st.Size() > maxMetadata {
		return openBlobFile(path, st.Size(), blobs)
	}
	head := make([]byte, min(st.Size(), 4096))
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if _, err := io.ReadFull(f, head); err != nil {
		return nil, err
	}
	if len(head) < 1152 {
		return nil, fmt.Errorf("%s: %w: it has only %d bytes", path, erofs.ErrFormat, len(head))
	}
	if _, err := erofs.DecodeSuperblock(head[1024:]); err != nil {
		return openBlobFile(path, st.Size(), blobs)
	}
	metadata, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if blobs == nil {
		blobs = BlobFolder(filepath.Dir(path))
	}
	return Open(path, metadata, blobs)
}

// openBlobFile opens a blob in which a bootstrap lies.
func openBlobFile(path string, size int64, blobs Blobs) (*Opened, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	bootstrap, err := rafs.FindBootstrap(f, size)
	if err != nil {
		return nil, fmt.Errorf("%s is neither an EROFS image nor a blob with a bootstrap: %w", path, err)
	}
	if blobs == nil {
		blobs = BlobFolder(filepath.Dir(path))
	}
	return Open(path, bootstrap, itself{path, blobs})
}

// itself finds the blob in which a bootstrap lies, and others elsewhere.
type itself struct {
	path   string
	others Blobs
}

func (i itself) Open(d *chunk.Device) (Blob, error) {
	if d.Blob == [32]byte{} {
		return os.Open(i.path)
	}
	return i.others.Open(d)
}

// Open opens metadata of either format. Blobs may be nil, if only metadata is read. The tree is checked as a whole: what is refused here must
// not be mounted.
func Open(name string, metadata []byte, blobs Blobs) (*Opened, error) {
	o, err := open(metadata, blobs)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	o.Name = name
	return o, nil
}

func open(metadata []byte, blobs Blobs) (*Opened, error) {
	o := &Opened{Metadata: metadata, blobs: blobs}
	r, size := bytes.NewReader(metadata), int64(len(metadata))
	var err error
	if rafs.Is(metadata) {
		return o, o.openRAFS(r, size)
	}
	o.Format = EROFS
	if o.Meta, err = erofs.Open(r, size); err != nil {
		return nil, err
	}
	if o.Table, err = o.Meta.Table(); err != nil {
		return nil, err
	}
	table := o.Table
	if table == nil {
		if len(o.Meta.Slots) > 0 {
			return nil, fmt.Errorf("%w: it has devices and no chunk table, so it is not one of Weft's images", erofs.ErrUnsupported)
		}
		o.Table, table = &chunk.Table{Algorithm: chunk.Blake3}, nil
	}
	o.Root, err = o.Meta.Tree(background, table)
	return o, err
}

func (o *Opened) openRAFS(r io.ReaderAt, size int64) error {
	var err error
	o.Format = RAFS
	if o.Bootstrap, err = rafs.Open(r, size); err != nil {
		return err
	}
	o.Meta, o.Blobs = o.Bootstrap.Image, o.Bootstrap.Blobs
	metas := map[int]*rafs.Meta{}
	for i := range o.Blobs {
		if b := &o.Blobs[i]; b.NeedsMeta() && o.blobs != nil {
			if metas[i], err = o.readMeta(b); err != nil {
				return err
			}
		}
	}
	if o.Table, err = o.Bootstrap.Table(metas); err != nil {
		return err
	}
	o.Root, err = o.Bootstrap.Tree(background, o.Table)
	return err
}

func (o *Opened) readMeta(b *rafs.Blob) (*rafs.Meta, error) {
	d := chunk.Device{Size: int64(b.Size)}
	if raw, err := hex.DecodeString(b.ID); err == nil && len(raw) == 32 {
		d.Blob = [32]byte(raw)
	}
	f, err := o.blobs.Open(&d)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil // metadata can be looked at without
	}
	if err != nil {
		return nil, fmt.Errorf("opening blob %s: %w", b.ID, err)
	}
	defer f.Close()
	return rafs.ReadMeta(f, b)
}

// WriteMetadata writes the metadata image or the bootstrap.
func (im *Image) WriteMetadata(w io.Writer, o Options) (int64, error) {
	if im.Format == RAFS {
		return rafs.Write(w, im.Root, im.Table, im.Blobs, rafs.Options{
			ChunkSize: o.chunkSize(), Codec: o.Codec, NoOwners: o.NoOwners, Prefetch: o.Prefetch, Skipped: o.Skipped,
		})
	}
	return erofs.Write(w, im.Root, im.Table, erofs.Options{Skipped: o.Skipped})
}

// Prune drops the devices that no file refers to.
func (im *Image) Prune() error {
	used := make([]bool, len(im.Table.Devices))
	for _, n := range im.Root.All() {
		for _, r := range n.Chunks {
			if !r.Hole() {
				used[r.Device-1] = true
			}
		}
	}
	table := &chunk.Table{Algorithm: im.Table.Algorithm}
	var blobs []rafs.Blob
	for i := range im.Table.Devices {
		if !used[i] {
			continue
		}
		table.Devices = append(table.Devices, im.Table.Devices[i])
		if im.Format == RAFS {
			blobs = append(blobs, im.Blobs[i])
		}
	}
	im.Table, im.Blobs = table, blobs
	return im.Root.Renumber(chunk.Drop(used))
}
