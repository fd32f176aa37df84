package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/weft-dev/weft/test/fault"
)

func open(t testing.TB, dir string) (*Journal, *Contents) {
	t.Helper()
	j, c, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j, c
}

func add(t testing.TB, j *Journal, payload string) {
	t.Helper()
	if _, err := j.Append([]byte(payload)); err != nil {
		t.Fatal(err)
	}
}

func describe(c *Contents) string {
	return fmt.Sprintf("%s|%s|%d", c.Snapshot, bytes.Join(c.Records, []byte(",")), c.Last)
}

func TestAppendAndCompact(t *testing.T) {
	dir := t.TempDir()
	j, _ := open(t, dir)
	if err := j.Compact([]byte(`"nothing"`)); err != nil {
		t.Fatal(err)
	}
	add(t, j, `1`)
	add(t, j, `{"b":2}`)
	if err := j.Compact([]byte(`{"two":true}`)); err != nil {
		t.Fatal(err)
	}
	add(t, j, `3`)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := j.Append([]byte(`4`)); !errors.Is(err, os.ErrClosed) {
		t.Errorf("append after close: %v", err)
	}
	_, c := open(t, dir)
	if got := describe(c); got != `{"two":true}|3|3` {
		t.Errorf("got %s", got)
	}
}

func TestRecordsThatAreRefused(t *testing.T) {
	j, _ := open(t, t.TempDir())
	for _, bad := range []string{"", "{", "1\n2", "\n"} {
		if _, err := j.Append([]byte(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
		if err := j.Compact([]byte(bad)); err == nil {
			t.Errorf("snapshot %q was taken", bad)
		}
	}
	add(t, j, `1`)
}

// TestGroupCommit appends from many goroutines at once: far fewer fsyncs than records, none lost, numbers in order.
func TestGroupCommit(t *testing.T) {
	dir := t.TempDir()
	j, _ := open(t, dir)
	const writers, each = 32, 20
	before := j.Syncs()
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := range each {
				add(t, j, fmt.Sprintf("[%d,%d]", w, i))
			}
		})
	}
	all.Wait()
	if n := j.Syncs() - before; n >= writers*each/2 {
		t.Errorf("%d fsyncs for %d records", n, writers*each)
	}
	_, c := open(t, dir)
	if len(c.Records) != writers*each {
		t.Errorf("%d records", len(c.Records))
	}
}

// TestTornTail cuts the file at every byte: what was complete stays, and appending goes on.
func TestTornTail(t *testing.T) {
	whole := t.TempDir()
	j, _ := open(t, whole)
	for i := range 3 {
		add(t, j, fmt.Sprintf(`{"n":%d}`, i))
	}
	data, err := os.ReadFile(filepath.Join(whole, journalFile))
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(data) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, journalFile), data[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		j, c := open(t, dir)
		complete := max(bytes.Count(data[:cut], []byte("\n"))-1, 0)
		if len(c.Records) != complete {
			t.Fatalf("cut at %d: %d records, want %d", cut, len(c.Records), complete)
		}
		add(t, j, `"after"`)
		j.Close()
		if _, c := open(t, dir); len(c.Records) != complete+1 || c.Torn != 0 {
			t.Fatalf("cut at %d: then %d records, %d torn", cut, len(c.Records), c.Torn)
		}
	}
}

func TestDamageIsTold(t *testing.T) {
	dir := t.TempDir()
	j, _ := open(t, dir)
	for i := range 3 {
		add(t, j, fmt.Sprintf(`{"n":%d}`, i))
	}
	path := filepath.Join(dir, journalFile)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, old, new, want string
	}{
		{"a changed record", `{"n":1}`, `{"n":7}`, "line 3: the check sum does not fit although good records follow"},
		{"another file", "weft-journal", "meft-journal", "line 1: this is no file of a weft journal"},
		{"a newer version", "weft-journal 1", "weft-journal 2", "use a newer weft"},
		{"no version", "weft-journal 1", "weft-journal x", "the version is no number"},
	} {
		bad := bytes.Replace(good, []byte(c.old), []byte(c.new), 1)
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := Open(dir, Options{}); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", c.name, err)
		}
		if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, bad) {
			t.Errorf("%s: the file was changed", c.name)
		}
	}
	lines := bytes.SplitAfter(good, []byte("\n"))
	if err := os.WriteFile(path, bytes.Join([][]byte{lines[0], lines[1], lines[3]}, nil), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Open(dir, Options{}); err == nil || !strings.Contains(err.Error(), "record 3 follows record 1") {
		t.Errorf("a missing record: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, snapshotFile), []byte("weft-snapshot 1\n00000000 1 {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Open(dir, Options{}); err == nil || !strings.Contains(err.Error(), "snapshot: line 2: the check sum") {
		t.Errorf("a damaged snapshot: %v", err)
	}
}

// TestCrashes kills a program that appends and compacts at every step. What it was told to be safe has to be there.
func TestCrashes(t *testing.T) {
	fault.Matrix(t, fault.Case{
		Twice: true,
		Run: func(_ context.Context, dir string, hit func(string)) error {
			j, c, err := Open(dir, Options{Crash: hit})
			if err != nil {
				return err
			}
			for n := int(c.Last) + 1; n <= 7; n++ {
				if _, err := j.Append(fmt.Appendf(nil, "%d", n)); err != nil {
					return err
				}
				if err := os.WriteFile(filepath.Join(dir, "told"), fmt.Append(nil, n), 0o600); err != nil {
					return err
				}
				if n%3 == 0 {
					if err := j.Compact(fmt.Appendf(nil, "%d", n)); err != nil {
						return err
					}
				}
			}
			return j.Close()
		},
		Killed: func(t testing.TB, dir, _ string) {
			told := 0
			if data, err := os.ReadFile(filepath.Join(dir, "told")); err == nil {
				if _, err := fmt.Sscan(string(data), &told); err != nil {
					t.Fatal(err)
				}
			}
			c, _, err := Read(dir)
			if err != nil {
				t.Fatal(err)
			}
			if int(c.Last) < told {
				t.Errorf("record %d was told to be safe, the last one is %d", told, c.Last)
			}
		},
		Check: func(t testing.TB, dir, _ string) {
			c, _, err := Read(dir)
			if err != nil {
				t.Fatal(err)
			}
			if c.Last != 7 {
				t.Errorf("got %s", describe(c))
			}
			first := 1
			if c.Snapshot != nil {
				if _, err := fmt.Sscan(string(c.Snapshot), &first); err != nil {
					t.Fatal(err)
				}
				first++
			}
			for i, r := range c.Records {
				if string(r) != fmt.Sprint(first+i) {
					t.Errorf("got %s", describe(c))
				}
			}
		},
	})
}

func FuzzParse(f *testing.F) {
	good := appendLine([]byte("weft-journal 1\n"), 1, []byte(`{"a":1}`))
	f.Add(appendLine(good, 2, []byte(`2`)))
	f.Add([]byte("weft-journal 1\nx"))
	f.Add([]byte(""))
	f.Fuzz(func(t *testing.T, data []byte) {
		c := &Contents{}
		size, err := parseJournal(bytes.NewReader(data), c)
		if err == nil && (size < 0 || size+int64(c.Torn) != int64(len(data)) && size > 0) {
			t.Errorf("size %d and %d torn of %d bytes", size, c.Torn, len(data))
		}
		_, _, _ = parseSnapshot(data)
	})
}

func BenchmarkAppend(b *testing.B) {
	for _, writers := range []int{1, 16} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			j, _ := open(b, b.TempDir())
			payload := []byte(`{"op":"begin","id":"` + strings.Repeat("x", 200) + `"}`)
			b.SetParallelism(writers)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := j.Append(payload); err != nil {
						b.Error(err)
					}
				}
			})
			b.ReportMetric(float64(j.Syncs())/float64(b.N), "fsyncs/op")
		})
	}
}
