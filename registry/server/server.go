// Package server is a registry that speaks the OCI distribution specification 1.1, for the machine it runs on: its
// content lies in a content store that it is given as a small interface. It asks nobody who they are, so it belongs on
// loopback or in a network namespace of our own. It must not know how content is stored, nor what images are for.
package server

import (
	"errors"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"time"
)

// Config is what a server needs. Only Storage is required.
type Config struct {
	Storage Storage
	Logger  *slog.Logger // nil: nothing is logged
	// ManifestLimit is the greatest size of a manifest in bytes; 0 means 4 MiB, what the specification asks for.
	ManifestLimit int64
	// BlobLimit is the greatest size of a blob in bytes; 0 means none.
	BlobLimit int64
	// ReadOnly refuses pushes and deletions.
	ReadOnly bool
}

// Server is the registry; it is an http.Handler for the paths below /v2/.
type Server struct {
	storage       Storage
	log           *slog.Logger
	manifestLimit int64
	blobLimit     int64
	readOnly      bool
	now           func() time.Time
}

// New makes a server.
func New(c Config) *Server {
	s := &Server{c.Storage, c.Logger, c.ManifestLimit, c.BlobLimit, c.ReadOnly, time.Now}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.manifestLimit == 0 {
		s.manifestLimit = 4 << 20
	}
	return s
}

// The grammar of names and tags: distribution-spec, "Pulling manifests".
var (
	namePattern = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagPattern  = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]*$`)
	pathPattern = regexp.MustCompile(`^/v2/(.+)/(blobs/uploads|blobs|manifests|tags|referrers)/([^/]*)$`)
)

// isTag tells a tag. A count in the pattern would make it slow to compile, in each program that has this package.
func isTag(s string) bool { return len(s) <= 128 && tagPattern.MatchString(s) }

const nameLimit = 240 // of a repository's name, in bytes: with host and tag it stays below what clients accept

// request is one request with what its path says.
type request struct {
	*http.Request
	repository string
	object     string // digest, tag or upload
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	if err := s.route(w, r); err != nil {
		s.fail(w, r, err)
	}
}

func (s *Server) route(w http.ResponseWriter, r *http.Request) error {
	// No registry client sends Origin; a web page that the person at this machine visits does.
	if r.Header.Get("Origin") != "" {
		return &Error{Status: http.StatusForbidden, Code: "DENIED", Message: "requests from web pages are refused"}
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
	default:
		if s.readOnly {
			return &Error{Status: http.StatusMethodNotAllowed, Code: "UNSUPPORTED", Message: "this registry is read-only"}
		}
	}
	switch r.URL.Path {
	case "/v2", "/v2/":
		return method(r, map[string]handler{"GET": s.ping, "HEAD": s.ping}, w, nil)
	case "/v2/_catalog":
		return method(r, map[string]handler{"GET": s.catalog}, w, nil)
	}
	path := r.URL.Path
	if strings.HasSuffix(path, "/blobs/uploads") {
		path += "/" // the specification writes it with the slash, some clients leave it out
	}
	m := pathPattern.FindStringSubmatch(path)
	if m == nil {
		return &Error{Status: http.StatusNotFound, Code: "UNSUPPORTED", Message: "no such path: expected /v2/NAME/(blobs|manifests|tags|referrers)/..."}
	}
	req := &request{r, m[1], m[3]}
	if !namePattern.MatchString(req.repository) || len(req.repository) > nameLimit {
		return &Error{Status: http.StatusBadRequest, Code: "NAME_INVALID", Message: "repository names are lower-case words joined by . _ __ - and /, at most 240 characters",
			Detail: req.repository}
	}
	return s.routeObject(w, m[2], req)
}

type handler func(http.ResponseWriter, *request) error

func (s *Server) routeObject(w http.ResponseWriter, kind string, r *request) error {
	switch kind {
	case "manifests":
		return method(r.Request, map[string]handler{"GET": s.getManifest, "HEAD": s.getManifest, "PUT": s.putManifest, "DELETE": s.deleteManifest}, w, r)
	case "blobs":
		return method(r.Request, map[string]handler{"GET": s.getBlob, "HEAD": s.getBlob, "DELETE": s.deleteBlob}, w, r)
	case "referrers":
		return method(r.Request, map[string]handler{"GET": s.referrers}, w, r)
	case "tags":
		if r.object != "list" {
			break
		}
		return method(r.Request, map[string]handler{"GET": s.tags}, w, r)
	case "blobs/uploads":
		if r.object == "" {
			return method(r.Request, map[string]handler{"POST": s.startUpload}, w, r)
		}
		return method(r.Request, map[string]handler{"GET": s.uploadStatus, "PATCH": s.patchUpload, "PUT": s.finishUpload, "DELETE": s.cancelUpload}, w, r)
	}
	return &Error{Status: http.StatusNotFound, Code: "UNSUPPORTED", Message: "no such path"}
}

// method calls the handler of the request's method.
func method(r *http.Request, handlers map[string]handler, w http.ResponseWriter, req *request) error {
	h, ok := handlers[r.Method]
	if !ok {
		return &Error{Status: http.StatusMethodNotAllowed, Code: "UNSUPPORTED", Message: "method " + r.Method + " is not supported here"}
	}
	if req == nil {
		req = &request{Request: r}
	}
	return h(w, req)
}

func (s *Server) ping(w http.ResponseWriter, r *request) error {
	w.Header().Set("Content-Type", "application/json")
	if r.Method == http.MethodHead {
		return nil
	}
	_, err := w.Write([]byte("{}"))
	return ignoreDisconnect(err)
}

// ignoreDisconnect drops errors of writing an answer: the client has gone and nobody can be told.
func ignoreDisconnect(error) error { return nil }

// fail answers with the error document of the specification.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	var e *Error
	if !errors.As(err, &e) {
		e = classify(err)
	}
	level := slog.LevelDebug
	if e.Status >= 500 {
		level = slog.LevelError
	}
	s.log.Log(r.Context(), level, "registry request failed", "method", r.Method, "path", r.URL.Path, "status", e.Status, "code", e.Code, "error", err)
	e.write(w, r)
}
