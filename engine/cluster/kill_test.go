//go:build unix

package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/weft-dev/weft/engine"
	"github.com/weft-dev/weft/engine/seal"
	"github.com/weft-dev/weft/test/fault"
	kubetest "github.com/weft-dev/weft/test/kube"
)

// files is a driver whose resources are files. One that exists cannot be made again.
type files struct{ dir string }

func (files) Version() string { return "1" }

func (f files) path(id engine.ID) string { return filepath.Join(f.dir, string(id)) }

func (f files) Read(_ context.Context, r engine.Request) (*engine.Object, error) {
	data, err := os.ReadFile(f.path(r.ID))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return &engine.Object{Identity: string(r.ID), Mark: string(data)}, err
}

func (f files) Compare(ctx context.Context, r engine.Request, o *engine.Object) (engine.Comparison, error) {
	if o != nil && o.Mark != fmt.Sprint(engine.Reveal(r.Inputs)) {
		return engine.Comparison{Changes: []engine.Change{{Path: "value"}}}, nil
	}
	return engine.Comparison{}, nil
}

func (f files) Create(_ context.Context, r engine.Request) (*engine.Object, error) {
	text := fmt.Sprint(engine.Reveal(r.Inputs))
	out, err := os.OpenFile(f.path(r.ID), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	_, err = out.WriteString(text)
	return &engine.Object{Identity: string(r.ID), Mark: text}, errors.Join(err, out.Close())
}

func (f files) Update(ctx context.Context, r engine.Request, _ *engine.Object) (*engine.Object, error) {
	if err := os.Remove(f.path(r.ID)); err != nil {
		return nil, err
	}
	return f.Create(ctx, r)
}

func (f files) Delete(_ context.Context, r engine.Request) error {
	err := os.Remove(f.path(r.ID))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// place is where a killed run works, written down for its process.
type place struct{ Kubeconfig, Namespace, Identity string }

// killedRun applies a set with the state in a cluster.
func killedRun(ctx context.Context, dir string, set []engine.Resource, hit func(string)) error {
	data, err := os.ReadFile(filepath.Join(dir, "place.json"))
	if err != nil {
		return err
	}
	var p place
	if err := json.Unmarshal(data, &p); err != nil {
		return err
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", p.Kubeconfig)
	if err != nil {
		return err
	}
	keys, err := seal.New(nil, []string{p.Identity})
	if err != nil {
		return err
	}
	name := fnv.New32a()
	_, _ = name.Write([]byte(dir)) // never fails
	s, err := Open(ctx, cfg, Options{Namespace: p.Namespace, Name: fmt.Sprintf("kill-%x", name.Sum32()), Holder: "me", Operation: "apply", Wait: time.Minute,
		Duration: 5 * time.Second, Sealer: keys, Crash: hit})
	if err != nil {
		return err
	}
	if hit == nil {
		hit = func(string) {}
	}
	e, err := engine.New(s.State, engine.Options{Drivers: map[string]engine.Driver{"thing": files{filepath.Join(dir, "world")}}, Retries: -1, Crash: hit})
	if err != nil {
		return err
	}
	plan, err := e.Plan(ctx, set)
	if err != nil {
		return err
	}
	_, err = e.Apply(ctx, plan)
	return errors.Join(err, s.State.Compact(true), s.Close())
}

// TestKilledWriters kills the process, by signal 9, at points of an apply whose state is in the cluster. The next run waits for the lock
// of the dead one to end, reads back what was under way, and comes to what is wanted: nothing is made twice, nothing left behind.
func TestKilledWriters(t *testing.T) {
	every := 4
	if testing.Short() {
		every = 16
	}
	first, second := things(4, "one"), append(things(3, "two"), engine.Resource{ID: "more", Type: "thing", Inputs: tree{"value": "new"}})
	fault.Matrix(t, fault.Case{
		Every:   every,
		Timeout: 3 * time.Minute,
		Prepare: func(t testing.TB, dir string) {
			identity, err := seal.UserIdentity(filepath.Join(dir, "identity"))
			if err != nil {
				t.Fatal(err)
			}
			where := kubetest.Namespace(t)
			data, err := json.Marshal(place{where.Kubeconfig, where.Namespace, identity})
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(os.Mkdir(filepath.Join(dir, "world"), 0o700), os.WriteFile(filepath.Join(dir, "place.json"), data, 0o600),
				killedRun(t.Context(), dir, first, nil)); err != nil {
				t.Fatal(err)
			}
		},
		Run: func(ctx context.Context, dir string, hit func(string)) error { return killedRun(ctx, dir, second, hit) },
		Check: func(t testing.TB, dir, _ string) {
			found, err := os.ReadDir(filepath.Join(dir, "world"))
			if err != nil || len(found) != len(second) {
				t.Errorf("there are %v, %v", found, err)
			}
			for _, r := range second {
				if text, err := os.ReadFile(filepath.Join(dir, "world", string(r.ID))); err != nil || string(text) != fmt.Sprint(engine.Reveal(r.Inputs)) {
					t.Errorf("%s is %s, %v", r.ID, text, err)
				}
			}
		},
	})
}
