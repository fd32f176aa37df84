package diskcache

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func open(t *testing.T, limit int64) *Dir {
	t.Helper()
	d, err := Open(filepath.Join(t.TempDir(), "a", "cache"), limit)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func key(i int) [32]byte { return sha256.Sum256(fmt.Append(nil, i)) }

func TestPutGet(t *testing.T) {
	d := open(t, 0)
	if _, ok := d.Get(key(1)); ok {
		t.Error("an entry that nobody put")
	}
	d.Put(key(1), []byte("one"))
	d.Put(key(2), nil)
	if got, ok := d.Get(key(1)); !ok || string(got) != "one" {
		t.Errorf("%q %v", got, ok)
	}
	if got, ok := d.Get(key(2)); !ok || len(got) != 0 {
		t.Errorf("%q %v", got, ok)
	}
	err := filepath.WalkDir(d.path, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if info, err := e.Info(); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s is open to others: %v %v", name, info.Mode(), err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Clear(); err != nil {
		t.Fatal(err)
	}
	if _, ok := d.Get(key(1)); ok {
		t.Error("an entry after Clear")
	}
}

// TestUnsafe: folders in which others could write are refused.
func TestUnsafe(t *testing.T) {
	dir := t.TempDir()
	shared, file, link := filepath.Join(dir, "shared"), filepath.Join(dir, "file"), filepath.Join(dir, "link")
	if err := os.Mkdir(shared, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(shared, 0o770); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(t.TempDir(), link); err != nil {
		t.Fatal(err)
	}
	names := []string{shared, link}
	if os.Geteuid() == 0 {
		foreign := filepath.Join(dir, "foreign")
		if err := os.Mkdir(foreign, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(foreign, 12345, 12345); err != nil {
			t.Fatal(err)
		}
		names = append(names, foreign)
	}
	for _, name := range names {
		if _, err := Open(name, 0); !errors.Is(err, ErrUnsafe) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Open(file, 0); err == nil {
		t.Error("a file was taken for a folder")
	}
}

// TestDamaged: an entry that is cut, changed or of another version counts as
// missing, goes away, and can be put again.
func TestDamaged(t *testing.T) {
	d := open(t, 0)
	d.Put(key(1), []byte("something"))
	name := d.name(key(1))
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(whole) {
		changed := append([]byte(nil), whole...)
		changed[n] ^= 1
		for _, bad := range [][]byte{whole[:n], changed} {
			if err := os.WriteFile(name, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			if got, ok := d.Get(key(1)); ok {
				t.Fatalf("byte %d: got %q", n, got)
			}
			if _, err := os.Stat(name); !errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("byte %d: the damaged entry is still there: %v", n, err)
			}
		}
	}
	d.Put(key(1), []byte("something"))
	if _, ok := d.Get(key(1)); !ok {
		t.Error("the entry could not be put again")
	}
}

// TestLimit: the entries that were not used for the longest time go first.
func TestLimit(t *testing.T) {
	d := open(t, 16*10*1100) // about ten entries a shard
	var keys [][32]byte
	for i := 0; len(keys) < 20; i++ {
		if k := key(i); k[0]>>4 == 7 {
			keys = append(keys, k)
		}
	}
	for i, k := range keys {
		d.Put(k, make([]byte, 1000))
		when := time.Now().Add(time.Duration(i-100) * time.Minute)
		if err := os.Chtimes(d.name(k), when, when); err != nil {
			t.Fatal(err)
		}
		if i == 5 {
			if _, ok := d.Get(keys[0]); !ok {
				t.Fatal("the first entry is gone already")
			}
		}
	}
	if _, ok := d.Get(keys[0]); !ok {
		t.Error("an entry that was used is gone")
	}
	if _, ok := d.Get(keys[1]); ok {
		t.Error("the oldest entry is still there")
	}
	if _, ok := d.Get(keys[19]); !ok {
		t.Error("the newest entry is gone")
	}
}

// TestWriters puts and gets the same entries from many goroutines with folders
// of their own, as processes would: a reader sees whole entries only.
func TestWriters(t *testing.T) {
	first := open(t, 16*4*5000)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			d, err := Open(first.path, first.limit)
			if err != nil {
				t.Error(err)
				return
			}
			for i := range 100 {
				k := key(i % 10)
				d.Put(k, bytes.Repeat([]byte{byte(i % 10)}, 4000))
				if got, ok := d.Get(key((i + w) % 10)); ok && (len(got) != 4000 || got[0] != byte((i+w)%10) || got[3999] != got[0]) {
					t.Errorf("a torn entry of %d bytes", len(got))
				}
			}
		})
	}
	wg.Wait()
	left, err := filepath.Glob(filepath.Join(first.path, "*", "new-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("temporary files: %v %v", left, err)
	}
}
