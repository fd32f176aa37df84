package authorizer

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"strings"
	"sync"

	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/endpoints/responsewriter"

	"github.com/weft-dev/weft/level"
	"github.com/weft-dev/weft/level/door"
)

// Streams are the open watches, logs, exec sessions and tunnels of a server. An API server asks authorizers when they are opened and never again.
type Streams struct {
	door *door.Door
	mu   sync.Mutex
	open map[*stream]struct{}
}

// NewStreams looks after streams for a door.
func NewStreams(d *door.Door) *Streams { return &Streams{door: d, open: map[*stream]struct{}{}} }

// stream is a request, and all questions that authorizers were asked about it: of who sent it, and of whom it acts as.
type stream struct {
	acts   []level.Request // whom it acts as
	mu     sync.Mutex
	sender user.Info // of a request that acts as somebody else
	asked  []question
	end    context.CancelFunc
	hijack net.Conn
	ended  bool
}

type question struct {
	user    string
	groups  []string
	request level.Request
}

// note remembers a question. Its texts are parts of a request that is kept as long as the stream.
func (s *stream) note(user string, groups []string, r *level.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.asked {
		if q := &s.asked[i]; q.request == *r && q.user == user { // a request has one sender, and acts as one
			return
		}
	}
	s.asked = append(s.asked, question{user, groups, *r})
}

type streamKey struct{}

// streamOf is the stream that a context belongs to, nil for a request that ends soon.
func streamOf(ctx context.Context) *stream {
	s, _ := ctx.Value(streamKey{}).(*stream)
	return s
}

// mayStream says whether a request may become a stream. It is asked before the request is understood, so it errs on the safe side.
func mayStream(r *http.Request) bool {
	return strings.Contains(r.URL.RawQuery, "watch") || strings.Contains(r.URL.RawQuery, "follow") || r.Header.Get("Upgrade") != "" ||
		strings.Contains(r.URL.Path, "/watch/") || strings.HasSuffix(r.URL.Path, "/log") || strings.Contains(r.URL.Path, "/proxy") ||
		strings.HasSuffix(r.URL.Path, "/exec") || strings.HasSuffix(r.URL.Path, "/attach") || strings.HasSuffix(r.URL.Path, "/portforward")
}

// Outer stands before all filters of a server: it gives a request that may become a stream, or acts as somebody else, a place for what is asked about it.
func (s *Streams) Outer(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if others := acts(r.Header); mayStream(r) || len(others) > 0 {
			r = r.WithContext(context.WithValue(r.Context(), streamKey{}, &stream{acts: others}))
		}
		next.ServeHTTP(w, r)
	})
}

// Inner stands behind all filters: it keeps a stream that was let through until it ends, or is cut.
func (s *Streams) Inner(long func(*http.Request, *request.RequestInfo) bool, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		one := streamOf(r.Context())
		info, ok := request.RequestInfoFrom(r.Context())
		if one == nil || !ok || !long(r, info) {
			next.ServeHTTP(w, r)
			return
		}
		ctx, end := context.WithCancel(r.Context())
		defer end()
		one.mu.Lock()
		one.end = end
		one.mu.Unlock()
		s.mu.Lock()
		s.open[one] = struct{}{}
		s.mu.Unlock()
		defer func() {
			s.mu.Lock()
			delete(s.open, one)
			s.mu.Unlock()
		}()
		s.check(one) // levels may have changed since it was let through
		next.ServeHTTP(responsewriter.WrapForHTTP1Or2(&catcher{w, one}), r.WithContext(ctx))
	})
}

// Check cuts every stream that would be denied now.
func (s *Streams) Check() {
	s.mu.Lock()
	all := make([]*stream, 0, len(s.open))
	for one := range s.open {
		all = append(all, one)
	}
	s.mu.Unlock()
	for _, one := range all {
		s.check(one)
	}
}

func (s *Streams) check(one *stream) {
	one.mu.Lock()
	defer one.mu.Unlock()
	for i := range one.asked {
		q := &one.asked[i]
		if one.ended || !s.door.Denies(q.user, q.groups, &q.request) {
			continue
		}
		one.ended = true
		s.door.Cut(q.user, q.groups, &q.request)
		one.end()
		if one.hijack != nil {
			_ = one.hijack.Close() // it may have ended by itself
		}
	}
}

// catcher keeps the connection of a stream that takes it over: the end of its context does not reach it.
type catcher struct {
	http.ResponseWriter
	stream *stream
}

// Unwrap returns the writer below.
func (c *catcher) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// Hijack hands over the connection, and remembers it.
func (c *catcher) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	h, ok := c.ResponseWriter.(http.Hijacker)
	if !ok {
		return nil, nil, http.ErrNotSupported
	}
	conn, buffered, err := h.Hijack()
	if err != nil {
		return nil, nil, err
	}
	c.stream.mu.Lock()
	defer c.stream.mu.Unlock()
	c.stream.hijack = conn
	if c.stream.ended {
		_ = conn.Close() // cut while it was being opened
	}
	return conn, buffered, nil
}
