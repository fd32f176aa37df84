package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func blobPath(repo Repository, d digest.Digest) string {
	return "/" + repo.Name + "/blobs/" + string(d)
}

// Exists says whether the registry that takes pushes for the repository has a blob there.
func (c *Client) Exists(ctx context.Context, repo Repository, d digest.Digest) (bool, error) {
	h, err := c.pushHost(ctx, repo)
	if err != nil {
		return false, err
	}
	resp, err := c.do(ctx, request{host: h, repo: repo, method: http.MethodHead, path: blobPath(repo, d), accept: []int{http.StatusOK, http.StatusNotFound}})
	if err != nil {
		return false, err
	}
	return resp.StatusCode == http.StatusOK, drain(resp)
}

// StatBlob asks for a blob's size in bytes. fs.ErrNotExist if there is none.
func (c *Client) StatBlob(ctx context.Context, repo Repository, d digest.Digest) (int64, error) {
	size := int64(-1)
	err := c.pull(ctx, repo, func(h Host) error {
		resp, err := c.do(ctx, request{host: h, repo: repo, method: http.MethodHead, path: blobPath(repo, d), accept: []int{http.StatusOK}})
		if err != nil {
			return err
		}
		size = resp.ContentLength
		return drain(resp)
	})
	if err == nil && size < 0 {
		err = fmt.Errorf("blob %s of %s: the registry does not say its size", d, repo)
	}
	return size, err
}

// Blob reads a blob from its beginning. Size in the descriptor may be 0 if it is not known. The reader goes on by
// itself after cut connections, on the next mirror if one gives up. At the end it compares size and digest: ErrDigest
// instead of io.EOF if something else came, so whoever uses content before the end must be able to take it back.
func (c *Client) Blob(ctx context.Context, repo Repository, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if err := desc.Digest.Validate(); err != nil {
		return nil, fmt.Errorf("blob %q of %s: not a digest: %w", string(desc.Digest), repo, err)
	}
	hosts, err := c.hosts(ctx, repo.Host, CapabilityPull)
	if err != nil {
		return nil, err
	}
	size := desc.Size
	if size <= 0 {
		size = -1
	}
	r := &blobReader{ctx: ctx, client: c, repo: repo, digest: desc.Digest, size: size, hosts: hosts,
		verifier: desc.Digest.Verifier(), attempts: attempts{retry: c.options.Retry}}
	if err := r.open(); err != nil {
		return nil, err
	}
	return r, nil
}

// blobReader reads one blob over as many requests as it takes.
type blobReader struct {
	ctx      context.Context
	client   *Client
	repo     Repository
	digest   digest.Digest
	size     int64 // -1: not known yet
	hosts    []Host
	failures []error
	verifier digest.Verifier
	attempts attempts
	offset   int64
	body     io.ReadCloser
	err      error // what every further Read returns
}

// open makes a request for the rest of the blob, on the next host where one fails for good.
func (r *blobReader) open() error {
	for {
		err := r.request()
		if err == nil {
			return nil
		}
		if err := r.failed(err); err != nil {
			return err
		}
	}
}

// failed waits before the next attempt or goes to the next host; it returns the error when there is no next one.
func (r *blobReader) failed(err error) error {
	gaveUp := r.attempts.pause(r.ctx, err)
	if gaveUp == nil || r.ctx.Err() != nil {
		return gaveUp
	}
	r.failures = append(r.failures, gaveUp)
	if len(r.hosts) > 1 && !errors.Is(err, ErrDigest) {
		r.hosts = r.hosts[1:]
		r.attempts.progress()
		return nil
	}
	if len(r.failures) == 1 {
		return fmt.Errorf("blob %s of %s: %w", r.digest, r.repo, gaveUp)
	}
	return fmt.Errorf("blob %s of %s: none of %d hosts could give it: %w", r.digest, r.repo, len(r.failures), errors.Join(r.failures...))
}

func (r *blobReader) request() error {
	req := request{host: r.hosts[0], repo: r.repo, method: http.MethodGet, path: blobPath(r.repo, r.digest), accept: []int{http.StatusOK}, once: true,
		header: http.Header{}}
	if r.offset > 0 {
		req.header.Set("Range", "bytes="+strconv.FormatInt(r.offset, 10)+"-")
		req.accept = append(req.accept, http.StatusPartialContent)
	}
	ctx, cancel := context.WithCancelCause(r.ctx)
	resp, err := r.client.do(ctx, req) //nolint:bodyclose // closed with the reader that wraps it
	if err != nil {
		cancel(nil)
		return err
	}
	body := newStallReader(resp.Body, r.client.options.Stall, cancel)
	total, err := r.check(resp, body)
	if err == nil && total >= 0 && r.size >= 0 && total != r.size {
		err = permanent(fmt.Errorf("%w: %d bytes are expected, the registry has %d", ErrDigest, r.size, total))
	}
	if err != nil {
		body.Close()
		return err
	}
	if r.size < 0 {
		r.size = total
	}
	r.body = body
	return nil
}

// check makes sure that the answer's body begins where it was asked to, and returns the blob's size, -1 if it is not
// said. A registry that does not know ranges sends everything: what is there already is skipped.
func (r *blobReader) check(resp *http.Response, body io.Reader) (int64, error) {
	if resp.StatusCode == http.StatusOK {
		if r.offset > 0 {
			if _, err := io.CopyN(io.Discard, body, r.offset); err != nil {
				return 0, err
			}
		}
		return resp.ContentLength, nil
	}
	start, end, total, err := parseContentRange(resp.Header.Get("Content-Range"))
	if err != nil {
		return 0, err
	}
	if start != r.offset || resp.ContentLength >= 0 && end-start+1 != resp.ContentLength {
		return 0, fmt.Errorf("%w: from byte %d, got %s", ErrRange, r.offset, printable(resp.Header.Get("Content-Range"), 80))
	}
	return total, nil
}

// Read reads on; see Client.Blob.
func (r *blobReader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	if len(p) > limitStep {
		p = p[:limitStep]
	}
	for {
		if r.body == nil {
			if r.err = r.open(); r.err != nil {
				return 0, r.err
			}
		}
		n, err := r.body.Read(p)
		if n > 0 {
			return n, r.took(p[:n])
		}
		if err == nil {
			continue
		}
		r.body.Close()
		r.body = nil
		if err == io.EOF && (r.size < 0 || r.offset >= r.size) {
			r.err = r.end()
			return 0, r.err
		}
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if r.err = r.failed(err); r.err != nil {
			return 0, r.err
		}
	}
}

func (r *blobReader) took(p []byte) error {
	r.offset += int64(len(p))
	if r.size >= 0 && r.offset > r.size {
		r.err = fmt.Errorf("blob %s of %s: %w: more than the %d bytes that are expected", r.digest, r.repo, ErrDigest, r.size)
		return r.err
	}
	_, _ = r.verifier.Write(p) // a hash never fails
	r.attempts.progress()
	o := &r.client.options
	if o.Limit != nil {
		if r.err = o.Limit(r.ctx, len(p)); r.err != nil {
			return r.err
		}
	}
	if o.Progress != nil {
		o.Progress(Progress{Repository: r.repo, Digest: r.digest, Done: r.offset, Total: r.size})
	}
	return nil
}

func (r *blobReader) end() error {
	if !r.verifier.Verified() {
		return fmt.Errorf("blob %s of %s: %w (%d bytes came)", r.digest, r.repo, ErrDigest, r.offset)
	}
	return io.EOF
}

// Close stops reading.
func (r *blobReader) Close() error {
	if r.err == nil {
		r.err = errors.New("read after Close")
	}
	if r.body == nil {
		return nil
	}
	err := r.body.Close()
	r.body = nil
	return err
}

// limitStep is how much is moved between two calls of Options.Limit, in bytes.
const limitStep = 64 << 10

// errStalled says that a transfer stood still for too long.
var errStalled = errors.New("no data came for too long")

// stallReader breaks a request whose body stands still.
type stallReader struct {
	io.ReadCloser
	after  time.Duration
	timer  *time.Timer
	cancel context.CancelCauseFunc
}

func newStallReader(body io.ReadCloser, after time.Duration, cancel context.CancelCauseFunc) *stallReader {
	t := time.AfterFunc(after, func() { cancel(errStalled) })
	t.Stop()
	return &stallReader{body, after, t, cancel}
}

func (s *stallReader) Read(p []byte) (int, error) {
	s.timer.Reset(s.after)
	n, err := s.ReadCloser.Read(p)
	if !s.timer.Stop() && err != nil {
		err = errStalled
	}
	return n, err
}

func (s *stallReader) Close() error {
	s.timer.Stop()
	defer s.cancel(nil)
	return s.ReadCloser.Close()
}
