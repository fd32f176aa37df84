package store

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

func open(t testing.TB) *Store {
	t.Helper()
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func put(t testing.TB, s *Store, text string) digest.Digest {
	t.Helper()
	info, err := s.Put(t.Context(), strings.NewReader(text), int64(len(text)), 0, digest.FromString(text))
	if err != nil {
		t.Fatal(err)
	}
	return info.Digest
}

func read(t testing.TB, s *Store, d digest.Digest) string {
	t.Helper()
	f, err := s.Open(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestOnlyWhatWasAnnouncedIsPublished(t *testing.T) {
	s := open(t)
	text := "hello"
	for name, test := range map[string]struct {
		size, limit int64
		digest      digest.Digest
		want        error
	}{
		"other content": {-1, 0, digest.FromString("other"), ErrDigest},
		"other sha512":  {-1, 0, digest.SHA512.FromString("other"), ErrDigest},
		"too short":     {6, 0, digest.FromString(text), io.ErrUnexpectedEOF},
		"too long":      {4, 0, digest.FromString(text), ErrTooLarge},
		"over limit":    {-1, 4, digest.FromString(text), ErrTooLarge},
	} {
		if _, err := s.Put(t.Context(), strings.NewReader(text), test.size, test.limit, test.digest); !errors.Is(err, test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := s.Put(t.Context(), strings.NewReader(text), -1, 0, "sha256:../../../../etc/passwd"); err == nil || !strings.Contains(err.Error(), "not a digest") {
		t.Errorf("a path as digest: %v", err)
	}
	if _, err := s.Stat(t.Context(), "sha256:../../../../etc/passwd"); err == nil || !strings.Contains(err.Error(), "not a digest") {
		t.Errorf("a path as digest to look at: %v", err)
	}
	if f, err := s.Open(t.Context(), "sha256:../../format.json"); err == nil || !strings.Contains(err.Error(), "not a digest") {
		t.Errorf("a path as digest to read: %v, %v", f, err)
	}
	if err := s.Blobs(t.Context(), func(i Info) error { t.Errorf("published: %v", i); return nil }); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(filepath.Join(s.Dir(), "ingest")); err != nil || len(entries) != 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	for _, d := range []digest.Digest{digest.FromString(text), digest.SHA512.FromString(text), ""} {
		info, err := s.Put(t.Context(), strings.NewReader(text), 5, 5, d)
		if err != nil || info.Size != 5 || read(t, s, info.Digest) != text {
			t.Errorf("%s: %+v, %v", d, info, err)
		}
	}
	if _, err := s.Stat(t.Context(), digest.FromString("absent")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
}

func TestIngestIsResumed(t *testing.T) {
	s := open(t)
	text := strings.Repeat("0123456789", 1000)
	for how, size := range map[string]int64{"closed": 3000, "state lost": 3000, "state behind": 3100, "state damaged": 3000} {
		in, err := s.CreateNamed(t.Context(), "x", 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Resume(t.Context(), "x", 0); !errors.Is(err, ErrBusy) {
			t.Errorf("%s: a second writer: %v", how, err)
		}
		if _, err := in.Write([]byte(text[:3000])); err != nil {
			t.Fatal(err)
		}
		if err := in.Close(); err != nil {
			t.Fatal(err)
		}
		state := filepath.Join(s.Dir(), "ingest", "x", "state.json")
		switch how {
		case "state lost":
			err = os.Remove(state)
		case "state damaged":
			err = os.WriteFile(state, []byte(`{"version":1,"size":10,"sha256":"AAAA"}`), 0o600)
		case "state behind": // a crash between writing and saving the state
			var f *os.File
			if f, err = os.OpenFile(filepath.Join(s.Dir(), "ingest", "x", "data"), os.O_WRONLY|os.O_APPEND, 0); err == nil {
				_, err = f.WriteString(text[3000:3100])
				f.Close()
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		in, err = s.Resume(t.Context(), "x", 0)
		if err != nil {
			t.Fatal(err)
		}
		if in.Size() != size {
			t.Errorf("%s: %d bytes are there, %d counted", how, size, in.Size())
		}
		if _, err := in.Write([]byte(text[in.Size():])); err != nil {
			t.Fatal(err)
		}
		info, err := in.Commit(t.Context(), int64(len(text)), digest.FromString(text))
		if err != nil || read(t, s, info.Digest) != text {
			t.Errorf("%s: %+v, %v", how, info, err)
		}
		if _, err := s.Resume(t.Context(), "x", 0); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: after the commit: %v", how, err)
		}
		if err := os.Remove(filepath.Join(s.Dir(), "blobs", "sha256", info.Digest.Encoded()[:2], info.Digest.Encoded())); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.CreateNamed(t.Context(), "../x", 0); err == nil {
		t.Error("a path as name was accepted")
	}
}

// Whatever is done in whatever order: held content stays, and a collection removes all the rest once it is old.
func TestCollectionKeepsWhatIsHeld(t *testing.T) {
	for seed := range uint64(6) {
		r := rand.New(rand.NewPCG(seed, 0))
		s := open(t)
		now := time.Now()
		s.now = func() time.Time { return now }
		texts := []string{"a", "b", "c", "d", "e", "f"}
		roots := map[string][]digest.Digest{}
		leases := map[*Lease]struct {
			until time.Time
			d     []digest.Digest
		}{}
		used := map[digest.Digest]time.Time{}
		some := func() []digest.Digest {
			return []digest.Digest{digest.FromString(texts[r.IntN(len(texts))]), digest.FromString(texts[r.IntN(len(texts))])}
		}
		const grace = time.Hour
		for range 60 {
			now = now.Add(time.Duration(r.IntN(40)) * time.Minute)
			var err error
			switch r.IntN(6) {
			case 0:
				used[put(t, s, texts[r.IntN(len(texts))])] = now
			case 1:
				name := []string{"r", "r/s", "x/y"}[r.IntN(3)]
				roots[name] = some()
				err = s.PutRoot(t.Context(), Root{Name: name, Digests: roots[name]})
			case 2:
				for name := range roots {
					err = s.DeleteRoot(t.Context(), name)
					delete(roots, name)
					break
				}
			case 3:
				var l *Lease
				if l, err = s.Lease(t.Context(), "test", 2*time.Hour); err == nil {
					d := some()
					err = l.Hold(t.Context(), d...)
					leases[l] = struct {
						until time.Time
						d     []digest.Digest
					}{now.Add(2 * time.Hour), d}
				}
			case 4:
				for l := range leases {
					err = l.Release(t.Context())
					delete(leases, l)
					break
				}
			case 5:
				if _, err = s.Collect(t.Context(), Policy{Grace: grace}); err != nil {
					break
				}
				held := map[digest.Digest]bool{}
				for _, list := range roots {
					for _, d := range list {
						held[d] = true
					}
				}
				for _, l := range leases {
					for _, d := range l.d {
						held[d] = held[d] || !now.After(l.until)
					}
				}
				for d, at := range used {
					_, e := s.Stat(t.Context(), d)
					keep := held[d] || now.Sub(at) < grace
					if keep != (e == nil) {
						t.Fatalf("seed %d: held %v, used %v ago, but Stat says %v", seed, held[d], now.Sub(at), e)
					}
					if !keep {
						delete(used, d)
					}
				}
				counts, e := s.References(t.Context())
				for d := range held {
					if held[d] != (counts[d] > 0) {
						t.Fatalf("seed %d: held %v, %d references", seed, held[d], counts[d])
					}
				}
				err = e
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

// What cannot be read may hold something: then nothing is removed.
func TestDamagedRecordsStopACollection(t *testing.T) {
	for file, want := range map[string]string{"leases/x.json": "damaged lease", "roots/=x": "damaged root"} {
		for text, reason := range map[string]string{`{"version":1,"dig`: want, `{"version":99}`: "version 99"} {
			s := open(t)
			d := put(t, s, "held by nobody who can be read")
			if err := os.WriteFile(filepath.Join(s.Dir(), filepath.FromSlash(file)), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Collect(t.Context(), Policy{}); err == nil || !strings.Contains(err.Error(), reason) || !strings.Contains(err.Error(), filepath.Base(file)) {
				t.Errorf("%s with %s: %v", file, text, err)
			}
			read(t, s, d)
		}
	}
}

func TestCollectDryRunAndAbandoned(t *testing.T) {
	s := open(t)
	d := put(t, s, "loose")
	in, err := s.CreateNamed(t.Context(), "old", 0)
	if err != nil {
		t.Fatal(err)
	}
	s.now = func() time.Time { return time.Now().Add(48 * time.Hour) }
	report, err := s.Collect(t.Context(), Policy{DryRun: true})
	if err != nil || len(report.Removed) != 1 || len(report.Abandoned) != 0 || read(t, s, d) != "loose" {
		t.Fatalf("%+v, %v", report, err)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	report, err = s.Collect(t.Context(), Policy{})
	if err != nil || len(report.Removed) != 1 || report.RemovedBytes != 5 || len(report.Abandoned) != 1 {
		t.Fatalf("%+v, %v", report, err)
	}
	if _, err := s.Resume(t.Context(), "old", 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the abandoned ingest: %v", err)
	}
}

// While a collection looks, nobody changes what it has looked at; while somebody changes, no collection begins.
func TestCollectionsAndChangesExcludeEachOther(t *testing.T) {
	s := open(t)
	change := func(ctx context.Context) error { return s.PutRoot(ctx, Root{Name: "a"}) }
	look := func(ctx context.Context) error { return s.Exclusive(ctx, func(*Tx) error { return nil }) }
	for name, test := range map[string]struct {
		first  func(context.Context, func(*Tx) error) error
		second func(context.Context) error
	}{
		"a change during a collection": {s.Exclusive, change},
		"a collection during a change": {s.Update, look},
		"two collections":              {s.Exclusive, look},
	} {
		inside, release, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
		go func() {
			ended <- test.first(t.Context(), func(*Tx) error {
				close(inside)
				<-release
				return nil
			})
		}()
		<-inside
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if err := test.second(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
		cancel()
		close(release)
		if err := errors.Join(<-ended, test.second(t.Context())); err != nil {
			t.Errorf("%s, afterwards: %v", name, err)
		}
	}
}

// Collections beside writers that hold first and look then: what is found stays.
func TestCollectionBesideWriters(t *testing.T) {
	s := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() {
		for ctx.Err() == nil {
			if _, err := s.Collect(ctx, Policy{}); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		}
	})
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 0))
			for range 50 {
				text := string(rune('a' + r.IntN(3)))
				d := digest.FromString(text)
				l, err := s.Lease(ctx, "writer", time.Minute)
				if err == nil {
					err = l.Hold(ctx, d)
				}
				if err == nil {
					if _, e := s.Stat(ctx, d); e != nil {
						_, err = s.Put(ctx, strings.NewReader(text), 1, 0, d)
					}
				}
				if err == nil {
					var f *os.File
					if f, err = s.Open(ctx, d); err == nil {
						f.Close()
						err = l.Release(ctx)
					}
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	writers.Wait()
	cancel()
	group.Wait()
}

func TestRoots(t *testing.T) {
	s := open(t)
	for _, name := range []string{"", "/", "a/", "/a", "..", "a/../b", ".a", "=a", "a b", strings.Repeat("a", 251), "a\x00"} {
		if err := s.PutRoot(t.Context(), Root{Name: name}); err == nil {
			t.Errorf("%q was accepted", name)
		}
	}
	for _, name := range []string{"a", "a/b", "a/b/c", "a.root/x:y@z"} {
		if err := s.PutRoot(t.Context(), Root{Name: name, Data: []byte(`{"n":"` + name + `"}`)}); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	if err := s.Update(t.Context(), func(tx *Tx) error {
		return tx.WalkRoots(t.Context(), "", func(name string) error { names = append(names, name); return nil })
	}); err != nil || strings.Join(names, " ") != "a a/b a/b/c a.root/x:y@z" {
		t.Errorf("%v, %v", names, err)
	}
	if err := s.DeleteRoot(t.Context(), "a/b/c"); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteRoot(t.Context(), "a/b/c"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("deleted twice: %v", err)
	}
	r, err := s.Root(t.Context(), "a/b")
	if err != nil || string(r.Data) != `{"n":"a/b"}` {
		t.Errorf("%+v, %v", r, err)
	}
}

// The bytes that version 1 wrote stay readable, and what another program or a newer one wrote is refused.
func TestFormat(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/v1")); err != nil {
		t.Fatal(err)
	}
	for _, sub := range []string{"ingest", "partial", "layers"} { // git keeps no empty folders
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	d := digest.FromString("golden\n")
	if got := read(t, s, d); got != "golden\n" {
		t.Errorf("%q", got)
	}
	counts, err := s.References(t.Context())
	if err != nil || counts[d] != 2 {
		t.Errorf("%v, %v", counts, err)
	}
	r, err := s.Root(t.Context(), "registry/app/_tags/v1")
	if err != nil || string(r.Data) != `{"kept":"by the owner"}` {
		t.Errorf("%+v, %v", r, err)
	}
	for text, want := range map[string]string{
		`{"format":"weft-store","version":2}`: "newer program",
		`{"format":"weft-store","version":0}`: "expected 1",
		`{"format":"other","version":1}`:      "another program",
		`x`:                                   "format.json",
	} {
		if err := os.WriteFile(filepath.Join(dir, "format.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
	other := t.TempDir()
	if err := os.WriteFile(filepath.Join(other, "letter.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(other); err == nil || !strings.Contains(err.Error(), "letter.txt") {
		t.Errorf("a folder with something else: %v", err)
	}
}

func TestVerifyFindsDamage(t *testing.T) {
	s := open(t)
	d := put(t, s, "hello")
	if err := s.Verify(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	path, err := s.Path(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("hellx"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Verify(t.Context(), d); !errors.Is(err, ErrDigest) {
		t.Errorf("got %v", err)
	}
}

func BenchmarkPut(b *testing.B) {
	s := open(b)
	data := make([]byte, 16<<20)
	b.SetBytes(int64(len(data)))
	for i := 0; b.Loop(); i++ {
		data[0], data[1] = byte(i), byte(i>>8)
		if _, err := s.Put(b.Context(), bytes.NewReader(data), -1, 0, ""); err != nil {
			b.Fatal(err)
		}
	}
}
