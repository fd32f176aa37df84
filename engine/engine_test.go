//go:build unix

package engine_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weft-dev/weft/engine"
	"github.com/weft-dev/weft/engine/folder"
	"github.com/weft-dev/weft/engine/journal"
	"github.com/weft-dev/weft/engine/seal"
)

type res = engine.Resource
type tree = map[string]any

func ref(id engine.ID, path ...string) engine.Reference {
	return engine.Reference{Resource: id, Path: path}
}

// rig is a world and a state in folders of one test.
type rig struct {
	*testing.T
	*world
	dir  string
	opts engine.Options
	keys engine.Sealer
}

func newRig(t *testing.T) *rig {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "world"), 0o700); err != nil {
		t.Fatal(err)
	}
	w := newWorld(filepath.Join(dir, "world"))
	return &rig{T: t, world: w, dir: dir, opts: engine.Options{Drivers: map[string]engine.Driver{"thing": w}, Retries: -1}}
}

// with opens the state, as every command does, for one use.
func (r *rig) with(use func(*engine.Engine, *folder.Folder)) {
	r.Helper()
	f, err := folder.Open(r.Context(), filepath.Join(r.dir, "state"), folder.Options{Operation: "test", Sealer: r.keys, Journal: journal.Options{NoSync: true}})
	if err != nil {
		r.Fatal(err)
	}
	defer f.Close()
	e, err := engine.New(f.State, r.opts)
	if err != nil {
		r.Fatal(err)
	}
	use(e, f)
}

func (r *rig) plan(resources ...res) string {
	r.Helper()
	var got string
	r.with(func(e *engine.Engine, _ *folder.Folder) {
		p, err := e.Plan(r.Context(), typed(resources))
		if err != nil {
			got = "error: " + err.Error()
			return
		}
		got = describe(p)
	})
	return got
}

func (r *rig) apply(resources ...res) error {
	r.Helper()
	var result error
	r.with(func(e *engine.Engine, _ *folder.Folder) {
		p, err := e.Plan(r.Context(), typed(resources))
		if err != nil {
			result = err
			return
		}
		_, result = e.Apply(r.Context(), p)
	})
	return result
}

func (r *rig) must(resources ...res) {
	r.Helper()
	if err := r.apply(resources...); err != nil {
		r.Fatal(err)
	}
	if got := r.plan(resources...); strings.Trim(got, "\n") != "" {
		r.Errorf("not at rest:\n%s", got)
	}
}

func (r *rig) want(got, want string) {
	r.Helper()
	if strings.TrimSpace(got) != strings.TrimSpace(want) {
		r.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func typed(resources []res) []res {
	out := slices.Clone(resources)
	for i := range out {
		if out[i].Type == "" {
			out[i].Type = "thing"
		}
	}
	return out
}

func describe(p *engine.Plan) string {
	var b strings.Builder
	for _, s := range p.Steps {
		if s.Action == engine.NoOp {
			continue
		}
		fmt.Fprintf(&b, "%s %s: %s", s.Action, s.ID, s.Cause)
		var paths []string
		for _, c := range s.Changes {
			paths = append(paths, c.Path)
		}
		if slices.Sort(paths); len(paths) > 0 {
			fmt.Fprintf(&b, " %v", paths)
		}
		b.WriteString("\n")
	}
	return b.String()
}

func (r *rig) exists() string {
	r.Helper()
	all, err := r.things()
	if err != nil {
		r.Fatal(err)
	}
	return strings.Join(slices.Sorted(maps.Keys(all)), " ")
}

func TestLife(t *testing.T) {
	r := newRig(t)
	a := res{ID: "a", Inputs: tree{"value": int64(1)}}
	b := res{ID: "b", Inputs: tree{"from": ref("a", "value"), "id": ref("a", "id")}}
	r.want(r.plan(b, a), "create a: it does not exist\ncreate b: it does not exist")
	r.must(b, a)
	a.Inputs = tree{"value": int64(2)}
	r.want(r.plan(b, a), "update a: its inputs changed [value]\nupdate b: its inputs changed [from]")
	r.must(b, a)
	if all, _ := r.things(); fmt.Sprint(all["b"]["from"]) != "2" {
		t.Errorf("b did not get a's new value: %v", all)
	}
	a.Inputs = tree{"value": int64(2), "fixed": "x"}
	r.want(r.plan(b, a), "replace a: fixed cannot be changed [fixed]\nupdate b: its inputs changed [from id]")
	r.must(b, a)
	r.want(r.plan(), "delete a: it is no longer wanted\ndelete b: it is no longer wanted")
	r.must()
	if r.exists() != "" {
		t.Errorf("left: %s", r.exists())
	}
	log, _ := os.ReadFile(filepath.Join(r.world.dir, ".log"))
	if got := strings.ReplaceAll(string(log), "\n", ", "); got != "create a, create b, delete a, create a, delete b, delete a, " {
		t.Errorf("order: %s", got)
	}
}

func TestOutsideChanges(t *testing.T) {
	r := newRig(t)
	a, b := res{ID: "a", Inputs: tree{"value": "x"}}, res{ID: "b", Inputs: tree{"value": "y"}}
	r.must(a, b)
	if err := r.write(filepath.Join(r.world.dir, "a"), &thing{Identity: "a#1", Inputs: tree{"value": "theirs"}}); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(r.world.dir, "b")); err != nil {
		t.Fatal(err)
	}
	want := "update a: it was made anew outside [value]\ncreate b: it was deleted outside"
	r.want(r.plan(a, b), want)
	r.opts.Refresh = engine.RefreshChanged
	r.reads = 0
	r.want(r.plan(a, b), "")
	if r.reads != 0 {
		t.Errorf("%d reads although nothing changed by the state", r.reads)
	}
	r.opts.Refresh = engine.RefreshAll
	r.must(a, b)
	c := res{ID: "c", Inputs: tree{"value": "z"}}
	if err := r.write(filepath.Join(r.world.dir, "c"), &thing{Identity: "c#1", Inputs: tree{"value": "old"}}); err != nil {
		t.Fatal(err)
	}
	r.want(r.plan(a, b, c), "adopt c: it exists and is not in the state [value]")
	r.must(a, b, c)
}

func TestNewDriverVersionLooksAgain(t *testing.T) {
	r := newRig(t)
	a := res{ID: "a", Inputs: tree{"value": "x"}}
	r.must(a)
	r.opts.Refresh = engine.RefreshChanged
	r.world.version, r.reads = "2", 0
	r.must(a)
	if r.reads != 1 {
		t.Errorf("%d reads", r.reads)
	}
}

func TestCreateBeforeDestroy(t *testing.T) {
	r := newRig(t)
	a := res{ID: "a", CreateBeforeDestroy: true, Inputs: tree{"generation": int64(1)}}
	b := res{ID: "b", Inputs: tree{"id": ref("a", "id")}}
	r.must(a, b)
	a.Inputs = tree{"generation": int64(2)}
	r.want(r.plan(a, b), "create-replacement a: generation cannot be changed [generation]\nupdate b: its inputs changed [id]")
	r.world.fail["b"] = errors.New("no")
	if err := r.apply(a, b); err == nil {
		t.Fatal("no error")
	}
	if got := r.exists(); got != "a@1 a@2 b" {
		t.Errorf("the old one has to stay while b uses it: %s", got)
	}
	r.must(a, b)
	if got := r.exists(); got != "a@2 b" {
		t.Errorf("left: %s", got)
	}
}

func TestProtectKeepAndTargets(t *testing.T) {
	r := newRig(t)
	a := res{ID: "a", Protect: true, Origin: "stack.k:3:1", Inputs: tree{"fixed": "1"}}
	b := res{ID: "b", Keep: true, Inputs: tree{"value": "1"}}
	r.must(a, b)
	r.want(r.plan(b), "error: a: it is no longer wanted and protected: take the protection off first, in a run of its own")
	a.Inputs = tree{"fixed": "2"}
	r.want(r.plan(a, b), "error: stack.k:3:1: a: it would have to be replaced and is protected: fixed cannot be changed")
	a.Protect, a.Inputs = false, tree{"fixed": "1"}
	r.must(a, b)
	r.must()
	if r.exists() != "b" {
		t.Errorf("left: %s", r.exists())
	}

	c := res{ID: "c", Inputs: tree{"value": "1"}}
	d := res{ID: "d", Inputs: tree{"value": ref("c", "value")}}
	r.opts.Targets = []engine.ID{"d"}
	r.want(r.plan(c, d, res{ID: "e"}), "create c: it does not exist\ncreate d: it does not exist")
	r.opts.Targets = []engine.ID{"nope"}
	r.want(r.plan(c), `error: the target "nope" is neither wanted nor in the state`)
}

func TestProblemsAreToldAtOnce(t *testing.T) {
	r := newRig(t)
	got := r.plan(res{ID: "a", Origin: "x:1", DependsOn: []engine.ID{"gone"}}, res{ID: "a", Origin: "x:2"}, res{ID: "b", Type: "unheard-of", Origin: "x:3"})
	r.want(got, `error: x:2: a: the same id is used at x:1
x:3: b: there is no driver for the type "unheard-of"
x:1: a: it depends on "gone", which does not exist`)
	r.want(r.plan(res{ID: "a", Origin: "x:1", DependsOn: []engine.ID{"b"}}, res{ID: "b", Inputs: tree{"v": ref("c", "id")}}, res{ID: "c", DependsOn: []engine.ID{"a"}}),
		"error: x:1: a: it depends on itself: a -> b -> c -> a")
	r.must(res{ID: "c", Inputs: tree{"value": "1"}})
	r.want(r.plan(res{ID: "c", Inputs: tree{"value": "1"}}, res{ID: "d", Origin: "x:9", Inputs: tree{"v": ref("c", "nope")}}),
		`error: x:9: d: the reference to c.nope: there is no output "nope"; expected one of id, value`)
}

func TestFailureModes(t *testing.T) {
	for _, mode := range []engine.OnFailure{engine.Stop, engine.Continue} {
		t.Run(string(mode), func(t *testing.T) {
			r := newRig(t)
			r.opts.OnFailure, r.opts.Workers = mode, 1
			r.world.fail["a"] = errors.New("out of paper")
			set := []res{{ID: "a", Origin: "x:1"}, {ID: "b", DependsOn: []engine.ID{"a"}}, {ID: "c"}, {ID: "d"}}
			err := r.apply(set...)
			if err == nil || !strings.Contains(err.Error(), "x:1: a: create: out of paper") {
				t.Fatal(err)
			}
			want := map[engine.OnFailure]string{engine.Stop: "", engine.Continue: "c d"}[mode]
			if got := r.exists(); got != want {
				t.Errorf("made %q, want %q", got, want)
			}
			r.must(set...)
		})
	}
}

type temporaryError struct{ error }

func (temporaryError) Temporary() bool { return true }

func TestRetryTimeoutAndDrain(t *testing.T) {
	r := newRig(t)
	r.opts.Retries = 1
	r.world.fail["a"] = temporaryError{errors.New("busy")}
	r.must(res{ID: "a"})

	r.world.block["slow"] = make(chan struct{})
	err := r.apply(res{ID: "a"}, res{ID: "slow", Timeout: 20 * time.Millisecond})
	if err == nil || !strings.Contains(err.Error(), "not done after 20ms") {
		t.Error(err)
	}

	drain := make(chan struct{})
	r.opts.Drain, r.opts.Workers = drain, 1
	var once sync.Once
	r.opts.Progress = func(ev engine.Event) {
		if ev.State == "begun" {
			once.Do(func() {
				close(drain)
				time.Sleep(20 * time.Millisecond) // lets the engine hear of it while the first one runs
			})
		}
	}
	err = r.apply(res{ID: "a"}, res{ID: "p"}, res{ID: "q"}, res{ID: "s"})
	if err == nil || !strings.Contains(err.Error(), "2 resources were not begun") {
		t.Errorf("drained: %v", err)
	}
	if got := r.exists(); got != "a p" {
		t.Errorf("made %s: what ran has to be finished, and nothing begun", got)
	}
}

func TestCancelledOperationIsReadBack(t *testing.T) {
	r := newRig(t)
	r.world.block["a"] = make(chan struct{})
	ctx, cancel := context.WithCancel(r.Context())
	r.opts.Progress = func(ev engine.Event) {
		if ev.State == "begun" {
			cancel()
		}
	}
	r.with(func(e *engine.Engine, f *folder.Folder) {
		p, err := e.Plan(r.Context(), typed([]res{{ID: "a"}}))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.Apply(ctx, p); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
		if n := len(f.State.Pending()); n != 0 {
			t.Errorf("%d operations are pending although they could be read back", n)
		}
	})
}

func TestStalePlanIsRefused(t *testing.T) {
	r := newRig(t)
	r.with(func(e *engine.Engine, _ *folder.Folder) {
		first, err := e.Plan(r.Context(), typed([]res{{ID: "a"}}))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.Apply(r.Context(), first); err != nil {
			t.Fatal(err)
		}
		if _, err := e.Apply(r.Context(), first); err == nil || !strings.Contains(err.Error(), "plan again") {
			t.Errorf("error %v", err)
		}
		first.Lineage = "other"
		if _, err := e.Apply(r.Context(), first); err == nil || !strings.Contains(err.Error(), "another state") {
			t.Errorf("error %v", err)
		}
	})
}

func TestSecretsAreEncryptedAtRest(t *testing.T) {
	r := newRig(t)
	a := res{ID: "a", Inputs: tree{"secret": engine.Sensitive{Value: "hunter2"}, "list": []any{engine.Sensitive{Value: int64(5)}}, "trap": tree{"$sensitive": "mine"}}}
	b := res{ID: "b", Inputs: tree{"value": ref("a", "secret")}}
	if err := r.apply(a); !errors.Is(err, engine.ErrNoSealer) {
		t.Fatalf("without a key: %v", err)
	}
	if r.exists() != "" {
		t.Error("it was made although it could not be written down")
	}
	id, err := seal.UserIdentity(filepath.Join(r.dir, "identity"))
	if err != nil {
		t.Fatal(err)
	}
	if r.keys, err = seal.New(nil, []string{id}); err != nil {
		t.Fatal(err)
	}
	r.must(a, b)
	r.with(func(_ *engine.Engine, f *folder.Folder) {
		if err := f.State.Compact(true); err != nil {
			t.Fatal(err)
		}
	})
	r.must(a, b)
	_ = filepath.WalkDir(filepath.Join(r.dir, "state"), func(path string, d os.DirEntry, err error) error {
		if data, readErr := os.ReadFile(path); readErr == nil && strings.Contains(string(data), "hunter2") {
			t.Errorf("%s holds the secret in the clear", path)
		}
		return err
	})
	r.with(func(_ *engine.Engine, f *folder.Folder) {
		got := f.State.Record("a").Inputs
		if !same(engine.Reveal(got), engine.Reveal(a.Inputs)) || got["secret"] != (engine.Sensitive{Value: "hunter2"}) || got["list"].([]any)[0] != (engine.Sensitive{Value: int64(5)}) {
			t.Errorf("read back %#v", got)
		}
		if f.State.Record("b").Inputs["value"] != (engine.Sensitive{Value: "hunter2"}) {
			t.Error("a sensitive output lost its mark on its way")
		}
	})
}

func TestTwoRunsAtOnce(t *testing.T) {
	r := newRig(t)
	r.with(func(*engine.Engine, *folder.Folder) {
		_, err := folder.Open(r.Context(), filepath.Join(r.dir, "state"), folder.Options{Operation: "second", Wait: 60 * time.Millisecond})
		var held *folder.LockedError
		if !errors.As(err, &held) || held.Holder.PID != os.Getpid() || held.Holder.Operation != "test" {
			t.Errorf("error %v", err)
		}
	})
}

func TestNewerStateIsRefused(t *testing.T) {
	for name, record := range map[string]string{"version": `{"op":"init","version":9,"lineage":"x"}`, "record": `{"op":"teleport"}`, "no beginning": `{"op":"end","id":"a"}`} {
		_, err := engine.Load(nil, nil, [][]byte{[]byte(record)}, 1, nil)
		if err == nil || !strings.Contains(err.Error(), "newer weft") && !strings.Contains(err.Error(), "no beginning") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
