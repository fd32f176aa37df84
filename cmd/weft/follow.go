package main

import (
	"strings"
	"sync"

	"github.com/weft-dev/weft/buildpack"
	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/engine"
	"github.com/weft-dev/weft/kube"
)

// engineProgress shows a run of the engine: an item for each resource that changes or is waited for.
type engineProgress struct {
	app      *app
	progress *output.Progress // may be nil
	waits    bool             // what was made is waited for, so that its item goes on

	mu      sync.Mutex
	items   map[engine.ID]*output.Item
	done    map[engine.ID]string // what was done with a resource
	order   []engine.ID
	builds  map[engine.ID]*buildProgress
	results map[engine.ID]buildpack.Result
}

func newEngineProgress(a *app, progress *output.Progress, waits bool) *engineProgress {
	return &engineProgress{app: a, progress: progress, waits: waits, items: map[engine.ID]*output.Item{}, done: map[engine.ID]string{},
		builds: map[engine.ID]*buildProgress{}, results: map[engine.ID]buildpack.Result{}}
}

// words say what is done with a resource, and what was.
var words = map[engine.Action]struct{ doing, done string }{
	engine.Create: {"creating", "created"}, engine.Update: {"updating", "updated"}, engine.Replace: {"replacing", "replaced"},
	engine.CreateReplacement: {"creating its replacement", "replaced"}, engine.DeleteDeposed: {"deleting what was replaced", "the replaced one deleted"},
	engine.Delete: {"deleting", "deleted"}, engine.Adopt: {"adopting", "adopted"}, engine.Forget: {"forgetting", "forgotten"},
	engine.NoOp: {"", "unchanged"}, engine.Retain: {"", "kept though no longer wanted"},
}

func (f *engineProgress) item(id engine.ID) *output.Item {
	if f.items[id] == nil {
		f.items[id] = f.progress.Start(string(id))
		f.order = append(f.order, id)
	}
	return f.items[id]
}

func (f *engineProgress) event(e engine.Event) {
	if f.progress == nil || e.Action == engine.NoOp && e.State != "failed" {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	removes := e.Action == engine.Delete || e.Action == engine.Forget || e.Action == engine.DeleteDeposed
	_, isBuild := f.builds[e.ID]
	switch e.State {
	case "begun":
		f.item(e.ID).Wait(words[e.Action].doing)
	case "retried":
		f.item(e.ID).Note("trying again: %s", e.Error)
	case "failed":
		f.item(e.ID).Fail(firstLine(e.Error))
		delete(f.items, e.ID)
	case "done":
		f.done[e.ID] = words[e.Action].done
		if r, ok := f.results[e.ID]; ok {
			if r.Unchanged {
				f.item(e.ID).Skip("unchanged")
			} else {
				f.item(e.ID).Done("built and pushed, " + shortDigest(r.Digest))
			}
			return
		}
		if f.waits && !removes && !isBuild {
			f.item(e.ID).Wait(f.done[e.ID])
			return
		}
		f.item(e.ID).Done(f.done[e.ID])
	case "rollback":
		f.app.print().Say("Rolling back to " + e.Error + ".")
		f.items, f.order = map[engine.ID]*output.Item{}, nil
	}
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

// waiting shows what is waited for.
func (f *engineProgress) waiting(id engine.ID, e kube.Event) {
	if f.progress == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch e.State {
	case "ready":
		if item := f.items[id]; item != nil {
			item.Done(note(f.done[id], "ready"))
		}
	case "failed":
		f.item(id).Fail(e.Reason)
	default:
		f.item(id).Note("%s", note(f.done[id], e.Reason))
	}
}

func note(done, state string) string {
	if done == "" {
		return state
	}
	return done + ", " + state
}

// building shows the events of a build.
func (f *engineProgress) building(id engine.ID, e buildpack.Event) {
	if f.progress == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.builds[id] == nil {
		f.builds[id] = &buildProgress{item: f.item(id)}
	}
	f.builds[id].show(e)
}

// built keeps what a build led to.
func (f *engineProgress) built(id engine.ID, r buildpack.Result) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.results[id] = r
}

// end ends the items of what nothing waited for, and shows the last lines of builds that failed.
func (f *engineProgress) end(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		for _, id := range f.order {
			if item := f.items[id]; item != nil {
				item.Done(f.done[id])
			}
		}
		return
	}
	for id, b := range f.builds {
		if _, ok := f.results[id]; !ok {
			for _, line := range b.last {
				f.app.print().Say("  " + line)
			}
		}
	}
}

// close ends the display before the result is printed.
func (f *engineProgress) close() {
	if f.progress != nil {
		f.progress.Close()
	}
}
