package lazy

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"golang.org/x/sys/unix"

	"github.com/weft-dev/weft/image"
	"github.com/weft-dev/weft/image/chunk"
	"github.com/weft-dev/weft/lazy/trace"
	"github.com/weft-dev/weft/registry"
	"github.com/weft-dev/weft/registry/registrytest"
	"github.com/weft-dev/weft/store"
)

// gateway stands before a registry and can do with a request for a part of a blob what it likes.
type gateway struct {
	host    string
	proxy   http.Handler
	server  *http.Server
	blobs   atomic.Int64                                                             // requests for parts so far
	instead atomic.Pointer[func(w http.ResponseWriter, r *http.Request) (done bool)] // of passing it on
}

func newGateway(t *testing.T, r *registrytest.Registry) *gateway {
	to, err := url.Parse(r.URL)
	if err != nil {
		t.Fatal(err)
	}
	g := &gateway{proxy: httputil.NewSingleHostReverseProxy(to)}
	g.listen(t, "127.0.0.1:0")
	t.Cleanup(func() { g.server.Close() })
	return g
}

// listen serves at an address: at its own one again after the server was closed.
func (g *gateway) listen(t *testing.T, address string) {
	t.Helper()
	l, err := net.Listen("tcp", address) //nolint:noctx // it is closed with the server
	if err != nil {
		t.Fatal(err)
	}
	g.host = l.Addr().String()
	g.server = &http.Server{Handler: g, ReadHeaderTimeout: time.Minute}
	go func(s *http.Server) { _ = s.Serve(l) }(g.server)
}

func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") && r.Header.Get("Range") != "" {
		g.blobs.Add(1)
		if f := g.instead.Load(); f != nil && (*f)(w, r) {
			return
		}
	}
	g.proxy.ServeHTTP(w, r)
}

func (g *gateway) do(f func(w http.ResponseWriter, r *http.Request) bool) { g.instead.Store(&f) }

// mountBehind mounts an image of some files through a gateway. The registry is asked once for each read, so that reads have their fills alone.
func mountBehind(t *testing.T, files int) (g *gateway, im *Image, want map[string][]byte, target string) {
	t.Helper()
	needWatch(t)
	r := registrytest.New(t, registrytest.Config{})
	g = newGateway(t, r)
	dir := content(t, 40, files, 200<<10)
	push(t, r.Host+"/app:v1", dir, image.Options{ChunkSize: 16 << 10})
	s := openService(t, Options{Root: stateDir(t), Mode: Fanotify, ReadAhead: -1, Deadline: time.Second, Learn: -1, Registry: registry.Options{
		Retry: registry.Retry{Attempts: 2, Min: time.Millisecond, Max: 5 * time.Millisecond},
	}})
	t.Cleanup(func() { s.Close() })
	im, err := s.Prepare(t.Context(), Request{Reference: g.host + "/app:v1"})
	if err != nil {
		t.Fatal(err)
	}
	target = mountImage(t, im)
	t.Cleanup(func() { _ = im.Unmount(t.Context(), target) })
	return g, im, filesOf(t, dir), target
}

// mended reads everything when the backend is well again. A busy machine may miss the short deadline now and then.
func mended(t *testing.T, want map[string][]byte, target string) {
	t.Helper()
	failed := readAll(t, want, target)
	for try := 0; len(failed) > 0 && try < 20; try++ {
		failed = readAll(t, want, target)
	}
	if len(failed) > 0 {
		t.Errorf("%v could not be read when all was well again", failed)
	}
}

// TestRedirectLoop has a registry that leads to itself for ever.
func TestRedirectLoop(t *testing.T) {
	g, _, want, target := mountBehind(t, 6)
	g.do(func(w http.ResponseWriter, r *http.Request) bool {
		http.Redirect(w, r, r.URL.String(), http.StatusTemporaryRedirect)
		return true
	})
	if failed := readAll(t, want, target); len(failed) != len(want) {
		t.Errorf("only %v could not be read", failed)
	}
	if n := g.blobs.Load(); n > int64(len(want))*2*2*11*20 {
		t.Errorf("the registry was asked %d times", n)
	}
	g.do(func(http.ResponseWriter, *http.Request) bool { return false })
	mended(t, want, target)
}

// TestRedirectElsewhere has a registry that wants a password and leads to another host, which must not see it.
func TestRedirectElsewhere(t *testing.T) {
	needWatch(t)
	for name, c := range map[string]registrytest.Config{
		"password": {Basic: &registrytest.Basic{User: "u", Password: "p"}, RedirectBlobs: true},
		"token":    {Token: &registrytest.Token{User: "u", Password: "p"}, RedirectBlobs: true},
	} {
		t.Run(name, func(t *testing.T) {
			r := registrytest.New(t, c)
			dir := content(t, 41, 6, 200<<10)
			auth := authn.AuthConfig{Username: "u", Password: "p"}
			keychain := registry.Explicit(map[string]authn.AuthConfig{r.Host: auth})
			pushWith(t, keychain, r.Host+"/app:v1", dir, image.Options{})
			r.Forget()
			readThrough(t, Options{Registry: registry.Options{Keychain: keychain}}, r.Host+"/app:v1", dir)
			parts := 0
			for _, q := range r.Requests() {
				if q.Redirected && q.Range != "" {
					parts++
				}
				if q.Redirected && q.Authorized {
					t.Errorf("the other host saw credentials: %s %s", q.Method, q.Path)
				}
			}
			if parts == 0 {
				t.Error("no part came from the other host: the test tests nothing")
			}
		})
	}
}

// TestTokensEndWhileReading has tokens that are good for three requests, which nobody says.
func TestTokensEndWhileReading(t *testing.T) {
	needWatch(t)
	r := registrytest.New(t, registrytest.Config{Token: &registrytest.Token{User: "u", Password: "p", Uses: 3, Hidden: true}})
	dir := content(t, 42, 20, 200<<10)
	keychain := registry.Explicit(map[string]authn.AuthConfig{r.Host: {Username: "u", Password: "p"}})
	pushWith(t, keychain, r.Host+"/app:v1", dir, image.Options{})
	before := r.Tokens()
	readThrough(t, Options{ReadAhead: -1, Registry: registry.Options{Keychain: keychain}}, r.Host+"/app:v1", dir)
	if n := r.Tokens() - before; n < 5 {
		t.Errorf("%d tokens were asked for: the test tests nothing", n)
	}
}

// TestVanishedBackend ends the registry in the middle of a read, and starts it again.
func TestVanishedBackend(t *testing.T) {
	g, im, want, target := mountBehind(t, 20)
	names := slices.Sorted(func(yield func(string) bool) {
		for n := range want {
			if !yield(n) {
				return
			}
		}
	})
	first := map[string][]byte{}
	for _, n := range names[:5] {
		first[n] = want[n]
	}
	if failed := readAll(t, first, target); len(failed) > 0 {
		t.Fatalf("%v could not be read", failed)
	}
	g.do(func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Content-Length", "16384") // the answer begins
		w.Header().Set("Content-Range", "bytes 0-16383/99999999")
		w.WriteHeader(http.StatusPartialContent)
		_, _ = w.Write(make([]byte, 1000))
		go g.server.Close() // and its connection ends with all others
		<-r.Context().Done()
		return true
	})
	failed := readAll(t, want, target)
	for n := range first {
		if slices.Contains(failed, n) {
			t.Errorf("%s was there and could not be read", n)
		}
	}
	if len(failed) == 0 || im.Stats().Failed == 0 {
		t.Errorf("%d files could not be read, %+v", len(failed), im.Stats())
	}
	g.do(func(http.ResponseWriter, *http.Request) bool { return false })
	g.listen(t, g.host)
	mended(t, want, target)
}

// TestStallsForSome has a registry that does not answer for one half of a blob: reads of it fail when the deadline has passed, all others do not.
func TestStallsForSome(t *testing.T) {
	g, im, want, target := mountBehind(t, 30)
	half := im.Stats().Bytes / 2
	stalled := atomic.Int64{}
	g.do(func(_ http.ResponseWriter, r *http.Request) bool {
		var from, to int64
		if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &from, &to); err != nil || from < half {
			return false
		}
		stalled.Add(1)
		<-r.Context().Done()
		return true
	})
	type result struct {
		name string
		err  error
	}
	results := make(chan result)
	for name := range want { // all at the same time: nobody waits behind another one
		go func() {
			b, err := os.ReadFile(filepath.Join(target, name))
			if err == nil && string(b) != string(want[name]) {
				err = fmt.Errorf("%s has other content", name)
			}
			results <- result{name, err}
		}()
	}
	well, failed := 0, 0
	for range want {
		switch r := <-results; {
		case r.err == nil:
			well++
		case strings.Contains(r.err.Error(), unix.EIO.Error()):
			failed++
		default:
			t.Error(r.err)
		}
	}
	if well == 0 || failed == 0 || stalled.Load() == 0 {
		t.Errorf("%d files could be read and %d could not, %d requests stalled", well, failed, stalled.Load())
	}
	if failed > len(want)*2/3 {
		t.Errorf("%d of %d files could not be read although half of the blob came", failed, len(want))
	}
	g.do(func(http.ResponseWriter, *http.Request) bool { return false })
	mended(t, want, target)
}

// TestProxy lets a worker reach a registry through a forward proxy only, as HTTP_PROXY says.
func TestProxy(t *testing.T) {
	needWatch(t)
	r := registrytest.New(t, registrytest.Config{})
	dir := content(t, 43, 10, 200<<10)
	push(t, r.Host+"/app:v1", dir, image.Options{})
	to, err := url.Parse(r.URL)
	if err != nil {
		t.Fatal(err)
	}
	onward := httputil.NewSingleHostReverseProxy(to)
	parts := atomic.Int64{}
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Host != "registry.invalid" {
			http.Error(w, "the proxy was asked for "+q.URL.Host, http.StatusBadGateway)
			return
		}
		if q.Header.Get("Range") != "" {
			parts.Add(1)
		}
		onward.ServeHTTP(w, q)
	}))
	defer proxy.Close()
	for _, name := range []string{"HTTP_PROXY", "http_proxy"} {
		t.Setenv(name, proxy.URL)
	}
	t.Setenv("WEFT_TEST_PLAIN_HTTP", "registry.invalid")
	root, target := stateDir(t), t.TempDir()
	worker := startWorker(t, Fanotify, root, "registry.invalid/app:v1", target)
	t.Cleanup(func() { _ = unix.Unmount(target, unix.MNT_DETACH) })
	if failed := readAll(t, filesOf(t, dir), target); len(failed) > 0 {
		t.Errorf("%v could not be read", failed)
	}
	if parts.Load() == 0 {
		t.Error("no part came through the proxy")
	}
	if err := unix.Unmount(target, 0); err != nil {
		t.Error(err)
	}
	kill(t, worker)
	endKeepers(t, root)
}

// TestContentStore prepares an image whose blobs the machine's content store has: nothing of them comes from the registry.
func TestContentStore(t *testing.T) {
	needWatch(t)
	for name, o := range map[string]image.Options{"mounted from the store": {}, "decoded from the store": {Codec: chunk.Zstd, Batch: 64 << 10}} {
		t.Run(name, func(t *testing.T) {
			st, err := store.Open(filepath.Join(stateDir(t), "store"))
			if err != nil {
				t.Fatal(err)
			}
			r := registrytest.New(t, registrytest.Config{Storage: st.Registry()}) // what is pushed lies in the store
			dir := content(t, 44, 12, 200<<10)
			push(t, r.Host+"/app:v1", dir, o)
			s := openService(t, Options{Root: stateDir(t), Mode: Fanotify, Learn: -1, Store: st})
			defer s.Close()
			im, err := s.Prepare(t.Context(), Request{Reference: r.Host + "/app:v1"})
			if err != nil {
				t.Fatal(err)
			}
			target := mountImage(t, im)
			r.Forget()
			if failed := readAll(t, filesOf(t, dir), target); len(failed) > 0 {
				t.Errorf("%v could not be read", failed)
			}
			if n := r.Count("GET", "/blobs/"); n > 0 {
				t.Errorf("the registry was asked %d times for blobs that the store has", n)
			}
			if st := im.Stats(); o.Codec == chunk.None && st.Complete != st.Devices {
				t.Errorf("the devices of the store are not the mounted ones: %+v", st)
			}
			if err := im.Unmount(t.Context(), target); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestPrefetchKeepsTheLineBusy holds each request for what an earlier start read until there is another one: what comes next is asked for meanwhile.
func TestPrefetchKeepsTheLineBusy(t *testing.T) {
	g, im, want, target := mountBehind(t, 40)
	var size int64
	for _, b := range want {
		size += int64(len(b))
	}
	if size < 3<<20 {
		t.Fatalf("%d bytes are too few", size)
	}
	var once sync.Once
	another := make(chan struct{})
	var waiting atomic.Int32
	g.do(func(_ http.ResponseWriter, r *http.Request) bool {
		defer waiting.Add(-1)
		if waiting.Add(1) == 2 {
			once.Do(func() { close(another) })
		}
		select {
		case <-another:
		case <-r.Context().Done():
		}
		return false
	})
	im.service.prefetch(t.Context(), im, &trace.Trace{Image: im.id, Parts: []trace.Part{{Device: 0, First: 0, End: size / chunk.Block}}})
	select {
	case <-another:
	default:
		t.Error("one request came after the other")
	}
	g.do(func(http.ResponseWriter, *http.Request) bool { return false })
	mended(t, want, target)
}

// TestEarlyPrefetchGoesOn unmounts an image from where it is not mounted, as the snapshotter does before each mount: what is fetched for the mount by then
// goes on its way.
func TestEarlyPrefetchGoesOn(t *testing.T) {
	needWatch(t)
	r := registrytest.New(t, registrytest.Config{})
	g := newGateway(t, r)
	push(t, r.Host+"/app:v1", content(t, 41, 10, 200<<10), image.Options{})
	s := openService(t, Options{Root: stateDir(t), Mode: Fanotify, Learn: time.Hour})
	t.Cleanup(func() { s.Close() })
	im, err := s.Prepare(t.Context(), Request{Reference: g.host + "/app:v1"})
	if err != nil {
		t.Fatal(err)
	}
	known := trace.New(im.id)
	known.Add(0, 0, 64)
	if err := s.writeTrace(known); err != nil {
		t.Fatal(err)
	}
	asked, answer := make(chan struct{}), make(chan struct{})
	var once sync.Once
	g.do(func(http.ResponseWriter, *http.Request) bool {
		once.Do(func() { close(asked) })
		<-answer
		return false
	})
	s.prefetchEarly(im)
	select {
	case <-asked:
	case <-time.After(time.Minute):
		t.Fatal("nothing is fetched before the mount")
	}
	if err := im.Unmount(t.Context(), t.TempDir()); err != nil {
		t.Error(err)
	}
	close(answer)
	<-im.takeEarly()
	if st := im.Stats(); st.Prefetch == 0 || st.Present < 64*chunk.Block {
		t.Errorf("what was on its way did not arrive: %+v", st)
	}
	// What nobody ever mounted stays guarded: that ends with the mount.
	if err := im.Unmount(t.Context(), mountImage(t, im)); err != nil {
		t.Error(err)
	}
}
