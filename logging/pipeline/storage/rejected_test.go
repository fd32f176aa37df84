package storage

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Copies of what no output took are kept up to a limit, and are not among what is sent at the next start.
func TestRejectedChunks(t *testing.T) {
	dir := t.TempDir()
	folder, err := Open(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	c := chunk(t, folder)
	kept := filepath.Join(dir, "[rejected]") // a name, and no pattern
	if err := c.CopyTo(kept, c.Size()); err != nil {
		t.Fatal(err)
	}
	another := chunk(t, folder)
	if err := another.CopyTo(kept, c.Size()+another.Size()-1); err == nil || !strings.Contains(err.Error(), "storage.rejected.limit") {
		t.Errorf("above the limit: %v", err)
	}
	if err := another.CopyTo(kept, c.Size()+another.Size()); err != nil {
		t.Error(err)
	}
	if names, err := os.ReadDir(kept); err != nil || len(names) != 2 {
		t.Errorf("kept are %v %v", names, err)
	}
	if left, err := folder.Left(); err != nil || len(left) != 2 {
		t.Errorf("%d chunks are sent at the next start, %v", len(left), err)
	}
}
