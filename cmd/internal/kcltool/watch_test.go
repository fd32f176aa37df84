package kcltool_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weft-dev/weft/cmd/internal/kcltool"
)

// screen is where a command writes while somebody else reads.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

// shows waits until a text was written, and forgets all before it.
func (s *screen) shows(t *testing.T, want string) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		s.mu.Lock()
		i := strings.Index(s.text.String(), want)
		if i >= 0 {
			s.text.Next(i + len(want))
		}
		s.mu.Unlock()
		if i >= 0 {
			return
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t.Fatalf("%q does not show up in %q", want, s.text.String())
}

// TestWatch edits a program that is being watched: a file, an imported package,
// a new file in its folder, an error and its repair, a file that goes away.
func TestWatch(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("kcl.mod", "[package]\nname = \"w\"\n")
	write("main.k", "import lib\na = lib.value\n")
	write("lib/l.k", "value = \"one\"\n")
	var out, errs screen
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	env := map[string]string{"KCL_CACHE_PATH": filepath.Join(dir, "cache")}
	tool := &kcltool.Tool{In: strings.NewReader(""), Out: &out, Err: &errs, Dir: dir, Version: "test",
		Getenv: func(name string) (string, bool) { v, ok := env[name]; return v, ok }}
	code := make(chan int)
	go func() { code <- tool.Main(ctx, []string{"run", "main.k", "--watch"}) }()
	out.shows(t, "a: one\n")
	write("lib/l.k", "value = \"second\"\n")
	errs.shows(t, "--- changed, running again ---")
	out.shows(t, "a: second\n")
	write("main.k", "import lib\na = lib.value + lib.more\n")
	errs.shows(t, "attribute 'more' not found")
	write("lib/m.k", "more = \"!\"\n")
	out.shows(t, "a: second!\n")
	write("main.k", "import lib\na = [\n")
	errs.shows(t, "InvalidSyntax")
	write("main.k", "import lib\na = lib.more * 3\n")
	out.shows(t, "a: '!!!'\n")
	if err := os.Remove(filepath.Join(dir, "lib", "m.k")); err != nil {
		t.Fatal(err)
	}
	errs.shows(t, "attribute 'more' not found")
	cancel()
	select {
	case c := <-code:
		if c != 0 {
			t.Errorf("exit code %d", c)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("it does not end")
	}
}
