package image

import (
	"fmt"

	"github.com/weft-dev/weft/image/chunk"
	"github.com/weft-dev/weft/image/tree"
)

// Merge makes one image of images of layers, the lowest first. Blobs are not touched: the result refers to those that it needs. The opened
// images may not be used afterwards. With keep true the marks of deleted files stay, for layers below all of these.
func Merge(keep bool, layers ...*Opened) (*Image, error) {
	if len(layers) == 0 {
		return nil, fmt.Errorf("there is nothing to merge")
	}
	tables := make([]*chunk.Table, len(layers))
	size := 0
	for i, l := range layers {
		if l.Format != layers[0].Format {
			return nil, fmt.Errorf("%s is %s and %s is %s: only images of one form can be merged", layers[0].Name, layers[0].Format, l.Name, l.Format)
		}
		if l.Format == RAFS {
			if size != 0 && size != int(l.Bootstrap.Super.ChunkSize) {
				return nil, fmt.Errorf("%s has chunks of %d bytes instead of %d", l.Name, l.Bootstrap.Super.ChunkSize, size)
			}
			size = int(l.Bootstrap.Super.ChunkSize)
		}
		tables[i] = l.Table
	}
	table, numbers, err := chunk.Join(tables...)
	if err != nil {
		return nil, err
	}
	im := &Image{Format: layers[0].Format, Table: table}
	for i, l := range layers {
		for j := range l.Blobs {
			if int(numbers[i].Device(uint32(j+1))) > len(im.Blobs) {
				im.Blobs = append(im.Blobs, l.Blobs[j])
			}
		}
		if err := l.Root.Renumber(numbers[i]); err != nil {
			return nil, fmt.Errorf("%s: %w", l.Name, err)
		}
		l.Root.TakeOpaque()
		im.Root = tree.Merge(im.Root, l.Root)
	}
	if keep {
		im.Root.PutOpaque()
	} else {
		im.Root.DropMarks()
	}
	return im, im.Prune()
}
