package containerd

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"

	contentapi "github.com/containerd/containerd/api/services/content/v1"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

const (
	chunk      = 1 << 20  // bytes of one message of content
	maxMessage = 16 << 20 // bytes of a message, containerd's own default
)

// has says whether the content store has a blob.
func (c *Client) has(ctx context.Context, h v1.Hash) (bool, error) {
	_, err := c.content.Info(c.in(ctx, ""), &contentapi.InfoRequest{Digest: h.String()})
	switch err = said(err); {
	case err == nil:
		return true, nil
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	}
	return false, fmt.Errorf("ask containerd for %s: %w", h, err)
}

// read gives the bytes of a blob.
func (c *Client) read(ctx context.Context, h v1.Hash) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancel(c.in(ctx, ""))
	stream, err := c.content.Read(ctx, &contentapi.ReadContentRequest{Digest: h.String()})
	if err != nil {
		cancel()
		return nil, fmt.Errorf("read %s from containerd: %w", h, said(err))
	}
	return &reader{stream: stream, cancel: cancel, of: h}, nil
}

// reader reads the messages of one blob. The content store has checked what it holds.
type reader struct {
	stream contentapi.Content_ReadClient
	cancel context.CancelFunc
	of     v1.Hash
	rest   []byte
}

func (r *reader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		message, err := r.stream.Recv()
		if errors.Is(err, io.EOF) {
			return 0, io.EOF
		}
		if err != nil {
			return 0, fmt.Errorf("read %s from containerd: %w", r.of, said(err))
		}
		r.rest = message.Data
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func (r *reader) Close() error {
	r.cancel()
	return nil
}

// document reads a blob that is small.
func (c *Client) document(ctx context.Context, h v1.Hash, limit int64) ([]byte, error) {
	r, err := c.read(ctx, h)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s in containerd is larger than %d bytes", h, limit)
	}
	return data, err
}

// ingest is a blob on its way into the content store.
type ingest struct {
	c      *Client
	ref    string
	stream contentapi.Content_WriteClient
	cancel context.CancelFunc
	ctx    context.Context //nolint:containedctx // of the stream; io.Writer has none
	sent   int64
	buffer []byte
}

// begin starts a blob whose digest need not be known. Nobody sees it before commit, and it goes with abort or with the lease.
func (c *Client) begin(ctx context.Context, lease string) (*ingest, error) {
	w := &ingest{c: c, ref: "weft-" + rand.Text(), buffer: make([]byte, 0, chunk)}
	w.ctx, w.cancel = context.WithCancel(c.in(ctx, lease))
	var err error
	if w.stream, err = c.content.Write(w.ctx); err != nil {
		w.cancel()
		return nil, fmt.Errorf("write to containerd: %w", said(err))
	}
	return w, nil
}

func (w *ingest) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		part := p[:min(len(p), chunk-len(w.buffer))]
		w.buffer, p = append(w.buffer, part...), p[len(part):]
		if len(w.buffer) == chunk {
			if err := w.flush(); err != nil {
				return 0, err
			}
		}
	}
	return n, nil
}

func (w *ingest) flush() error {
	if len(w.buffer) == 0 {
		return nil
	}
	_, err := w.call(&contentapi.WriteContentRequest{Action: contentapi.WriteAction_WRITE, Ref: w.ref, Offset: w.sent, Data: w.buffer})
	w.sent += int64(len(w.buffer))
	w.buffer = w.buffer[:0]
	return err
}

// call sends one message and waits for its answer. The content store answers each, with the offset that it has reached.
func (w *ingest) call(m *contentapi.WriteContentRequest) (*contentapi.WriteContentResponse, error) {
	if err := w.stream.Send(m); err != nil && !errors.Is(err, io.EOF) { // the reason of an EOF comes with Recv
		return nil, fmt.Errorf("write to containerd: %w", said(err))
	}
	answer, err := w.stream.Recv()
	if err != nil {
		return nil, fmt.Errorf("write to containerd: %w", said(err))
	}
	return answer, nil
}

// commit makes it a blob, if its digest is the expected one. A blob that the store has by now is as good.
func (w *ingest) commit(h v1.Hash, labels map[string]string) error {
	defer w.cancel()
	if err := w.flush(); err != nil {
		return err
	}
	_, err := w.call(&contentapi.WriteContentRequest{Action: contentapi.WriteAction_COMMIT, Ref: w.ref, Total: w.sent, Offset: w.sent,
		Expected: h.String(), Labels: labels})
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return w.stream.CloseSend()
}

// abort throws away what was written.
func (w *ingest) abort() error {
	w.cancel()
	// Also when the build was interrupted; this call is short.
	_, err := w.c.content.Abort(context.WithoutCancel(w.ctx), &contentapi.AbortRequest{Ref: w.ref})
	if err = said(err); err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return fmt.Errorf("abort writing to containerd: %w", err)
}

// put writes a blob from what open gives, unless the store has it. In either case lease holds it.
func (c *Client) put(ctx context.Context, lease string, h v1.Hash, size int64, labels map[string]string, open func() (io.ReadCloser, error)) (err error) {
	there, err := c.hold(ctx, lease, h)
	if err != nil || there {
		return err
	}
	r, err := open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	w, err := c.begin(ctx, lease)
	if err != nil {
		return err
	}
	n, err := io.Copy(w, r)
	if err == nil && n != size {
		err = fmt.Errorf("%d bytes came instead of %d for %s", n, size, h)
	}
	if err == nil {
		err = w.commit(h, labels)
	}
	if err != nil {
		return errors.Join(err, w.abort())
	}
	return nil
}

// putBytes is put for a document.
func (c *Client) putBytes(ctx context.Context, lease string, data []byte, labels map[string]string) (v1.Hash, error) {
	h, size, err := v1.SHA256(bytes.NewReader(data))
	if err != nil {
		return h, err
	}
	return h, c.put(ctx, lease, h, size, labels, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil })
}
