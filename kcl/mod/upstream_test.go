package mod

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// lockByHand are test data of kpm that it did not write: keys that are not the
// names, and no end of the last line.
var lockByHand = []string{
	"pkg/client/test_data/expected/kcl.mod.lock",
	"pkg/client/test_data/test_cyclic_dependency/bbb/kcl.mod.lock",
	"pkg/client/test_data/test_data_add_deps/kcl.mod.lock",
	"pkg/package/test_data/expected/kcl.mod.lock",
	"test/e2e/test_suites/test_data/test_update_with_all/test_update/kcl.mod.lock",
}

// TestUpstreamLock reads the lock files of kcl-lang/modules and kcl-lang/kpm and
// writes them again, to the byte: `make conformance UPSTREAM=DIR`.
func TestUpstreamLock(t *testing.T) {
	dir := os.Getenv("UPSTREAM")
	if dir == "" {
		t.Skip("needs UPSTREAM, the folder with upstream's checkouts")
	}
	for _, repo := range []string{"modules", "kpm"} {
		root, err := filepath.EvalSymlinks(filepath.Join(dir, repo))
		if err != nil {
			t.Skipf("needs %s", repo)
		}
		all, same := 0, 0
		err = filepath.WalkDir(root, func(name string, e fs.DirEntry, err error) error {
			if err != nil || e.Name() != LockName {
				return err
			}
			text, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			lock, err := ParseLock(name, string(text))
			if err != nil {
				t.Errorf("%v", err)
				return nil
			}
			all++
			rel, err := filepath.Rel(root, name)
			if err != nil {
				return err
			}
			if lock.String() == string(text) {
				same++
			} else if !slices.Contains(lockByHand, rel) {
				t.Errorf("%s:\ngot:\n%swant:\n%s", rel, lock.String(), text)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d of %d are written as they were", repo, same, all)
	}
}
