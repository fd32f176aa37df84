package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// BlobWriter pushes a blob while it is being made, in one pass: its digest and size are known only at the end. It holds
// one chunk (Options.ChunkSize) in memory to send it again after a fault. It is used by one goroutine.
type BlobWriter struct {
	ctx      context.Context
	up       *upload
	digester digest.Digester
	chunk    []byte
	size     int64
	err      error
}

var errCommitted = errors.New("the blob is committed")

// BlobWriter begins a push. Commit must be called at the end, or Abort.
func (c *Client) BlobWriter(ctx context.Context, repo Repository) (*BlobWriter, error) {
	h, err := c.pushHost(ctx, repo)
	if err != nil {
		return nil, err
	}
	return &BlobWriter{ctx: ctx, up: &upload{client: c, host: h, repo: repo, total: -1}, digester: digest.SHA256.Digester()}, nil
}

// Write takes content and sends it whenever a chunk is full. ErrUploadLost if the registry forgot the session: then
// everything has to be written again to a new writer.
func (w *BlobWriter) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	if w.chunk == nil {
		w.chunk = make([]byte, 0, w.up.client.options.ChunkSize)
	}
	written := 0
	for len(p) > 0 {
		n := min(len(p), cap(w.chunk)-len(w.chunk))
		w.chunk = append(w.chunk, p[:n]...)
		w.digester.Hash().Write(p[:n])
		w.size += int64(n)
		written += n
		p = p[n:]
		if len(w.chunk) == cap(w.chunk) {
			if w.err = w.flush(); w.err != nil {
				return written, w.err
			}
		}
	}
	return written, nil
}

// flush sends the chunk, whole or, after a fault, what of it is missing.
func (w *BlobWriter) flush() error {
	base := w.size - int64(len(w.chunk))
	a := attempts{retry: w.up.client.options.Retry}
	for {
		err := w.flushOnce(base)
		if err == nil {
			w.chunk = w.chunk[:0]
			return nil
		}
		if err := a.pause(w.ctx, err); err != nil {
			return fmt.Errorf("pushing a blob to %s: %w", w.up.repo, err)
		}
	}
}

func (w *BlobWriter) flushOnce(base int64) error {
	if w.up.location == "" {
		if err := w.up.start(w.ctx); err != nil {
			return err
		}
	}
	if w.up.unsure {
		if err := w.up.sync(w.ctx); err != nil {
			return err
		}
	}
	skip := w.up.offset - base
	if skip < 0 || skip > int64(len(w.chunk)) {
		return fmt.Errorf("%w: it has %d bytes, this chunk is %d to %d", ErrUploadLost, w.up.offset, base, w.size)
	}
	rest := w.chunk[skip:]
	if len(rest) == 0 {
		return nil
	}
	return w.up.patch(w.ctx, int64(len(rest)), func() (io.ReadCloser, error) {
		return &meter{ReadCloser: io.NopCloser(bytes.NewReader(rest)), ctx: w.ctx, client: w.up.client, progress: Progress{w.up.repo, "", true, base + skip, -1}}, nil
	})
}

// Commit sends the rest and finishes. The descriptor has digest, size and the media type given.
func (w *BlobWriter) Commit(mediaType string) (ocispec.Descriptor, error) {
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: w.digester.Digest(), Size: w.size}
	if w.err != nil {
		return desc, w.err
	}
	if w.err = w.flush(); w.err != nil {
		return desc, w.err
	}
	a := attempts{retry: w.up.client.options.Retry}
	for {
		err := w.up.finish(w.ctx, desc.Digest, 0, nil)
		if err == nil {
			break
		}
		if there, e := w.up.client.Exists(w.ctx, w.up.repo, desc.Digest); e == nil && there {
			break // only the answer was lost
		}
		if err := a.pause(w.ctx, err); err != nil {
			w.err = err
			return desc, fmt.Errorf("pushing blob %s to %s: %w", desc.Digest, w.up.repo, err)
		}
	}
	w.err = errCommitted
	return desc, nil
}

// Abort drops the push. After Commit it does nothing.
func (w *BlobWriter) Abort() {
	if w.err == nil {
		w.err = errors.New("the push was aborted")
	}
	if !errors.Is(w.err, errCommitted) {
		w.up.cancel(context.WithoutCancel(w.ctx))
	}
}
