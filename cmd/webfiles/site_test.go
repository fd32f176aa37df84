package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
)

func TestSite(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"index.html": "home", "about.html": "about", "sub/index.html": "sub", "app.js": "plain", "app.js.gz": "packed",
		"404.html": "nothing here", ".secret": "no", "empty/file.css": "a{}"} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "out")); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		path, accept string
		spa          bool
		status       int
		body, header string
	}{
		{path: "/", status: 200, body: "home"},
		{path: "/about", status: 200, body: "about"},
		{path: "/sub", status: 301, header: "Location=sub/"},
		{path: "/sub?a=b", status: 301, header: "Location=sub/?a=b"},
		{path: "/sub/", status: 200, body: "sub"},
		{path: "/empty/", status: 404, body: "nothing here"},
		{path: "/empty/file.css", status: 200, body: "a{}", header: "Content-Type=text/css; charset=utf-8"},
		{path: "/app.js", status: 200, body: "plain", header: "Vary=Accept-Encoding"},
		{path: "/app.js", accept: "br, gzip;q=0.5", status: 200, body: "packed", header: "Content-Encoding=gzip"},
		{path: "/app.js", accept: "gzip;q=0", status: 200, body: "plain"},
		{path: "/.secret", status: 404, body: "nothing here"},
		{path: "/../../etc/passwd", status: 404, body: "nothing here"},
		{path: "/out", status: 404, body: "nothing here"},
		{path: "/users/7", spa: true, status: 200, body: "home"},
		{path: "/gone.png", spa: true, status: 404, body: "not found\n"},
	} {
		s, err := newSite(dir, tt.spa)
		if err != nil {
			t.Fatal(err)
		}
		if tt.path == "/gone.png" {
			if err := os.Remove(filepath.Join(dir, "404.html")); err != nil {
				t.Fatal(err)
			}
		}
		r := httptest.NewRequest(http.MethodGet, tt.path, nil)
		r.Header.Set("Accept-Encoding", tt.accept)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code != tt.status || tt.body != "" && w.Body.String() != tt.body {
			t.Errorf("%s (%q): %d %q, want %d %q", tt.path, tt.accept, w.Code, w.Body, tt.status, tt.body)
		}
		for name := range w.Header() {
			if got := name + "=" + w.Header().Get(name); tt.header != "" && len(name) < len(tt.header) && tt.header[:len(name)] == name && got != tt.header {
				t.Errorf("%s: %s, want %s", tt.path, got, tt.header)
			}
		}
		if tag := w.Header().Get("ETag"); tag != "" && tt.status == 200 {
			r.Header.Set("If-None-Match", tag)
			again := httptest.NewRecorder()
			s.ServeHTTP(again, r)
			if again.Code != http.StatusNotModified {
				t.Errorf("%s asked for again: %d", tt.path, again.Code)
			}
		}
		s.Close()
	}
	s, err := newSite(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	w := httptest.NewRecorder()
	if s.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", nil)); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", w.Code)
	}
}
