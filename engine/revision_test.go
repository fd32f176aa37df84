//go:build unix

package engine_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weft-dev/weft/engine"
	"github.com/weft-dev/weft/engine/folder"
	"github.com/weft-dev/weft/engine/seal"
)

func (r *rig) withKeys() {
	r.Helper()
	id, err := seal.UserIdentity(filepath.Join(r.dir, "identity"))
	if err != nil {
		r.Fatal(err)
	}
	if r.keys, err = seal.New(nil, []string{id}); err != nil {
		r.Fatal(err)
	}
}

func (r *rig) history() string {
	r.Helper()
	var b strings.Builder
	r.with(func(_ *engine.Engine, f *folder.Folder) {
		for _, rev := range f.State.Revisions() {
			fmt.Fprintf(&b, "%d %s %s %v\n", rev.Number, rev.Operation, rev.Outcome, rev.Counts)
		}
	})
	return b.String()
}

func (r *rig) rollback(number uint64) error {
	var err error
	r.with(func(e *engine.Engine, _ *folder.Folder) {
		var p *engine.Plan
		if p, err = e.PlanRevision(r.Context(), number); err == nil {
			_, err = e.Apply(r.Context(), p)
		}
	})
	return err
}

func TestRevisions(t *testing.T) {
	r := newRig(t)
	r.withKeys()
	a, b := res{ID: "a", Inputs: tree{"value": int64(1), "secret": engine.Sensitive{Value: "hunter2"}}}, res{ID: "b", Inputs: tree{"from": ref("a", "value")}}
	c := res{ID: "c", Inputs: tree{"value": int64(3)}}
	r.must(a, b)
	a2 := a
	a2.Inputs = tree{"value": int64(2), "secret": engine.Sensitive{Value: "hunter3"}}
	r.must(a2, c)
	r.want(r.history(), "1 apply done map[create:2]\n2 apply done map[create:1 delete:1 update:1]")
	r.with(func(_ *engine.Engine, f *folder.Folder) {
		if err := f.State.Compact(true); err != nil {
			t.Fatal(err)
		}
	})
	r.with(func(e *engine.Engine, f *folder.Folder) {
		diff, err := f.State.Diff(1, 2)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(diff); got != "[{a update [{secret (sensitive) (sensitive) } {value 1 2 }]} {b delete []} {c create []}]" {
			t.Errorf("diff %s", got)
		}
		if _, err := f.State.Diff(1, 9); err == nil || !strings.Contains(err.Error(), "there is no revision 9; there are 1 to 2") {
			t.Errorf("error %v", err)
		}
		p, err := e.PlanRevision(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		r.want(describe(p), "update a: its inputs changed [secret value]\ncreate b: it does not exist\ndelete c: it is no longer wanted")
	})
	if err := r.rollback(1); err != nil {
		t.Fatal(err)
	}
	r.want(r.plan(a, b), "")
	r.want(r.history(), "1 apply done map[create:2]\n2 apply done map[create:1 delete:1 update:1]\n3 rollback to 1 done map[create:1 delete:1 update:1]")
	if err := r.rollback(9); err == nil {
		t.Error("rolled back to a revision that does not exist")
	}
	r.must()
	if err := r.rollback(2); err != nil {
		t.Fatal(err)
	}
	r.want(r.plan(a2, c), "")
}

func TestRevisionsAreTrimmed(t *testing.T) {
	r := newRig(t)
	for i := range 103 {
		r.must(res{ID: "a", Inputs: tree{"value": int64(i)}}, res{ID: "b"})
	}
	r.with(func(_ *engine.Engine, f *folder.Folder) {
		if err := f.State.Compact(true); err != nil {
			t.Fatal(err)
		}
		if revisions := f.State.Revisions(); len(revisions) != 100 || revisions[0].Number != 4 {
			t.Errorf("%d revisions from %d on", len(revisions), revisions[0].Number)
		}
		set, err := f.State.Wanted(4)
		if err != nil || len(set) != 2 || set[0].Inputs["value"] != int64(3) {
			t.Errorf("%v, %v", set, err)
		}
	})
}

func TestPinnedResourcesComeBackAsTheyWere(t *testing.T) {
	r := newRig(t)
	build := res{ID: "image", Inputs: tree{"pinned": "", "value": "source"}}
	r.must(build)
	if err := r.apply(); err != nil {
		t.Fatal(err)
	}
	if err := r.rollback(1); err != nil {
		t.Fatal(err)
	}
	all, err := r.things()
	if err != nil || !strings.HasPrefix(fmt.Sprint(all["image"]["pinned"]), "image#") {
		t.Errorf("%v, %v", all, err)
	}
}

func TestRollbackOnFailure(t *testing.T) {
	r := newRig(t)
	a := res{ID: "a", Inputs: tree{"value": int64(1)}}
	r.must(a)
	r.opts.OnFailure = engine.Rollback
	a2 := a
	a2.Inputs = tree{"value": int64(2)}
	bad := res{ID: "bad", Inputs: tree{"from": ref("a", "value")}}
	last := res{ID: "last", DependsOn: []engine.ID{"bad"}}
	r.fail["bad"] = errors.New("no")
	err := r.apply(a2, bad, last)
	if err == nil || !strings.Contains(err.Error(), "bad: create: no") || !strings.Contains(err.Error(), "rolled back to revision 1") {
		t.Errorf("error %v", err)
	}
	r.want(r.plan(a), "")
	r.want(r.history(), "1 apply done map[create:1]\n2 apply failed map[update:1]\n3 rollback to 1 done map[update:1]")

	// What was not ready is rolled back too, and nothing is deleted before all is ready.
	sick := res{ID: "sick", Inputs: tree{"ready": "never"}}
	r.opts.Wait = true
	if err := r.apply(sick); err == nil || !strings.Contains(err.Error(), "sick: ready: it crashes") {
		t.Errorf("error %v", err)
	}
	r.want(r.exists(), "a")
	log, _ := os.ReadFile(filepath.Join(r.world.dir, ".log"))
	if strings.Contains(string(log), "delete a") {
		t.Errorf("what was replaced by something that is not ready was deleted:\n%s", log)
	}
}

func TestRollbackOfAFirstRunLeavesWhatWasThere(t *testing.T) {
	r := newRig(t)
	if err := r.write(filepath.Join(r.world.dir, "theirs"), &thing{Identity: "theirs#1", Inputs: tree{"value": "old"}}); err != nil {
		t.Fatal(err)
	}
	r.opts.OnFailure = engine.Rollback
	r.fail["bad"] = errors.New("no")
	if err := r.apply(res{ID: "theirs", Inputs: tree{"value": "new"}}, res{ID: "made"}, res{ID: "bad", DependsOn: []engine.ID{"made", "theirs"}}); err == nil {
		t.Error("no error")
	}
	r.want(r.exists(), "theirs")
}

func TestWaiting(t *testing.T) {
	r := newRig(t)
	r.opts.Wait, r.opts.WaitTimeout = true, 50*time.Millisecond
	late := res{ID: "late", Inputs: tree{"ready": "late"}}
	old := res{ID: "old"}
	r.must(old)
	err := r.apply(late)
	if err == nil || !strings.Contains(err.Error(), "late: ready: context deadline exceeded") {
		t.Errorf("error %v", err)
	}
	r.want(r.exists(), "late old")
	r.want(r.plan(late), "delete old: it is no longer wanted")

	drain := make(chan struct{})
	r.opts.WaitTimeout, r.opts.Drain = time.Minute, drain
	time.AfterFunc(20*time.Millisecond, func() { close(drain) })
	if err := r.apply(late); err == nil || !strings.Contains(err.Error(), "interrupted while waiting") {
		t.Errorf("error %v", err)
	}
	if got := r.history(); !strings.Contains(got, "3 apply interrupted") {
		t.Errorf("history:\n%s", got)
	}
}

func TestPlanFiles(t *testing.T) {
	r := newRig(t)
	r.withKeys()
	value := "from-the-store"
	r.opts.Resolve = func(_ context.Context, v engine.External) (any, error) {
		if v.URL != "ref://db/password" || v.Store["kind"] != "test" {
			return nil, errors.New("no such secret")
		}
		return value, nil
	}
	a := res{ID: "a", Inputs: tree{"value": int64(1), "secret": engine.Sensitive{Value: "hunter2"},
		"external": engine.External{URL: "ref://db/password", Store: tree{"kind": "test"}}}}
	b := res{ID: "b", Inputs: tree{"from": ref("a", "value")}}
	old := res{ID: "old"}
	r.must(a, old)
	save := func(resources ...res) []byte {
		t.Helper()
		var data []byte
		r.with(func(e *engine.Engine, _ *folder.Folder) {
			p, err := e.Plan(t.Context(), typed(resources))
			if err == nil {
				data, err = e.Encode(p, tree{"where": "here"})
			}
			if err != nil {
				t.Fatal(err)
			}
		})
		return data
	}
	applySaved := func(data []byte) error {
		t.Helper()
		saved, err := engine.ReadPlan(data, r.keys)
		if err != nil {
			return err
		}
		if string(saved.Settings) != `{"where":"here"}` {
			t.Errorf("settings %s", saved.Settings)
		}
		r.with(func(e *engine.Engine, _ *folder.Folder) { _, err = e.ApplySaved(t.Context(), saved) })
		return err
	}
	a2 := a
	a2.Inputs = tree{"value": int64(2), "secret": engine.Sensitive{Value: "hunter3"}, "external": a.Inputs["external"]}
	data := save(a2, b)
	for _, secret := range []string{"hunter", "from-the-store", "ref://"} {
		if strings.Contains(string(data), secret) {
			t.Errorf("the plan file has %q in the clear", secret)
		}
	}
	if plain, err := r.keys.Open(strings.Split(string(data), "\n")[1]); err != nil || strings.Contains(string(plain), "from-the-store") || strings.Contains(string(plain), "hunter") {
		t.Errorf("the plan file holds a value, not its reference, or one that is not encrypted by itself: %v", err)
	}
	saved, err := engine.ReadPlan(data, r.keys)
	if err != nil {
		t.Fatal(err)
	}
	r.want(describe(&saved.Plan), "update a: its inputs changed [secret value]\ncreate b: it does not exist\ndelete old: it is no longer wanted")

	value = "rotated-in-the-store"
	if err := applySaved(data); err == nil || !strings.Contains(err.Error(), "a: a value that is kept elsewhere changed") {
		t.Errorf("error %v", err)
	}
	value = "from-the-store"
	if err := r.write(filepath.Join(r.world.dir, "b"), &thing{Identity: "b#1"}); err != nil {
		t.Fatal(err)
	}
	if err := applySaved(data); err == nil || !strings.Contains(err.Error(), "b was made since") {
		t.Errorf("error %v", err)
	}
	if err := os.Remove(filepath.Join(r.world.dir, "b")); err != nil {
		t.Fatal(err)
	}
	before, err := r.read(filepath.Join(r.world.dir, "a"))
	if err != nil {
		t.Fatal(err)
	}
	theirs := *before
	theirs.Inputs = tree{"value": "theirs"}
	if err := r.write(filepath.Join(r.world.dir, "a"), &theirs); err != nil {
		t.Fatal(err)
	}
	if err := applySaved(data); err == nil || !strings.Contains(err.Error(), "a was changed since") {
		t.Errorf("error %v", err)
	}
	if err := r.write(filepath.Join(r.world.dir, "a"), before); err != nil {
		t.Fatal(err)
	}
	if err := applySaved(data); err != nil {
		t.Fatal(err)
	}
	r.want(r.plan(a2, b), "")
	if all, _ := r.things(); all["a"]["external"] != "from-the-store" || fmt.Sprint(all["b"]["from"]) != "2" {
		t.Errorf("made %v", all)
	}
	var stale *engine.StaleError
	if err := applySaved(data); !errors.As(err, &stale) || !strings.Contains(err.Error(), "its serial was") {
		t.Errorf("error %v", err)
	}
	other := newRig(t)
	other.keys = r.keys
	other.must(res{ID: "x"})
	other.with(func(e *engine.Engine, _ *folder.Folder) {
		if _, err := e.ApplySaved(t.Context(), saved); !errors.As(err, &stale) || !strings.Contains(err.Error(), "another state") {
			t.Errorf("error %v", err)
		}
	})
	_ = filepath.WalkDir(filepath.Join(r.dir, "state"), func(path string, d os.DirEntry, err error) error {
		if data, readErr := os.ReadFile(path); readErr == nil && (strings.Contains(string(data), "from-the-store") || strings.Contains(string(data), "hunter")) {
			t.Errorf("%s holds a secret in the clear", path)
		}
		return err
	})
	// A value that is rotated in its store is a change.
	value = "rotated-in-the-store"
	r.want(r.plan(a2, b), "update a: its inputs changed [external]\nupdate b: its inputs changed [from]")
}

func TestBadPlanFiles(t *testing.T) {
	r := newRig(t)
	r.withKeys()
	sealed, err := r.keys.Seal([]byte(`{"steps":[{"id":"a","action":"create"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	for data, want := range map[string]string{
		"":                                  "it is no plan file",
		"apiVersion: v1\n":                  "it is no plan file",
		"weft-plan x\n":                     "its version is no number",
		"weft-plan 9\nabc\n":                "use a newer weft",
		"weft-plan 1\nabc\n":                "damaged",
		"weft-plan 1\n" + sealed + "\n":     "it does not say what is wanted",
		"weft-plan 1\n" + sealed[5:] + "\n": "damaged",
	} {
		if _, err := engine.ReadPlan([]byte(data), r.keys); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: %v", data, err)
		}
	}
}

// TestInputsAreWrittenOnce has the end of an operation leave out what its begin said, and the state know it all the same when it is read.
func TestInputsAreWrittenOnce(t *testing.T) {
	r := newRig(t)
	r.must(res{ID: "a", Inputs: tree{"value": "a-text-of-its-own"}})
	r.must(res{ID: "a", Inputs: tree{"value": "another-text"}})
	r.with(func(_ *engine.Engine, f *folder.Folder) {
		if a := f.State.Record("a"); a == nil || !same(a.Inputs, tree{"value": "another-text"}) {
			t.Errorf("the state knows %+v", a)
		}
	})
	data, err := os.ReadFile(filepath.Join(r.dir, "state", "journal"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if strings.Contains(line, `"op":"end"`) && strings.Contains(line, `"inputs"`) {
			t.Errorf("written again: %s", line)
		}
	}
}

func TestRekey(t *testing.T) {
	r := newRig(t)
	r.withKeys()
	a := res{ID: "a", Inputs: tree{"secret": engine.Sensitive{Value: "hunter2"}}}
	r.must(a)
	old := r.keys
	id, err := seal.UserIdentity(filepath.Join(r.dir, "second"))
	if err != nil {
		t.Fatal(err)
	}
	second, err := seal.New(nil, []string{id})
	if err != nil {
		t.Fatal(err)
	}
	r.with(func(_ *engine.Engine, f *folder.Folder) {
		if err := f.State.Rekey(second, second.Recipients()); err != nil {
			t.Fatal(err)
		}
	})
	if _, err := folder.Open(t.Context(), filepath.Join(r.dir, "state"), folder.Options{Sealer: old}); err == nil || !strings.Contains(err.Error(), "it is for none of the keys at hand") ||
		!strings.Contains(err.Error(), "the state is encrypted to "+second.Recipients()[0]) {
		t.Errorf("the old key still reads it: %v", err)
	}
	r.keys = second
	r.want(r.plan(a), "")
	if err := r.rollback(1); err != nil {
		t.Fatal(err)
	}
}

func TestMoveForgetAndTwoNamesForOneThing(t *testing.T) {
	r := newRig(t)
	a, b := res{ID: "a", Inputs: tree{"value": "x"}}, res{ID: "b", Inputs: tree{"from": ref("a", "value")}}
	r.must(a, b)
	r.with(func(_ *engine.Engine, f *folder.Folder) {
		if err := errors.Join(f.State.Move("b", "c"), f.State.Move("a", "z")); err != nil {
			t.Fatal(err)
		}
		if got := f.State.Record("c").DependsOn; len(got) != 1 || got[0] != "z" {
			t.Errorf("depends on %v", got)
		}
		for _, err := range []error{f.State.Move("nothing", "x"), f.State.Move("c", "z"), f.State.Forget("nothing")} {
			if err == nil {
				t.Error("no error")
			}
		}
		if err := f.State.Forget("c"); err != nil {
			t.Fatal(err)
		}
	})
	// The state knows a by the name z only; a exists and is wanted, so that removing z would remove it.
	r.want(r.plan(a), "adopt a: it exists and is not in the state\nforget z: it is the same as a, which is wanted")
	r.must(a)
	r.want(r.exists(), "a b")
}
