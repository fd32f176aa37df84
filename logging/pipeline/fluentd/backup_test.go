package fluentd

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A chunk that can never be delivered is kept for this user alone.
func TestHopelessChunksAreKept(t *testing.T) {
	s := newWeb(t)
	s.say(400, "no")
	conf := func(system, id string) string {
		return system + "<match **>\n@type http\n@id " + id + "\nendpoint " + s.URL + "\n</match>"
	}
	find := func(root string) (found []string) {
		err := filepath.Walk(root, func(path string, info os.FileInfo, err error) error {
			if err == nil && info.Mode().IsRegular() {
				found = append(found, path)
				if info.Mode().Perm() != 0o600 {
					t.Errorf("%s has the mode %o", path, info.Mode().Perm())
				}
			} else if err == nil && path != root && info.Mode().Perm() != 0o700 {
				t.Errorf("%s has the mode %o", path, info.Mode().Perm())
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	t.Run("temporary", func(t *testing.T) {
		dir := t.TempDir()
		t.Setenv("TMPDIR", dir)
		play(t, conf("", "../a"), `a {"n":1}`)
		if found := find(dir); len(found) != 1 || !strings.HasPrefix(found[0], dir+"/fluent/backup/worker0/.._a/") {
			t.Errorf("found %q", found)
		}
	})
	t.Run("root_dir", func(t *testing.T) {
		dir := t.TempDir()
		play(t, conf("<system>\nroot_dir "+dir+"/root\n</system>\n", ".."), `a {"n":1}`)
		if found := find(dir + "/root"); len(found) != 1 || !strings.HasPrefix(found[0], dir+"/root/backup/worker0/_../") {
			t.Errorf("found %q", found)
		}
	})
	for name, lay := range map[string]func(dir, elsewhere string) error{
		"a link":           func(dir, elsewhere string) error { return os.Symlink(elsewhere, dir+"/fluent") },
		"a link within":    func(dir, elsewhere string) error { return os.Symlink("other", dir+"/fluent") },
		"others may write": func(dir, _ string) error { return os.Mkdir(dir+"/fluent", 0o700) },
		"a file":           func(dir, _ string) error { return os.WriteFile(dir+"/fluent", nil, 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			dir, elsewhere := t.TempDir(), t.TempDir()
			t.Setenv("TMPDIR", dir)
			if err := os.Mkdir(dir+"/other", 0o700); err != nil {
				t.Fatal(err)
			}
			if err := lay(dir, elsewhere); err != nil {
				t.Fatal(err)
			}
			if name == "others may write" {
				if err := os.Chmod(dir+"/fluent", 0o777); err != nil {
					t.Fatal(err)
				}
			}
			_, said := play(t, conf("", "x"), `a {"n":1}`)
			if !strings.Contains(said, "the chunk cannot be kept") || !strings.Contains(said, "belongs to this user alone") {
				t.Errorf("%s", said)
			}
			for _, folder := range []string{elsewhere, dir + "/other", dir + "/fluent"} {
				if left, err := os.ReadDir(folder); err == nil && len(left) > 0 {
					t.Errorf("%s holds %v", folder, left)
				}
			}
		})
	}
}
