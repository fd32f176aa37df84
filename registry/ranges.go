package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Ranged is a blob of which parts are read. It is safe for use by several goroutines. Parts cannot be compared with
// the blob's digest: the caller must have digests of its own for them, or not trust what it reads. What is made sure is
// that an answer is the part that was asked for and not shorter or longer.
type Ranged struct {
	client *Client
	repo   Repository
	desc   ocispec.Descriptor
}

// Ranged gives access to parts of a blob, whose size must be known. It makes no request.
func (c *Client) Ranged(repo Repository, desc ocispec.Descriptor) (*Ranged, error) {
	if err := desc.Digest.Validate(); err != nil {
		return nil, fmt.Errorf("blob %q of %s: not a digest: %w", string(desc.Digest), repo, err)
	}
	if desc.Size <= 0 {
		return nil, fmt.Errorf("blob %s of %s: its size must be known to read parts of it", desc.Digest, repo)
	}
	return &Ranged{c, repo, desc}, nil
}

// Size is the blob's, in bytes.
func (b *Ranged) Size() int64 { return b.desc.Size }

// ReadAt reads len(p) bytes from an offset with the rules of io.ReaderAt, in one request. ErrNoRanges if the registry
// sends whole blobs only, which no other attempt mends; ErrRange if it goes on sending other parts than asked for.
func (b *Ranged) ReadAt(ctx context.Context, p []byte, offset int64) (int, error) {
	if offset < 0 {
		return 0, errors.New("negative offset")
	}
	if offset >= b.desc.Size {
		return 0, io.EOF
	}
	short := false
	if rest := b.desc.Size - offset; int64(len(p)) > rest {
		p, short = p[:rest], true
	}
	if len(p) == 0 {
		return 0, nil
	}
	done := 0
	err := b.client.pull(ctx, b.repo, func(h Host) error {
		a := attempts{retry: b.client.options.Retry}
		for {
			n, err := b.readOnce(ctx, h, p[done:], offset+int64(done))
			done += n
			if err == nil {
				return nil
			}
			if n > 0 {
				a.progress()
			}
			if err := a.pause(ctx, err); err != nil {
				return err
			}
		}
	})
	if err != nil {
		return done, fmt.Errorf("bytes %d-%d of blob %s of %s: %w", offset, offset+int64(len(p))-1, b.desc.Digest, b.repo, err)
	}
	if short {
		return done, io.EOF
	}
	return done, nil
}

// readOnce fills p as far as one request does. Only bytes that are known to be in their right place count.
func (b *Ranged) readOnce(ctx context.Context, h Host, p []byte, offset int64) (int, error) {
	last := offset + int64(len(p)) - 1
	ctx, cancel := context.WithCancelCause(ctx)
	resp, err := b.client.do(ctx, request{host: h, repo: b.repo, method: http.MethodGet, path: blobPath(b.repo, b.desc.Digest), once: true, //nolint:bodyclose // closed with the reader that wraps it
		header: http.Header{"Range": {fmt.Sprintf("bytes=%d-%d", offset, last)}, "Accept-Encoding": {"identity"}},
		accept: []int{http.StatusOK, http.StatusPartialContent}})
	if err != nil {
		cancel(nil)
		return 0, err
	}
	body := newStallReader(resp.Body, b.client.options.Stall, cancel)
	defer body.Close()
	if err := b.checkPart(resp, offset, last); err != nil {
		return 0, err
	}
	n := 0
	for n < len(p) {
		step := p[n:min(len(p), n+limitStep)]
		m, err := io.ReadFull(body, step)
		n += m
		if err != nil {
			return n, err
		}
		if b.client.options.Limit != nil {
			if err := b.client.options.Limit(ctx, m); err != nil {
				return n, permanent(err)
			}
		}
	}
	if extra, _ := body.Read(make([]byte, 1)); extra > 0 {
		return 0, fmt.Errorf("%w: more than the %d bytes asked for", ErrRange, len(p))
	}
	return n, nil
}

func (b *Ranged) checkPart(resp *http.Response, offset, last int64) error {
	if resp.StatusCode == http.StatusOK {
		if offset == 0 && last == b.desc.Size-1 && (resp.ContentLength < 0 || resp.ContentLength == b.desc.Size) {
			return nil // all of it was asked for
		}
		return ErrNoRanges
	}
	said := resp.Header.Get("Content-Range")
	start, end, total, err := parseContentRange(said)
	if err != nil {
		return err
	}
	if start != offset || end != last || total >= 0 && total != b.desc.Size || resp.ContentLength >= 0 && resp.ContentLength != last-offset+1 {
		return fmt.Errorf("%w: asked for bytes %d-%d of %d, got %s with %d bytes", ErrRange, offset, last, b.desc.Size, printable(said, 80), resp.ContentLength)
	}
	return nil
}

// WithContext is the blob as an io.ReaderAt whose requests belong to ctx.
func (b *Ranged) WithContext(ctx context.Context) io.ReaderAt { return readerAt{ctx, b} }

type readerAt struct {
	ctx  context.Context
	blob *Ranged
}

func (r readerAt) ReadAt(p []byte, offset int64) (int, error) {
	return r.blob.ReadAt(r.ctx, p, offset)
}

var contentRangePattern = regexp.MustCompile(`^bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)$`)

// parseContentRange reads an answer's Content-Range (RFC 9110, section 14.4); total is -1 if it is not said.
func parseContentRange(s string) (start, end, total int64, err error) {
	m := contentRangePattern.FindStringSubmatch(s)
	if m == nil {
		return 0, 0, 0, fmt.Errorf("%w: Content-Range is %q", ErrRange, printable(s, 80))
	}
	start, _ = strconv.ParseInt(m[1], 10, 64) // 18 digits fit
	end, _ = strconv.ParseInt(m[2], 10, 64)
	total = -1
	if m[3] != "*" {
		total, _ = strconv.ParseInt(m[3], 10, 64)
	}
	if end < start || total >= 0 && end >= total {
		return 0, 0, 0, fmt.Errorf("%w: Content-Range is %q", ErrRange, printable(s, 80))
	}
	return start, end, total, nil
}
