package snapshotter

import (
	"bufio"
	"context"
	"io"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/archive"
	"github.com/containerd/containerd/v2/pkg/archive/compression"
)

// lockedWriter lets several goroutines write.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// applyTo unpacks a layer into the upper folder of an overlay as containerd does (core/diff/apply), or into the folder of a bind mount.
func applyTo(ctx context.Context, mounts []mount.Mount, r io.Reader) error {
	plain, err := compression.DecompressStream(r)
	if err != nil {
		return err
	}
	defer plain.Close()
	if m := mounts[0]; m.Type == "overlay" {
		var upper string
		var o []archive.ApplyOpt
		for _, option := range m.Options {
			if v, ok := strings.CutPrefix(option, "upperdir="); ok {
				upper = v
			}
			if v, ok := strings.CutPrefix(option, "lowerdir="); ok {
				o = append(o, archive.WithParents(strings.Split(v, ":")))
			}
		}
		_, err = archive.Apply(ctx, upper, plain, append(o, archive.WithConvertWhiteout(archive.OverlayConvertWhiteout))...)
		return err
	}
	return mount.WithTempMount(ctx, mounts, func(root string) error {
		_, err := archive.Apply(ctx, root, plain)
		return err
	})
}

// listMounts are the mounts below a folder.
func listMounts(t testing.TB, root string) []string {
	t.Helper()
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var list []string
	for s := bufio.NewScanner(f); s.Scan(); {
		if fields := strings.Fields(s.Text()); strings.HasPrefix(fields[4], root+"/") {
			list = append(list, fields[4])
		}
	}
	return list
}

func removeKeys(t testing.TB, m *machine, keys ...string) {
	t.Helper()
	for _, k := range keys {
		if err := m.Remove(t.Context(), k); err != nil {
			t.Fatal(err)
		}
	}
}

// removeAll removes all snapshots, children first, and looks whether anything is left.
func removeAll(t testing.TB, m *machine) {
	t.Helper()
	for range 100 {
		var names []string
		if err := m.Walk(t.Context(), func(_ context.Context, i snapshots.Info) error {
			names = append(names, i.Name)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if len(names) == 0 {
			break
		}
		for _, n := range names {
			_ = m.Remove(t.Context(), n) // one with children comes in a later round
		}
	}
	entries, err := os.ReadDir(m.root + "/snapshots")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		t.Errorf("the folder %s is left", e.Name())
	}
}

// parentOf is the parent of the snapshot that a mounted image has for a layer.
func parentOf(m *machine, t testing.TB, target string) (parent string) {
	t.Helper()
	if err := m.Walk(t.Context(), func(_ context.Context, i snapshots.Info) error {
		if i.Labels[labelRef] == target {
			parent = i.Parent
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return parent
}

// last unpacks the topmost layer of an image on a snapshot that is there.
func (m *machine) last(t testing.TB, p pushed, below string, rebase bool) string {
	t.Helper()
	i := len(p.layers.List) - 1
	opts := []snapshots.Opt{snapshots.WithLabels(p.labels(i))}
	parent := below
	if rebase {
		parent = ""
	}
	mounts, err := m.Prepare(t.Context(), "last", parent, opts...)
	if err != nil {
		t.Fatal(err)
	}
	m.apply(t, p, p.layers.List[i], mounts)
	if rebase {
		opts = append(opts, snapshots.WithParent(below))
	}
	if err := m.Commit(t.Context(), "last-committed", "last", opts...); err != nil {
		t.Fatal(err)
	}
	return "last-committed"
}

// counter reads one line of the metrics.
func counter(t testing.TB, m *Metrics, name string) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	for line := range strings.Lines(w.Body.String()) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), name+" "); ok {
			return v
		}
	}
	return "no"
}
