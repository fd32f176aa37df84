package lazy_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/weft-dev/weft/lazy"
)

// TestDamagedCounts looks at a folder whose counters are damaged or of a newer program: they count as nothing, and the rest is told.
func TestDamagedCounts(t *testing.T) {
	root := t.TempDir()
	s, err := lazy.Open(t.Context(), lazy.Options{Root: root, Mode: lazy.Eager, Learn: -1})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "counts.json")); err != nil {
		t.Errorf("the end of a service leaves no counters: %v", err)
	}
	for _, content := range []string{"", "{", `{"version":2,"images":{"x":{"events":1}}}`, `[]`} {
		if err := os.WriteFile(filepath.Join(root, "counts.json"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := lazy.Look(root, slog.New(slog.DiscardHandler)); err != nil {
			t.Errorf("%q: %v", content, err)
		}
	}
}
