package main

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
)

// site answers requests with the files of a folder. Hidden files and lists of folders are never shown; links out of the folder are not
// followed.
type site struct {
	root *os.Root
	spa  bool
	tags sync.Map // file -> entity tag: all files of an image have the same time, so that only contents tell versions apart
}

func newSite(dir string, spa bool) (*site, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("the folder of the files: %w", err)
	}
	return &site{root: root, spa: spa}, nil
}

// Close closes the folder.
func (s *site) Close() { s.root.Close() }

// encodings are those for which a file may lie beside another, in the order in which they are preferred.
var encodings = []struct{ name, ending string }{{"br", ".br"}, {"zstd", ".zst"}, {"gzip", ".gz"}}

// ServeHTTP implements http.Handler.
func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
		return
	}
	w.Header().Set("X-Content-Type-Options", "nosniff")
	name := path.Clean("/" + r.URL.Path)[1:]
	if name == "" {
		name = "."
	}
	if slices.ContainsFunc(strings.Split(name, "/"), func(part string) bool { return len(part) > 1 && part[0] == '.' }) {
		s.missing(w, r)
		return
	}
	info, err := s.root.Stat(name)
	if err == nil && info.IsDir() {
		if !strings.HasSuffix(r.URL.Path, "/") {
			local := path.Base(r.URL.Path) + "/"
			if r.URL.RawQuery != "" {
				local += "?" + r.URL.RawQuery
			}
			w.Header().Set("Location", local)
			w.WriteHeader(http.StatusMovedPermanently)
			return
		}
		name = path.Join(name, "index.html")
	} else if err != nil && path.Ext(name) == "" {
		if _, err := s.root.Stat(name + ".html"); err == nil {
			name += ".html"
		}
	}
	if err := s.file(w, r, name, http.StatusOK); err != nil {
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
			fmt.Fprintf(os.Stderr, "webfiles: %s: %v\n", name, err)
		}
		s.missing(w, r)
	}
}

// missing answers for a page that does not exist.
func (s *site) missing(w http.ResponseWriter, r *http.Request) {
	page, status := "404.html", http.StatusNotFound
	if s.spa && path.Ext(r.URL.Path) == "" {
		page, status = "index.html", http.StatusOK
	}
	if s.file(w, r, page, status) != nil {
		http.Error(w, "not found", http.StatusNotFound)
	}
}

// file answers with a file, or with its compressed form if that lies beside it and the browser takes it.
func (s *site) file(w http.ResponseWriter, r *http.Request, name string, status int) error {
	f, info, err := s.open(name)
	if err != nil {
		return err
	}
	defer func() { f.Close() }()
	served := name
	for _, e := range encodings {
		packed, packedInfo, err := s.open(name + e.ending)
		if err != nil {
			continue
		}
		w.Header().Add("Vary", "Accept-Encoding")
		if !accepts(r, e.name) {
			packed.Close()
			continue
		}
		f.Close()
		f, info, served = packed, packedInfo, name+e.ending
		w.Header().Set("Content-Encoding", e.name)
		break
	}
	tag, err := s.tag(served, f)
	if err != nil {
		return err
	}
	kind := mime.TypeByExtension(path.Ext(name))
	if kind == "" {
		kind = "application/octet-stream"
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("ETag", tag)
	w.Header().Set("Cache-Control", "no-cache") // ask whether it is still the same: an answer without content
	if status != http.StatusOK {
		w.WriteHeader(status)
		if r.Method == http.MethodHead {
			return nil
		}
		_, err = io.Copy(w, io.LimitReader(f, info.Size()))
		if err != nil {
			fmt.Fprintf(os.Stderr, "webfiles: %s: %v\n", served, err)
		}
		return nil
	}
	http.ServeContent(w, r, "", info.ModTime(), f)
	return nil
}

func (s *site) open(name string) (*os.File, fs.FileInfo, error) {
	f, err := s.root.Open(name)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fs.ErrNotExist
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

// tag gives the entity tag of a file, which is computed once.
func (s *site) tag(name string, f io.ReadSeeker) (string, error) {
	if tag, ok := s.tags.Load(name); ok {
		return tag.(string), nil
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	tag := `"` + base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:12]) + `"`
	s.tags.Store(name, tag)
	return tag, nil
}

// accepts reads the header Accept-Encoding (RFC 9110, 12.5.3).
func accepts(r *http.Request, encoding string) bool {
	for part := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		name, quality, _ := strings.Cut(part, ";")
		if strings.TrimSpace(name) == encoding {
			q := strings.ReplaceAll(quality, " ", "")
			return !strings.HasPrefix(q, "q=0") || strings.Trim(q, "q=0.") != ""
		}
	}
	return false
}
