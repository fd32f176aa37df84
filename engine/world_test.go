//go:build unix

package engine_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"

	"github.com/weft-dev/weft/engine"
)

// world is a driver whose resources are files in a folder: a real effect that outlives a killed process. It refuses to
// make what exists and logs every creation and deletion.
type world struct {
	dir     string
	version string
	mu      sync.Mutex
	fail    map[engine.ID]error // the next operation on it fails
	block   map[engine.ID]chan struct{}
	reads   int
	waited  []engine.ID
}

type thing struct {
	Identity string         `json:"identity"`
	Inputs   map[string]any `json:"inputs"`
}

func newWorld(dir string) *world {
	return &world{dir: dir, version: "1", fail: map[engine.ID]error{}, block: map[engine.ID]chan struct{}{}}
}

func (w *world) Version() string { return w.version }

// path of a resource: those that may exist twice have a name of their own for each creation.
func (w *world) path(r engine.Request) string {
	name := string(r.ID)
	if n, ok := r.Inputs["generation"]; ok {
		name += fmt.Sprintf("@%v", n)
	}
	if r.Record != nil && strings.Contains(r.Record.Identity, "@") {
		name = strings.SplitN(r.Record.Identity, "#", 2)[0]
	}
	return filepath.Join(w.dir, name)
}

func (w *world) begin(ctx context.Context, id engine.ID) error {
	w.mu.Lock()
	err, wait := w.fail[id], w.block[id]
	if err != nil {
		delete(w.fail, id)
	}
	w.mu.Unlock()
	if wait != nil {
		select {
		case <-wait:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return err
}

func (w *world) read(path string) (*thing, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var t thing
	return &t, json.Unmarshal(data, &t)
}

func (w *world) object(t *thing) *engine.Object {
	outputs := map[string]any{"id": t.Identity}
	if v, ok := t.Inputs["value"]; ok {
		outputs["value"] = v
	}
	if v, ok := t.Inputs["secret"]; ok {
		outputs["secret"] = engine.Sensitive{Value: v}
	}
	mark, err := json.Marshal(t.Inputs)
	if err != nil {
		panic(err)
	}
	return &engine.Object{Identity: t.Identity, Outputs: outputs, Mark: string(mark)}
}

// Pin remembers what a thing with an input "pinned" came out as.
func (w *world) Pin(inputs, outputs map[string]any) map[string]any {
	if _, ok := inputs["pinned"]; !ok {
		return inputs
	}
	pinned := maps.Clone(inputs)
	pinned["pinned"] = outputs["id"]
	return pinned
}

// Wait finds fault with things whose input "ready" says so.
func (w *world) Wait(ctx context.Context, requests []engine.Request) map[engine.ID]error {
	failed := map[engine.ID]error{}
	for _, r := range requests {
		w.mu.Lock()
		w.waited = append(w.waited, r.ID)
		w.mu.Unlock()
		switch r.Inputs["ready"] {
		case "never":
			failed[r.ID] = errors.New("it crashes")
		case "late":
			<-ctx.Done()
			failed[r.ID] = context.Cause(ctx)
		}
	}
	return failed
}

func (w *world) Read(_ context.Context, r engine.Request) (*engine.Object, error) {
	w.mu.Lock()
	w.reads++
	w.mu.Unlock()
	t, err := w.read(w.path(r))
	if err != nil || t == nil {
		return nil, err
	}
	return w.object(t), nil
}

func (w *world) Compare(_ context.Context, r engine.Request, _ *engine.Object) (engine.Comparison, error) {
	var c engine.Comparison
	t, err := w.read(w.path(engine.Request{ID: r.ID, Inputs: r.Inputs, Record: r.Record}))
	if err != nil {
		return c, err
	}
	if t == nil {
		t = &thing{}
	}
	for key, want := range r.Inputs {
		before := fmt.Sprint(t.Inputs[key])
		if engine.HasUnknown(want) || before != fmt.Sprint(engine.Reveal(want)) {
			c.Changes = append(c.Changes, engine.Change{Path: key, Before: t.Inputs[key], After: want})
			if key == "fixed" || key == "generation" {
				c.Replace = key + " cannot be changed"
			}
			c.Computed = append(c.Computed, "value")
		}
	}
	for key := range t.Inputs {
		if _, wanted := r.Inputs[key]; !wanted {
			c.Changes = append(c.Changes, engine.Change{Path: key, Before: t.Inputs[key]})
		}
	}
	return c, nil
}

func (w *world) Create(ctx context.Context, r engine.Request) (*engine.Object, error) {
	if err := w.begin(ctx, r.ID); err != nil {
		return nil, err
	}
	path := w.path(engine.Request{ID: r.ID, Inputs: r.Inputs})
	if _, err := os.Stat(path); err == nil {
		return nil, fmt.Errorf("%s exists: it would be made twice", filepath.Base(path))
	}
	t := &thing{Identity: fmt.Sprintf("%s#%d", filepath.Base(path), os.Getpid()), Inputs: plain(r.Inputs)}
	if err := w.write(path, t); err != nil {
		return nil, err
	}
	w.log("create " + filepath.Base(path))
	return w.object(t), nil
}

func (w *world) Update(ctx context.Context, r engine.Request, _ *engine.Object) (*engine.Object, error) {
	if err := w.begin(ctx, r.ID); err != nil {
		return nil, err
	}
	path := w.path(r)
	t, err := w.read(path)
	if err != nil {
		return nil, err
	}
	if t == nil {
		return nil, fmt.Errorf("%s does not exist", filepath.Base(path))
	}
	t.Inputs = plain(r.Inputs)
	return w.object(t), w.write(path, t)
}

func (w *world) Delete(ctx context.Context, r engine.Request) error {
	if err := w.begin(ctx, r.ID); err != nil {
		return err
	}
	path := w.path(r)
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	w.log("delete " + filepath.Base(path))
	return os.Remove(path)
}

// write is atomic: a half-written thing would be the driver's fault and not the engine's.
func (w *world) write(path string, t *thing) error {
	data, err := json.Marshal(t)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func (w *world) log(line string) {
	f, err := os.OpenFile(filepath.Join(w.dir, ".log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.WriteString(line + "\n")
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		panic(err)
	}
}

func plain(inputs map[string]any) map[string]any {
	m, _ := engine.Reveal(inputs).(map[string]any)
	return m
}

// things returns what exists: name to inputs.
func (w *world) things() (map[string]map[string]any, error) {
	entries, err := os.ReadDir(w.dir)
	if err != nil {
		return nil, err
	}
	all := map[string]map[string]any{}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") || strings.HasSuffix(e.Name(), ".new") {
			continue
		}
		t, err := w.read(filepath.Join(w.dir, e.Name()))
		if err != nil {
			return nil, err
		}
		all[e.Name()] = t.Inputs
	}
	return all, nil
}

func same(a, b any) bool {
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	return reflect.DeepEqual(x, y)
}
