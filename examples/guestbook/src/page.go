package main

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"html/template"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/yuin/goldmark"
)

//go:embed page.html
var pageSource string

var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"markdown": markdown,
	"when":     func(t time.Time) string { return t.Format("2 January 2006, 15:04") },
}).Parse(pageSource))

// markdown renders a message. goldmark leaves raw HTML and dangerous links out, so that the result is safe.
func markdown(text string) template.HTML {
	var b bytes.Buffer
	if err := goldmark.Convert([]byte(text), &b); err != nil {
		return template.HTML(template.HTMLEscapeString(text))
	}
	return template.HTML(b.String())
}

// The most that a visitor may write, in characters.
const (
	longestName = 60
	longestText = 2000
)

func handler(b *book) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { show(w, b, http.StatusOK, "") })
	mux.HandleFunc("POST /{$}", func(w http.ResponseWriter, r *http.Request) { sign(w, r, b) })
	mux.HandleFunc("GET /messages", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(b.list()); err != nil {
			slog.Warn("the reader has gone", "error", err)
		}
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNoContent) })
	return mux
}

func show(w http.ResponseWriter, b *book, status int, complaint string) {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	var out bytes.Buffer
	err = page.Execute(&out, struct {
		Messages  []message
		Complaint string
		Pod       string
	}{b.list(), complaint, host})
	if err != nil {
		http.Error(w, "the page cannot be shown", http.StatusInternalServerError)
		slog.Error("page", "error", err)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; img-src data:")
	w.WriteHeader(status)
	if _, err := out.WriteTo(w); err != nil {
		slog.Warn("the reader has gone", "error", err)
	}
}

func sign(w http.ResponseWriter, r *http.Request, b *book) {
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	if err := r.ParseForm(); err != nil {
		show(w, b, http.StatusBadRequest, "That was too much, or not a form.")
		return
	}
	m := message{Name: strings.TrimSpace(r.PostForm.Get("name")), Text: strings.TrimSpace(r.PostForm.Get("text")), Time: time.Now().UTC()}
	switch {
	case m.Text == "":
		show(w, b, http.StatusBadRequest, "Please write a few words.")
		return
	case utf8.RuneCountInString(m.Name) > longestName || utf8.RuneCountInString(m.Text) > longestText:
		show(w, b, http.StatusBadRequest, "Please be briefer.")
		return
	}
	m.Name = fallback(m.Name, "Somebody")
	if err := b.add(m); err != nil {
		slog.Error("a message was not taken", "error", err)
		show(w, b, http.StatusInternalServerError, "The message could not be kept. Please try again.")
		return
	}
	http.Redirect(w, r, "/", http.StatusSeeOther)
}
