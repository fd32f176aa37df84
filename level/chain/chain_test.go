package chain

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/weft-dev/weft/test/fault"
)

func write(t testing.TB, path string, n int) *Writer {
	t.Helper()
	w, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		w.Append(Record{Event: "Denied", User: fmt.Sprintf("user-%d", i)})
	}
	return w
}

func lines(t testing.TB, path string) []string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.SplitAfter(strings.TrimSuffix(string(data), "\n"), "\n")
}

func TestEveryChangeIsFound(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	w := write(t, path, 5)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	count := 0
	head, err := Verify(path, func(Record) { count++ })
	if err != nil || count != 5 || head != w.Saved() {
		t.Fatal(head, count, err)
	}
	good := lines(t, path)
	good[4] += "\n"
	foreign := filepath.Join(t.TempDir(), "other.jsonl")
	if err := write(t, foreign, 7).Close(); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(l []string) []string
		want   string
	}{
		"changed":            {func(l []string) []string { l[2] = strings.Replace(l[2], "user-2", "user-9", 1); return l }, "was changed"},
		"taken away":         {func(l []string) []string { return slices.Delete(l, 2, 3) }, "missing or out of order"},
		"exchanged":          {func(l []string) []string { l[2], l[3] = l[3], l[2]; return l }, "out of order"},
		"from another chain": {func(l []string) []string { l[2] = lines(t, foreign)[2]; return l }, "exchanged"},
		"put in":             {func(l []string) []string { return slices.Insert(l, 2, l[1]) }, "out of order"},
		"torn":               {func(l []string) []string { l[4] = l[4][:20]; return l }, "not finished"},
		"no record":          {func(l []string) []string { l[0] = "hello\n"; return l }, "no hash"},
		"too long":           {func(l []string) []string { l[0] = strings.Repeat("x", maxLine+1) + "\n"; return l }, "a line of more than"},
	} {
		if err := os.WriteFile(path, []byte(strings.Join(c.change(slices.Clone(good)), "")), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Verify(path, nil)
		var d *Damage
		if !errors.As(err, &d) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
	// Cutting off whole records at the end leaves a chain that holds: only the head, told elsewhere, shows it.
	if err := os.WriteFile(path, []byte(strings.Join(good[:4], "")), 0o600); err != nil {
		t.Fatal(err)
	}
	if shorter, err := Verify(path, nil); err != nil || shorter == head {
		t.Errorf("cut off: %v, %v", shorter, err)
	}
}

func TestGoesOnInTheNextFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	w := write(t, path, 0)
	w.size = 2000
	for i := range 40 {
		w.Append(Record{Event: "Denied", User: fmt.Sprint(i)})
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	w = write(t, path, 3)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	n := 0
	if head, err := Verify(path, func(Record) { n++ }); err != nil || head.Sequence != 43 || n != 43 {
		t.Fatal(head, n, err)
	}
	if _, err := os.Stat(path + ".2"); err != nil {
		t.Error(err)
	}
	if err := os.Remove(path + ".1"); err != nil {
		t.Fatal(err)
	}
	if head, err := Verify(path, nil); err != nil || head.Sequence != 43 { // what is older counts as gone
		t.Error(head, err)
	}
}

func TestOneWriterOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	w := write(t, path, 1)
	if _, err := Open(path); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("a second writer: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestAnUnfinishedRecordIsCutOff(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	if err := write(t, path, 3).Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data[:len(data)-10], 0o600); err != nil {
		t.Fatal(err)
	}
	if err := write(t, path, 1).Close(); err != nil {
		t.Fatal(err)
	}
	var events []string
	if _, err := Verify(path, func(r Record) { events = append(events, r.Event) }); err != nil || fmt.Sprint(events) != "[Denied Denied Recovered Denied]" {
		t.Error(events, err)
	}
	if err := os.WriteFile(path, bytes.Replace(data, []byte("user-2"), []byte("user-3"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("a changed last record: %v", err)
	}
}

// TestKilledWriter kills a writer after each of its records: what it wrote holds, and it goes on.
func TestKilledWriter(t *testing.T) {
	fault.Matrix(t, fault.Case{
		Run: func(_ context.Context, dir string, hit func(string)) error {
			w, err := Open(filepath.Join(dir, "audit.jsonl"))
			if err != nil {
				return err
			}
			for i := range 4 {
				w.Append(Record{Event: "Denied", User: fmt.Sprint(i)})
				hit("appended")
			}
			return w.Close()
		},
		Check: func(t testing.TB, dir, _ string) {
			n := 0
			if _, err := Verify(filepath.Join(dir, "audit.jsonl"), func(Record) { n++ }); err != nil || n < 4 {
				t.Error(n, err)
			}
		},
	})
}

func TestManyWriters(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	w := write(t, path, 0)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 100 {
				w.Append(Record{Event: "Denied"})
				w.sync()
			}
		})
	}
	all.Wait()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if head, err := Verify(path, nil); err != nil || head.Sequence != 800 || head != w.Saved() {
		t.Error(head, err)
	}
}

func FuzzVerify(f *testing.F) {
	path := filepath.Join(f.TempDir(), "audit.jsonl")
	if err := write(f, path, 3).Close(); err != nil {
		f.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"sequence":1,"hash":"x"}` + "\n"))
	f.Add([]byte(`,"hash":"` + strings.Repeat("0", 64) + "\"}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		n := 0
		head, err := verify(bytes.NewReader(data), "fuzz", Head{}, func(Record) { n++ })
		if err == nil && n > 0 && head.Hash == "" {
			t.Error("a chain without a head")
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	w := write(b, filepath.Join(b.TempDir(), "audit.jsonl"), 0)
	for b.Loop() {
		w.Append(Record{Door: "authorizer", Event: "Denied", User: "alice", Groups: []string{"a", "b"}, Verb: "get", Resource: "secrets", Namespace: "payments", Name: "db", Cause: "LevelTooLow"})
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
}
