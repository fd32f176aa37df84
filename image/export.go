package image

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/weft-dev/weft/image/chunk"
	"github.com/weft-dev/weft/image/rafs"
)

// Packed is a layer that was packed, with the blobs that it needs.
type Packed struct {
	Image
	Own    []int  // the devices that were written now, from 0
	Holder string // with Options.InBlob the blob in which the bootstrap lies: its digest in hexadecimal
	Stats  chunk.Stats
}

// Pack packs one layer; its blobs go to out. Its marks of deleted files are as overlayfs has them.
func Pack(ctx context.Context, out chunk.Output, o Options, source Source) (*Packed, error) {
	b, err := newBuilder(o)
	if err != nil {
		return nil, err
	}
	known := map[[32]byte]bool{}
	for i := range b.known.Devices {
		known[b.known.Devices[i].Blob] = true
	}
	root, stats, err := b.layer(ctx, out, source)
	if err != nil {
		return nil, err
	}
	root.PutOpaque()
	p := &Packed{Image: Image{b.o.Format, root, b.known, b.blobs}, Stats: stats}
	switch {
	case b.o.InBlob && stats.Written == 0: // no chunk, so no blob in which the bootstrap lies yet
		bootstrap, err := (&p.Image).bootstrap(b.o)
		if err != nil {
			return nil, err
		}
		d, err := rafs.OnlyBootstrap(out, b.o.TOC, bootstrap)
		if err != nil {
			return nil, err
		}
		p.Holder = d.Name()
	case b.o.InBlob:
		p.Holder = b.blobs[len(b.blobs)-1].ID
	}
	if err := p.Prune(); err != nil {
		return nil, err
	}
	for i := range p.Table.Devices {
		if !known[p.Table.Devices[i].Blob] {
			p.Own = append(p.Own, i)
		}
	}
	return p, nil
}

// own is the index of the blob that belongs to the layer itself: the only one, or else the last, that is no dictionary's; -1 if there is none.
func (o *Opened) own() int {
	for i := len(o.Blobs) - 1; i >= 0; i-- {
		if !o.others[o.Blobs[i].ID] {
			return i
		}
	}
	return -1
}

// NotOwn says which blobs belong to a chunk dictionary, and not to the layer itself.
func (o *Opened) NotOwn(blobs []rafs.Blob) {
	if o.others == nil {
		o.others = map[string]bool{}
	}
	for i := range blobs {
		o.others[blobs[i].ID] = true
	}
}

// SetBlob changes what is said about the layer's own blob. A layer without one is left as it is.
func (o *Opened) SetBlob(value string, set func(b *rafs.Blob, value string) error) error {
	if o.own() < 0 {
		return nil
	}
	b := &o.Blobs[o.own()]
	if err := set(b, value); err != nil {
		return err
	}
	o.identify()
	return nil
}

// identify gives the device of the layer's own blob the blob's identity.
func (o *Opened) identify() {
	b := &o.Blobs[o.own()]
	if raw, err := hex.DecodeString(b.ID); err == nil && len(raw) == 32 {
		o.Table.Devices[o.own()].Blob = [32]byte(raw)
	}
	o.Table.Devices[o.own()].Size = int64(b.Size)
}

// NameBlobAfter gives the layer's own blob, of a bootstrap that lay in it, the name of the file if that is a digest.
func (o *Opened) NameBlobAfter(file string) {
	if o.own() < 0 || o.Blobs[o.own()].ID != rafs.Itself {
		return
	}
	name := strings.TrimSuffix(filepath.Base(file), filepath.Ext(file))
	if raw, err := hex.DecodeString(name); err == nil && len(raw) == 32 {
		b := &o.Blobs[o.own()]
		b.ID, b.Features = name, b.Features&^rafs.InlinedMeta
		o.identify()
	}
}

// Export writes bootstrap and decoded blobs as one file that the kernel mounts without further devices: each blob lies where the device table
// says.
func (o *Opened) Export(ctx context.Context, name string) error {
	_, err := writeFile(name, func(w io.Writer) (int64, error) {
		f := w.(*os.File)
		if _, err := f.Write(o.Metadata); err != nil {
			return 0, err
		}
		size := int64(len(o.Metadata))
		for i := range o.Table.Devices {
			at := int64(o.Meta.Slots[i].Mapped) * 4096
			if at < size {
				return 0, fmt.Errorf("device %d lies at byte %d, in what is before it", i+1, at)
			}
			if err := o.exportDevice(ctx, f, i, at); err != nil {
				return 0, err
			}
			size = at + o.Table.Devices[i].Space
		}
		return size, f.Truncate(size)
	})
	return err
}

func (o *Opened) exportDevice(ctx context.Context, f *os.File, i int, at int64) error {
	c := o.Content()
	defer c.Close()
	d := &o.Table.Devices[i]
	for _, index := range order(d) {
		if err := ctx.Err(); err != nil {
			return err
		}
		p, err := c.Chunk(chunk.Ref{Device: uint32(i + 1), Index: index})
		if err != nil {
			return err
		}
		if _, err := f.WriteAt(p, at+d.Chunks[index].Offset); err != nil {
			return err
		}
	}
	return nil
}
