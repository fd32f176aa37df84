package image

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/weft-dev/weft/image/chunk"
	"github.com/weft-dev/weft/image/erofs"
)

// Mount mounts the image on a folder, read-only and complete: blobs that are not devices as they are get decoded into the folder cache first,
// where the next mount finds them. It needs what erofs.Mount needs.
func (o *Opened) Mount(ctx context.Context, cache, target string, flags int, note func(format string, args ...any)) error {
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return err
	}
	devices := make([]string, len(o.Table.Devices))
	for i := range devices {
		path, err := o.device(ctx, i, cache, note)
		if err != nil {
			return err
		}
		devices[i] = path
	}
	// The kernel gets exactly the bytes that were checked.
	metadata := filepath.Join(cache, fmt.Sprintf("%x.erofs", chunk.Blake3.Sum(o.Metadata)))
	if _, err := os.Stat(metadata); err != nil {
		if _, err := writeFile(metadata, func(w io.Writer) (int64, error) {
			n, err := w.Write(o.Metadata)
			return int64(n), err
		}); err != nil {
			return err
		}
	}
	return erofs.Mount(metadata, devices, target, flags)
}

// device gives the path of a complete device.
func (o *Opened) device(ctx context.Context, i int, cache string, note func(format string, args ...any)) (string, error) {
	d := &o.Table.Devices[i]
	if f, ok := o.blobs.(BlobFolder); ok && d.Direct() {
		return filepath.Join(string(f), d.Name()), nil
	}
	path := filepath.Join(cache, d.Name()+".device")
	if d.Blob == [32]byte{} { // of the bootstrap's own blob nothing is known
		path = filepath.Join(cache, fmt.Sprintf("%x-%d.device", chunk.Blake3.Sum(o.Metadata), i))
	}
	if st, err := os.Stat(path); err == nil && st.Size() == d.Space {
		return path, nil
	}
	note("decoding blob %d of %d, %s", i+1, len(o.Table.Devices), d.Name())
	_, err := writeFile(path, func(w io.Writer) (int64, error) { return d.Space, o.decode(ctx, w.(*os.File), i) })
	return path, err
}

// decode writes the chunks of a device to their places.
func (o *Opened) decode(ctx context.Context, f *os.File, i int) error {
	d := &o.Table.Devices[i]
	if err := f.Truncate(d.Space); err != nil {
		return err
	}
	c := o.Content()
	defer c.Close()
	at := int64(-1)
	w := bufio.NewWriterSize(f, 1<<20)
	for _, index := range order(d) {
		if err := ctx.Err(); err != nil {
			return err
		}
		p, err := c.Chunk(chunk.Ref{Device: uint32(i + 1), Index: index})
		if err != nil {
			return err
		}
		if to := d.Chunks[index].Offset; to != at {
			if err := w.Flush(); err != nil {
				return err
			}
			if _, err := f.Seek(to, io.SeekStart); err != nil {
				return err
			}
			at = to
		}
		if _, err := w.Write(p); err != nil {
			return err
		}
		at += int64(len(p))
	}
	return w.Flush()
}
