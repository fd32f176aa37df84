package kcltool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/weft-dev/weft/kcl"
	"github.com/weft-dev/weft/kcl/plan"
)

// watchEvery is how often the files of a program are looked at. Looking is
// used instead of notifications because it works on every file system.
const watchEvery = 300 * time.Millisecond

// watch runs the program again whenever one of the files or folders that it
// read has changed, until ctx ends.
func (t *Tool) watch(ctx context.Context, o *runOptions, args []string) error {
	for {
		files := t.machine()
		files.watch, files.seen = true, map[string]bool{}
		flags := *o
		if err := t.report(t.run(ctx, &flags, args, files), o.errorFormat, !o.noStyle); err != nil && ctx.Err() == nil {
			if failure := (*Failure)(nil); !errors.As(err, &failure) {
				return err
			}
		}
		before := files.state()
		for same(before, files.state()) {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(watchEvery):
			}
		}
		fmt.Fprintln(t.Err, "--- changed, running again ---")
	}
}

type fileState struct {
	size    int64
	changed time.Time
}

// state is how the files that were read look now.
func (m *machine) state() map[string]fileState {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := make(map[string]fileState, len(m.seen))
	for name := range m.seen {
		if info, err := os.Stat(name); err == nil {
			now[name] = fileState{info.Size(), info.ModTime()}
		}
	}
	return now
}

func same(a, b map[string]fileState) bool {
	if len(a) != len(b) {
		return false
	}
	for name, s := range a {
		if b[name] != s {
			return false
		}
	}
	return true
}

// why prints where a field came from, the decisive place last.
func (t *Tool) why(r *kcl.Result, path string) error {
	v, chain, err := r.Why(path)
	if err != nil {
		return err
	}
	text := plan.JSON(v, r.PlanOptions(), 0)
	if len(text) > 100 {
		text = text[:100] + "..."
	}
	fmt.Fprintf(t.Out, "%s = %s\n", path, text)
	if len(chain) == 0 {
		fmt.Fprintln(t.Out, "  no place in a file: the value was computed")
	}
	for i, o := range chain {
		verb := map[string]string{":": "merges", "=": "overrides", "+=": "adds", "default": "is the default", "unify": "merges"}[o.Op]
		if i == 0 && (o.Op == ":" || o.Op == "=" || o.Op == "+=") {
			verb = "sets"
		}
		if verb == "" {
			verb = o.Op
		}
		fmt.Fprintf(t.Out, "  %s:%d:%d  %s\n", t.relative(o.File), o.Line, o.Col, verb)
	}
	return nil
}
