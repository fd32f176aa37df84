package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func newServer(t *testing.T, file string) *httptest.Server {
	t.Helper()
	b, err := openBook(file)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(handler(b))
	t.Cleanup(func() { s.Close(); b.close() })
	return s
}

func get(t *testing.T, address string) string {
	t.Helper()
	r, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func post(t *testing.T, address, name, text string) int {
	t.Helper()
	r, err := http.PostForm(address, url.Values{"name": {name}, "text": {text}})
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	return r.StatusCode
}

func TestMessagesAreShownAndKept(t *testing.T) {
	file := filepath.Join(t.TempDir(), "messages.jsonl")
	s := newServer(t, file)
	if page := get(t, s.URL); !strings.Contains(page, "Nobody has signed yet") {
		t.Errorf("an empty book: %s", page)
	}
	for _, text := range []string{"the **first**", "the second"} {
		if status := post(t, s.URL, "Ada", text); status != http.StatusOK {
			t.Errorf("status %d", status)
		}
	}
	again := newServer(t, file)
	page := get(t, again.URL)
	if !strings.Contains(page, "the <strong>first</strong>") || strings.Index(page, "the second") > strings.Index(page, "the <strong>") {
		t.Errorf("page: %s", page)
	}
	var list []message
	if err := json.Unmarshal([]byte(get(t, again.URL+"/messages")), &list); err != nil || len(list) != 2 || list[0].Name != "Ada" {
		t.Errorf("messages %v, %v", list, err)
	}
}

func TestHostileInput(t *testing.T) {
	s := newServer(t, filepath.Join(t.TempDir(), "m"))
	post(t, s.URL, "<script>alert(1)</script>", "<script>alert(2)</script> [x](javascript:alert(3))")
	if page := get(t, s.URL); strings.Contains(page, "<script>") || strings.Contains(page, "javascript:") {
		t.Errorf("page: %s", page)
	}
	for _, text := range []string{"", "   ", strings.Repeat("x", longestText+1), strings.Repeat("x", 100<<10)} {
		if status := post(t, s.URL, "", text); status != http.StatusBadRequest {
			t.Errorf("a text of %d characters: status %d", len(text), status)
		}
	}
}

func TestAnUnfinishedLineIsCutOff(t *testing.T) {
	file := filepath.Join(t.TempDir(), "m")
	if err := os.WriteFile(file, []byte(`{"name":"Ada","text":"kept"}`+"\n"+`{"name":"Bob","te`), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newServer(t, file)
	post(t, s.URL, "Cleo", "new")
	b, err := openBook(file)
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	if list := b.list(); len(list) != 2 || list[0].Text != "new" || list[1].Text != "kept" {
		t.Errorf("messages %+v", list)
	}
}

func TestADamagedFileIsRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "m")
	if err := os.WriteFile(file, []byte("{}\nrubbish\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openBook(file); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("got %v", err)
	}
}

func TestServeEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- serve(ctx, "127.0.0.1:0", filepath.Join(t.TempDir(), "m")) }()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
