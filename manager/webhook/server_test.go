package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// serve runs a server on loopback, and returns its address and its authority.
func serve(t *testing.T, s *Server) string {
	t.Helper()
	if s.Authority == nil {
		s.Authority = &Authority{Keeper: FileKeeper(filepath.Join(t.TempDir(), "authority.json"))}
	}
	s.Hosts = []string{"127.0.0.1", "weft.example"}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return "https://" + l.Addr().String()
}

// client trusts the authority, and shows a certificate if a name is given.
func client(t *testing.T, a *Authority, name string) *http.Client {
	t.Helper()
	bundle, err := a.Bundle(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{RootCAs: x509.NewCertPool()}
	config.RootCAs.AppendCertsFromPEM(bundle)
	if name != "" {
		certificate, key, err := a.Client(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		pair, err := tls.X509KeyPair(certificate, key)
		if err != nil {
			t.Fatal(err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func post(t *testing.T, c *http.Client, url, kind, body string) (int, string) {
	t.Helper()
	r, err := c.Post(url, kind, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(text)
}

func TestReviews(t *testing.T) {
	busy, free := make(chan struct{}), make(chan struct{})
	s := &Server{Limit: 1000, AtOnce: 1, Paths: map[string]Path{
		"/echo": {Handler: HandlerFunc(func(_ context.Context, body []byte) (any, error) { return map[string]int{"length": len(body)}, nil })},
		"/bad":  {Handler: HandlerFunc(func(context.Context, []byte) (any, error) { return nil, &BadRequest{"spec: is missing"} })},
		"/fail": {Handler: HandlerFunc(func(context.Context, []byte) (any, error) { return nil, errors.New("the secret of the house") })},
		"/pan":  {Handler: HandlerFunc(func(context.Context, []byte) (any, error) { panic("the secret of the house") })},
		"/mine": {Client: true, Handler: HandlerFunc(func(context.Context, []byte) (any, error) { return true, nil })},
		"/slow": {Handler: HandlerFunc(func(context.Context, []byte) (any, error) { close(busy); <-free; return true, nil })},
	}}
	url := serve(t, s)
	anybody, known := client(t, s.Authority, ""), client(t, s.Authority, "apiserver")
	for _, c := range []struct {
		client           *http.Client
		path, kind, body string
		status           int
		want             string
	}{
		{anybody, "/echo", "application/json", "{}", 200, `{"length":2}`},
		{anybody, "/echo", "application/json; charset=utf-8", "{}", 200, `{"length":2}`},
		{anybody, "/echo", "text/plain", "{}", 415, "application/json"},
		{anybody, "/echo", "application/json", strings.Repeat("x", 1001), 413, "more than 1000 bytes"},
		{anybody, "/bad", "application/json", "{}", 400, "spec: is missing"},
		{anybody, "/fail", "application/json", "{}", 500, "the log of this server"},
		{anybody, "/pan", "application/json", "{}", 500, "the log of this server"},
		{anybody, "/mine", "application/json", "{}", 401, "client certificate"},
		{known, "/mine", "application/json", "{}", 200, "true"},
		{anybody, "/other", "application/json", "{}", 404, ""},
	} {
		status, text := post(t, c.client, url+c.path, c.kind, c.body)
		if status != c.status || !strings.Contains(text, c.want) || strings.Contains(text, "secret of the house") {
			t.Errorf("%s %s: got %d %q, want %d %q", c.path, c.kind, status, text, c.status, c.want)
		}
	}
	answered := make(chan struct{})
	go func() { defer close(answered); post(t, anybody, url+"/slow", "application/json", "{}") }()
	<-busy
	if status, text := post(t, anybody, url+"/echo", "application/json", "{}"); status != 503 {
		t.Errorf("a second review at once: got %d %q, want 503", status, text)
	}
	close(free)
	<-answered
}

func TestAForeignCertificateIsRefused(t *testing.T) {
	s := &Server{Paths: map[string]Path{"/mine": {Client: true, Handler: HandlerFunc(func(context.Context, []byte) (any, error) { return true, nil })}}}
	url := serve(t, s)
	other := &Authority{Keeper: FileKeeper(filepath.Join(t.TempDir(), "other.json"))}
	certificate, key, err := other.Client(t.Context(), "apiserver")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	c := client(t, s.Authority, "")
	c.Transport.(*http.Transport).TLSClientConfig.Certificates = []tls.Certificate{pair}
	r, err := c.Post(url+"/mine", "application/json", strings.NewReader("{}"))
	if err == nil {
		defer r.Body.Close()
		if r.StatusCode != http.StatusUnauthorized {
			t.Errorf("a certificate of another authority: %s", r.Status)
		}
	}
}

func TestHealth(t *testing.T) {
	var mu sync.Mutex
	state := errors.New("not listed yet")
	s := &Server{Ready: func() error { mu.Lock(); defer mu.Unlock(); return state }}
	url := serve(t, s)
	c := client(t, s.Authority, "")
	get := func(path string) int {
		r, err := c.Get(url + path)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		return r.StatusCode
	}
	if got := fmt.Sprint(get("/healthz"), get("/readyz")); got != "200 503" {
		t.Errorf("before it is ready: %s", got)
	}
	mu.Lock()
	state = nil
	mu.Unlock()
	if got := get("/readyz"); got != 200 {
		t.Errorf("when it is ready: %d", got)
	}
}

// TestRotation walks through eleven years: a client that fetches the bundle once a day trusts every certificate, and the one who has the
// bundle of yesterday does too.
func TestRotation(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	a := &Authority{Keeper: FileKeeper(filepath.Join(t.TempDir(), "authority.json")), Clock: func() time.Time { return now }}
	first, err := a.Bundle(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r, err := a.serving(t.Context(), []string{"weft.example"})
	if err != nil {
		t.Fatal(err)
	}
	yesterday, serials := first, map[string]bool{}
	for day := range 11 * 365 {
		now = now.Add(24 * time.Hour)
		if !now.Before(r.now.Load().renew) {
			if err := r.renew(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		certificate, _ := r.current()
		serials[certificate.Leaf.SerialNumber.String()] = true
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(yesterday)
		if _, err := certificate.Leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: "weft.example", CurrentTime: now}); err != nil {
			t.Fatalf("day %d: %v", day, err)
		}
		if yesterday, err = a.Bundle(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if bytes.Equal(first, yesterday) || bytes.Contains(yesterday, first) {
		t.Error("the authority of eleven years ago is still trusted")
	}
	if len(serials) < 100 {
		t.Errorf("%d certificates in eleven years", len(serials))
	}
}

func TestReplicasAgreeOnOneAuthority(t *testing.T) {
	file := FileKeeper(filepath.Join(t.TempDir(), "new", "authority.json"))
	bundles := make([][]byte, 8)
	var all sync.WaitGroup
	for i := range bundles {
		all.Go(func() {
			var err error
			if bundles[i], err = (&Authority{Keeper: file}).Bundle(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for _, b := range bundles {
		if !bytes.Equal(b, bundles[0]) {
			t.Fatal("two authorities were made")
		}
	}
	info, err := os.Stat(string(file))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file with the key: %v, %v", info.Mode(), err)
	}
}

func TestAStoredAuthorityThatIsDamagedOrNewer(t *testing.T) {
	for text, want := range map[string]string{
		"{":             "is damaged",
		`{"version":2}`: "has version 2",
		`{"version":1,"authorities":[{"certificate":"eA==","key":"eA=="}]}`: "is damaged",
	} {
		file := filepath.Join(t.TempDir(), "authority.json")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := (&Authority{Keeper: FileKeeper(file)}).Bundle(t.Context())
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
		if left, err := os.ReadFile(file); err != nil || string(left) != text {
			t.Errorf("%s: it was overwritten", text)
		}
	}
}
