package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/opencontainers/go-digest"
)

// Options of a client. The zero value is useful: anonymous, no mirrors, default retries.
type Options struct {
	Keychain  authn.Keychain    // nil: anonymous; see Credentials
	Mirrors   Mirrors           // nil: every registry is asked directly
	PlainHTTP []string          // hosts (host or host:port) spoken to without TLS; loopback always is
	Transport http.RoundTripper // nil: one of the client's own; a mirror with TLS settings always gets its own
	UserAgent string
	Retry     Retry
	// Limit is called before at most 64 KiB pass in either direction, with their number; it waits as long as the
	// caller's bandwidth limit asks. WaitN of golang.org/x/time/rate.Limiter fits, with a burst of at least 64 KiB.
	Limit func(ctx context.Context, n int) error
	// Progress is called as bytes of a blob pass, from the goroutine that moves them.
	Progress func(Progress)
	// ManifestLimit is the greatest manifest taken, in bytes; 0 means 4 MiB.
	ManifestLimit int64
	// ChunkSize is how much of a stream is held in memory to be sent again after a fault, in bytes; 0 means 8 MiB.
	ChunkSize int
	// Stall is how long a blob's transfer may stand still before it is taken for broken; 0 means 1 minute.
	Stall  time.Duration
	Logger *slog.Logger
}

// Progress of one blob.
type Progress struct {
	Repository Repository
	Digest     digest.Digest // empty while a stream's digest is not known
	Push       bool
	Done       int64 // bytes
	Total      int64 // bytes, -1 if not known
}

// Client talks to registries. It is safe for use by several goroutines and keeps connections and tokens between calls.
type Client struct {
	options    Options
	transport  http.RoundTripper
	log        *slog.Logger
	mu         sync.Mutex
	transports map[string]http.RoundTripper // of hosts with TLS settings of their own
	tokens     map[string]*tokenCache       // by base URL
}

// New makes a client.
func New(o Options) *Client {
	if o.Keychain == nil {
		o.Keychain = authn.NewMultiKeychain()
	}
	o.Retry = o.Retry.withDefaults()
	if o.ManifestLimit == 0 {
		o.ManifestLimit = 4 << 20
	}
	if o.ChunkSize == 0 {
		o.ChunkSize = 8 << 20
	}
	if o.Stall == 0 {
		o.Stall = time.Minute
	}
	if o.UserAgent == "" {
		o.UserAgent = "weft"
	}
	c := &Client{options: o, transport: o.Transport, log: o.Logger, transports: map[string]http.RoundTripper{}, tokens: map[string]*tokenCache{}}
	if c.transport == nil {
		c.transport = newTransport()
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	return c
}

func newTransport() *http.Transport {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 15 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		ForceAttemptHTTP2:     true,
		MaxIdleConns:          100,
		MaxIdleConnsPerHost:   16,
		IdleConnTimeout:       90 * time.Second,
		TLSHandshakeTimeout:   15 * time.Second,
		ExpectContinueTimeout: time.Second,
		ReadBufferSize:        64 << 10,
		WriteBufferSize:       64 << 10,
	}
}

// Close drops idle connections.
func (c *Client) Close() {
	type closer interface{ CloseIdleConnections() }
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.transports {
		if t, ok := t.(closer); ok {
			t.CloseIdleConnections()
		}
	}
	if t, ok := c.transport.(closer); ok && c.options.Transport == nil {
		t.CloseIdleConnections()
	}
}

// request is one request to one host.
type request struct {
	host   Host
	repo   Repository
	method string
	path   string // below the host's base, or a whole URL
	query  string
	header http.Header
	// body gives the body anew for each attempt; nil for none. Length -1: not known.
	body   func() (io.ReadCloser, error)
	length int64
	push   bool
	mount  string // another repository that is read from
	accept []int  // status codes that mean success
	once   bool   // the caller decides about another attempt
}

// do sends a request until it succeeds or there is no hope. The caller closes the body.
func (c *Client) do(ctx context.Context, r request) (*http.Response, error) {
	a := attempts{retry: c.options.Retry}
	for {
		resp, err := c.try(ctx, r)
		if err == nil {
			return resp, nil
		}
		if r.once {
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			return nil, err
		}
		c.log.DebugContext(ctx, "registry request failed", "method", r.method, "host", r.host.Name, "path", r.path, "error", err)
		if err := a.pause(ctx, err); err != nil {
			return nil, err
		}
	}
}

// try sends a request once, and again with new credentials if the registry asks for them.
func (c *Client) try(ctx context.Context, r request) (*http.Response, error) {
	auth := c.tokenCache(r.host)
	scopes := scopesOf(r)
	for round := 0; ; round++ {
		req, err := c.build(ctx, r)
		if err != nil {
			return nil, err
		}
		used, err := auth.authorize(ctx, req, r, scopes)
		if err != nil {
			closeBody(req)
			return nil, err
		}
		resp, err := c.send(req, r.host)
		if err != nil {
			return nil, err
		}
		for _, status := range r.accept {
			if resp.StatusCode == status {
				return resp, nil
			}
		}
		challenges := parseChallenges(resp.Header)
		e := newError(resp)
		if resp.StatusCode != http.StatusUnauthorized || round >= 2 || !auth.learn(challenges, used, scopes) {
			return nil, e
		}
	}
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		req.Body.Close()
	}
}

func (c *Client) build(ctx context.Context, r request) (*http.Request, error) {
	target, err := r.host.url(r.path, r.query, r.repo)
	if err != nil {
		return nil, permanent(err)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, nil)
	if err != nil {
		return nil, permanent(err)
	}
	for k, v := range r.host.Header {
		req.Header[http.CanonicalHeaderKey(k)] = v
	}
	for k, v := range r.header {
		req.Header[k] = v
	}
	req.Header.Set("User-Agent", c.options.UserAgent)
	if r.body != nil {
		if req.Body, err = r.body(); err != nil {
			return nil, permanent(err)
		}
		req.ContentLength = r.length
		if r.length == 0 {
			req.Body.Close()
			req.Body = http.NoBody
		}
	}
	return req, nil
}

// send follows redirects itself as far as credentials are concerned: they never reach another host or port.
func (c *Client) send(req *http.Request, h Host) (*http.Response, error) {
	transport, err := c.transportOf(h)
	if err != nil {
		closeBody(req)
		return nil, permanent(err)
	}
	client := http.Client{Transport: transport, CheckRedirect: func(next *http.Request, via []*http.Request) error {
		if len(via) >= 10 {
			return errors.New("more than 10 redirects")
		}
		if via[0].URL.Scheme == "https" && next.URL.Scheme != "https" {
			return fmt.Errorf("%s redirects to a connection without TLS, which is refused", via[0].URL.Host)
		}
		if next.URL.Host != via[0].URL.Host || next.URL.Scheme != via[0].URL.Scheme {
			next.Header.Del("Authorization")
			next.Header.Del("Cookie")
			for k := range h.Header {
				next.Header.Del(k)
			}
		}
		next.Header.Del("Referer")
		return nil
	}}
	resp, err := client.Do(req)
	if err != nil {
		return nil, withoutQuery(err)
	}
	return resp, nil
}

// withoutQuery takes the query out of an error's URL: it may carry a signature or a token.
func withoutQuery(err error) error {
	var e *url.Error
	if !errors.As(err, &e) {
		return err
	}
	where, _, _ := strings.Cut(e.URL, "?")
	return fmt.Errorf("%s %s: %w", e.Op, where, e.Err)
}

// pull asks the hosts that may serve the repository, in their order, until one has what is wanted.
func (c *Client) pull(ctx context.Context, repo Repository, do func(Host) error) error {
	hosts, err := c.hosts(ctx, repo.Host, CapabilityPull)
	if err != nil {
		return err
	}
	return tryHosts(ctx, hosts, do)
}

// resolve is pull for what is named by tag.
func (c *Client) resolve(ctx context.Context, repo Repository, do func(Host) error) error {
	hosts, err := c.hosts(ctx, repo.Host, CapabilityResolve)
	if err != nil {
		return err
	}
	return tryHosts(ctx, hosts, do)
}

func tryHosts(ctx context.Context, hosts []Host, do func(Host) error) error {
	var failures []error
	for _, h := range hosts {
		err := do(h)
		if err == nil || ctx.Err() != nil {
			return err
		}
		failures = append(failures, err)
	}
	if len(failures) == 1 {
		return failures[0]
	}
	return fmt.Errorf("none of %d hosts could answer: %w", len(failures), errors.Join(failures...))
}

// pushHost is the host that takes pushes for a registry.
func (c *Client) pushHost(ctx context.Context, repo Repository) (Host, error) {
	hosts, err := c.hosts(ctx, repo.Host, CapabilityPush)
	if err != nil {
		return Host{}, err
	}
	return hosts[0], nil
}

// Ping checks that a registry answers and takes the credentials.
func (c *Client) Ping(ctx context.Context, host string) error {
	h, err := c.pushHost(ctx, Repository{Host: host})
	if err != nil {
		return err
	}
	resp, err := c.do(ctx, request{host: h, repo: Repository{Host: host}, method: http.MethodGet, path: "/", accept: []int{http.StatusOK}})
	if err != nil {
		return err
	}
	return drain(resp)
}

// drain reads the rest of a small answer, so that its connection can be used again.
func drain(resp *http.Response) error {
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
	return resp.Body.Close()
}
