package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestNewestLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.log")
	long := strings.Repeat("x", 70<<10) + "\n"
	for _, test := range []struct {
		content string
		n       int
		want    string
	}{
		{"", 3, ""},
		{"1\n2\n3\n4\n", 2, "3\n4\n"},
		{"1\n2\n3\n4\n", 9, "1\n2\n3\n4\n"},
		{"1\n2\n3\n4\n", 0, ""},
		{"1\n2\nunfinished", 1, "unfinished\n"},
		{"1\n" + long + long, 2, long + long},
	} {
		writeFile(t, path, test.content)
		var b strings.Builder
		if err := showLogs(t.Context(), &b, []logName{{"a", path}}, test.n, false); err != nil {
			t.Fatal(err)
		}
		if b.String() != test.want {
			t.Errorf("the last %d lines of %.20q: got %.20q, want %.20q", test.n, test.content, b.String(), test.want)
		}
	}
}

// safeBuilder is a strings.Builder for two goroutines.
type safeBuilder struct {
	mu sync.Mutex
	b  strings.Builder
}

func (s *safeBuilder) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *safeBuilder) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func TestFollowGoesOnInTheNextFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "kubelet.log")
	writeFile(t, path, "old\n")
	other := filepath.Join(dir, "dns.log")
	writeFile(t, other, "dns began\n")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := &safeBuilder{}
	done := make(chan error, 1)
	go func() { done <- showLogs(ctx, out, []logName{{"kubelet", path}, {"dns", other}}, 10, true) }()
	wait := func(want string) {
		t.Helper()
		for end := time.Now().Add(30 * time.Second); !strings.Contains(out.String(), want); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("never shown: %q in %q", want, out.String())
			}
		}
	}
	wait("kubelet | old\ndns     | dns began\n")
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fmt.Fprint(f, "half a line")
	time.Sleep(10 * time.Millisecond)
	fmt.Fprint(f, " and its end\n")
	wait("kubelet | half a line and its end\n")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	writeFile(t, path, "after the rotation\n")
	wait("kubelet | after the rotation\n")
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
