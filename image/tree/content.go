package tree

import (
	"fmt"
	"io"

	"github.com/weft-dev/weft/image/chunk"
)

// Chunks cuts the content of files into chunks. Files of at most Inline bytes are kept in the tree.
type Chunks struct {
	Writer *chunk.Writer
	Inline int
}

// File takes the content of a file.
func (c Chunks) File(n *Node, r io.Reader) error {
	if n.Size <= int64(c.Inline) {
		n.Inline = make([]byte, n.Size)
		if _, err := io.ReadFull(r, n.Inline); err != nil {
			return fmt.Errorf("it ends before its %d bytes: %w", n.Size, io.ErrUnexpectedEOF)
		}
		return nil
	}
	refs, err := c.Writer.File(r, n.Size)
	n.Chunks, n.ChunkSize = refs, c.Writer.ChunkSize()
	return err
}
