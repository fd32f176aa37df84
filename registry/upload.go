package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Mount lets a repository have a blob of another repository of the same registry without sending it. It says whether
// that worked; a registry may refuse for reasons of its own.
func (c *Client) Mount(ctx context.Context, repo Repository, d digest.Digest, from Repository) (bool, error) {
	if from.Host != repo.Host {
		return false, nil
	}
	h, err := c.pushHost(ctx, repo)
	if err != nil {
		return false, err
	}
	resp, err := c.do(ctx, request{host: h, repo: repo, method: http.MethodPost, path: "/" + repo.Name + "/blobs/uploads/", push: true, mount: from.Name,
		query: url.Values{"mount": {string(d)}, "from": {from.Name}}.Encode(), body: bytesBody(nil),
		accept: []int{http.StatusCreated, http.StatusAccepted}})
	var refused *Error
	if errors.As(err, &refused) && refused.Status < 500 && refused.Status != http.StatusTooManyRequests {
		return false, nil // for example no right to read there: the blob is sent instead
	}
	if err != nil {
		return false, err
	}
	if err := drain(resp); err != nil {
		return false, err
	}
	if resp.StatusCode == http.StatusAccepted { // the registry has begun an upload instead
		up := &upload{client: c, host: h, repo: repo}
		if up.moved(resp) == nil {
			up.cancel(ctx)
		}
		return false, nil
	}
	return true, nil
}

// MayPush finds out whether the credentials are good for pushing to a repository, by beginning an upload and dropping it.
func (c *Client) MayPush(ctx context.Context, repo Repository) error {
	h, err := c.pushHost(ctx, repo)
	if err != nil {
		return err
	}
	up := &upload{client: c, host: h, repo: repo}
	if err := up.start(ctx); err != nil {
		return err
	}
	up.cancel(ctx)
	return nil
}

// PushBlob pushes a blob whose digest is known, unless it is there already. Open gives its content from the beginning,
// once for each time that it has to be sent again.
func (c *Client) PushBlob(ctx context.Context, repo Repository, desc ocispec.Descriptor, open func() (io.ReadCloser, error)) error {
	if err := desc.Digest.Validate(); err != nil {
		return fmt.Errorf("blob %q: not a digest: %w", string(desc.Digest), err)
	}
	there, err := c.Exists(ctx, repo, desc.Digest)
	if err != nil || there {
		if there {
			c.report(Progress{repo, desc.Digest, true, desc.Size, desc.Size})
		}
		return err
	}
	h, err := c.pushHost(ctx, repo)
	if err != nil {
		return err
	}
	up := &upload{client: c, host: h, repo: repo, digest: desc.Digest, total: desc.Size}
	a := attempts{retry: c.options.Retry}
	for {
		before := up.offset
		err := up.sendRest(ctx, desc, open)
		if err == nil {
			return nil
		}
		if up.offset > before {
			a.progress()
		}
		if errors.Is(err, ErrUploadLost) {
			up.location, up.offset = "", 0
			err = fmt.Errorf("%w", errors.New(err.Error())) // worth another attempt: the content can be opened again
		}
		if err := a.pause(ctx, err); err != nil {
			up.cancel(context.WithoutCancel(ctx))
			return fmt.Errorf("pushing blob %s to %s: %w", desc.Digest, repo, err)
		}
	}
}

func (c *Client) report(p Progress) {
	if c.options.Progress != nil {
		c.options.Progress(p)
	}
}

// upload is an upload session.
type upload struct {
	client   *Client
	host     Host
	repo     Repository
	location string // "" before it has begun
	offset   int64  // bytes that the registry has
	total    int64  // -1: not known
	digest   digest.Digest
	unsure   bool // the last request broke: offset has to be asked for
}

// start begins the session.
func (u *upload) start(ctx context.Context) error {
	resp, err := u.client.do(ctx, request{host: u.host, repo: u.repo, method: http.MethodPost, path: "/" + u.repo.Name + "/blobs/uploads/", push: true,
		body: bytesBody(nil), accept: []int{http.StatusAccepted}})
	if err != nil {
		return err
	}
	u.offset, u.unsure = 0, false
	if err := u.moved(resp); err != nil {
		return err
	}
	return drain(resp)
}

// moved takes in where the next request goes: it may change with every answer.
func (u *upload) moved(resp *http.Response) error {
	text := resp.Header.Get("Location")
	if text == "" {
		return permanent(errors.New("the registry does not say where to send the upload: its answer has no Location"))
	}
	next, err := resp.Request.URL.Parse(text)
	if err != nil || (next.Scheme != "http" && next.Scheme != "https") {
		return permanent(fmt.Errorf("the registry names no usable place for the upload: %q", printable(text, 200)))
	}
	if resp.Request.URL.Scheme == "https" && next.Scheme != "https" {
		return permanent(fmt.Errorf("the registry wants the upload at %s without TLS, which is refused", next.Host))
	}
	u.location = next.String()
	return nil
}

// request is a request to the session. Credentials go with it only to the registry's own host.
func (u *upload) request(method string) request {
	r := request{host: u.host, repo: u.repo, method: method, path: u.location, push: true, once: true}
	if next, err := url.Parse(u.location); err == nil && (next.Host != u.host.Name || next.Scheme != u.host.Scheme) {
		r.host = Host{Name: next.Host, Scheme: next.Scheme, Base: "/v2", TLS: u.host.TLS}
	}
	return r
}

// sync finds out how much the registry has after a request broke. Its answer to a status request is the truth.
func (u *upload) sync(ctx context.Context) error {
	r := u.request(http.MethodGet)
	r.accept, r.once = []int{http.StatusNoContent, http.StatusOK}, false
	resp, err := u.client.do(ctx, r)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrUploadLost, err)
	}
	if err != nil {
		return err
	}
	if err := drain(resp); err != nil {
		return err
	}
	n, err := parseUploadRange(resp.Header.Get("Range"))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUploadLost, err)
	}
	if resp.Header.Get("Location") != "" {
		if err := u.moved(resp); err != nil {
			return err
		}
	}
	u.offset, u.unsure = n, false
	return nil
}

// parseUploadRange reads how many bytes a session has: 0-LAST. An empty session says 0-0 just as one of a single byte
// does; taking it for empty is right in either case, because the registry refuses a chunk that does not fit.
func parseUploadRange(s string) (int64, error) {
	text := strings.TrimPrefix(strings.TrimPrefix(s, "bytes="), "bytes ")
	first, last, ok := strings.Cut(text, "-")
	n, err := strconv.ParseInt(last, 10, 62)
	if !ok || first != "0" || err != nil || n < 0 || len(last) > 18 {
		return 0, fmt.Errorf("the registry says %q instead of how much it has", printable(s, 80))
	}
	if n == 0 {
		return 0, nil
	}
	return n + 1, nil
}

// sendRest sends what the registry does not have yet, and finishes.
func (u *upload) sendRest(ctx context.Context, desc ocispec.Descriptor, open func() (io.ReadCloser, error)) error {
	if u.location == "" {
		if err := u.start(ctx); err != nil {
			return err
		}
	}
	if u.unsure {
		if there, err := u.client.Exists(ctx, u.repo, desc.Digest); err == nil && there {
			return nil // only the answer was lost
		}
		if err := u.sync(ctx); err != nil {
			return err
		}
	}
	if u.offset > desc.Size {
		return fmt.Errorf("%w: it has %d bytes of %d", ErrUploadLost, u.offset, desc.Size)
	}
	if u.offset == 0 {
		return u.finish(ctx, desc.Digest, desc.Size, func() (io.ReadCloser, error) { return u.metered(ctx, open) })
	}
	if u.offset < desc.Size {
		err := u.patch(ctx, desc.Size-u.offset, func() (io.ReadCloser, error) { return u.metered(ctx, open) })
		if err != nil {
			return err
		}
	}
	return u.finish(ctx, desc.Digest, 0, nil)
}

// metered is the content from the session's offset on, with limit and progress.
func (u *upload) metered(ctx context.Context, open func() (io.ReadCloser, error)) (io.ReadCloser, error) {
	rc, err := open()
	if err != nil {
		return nil, err
	}
	if u.offset > 0 {
		if _, err := io.CopyN(io.Discard, rc, u.offset); err != nil {
			rc.Close()
			return nil, fmt.Errorf("reading the blob again: %w", err)
		}
	}
	return &meter{ReadCloser: rc, ctx: ctx, client: u.client, progress: Progress{u.repo, u.digest, true, u.offset, u.total}}, nil
}

// meter limits and reports what passes through it.
type meter struct {
	io.ReadCloser
	ctx      context.Context
	client   *Client
	progress Progress
}

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.ReadCloser.Read(p[:min(len(p), limitStep)])
	if n > 0 {
		if limit := m.client.options.Limit; limit != nil {
			if err := limit(m.ctx, n); err != nil {
				return n, err
			}
		}
		m.progress.Done += int64(n)
		m.client.report(m.progress)
	}
	return n, err
}

// patch appends size bytes.
func (u *upload) patch(ctx context.Context, size int64, body func() (io.ReadCloser, error)) error {
	r := u.request(http.MethodPatch)
	r.body, r.length = body, size
	r.header = http.Header{"Content-Type": {"application/octet-stream"}, "Content-Range": {fmt.Sprintf("%d-%d", u.offset, u.offset+size-1)}}
	r.accept = []int{http.StatusAccepted, http.StatusCreated, http.StatusNoContent}
	resp, err := u.client.do(ctx, r)
	if err != nil {
		return u.broke(err)
	}
	u.offset += size
	if err := u.moved(resp); err != nil {
		return err
	}
	return drain(resp)
}

// finish ends the session, with size bytes more. An answer that gets lost is found out by asking for the blob.
func (u *upload) finish(ctx context.Context, d digest.Digest, size int64, body func() (io.ReadCloser, error)) error {
	if body == nil {
		body = bytesBody(nil)
	}
	r := u.request(http.MethodPut)
	r.body, r.length = body, size
	r.query = url.Values{"digest": {string(d)}}.Encode()
	r.header = http.Header{"Content-Type": {"application/octet-stream"}}
	r.accept = []int{http.StatusCreated, http.StatusNoContent, http.StatusOK, http.StatusAccepted}
	resp, err := u.client.do(ctx, r)
	if err != nil {
		return u.broke(err)
	}
	return drain(resp)
}

// broke notes that it is not known what the registry has now.
func (u *upload) broke(err error) error {
	u.unsure = true
	var e *Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Status {
	case http.StatusNotFound: // the session has expired
		return fmt.Errorf("%w: %w", ErrUploadLost, err)
	case http.StatusRequestedRangeNotSatisfiable, http.StatusConflict: // it has more or less than we thought
		return errors.New(err.Error()) // worth another attempt
	}
	return err
}

// cancel tells the registry to drop the session; that is a courtesy.
func (u *upload) cancel(ctx context.Context) {
	if u.location == "" {
		return
	}
	r := u.request(http.MethodDelete)
	r.accept = []int{http.StatusNoContent, http.StatusOK, http.StatusAccepted}
	if resp, err := u.client.do(ctx, r); err == nil {
		_ = drain(resp)
	}
}
