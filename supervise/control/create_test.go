package control

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// Whoever sees no mark, and then a folder that another start has marked and begun to fill, is no foreigner.
func TestManyCreateOneFolder(t *testing.T) {
	for range 200 {
		dir := filepath.Join(t.TempDir(), "state")
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if err := Create(dir); err != nil {
					t.Error(err)
					return
				}
				if err := os.MkdirAll(filepath.Join(dir, "logs"), 0o700); err != nil {
					t.Error(err)
				}
			})
		}
		if all.Wait(); t.Failed() {
			return
		}
	}
}
