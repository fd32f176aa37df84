package journal

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// remote is systemd's program that writes journal files from text.
const remote = "/lib/systemd/systemd-journal-remote"

// makeJournal lets systemd write a file with messages.
func makeJournal(t testing.TB, name string, messages []string, env ...string) {
	t.Helper()
	if _, err := os.Stat(remote); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("systemd-journal-remote is not there; .ci/packages installs it")
		}
		t.Skip("needs systemd-journal-remote, from the package of that name")
	}
	var b strings.Builder
	for i, m := range messages {
		fmt.Fprintf(&b, "__REALTIME_TIMESTAMP=%d\n__MONOTONIC_TIMESTAMP=%d\n_BOOT_ID=0123456789abcdef0123456789abcdef\n_SYSTEMD_UNIT=u%d.service\nMESSAGE=%s\n\n", 1_700_000_000_000_000+i, i+1, i%2, m)
	}
	cmd := exec.Command(remote, "-o", name, "-")
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdin = strings.NewReader(b.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func TestRead(t *testing.T) {
	var messages []string
	for i := range 3000 {
		messages = append(messages, fmt.Sprintf("message %d %s", i, strings.Repeat("long ", i%300)))
	}
	for _, env := range [][]string{nil, {"SYSTEMD_JOURNAL_COMPACT=0"}, {"SYSTEMD_JOURNAL_COMPRESS=lz4"}, {"SYSTEMD_JOURNAL_COMPRESS=xz"}, {"SYSTEMD_JOURNAL_KEYED_HASH=0"}} {
		name := filepath.Join(t.TempDir(), "x.journal")
		makeJournal(t, name, messages, env...)
		f, err := Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		var last uint64
		for i, want := range messages {
			e, err := f.Next()
			if err != nil {
				t.Fatalf("%v: entry %d: %v", env, i, err)
			}
			if e.Realtime != 1_700_000_000_000_000+uint64(i) || e.Seqnum <= last {
				t.Fatalf("%v: entry %d: %d, %d", env, i, e.Realtime, e.Seqnum)
			}
			last = e.Seqnum
			found := false
			for _, field := range e.Fields {
				found = found || string(field) == "MESSAGE="+want
			}
			if !found {
				t.Fatalf("%v: entry %d has no %q: %q", env, i, want, e.Fields)
			}
		}
		if _, err := f.Next(); !errors.Is(err, io.EOF) {
			t.Fatalf("at the end: %v", err)
		}
		again, err := Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer again.Close()
		if err := again.Skip(last - 1); err != nil {
			t.Fatal(err)
		}
		if e, err := again.Next(); err != nil || e.Seqnum != last {
			t.Fatalf("after Skip: %v, %v", e, err)
		}
	}
}

// Whatever byte is changed, reading ends, with an error or with other content, and does not panic.
func TestDamaged(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "x.journal")
	makeJournal(t, name, []string{"one", strings.Repeat("two ", 300), "three"})
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	used := len(strings.TrimRight(string(data), "\x00"))
	file, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for at := 0; at < used; at++ {
		if at > 256 && at < used-3000 {
			at = used - 3000 // hash tables, which are not read
		}
		for _, value := range []byte{data[at] ^ 0xff, data[at] ^ 1, 0x20} {
			if _, err := file.WriteAt([]byte{value}, int64(at)); err != nil {
				t.Fatal(err)
			}
			drain(name)
		}
		if _, err := file.WriteAt(data[at:at+1], int64(at)); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range []int{used - 1, used / 2, 300, 208, 207, 100, 8, 7, 0} {
		if err := file.Truncate(int64(n)); err != nil {
			t.Fatal(err)
		}
		drain(name)
	}
}

// drain reads until the end, or until nothing but errors comes.
func drain(name string) {
	f, err := Open(name)
	if err != nil {
		return
	}
	defer f.Close()
	for range 20 {
		if _, err := f.Next(); errors.Is(err, io.EOF) {
			return
		}
	}
}

func FuzzFile(f *testing.F) {
	dir := f.TempDir()
	f.Add([]byte("LPKSHHRH"))
	f.Fuzz(func(t *testing.T, data []byte) {
		name := filepath.Join(dir, "x.journal")
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
		drain(name)
	})
}
