// Package registrytest is a registry for tests, in the test's own process: a real one (package registry/server) on
// loopback, that can be made slow and faulty and that counts what it is asked. It must not be used outside of tests.
package registrytest

import (
	"context"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"github.com/weft-dev/weft/registry/server"
)

// Config of a test registry. The zero value is a fast and faultless one without authentication.
type Config struct {
	Storage   server.Storage // nil: in memory
	Bandwidth int            // bytes per second that all connections share, in both directions together; 0: no limit
	Latency   time.Duration  // before each answer
	TLS       bool
	Token     *Token // nil: nobody is asked who they are
	Basic     *Basic
	// RedirectBlobs lets GETs of blobs lead to another host, as registries with a content network do.
	RedirectBlobs bool
	NoReferrers   bool // the referrers API is missing, as in registries before distribution-spec 1.1
}

// Basic wants a user and password with each request.
type Basic struct{ User, Password string }

// Registry is a running test registry.
type Registry struct {
	Host    string           // host:port
	URL     string           // of the API's root, without /v2/
	Server  *server.Server   // the registry itself, for collections
	Web     *httptest.Server // for its certificate
	Storage server.Storage

	config  Config
	limiter *rate.Limiter
	tokens  *tokenServer
	content *httptest.Server // where blobs are redirected to

	mu     sync.Mutex
	faults []*Fault
	log    []Request
}

// Request is one request as the registry saw it.
type Request struct {
	Method     string
	Path       string // with the query
	Range      string
	Status     int // 0: the connection was cut
	Authorized bool
	Redirected bool // it reached the host that blobs are redirected to
	In, Out    int64
	Started    time.Time
	Duration   time.Duration
}

// New starts a registry that ends with the test.
func New(t testing.TB, c Config) *Registry {
	t.Helper()
	if c.Storage == nil {
		c.Storage = server.Memory()
	}
	r := &Registry{config: c, Storage: c.Storage, Server: server.New(server.Config{Storage: c.Storage})}
	if c.Bandwidth > 0 {
		r.limiter = rate.NewLimiter(rate.Limit(c.Bandwidth), min(c.Bandwidth, 64<<10))
	}
	start := httptest.NewServer
	if c.TLS {
		start = httptest.NewTLSServer
	}
	if c.RedirectBlobs {
		r.content = start(r.handler(true))
		t.Cleanup(r.content.Close)
	}
	r.Web = start(r.handler(false))
	t.Cleanup(r.Web.Close)
	r.URL = r.Web.URL
	_, r.Host, _ = strings.Cut(r.URL, "://")
	if c.Token != nil {
		r.tokens = newTokenServer(t, *c.Token)
	}
	return r
}

// Tokens is how often the token server gave a token.
func (r *Registry) Tokens() int { return r.tokens.given() }

// Expire ends all tokens given so far.
func (r *Registry) Expire() { r.tokens.expire() }

// Requests are all requests so far, in the order of their ends.
func (r *Registry) Requests() []Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Request(nil), r.log...)
}

// Forget empties the list of requests.
func (r *Registry) Forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log = nil
}

// Count is the number of requests with that method ("" for any) whose path and query match the regular expression.
func (r *Registry) Count(method, path string) int {
	pattern := regexp.MustCompile(path)
	n := 0
	for _, req := range r.Requests() {
		if (method == "" || req.Method == method) && pattern.MatchString(req.Path) {
			n++
		}
	}
	return n
}

// Sent is the number of bytes of bodies that went out, and Received of those that came in.
func (r *Registry) Sent() int64 {
	var n int64
	for _, req := range r.Requests() {
		n += req.Out
	}
	return n
}

// Received is the number of bytes of bodies that came in.
func (r *Registry) Received() int64 {
	var n int64
	for _, req := range r.Requests() {
		n += req.In
	}
	return n
}

// handler logs, slows, asks for credentials and makes faults before the real registry answers.
func (r *Registry) handler(redirected bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		entry := Request{Method: req.Method, Path: req.URL.RequestURI(), Range: req.Header.Get("Range"),
			Authorized: req.Header.Get("Authorization") != "", Redirected: redirected, Started: time.Now()}
		out := &answer{ResponseWriter: w, registry: r, ctx: req.Context(), cutAt: -1}
		in := &body{ReadCloser: req.Body, registry: r, ctx: req.Context(), cutAt: -1}
		req.Body = in
		defer func() {
			entry.Status, entry.In, entry.Out, entry.Duration = out.status, in.n, out.n, time.Since(entry.Started)
			if in.cut || out.cut {
				entry.Status = 0
			}
			r.mu.Lock()
			r.log = append(r.log, entry)
			r.mu.Unlock()
			if in.cut || out.cut {
				panic(http.ErrAbortHandler) // net/http's way to break the connection
			}
		}()
		sleep(req.Context(), r.config.Latency)
		r.serve(out, req, in, redirected)
	})
}

func (r *Registry) serve(w *answer, req *http.Request, in *body, redirected bool) {
	if f := r.fault(req); f != nil {
		if f.apply(w, req, in) {
			return
		}
	}
	if !redirected && !r.authorized(w, req) {
		return
	}
	switch {
	case r.config.NoReferrers && strings.Contains(req.URL.Path, "/referrers/"):
		http.NotFound(w, req)
		return
	case r.content != nil && !redirected && req.Method == http.MethodGet && blobPath.MatchString(req.URL.Path):
		http.Redirect(w, req, r.content.URL+req.URL.Path+"?signature=secret", http.StatusTemporaryRedirect)
		return
	}
	if r.config.NoReferrers {
		w.hideSubject = true
	}
	r.Server.ServeHTTP(w, req)
}

var blobPath = regexp.MustCompile(`/blobs/sha`)

func sleep(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
