// Package webhook is a TLS server for what an API server calls: it has an authority of its own, certificates that are renewed while it serves,
// limits on size, time and number, and says whether it is healthy. It must not know what its handlers judge.
package webhook

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"runtime/debug"
	"time"
)

// Limits on what an API server may send. The largest object of Kubernetes has 3 MiB as JSON, and an AdmissionReview holds it twice.
const (
	maxBody     = 8 << 20
	maxHeader   = 64 << 10
	maxAtOnce   = 256
	readTimeout = 10 * time.Second
	judgeTime   = 10 * time.Second // API servers wait for 10 seconds, 30 at most
	idleTimeout = 3 * time.Minute
	endTimeout  = 5 * time.Second
)

// Handler answers reviews. It gets the body of a request, and returns what is written as JSON. An error that is a *BadRequest is answered with
// status 400, any other with 500 and a text that tells nothing.
type Handler interface {
	Review(ctx context.Context, body []byte) (any, error)
}

// HandlerFunc is a function as a Handler.
type HandlerFunc func(ctx context.Context, body []byte) (any, error)

// Review calls the function.
func (f HandlerFunc) Review(ctx context.Context, body []byte) (any, error) { return f(ctx, body) }

// BadRequest is a body that is no review.
type BadRequest struct{ Message string }

func (e *BadRequest) Error() string { return e.Message }

// Path is a place where reviews are taken.
type Path struct {
	Handler Handler
	// Client asks for a client certificate of the server's own authority: who asks must have been handed one.
	Client bool
}

// Server serves reviews.
type Server struct {
	Authority *Authority
	Hosts     []string // names and addresses under which it is called
	Paths     map[string]Path
	Ready     func() error // nil: always ready
	Log       *slog.Logger
	// Limit is the largest body in bytes; default 8 MiB.
	Limit int64
	// AtOnce is how many reviews may be under way; default 256. Further ones are answered with 503.
	AtOnce int
}

// Serve answers on the listener until the context ends; then it waits a short time for reviews that are under way.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	rotation, err := s.Authority.serving(ctx, s.Hosts)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler: s.handler(), ReadHeaderTimeout: readTimeout / 2, ReadTimeout: readTimeout, WriteTimeout: readTimeout + judgeTime + endTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog:    slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug), // handshakes that others break off
		BaseContext: func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			certificate, pool := rotation.current()
			return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}, Certificates: []tls.Certificate{*certificate}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: pool}, nil
		}},
	}
	ended := make(chan error, 1)
	go func() { ended <- server.ServeTLS(l, "", "") }()
	renewed := make(chan struct{})
	renewing, stop := context.WithCancel(ctx)
	go func() { defer close(renewed); rotation.run(renewing, s.Log) }()
	defer func() { stop(); <-renewed }()
	select {
	case err := <-ended:
		return fmt.Errorf("serving reviews on %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	if err := server.Shutdown(last); err != nil {
		_ = server.Close() // those who hang are cut off
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	plain := func(w http.ResponseWriter, status int, text string) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text+"\n") // who asked may have gone
	}
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { plain(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if s.Ready != nil {
			if err := s.Ready(); err != nil {
				plain(w, http.StatusServiceUnavailable, err.Error())
				return
			}
		}
		plain(w, http.StatusOK, "ok")
	})
	slots := make(chan struct{}, orDefault(s.AtOnce, maxAtOnce))
	for pattern, path := range s.Paths {
		mux.HandleFunc("POST "+pattern, func(w http.ResponseWriter, r *http.Request) {
			select {
			case slots <- struct{}{}:
				defer func() { <-slots }()
			default:
				w.Header().Set("Retry-After", "1")
				plain(w, http.StatusServiceUnavailable, "too many reviews are under way")
				return
			}
			status, answer := s.review(path, w, r)
			if status != http.StatusOK {
				plain(w, status, string(answer))
				return
			}
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(answer) // who asked may have gone
		})
	}
	return mux
}

// review reads a request and has it answered.
func (s *Server) review(path Path, w http.ResponseWriter, r *http.Request) (status int, answer []byte) {
	if path.Client && (r.TLS == nil || len(r.TLS.VerifiedChains) == 0) {
		return http.StatusUnauthorized, []byte("a client certificate of this server's authority is needed")
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return http.StatusUnsupportedMediaType, []byte("reviews are application/json")
	}
	limit := orDefault(s.Limit, maxBody)
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return http.StatusRequestEntityTooLarge, fmt.Appendf(nil, "a review of more than %d bytes", limit)
	case err != nil:
		return http.StatusBadRequest, []byte("the review could not be read")
	}
	ctx, cancel := context.WithTimeout(r.Context(), judgeTime)
	defer cancel()
	result, err := s.judge(ctx, path.Handler, body)
	if err == nil {
		answer, err = json.Marshal(result)
	}
	var bad *BadRequest
	switch {
	case errors.As(err, &bad):
		return http.StatusBadRequest, []byte(bad.Message)
	case err != nil:
		s.Log.Error("reviewing", "path", r.URL.Path, "error", err)
		return http.StatusInternalServerError, []byte("the review failed; the log of this server says why")
	}
	return http.StatusOK, answer
}

// judge turns a panic of a handler into an error: one review must not end the door.
func (s *Server) judge(ctx context.Context, h Handler, body []byte) (result any, err error) {
	defer func() {
		if p := recover(); p != nil {
			s.Log.Error("a review panicked", "panic", p, "stack", string(debug.Stack()))
			result, err = nil, errors.New("panic")
		}
	}()
	return h.Review(ctx, body)
}

func orDefault[T int | int64](v, d T) T {
	if v == 0 {
		return d
	}
	return v
}
