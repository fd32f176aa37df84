package store

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weft-dev/weft/test/fault"
)

// unpack publishes a layer with one file.
func unpack(t testing.TB, s *Store, d digest.Digest, text string) string {
	t.Helper()
	draft, err := s.NewLayer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := fill(draft.Dir(), text); err != nil {
		t.Fatal(err)
	}
	_, dir, err := draft.Commit(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func fill(dir, text string) error {
	at := filepath.Join(dir, "layers/bp/name")
	if err := os.MkdirAll(at, 0o755); err != nil {
		return err
	}
	return errors.Join(os.WriteFile(filepath.Join(at, "file"), []byte(text), 0o644), os.Symlink("file", filepath.Join(at, "link")), os.Chmod(at, 0o555))
}

func TestLayersAreKeptAndVerified(t *testing.T) {
	s := open(t)
	d := digest.FromString("one")
	if _, err := s.Layer(t.Context(), d); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an absent layer: %v", err)
	}
	dir := unpack(t, s, d, "text")
	if again := unpack(t, s, d, "text"); again != dir {
		t.Errorf("the same layer lies in %s and %s", dir, again)
	}
	got, err := s.Layer(t.Context(), d)
	if err != nil || got != dir {
		t.Fatalf("%s %v", got, err)
	}
	// Another name for a file, as a layer that shares it has, changes nothing.
	file := filepath.Join(dir, "layers/bp/name/file")
	if err := os.Link(file, filepath.Join(s.Dir(), "other-name")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Layer(t.Context(), d); err != nil {
		t.Errorf("after a hard link: %v", err)
	}
	changes := map[string]func() error{
		"content": func() error { return os.WriteFile(file, []byte("TEXT"), 0o644) },
		"mode":    func() error { return os.Chmod(file, 0o600) },
		"gone":    func() error { return os.RemoveAll(filepath.Join(dir, "layers/bp")) },
		"more":    func() error { return os.WriteFile(filepath.Join(dir, "more"), nil, 0o644) },
		"replaced by one of the same size and time": func() error {
			info, err := os.Stat(file)
			if err != nil {
				return err
			}
			other := filepath.Join(dir, "other")
			return errors.Join(os.Chmod(filepath.Dir(file), 0o755), os.WriteFile(other, []byte("tent"), info.Mode()),
				os.Chtimes(other, info.ModTime(), info.ModTime()), os.Rename(other, file), os.Chmod(filepath.Dir(file), 0o555))
		},
	}
	for name, change := range changes {
		if err := s.RemoveLayer(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		unpack(t, s, d, "text")
		if err := change(); err != nil {
			t.Fatal(name, err)
		}
		if _, err := s.Layer(t.Context(), d); !errors.Is(err, ErrDigest) {
			t.Errorf("%s: %v, want that it was changed", name, err)
		}
		unpack(t, s, d, "text") // takes the place of the damaged one
		if _, err := s.Layer(t.Context(), d); err != nil {
			t.Errorf("%s, made again: %v", name, err)
		}
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(dir), "mark.json"), []byte(`{"version":99}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Layer(t.Context(), d); err == nil || errors.Is(err, ErrDigest) {
		t.Errorf("a newer version: %v", err)
	}
	if _, err := s.Layer(t.Context(), "sha256:../../x"); err == nil {
		t.Error("a path was taken for a digest")
	}
}

func TestLayersAreCountedAndCollected(t *testing.T) {
	s := open(t)
	held, loose, fresh := digest.FromString("held"), digest.FromString("loose"), digest.FromString("fresh")
	for _, d := range []digest.Digest{held, loose, fresh} {
		unpack(t, s, d, string(d))
	}
	if err := s.PutRoot(t.Context(), Root{Name: "build/a", Digests: []digest.Digest{held}}); err != nil {
		t.Fatal(err)
	}
	if err := s.PutRoot(t.Context(), Root{Name: "build/b", Digests: []digest.Digest{held}}); err != nil {
		t.Fatal(err)
	}
	counts, err := s.References(t.Context())
	if err != nil || counts[held] != 2 {
		t.Errorf("references: %v %v", counts, err)
	}
	if err := s.ReleaseLayers(t.Context(), held); err != nil {
		t.Fatal(err)
	}
	now := s.now()
	s.now = func() time.Time { return now.Add(2 * time.Hour) }
	if _, err := s.Layer(t.Context(), fresh); err != nil { // used now
		t.Fatal(err)
	}
	draft, err := s.NewLayer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	dead := filepath.Join(s.Dir(), "layers", ".tmp-dead")
	if err := errors.Join(os.MkdirAll(filepath.Join(dead, "fs"), 0o500), os.WriteFile(filepath.Join(dead, "lock"), nil, 0o600)); err != nil && os.Getuid() == 0 {
		t.Fatal(err)
	}
	preview, err := s.Collect(t.Context(), Policy{Grace: time.Hour, DryRun: true})
	if err != nil || len(preview.RemovedLayers) != 1 || preview.RemovedLayers[0].Digest != loose || preview.KeptLayers != 2 {
		t.Errorf("preview: %+v %v", preview, err)
	}
	if _, err := s.Layer(t.Context(), loose); err != nil {
		t.Errorf("a preview has removed it: %v", err)
	}
	s.now = func() time.Time { return now.Add(4 * time.Hour) }
	if _, err := s.Layer(t.Context(), fresh); err != nil {
		t.Fatal(err)
	}
	report, err := s.Collect(t.Context(), Policy{Grace: time.Hour})
	if err != nil || len(report.RemovedLayers) != 1 || report.RemovedLayers[0].Digest != loose {
		t.Errorf("collected: %+v %v", report, err)
	}
	if _, err := s.Layer(t.Context(), loose); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
	if _, err := os.Stat(dead); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what a dead writer left: %v", err)
	}
	if err := fill(draft.Dir(), "x"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := draft.Commit(t.Context(), digest.FromString("draft")); err != nil {
		t.Errorf("a draft under way was collected: %v", err)
	}
	if err := errors.Join(s.DeleteRoot(t.Context(), "build/a"), s.ReleaseLayers(t.Context(), held)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Layer(t.Context(), held); err != nil {
		t.Errorf("released while another root holds it: %v", err)
	}
	if err := errors.Join(s.DeleteRoot(t.Context(), "build/b"), s.ReleaseLayers(t.Context(), held)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Layer(t.Context(), held); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing holds it, it is there: %v", err)
	}
}

// TestKilledWhileUnpacking kills a writer at each step: a layer is there whole or not at all, and nothing is left behind.
func TestKilledWhileUnpacking(t *testing.T) {
	d := digest.FromString("layer")
	fault.Matrix(t, fault.Case{
		Run: func(ctx context.Context, dir string, hit func(string)) error {
			s, err := Open(filepath.Join(dir, "store"))
			if err != nil {
				return err
			}
			hit("opened")
			draft, err := s.NewLayer(ctx)
			if err != nil {
				return err
			}
			hit("begun")
			if err := fill(draft.Dir(), "text"); err != nil {
				return err
			}
			hit("filled")
			if _, _, err := draft.Commit(ctx, d); err != nil {
				return err
			}
			hit("published")
			return s.PutRoot(ctx, Root{Name: "build/a", Digests: []digest.Digest{d}})
		},
		Killed: func(t testing.TB, dir, point string) {
			s, err := Open(filepath.Join(dir, "store"))
			if err != nil {
				t.Fatal(err)
			}
			_, err = s.Layer(context.Background(), d)
			if there := point == "published"; there && err != nil || !there && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("killed at %s: %v", point, err)
			}
		},
		Check: func(t testing.TB, dir, point string) {
			s, err := Open(filepath.Join(dir, "store"))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Collect(context.Background(), Policy{}); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Layer(context.Background(), d); err != nil {
				t.Errorf("after a kill at %s: %v", point, err)
			}
			if left, _ := filepath.Glob(filepath.Join(s.Dir(), "layers", ".tmp-*")); len(left) > 0 {
				t.Errorf("after a kill at %s: left are %v", point, left)
			}
		},
	})
}

func BenchmarkLayer(b *testing.B) {
	s := open(b)
	draft, err := s.NewLayer(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	for i := range 100 {
		dir := filepath.Join(draft.Dir(), "d"+string(rune('a'+i%26)), "x"+string(rune('a'+i/26)))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			b.Fatal(err)
		}
		for j := range 80 {
			if err := os.WriteFile(filepath.Join(dir, "file"+string(rune('0'+j))), nil, 0o644); err != nil {
				b.Fatal(err)
			}
		}
	}
	d := digest.FromString("x")
	if _, _, err := draft.Commit(b.Context(), d); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := s.Layer(b.Context(), d); err != nil {
			b.Fatal(err)
		}
	}
}
