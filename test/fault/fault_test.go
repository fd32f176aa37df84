//go:build unix

package fault

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
)

// TestMatrix tests a small program that is right: a file is written aside and renamed.
func TestMatrix(t *testing.T) {
	points := Matrix(t, Case{
		Twice:   true,
		Prepare: func(t testing.TB, dir string) { write(t, filepath.Join(dir, "value"), "old") },
		Run: func(_ context.Context, dir string, hit func(string)) error {
			hit("before")
			if err := os.WriteFile(filepath.Join(dir, "aside"), []byte("new"), 0o600); err != nil {
				return err
			}
			hit("written")
			err := os.Rename(filepath.Join(dir, "aside"), filepath.Join(dir, "value"))
			hit("renamed")
			return err
		},
		Killed: func(t testing.TB, dir, point string) {
			if got := read(t, filepath.Join(dir, "value")); (got == "new") != (point == "renamed") {
				t.Errorf("after a kill at %s the value is %q", point, got)
			}
		},
		Check: func(t testing.TB, dir, _ string) {
			if got := read(t, filepath.Join(dir, "value")); got != "new" {
				t.Errorf("value %q", got)
			}
		},
	})
	if points != 3 {
		t.Errorf("%d points", points)
	}
}

// TestMatrixFindsFaults runs the matrix's parts on a program that is wrong: it appends, so a second run does it twice.
func TestMatrixFindsFaults(t *testing.T) {
	c := Case{
		Timeout: 1e10,
		Run: func(_ context.Context, dir string, hit func(string)) error {
			f, err := os.OpenFile(filepath.Join(dir, "value"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
			if err != nil {
				return err
			}
			_, err = f.WriteString("x")
			hit("appended")
			return errors.Join(err, f.Close())
		},
		Check: func(t testing.TB, dir, _ string) {
			if got := read(t, filepath.Join(dir, "value")); got != "x" {
				t.Errorf("value %q", got)
			}
		},
	}
	if os.Getenv(envTest) == t.Name() {
		child(c)
	}
	dir := c.fresh(t)
	killed, err := c.start(t, t.Name(), dir, 1)
	if !killed || err != nil {
		t.Fatal("not killed", err)
	}
	if killed, err := c.start(t, t.Name(), dir, 0); killed || err != nil {
		t.Fatal(killed, err)
	}
	if got := read(t, filepath.Join(dir, "value")); got != "xx" {
		t.Errorf("the fault was not brought about: %q", got)
	}
	recorder := &recorder{TB: t}
	c.Check(recorder, dir, "appended")
	if !recorder.failed {
		t.Error("the check does not see it")
	}
}

// TestFailingRun tells that a run's own error reaches the test.
func TestFailingRun(t *testing.T) {
	c := Case{Timeout: 1e10, Run: func(context.Context, string, func(string)) error { return errors.New("out of paper") }}
	if os.Getenv(envTest) == t.Name() {
		child(c)
	}
	if _, err := c.start(t, t.Name(), c.fresh(t), 0); err == nil || !strings.Contains(err.Error(), "out of paper") {
		t.Errorf("error %v", err)
	}
}

func TestPatternMatchesOneTest(t *testing.T) {
	names := []string{pattern("TestA/b(c)"), pattern("TestA")}
	sort.Strings(names)
	if names[0] != "^TestA$" || names[1] != `^TestA$/^b\(c\)$` {
		t.Errorf("%q", names)
	}
}

type recorder struct {
	testing.TB
	failed bool
}

func (r *recorder) Errorf(string, ...any) { r.failed = true }

func write(t testing.TB, path, text string) {
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
