package main

import (
	"errors"

	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/kube"
	"github.com/weft-dev/weft/kube/manifest"
)

// applyProgress shows an apply: an item for each object that changes or is waited for.
type applyProgress struct {
	progress *output.Progress
	items    map[manifest.Identity]*output.Item
	done     map[manifest.Identity]string // what was done with an object
	order    []manifest.Identity
}

func newApplyProgress(progress *output.Progress) *applyProgress {
	return &applyProgress{progress: progress, items: map[manifest.Identity]*output.Item{}, done: map[manifest.Identity]string{}}
}

// pastTense of the actions that are shown.
var pastTense = map[kube.Action]string{
	kube.Create: "created", kube.Update: "updated", kube.AdoptIt: "adopted", kube.Delete: "deleted", kube.Forget: "forgotten",
}

func (f *applyProgress) item(id manifest.Identity) *output.Item {
	if f.items[id] == nil {
		f.items[id] = f.progress.Start(id.String())
		f.order = append(f.order, id)
	}
	return f.items[id]
}

func (f *applyProgress) show(e kube.Event) {
	done := pastTense[e.Action]
	switch {
	case e.State == "failed":
		f.item(e.Object).Fail(e.Reason)
	case e.Phase == kube.Waiting && e.State == "ready":
		if item := f.items[e.Object]; item != nil {
			item.Done(note(f.done[e.Object], "ready"))
		}
	case e.Phase == kube.Waiting:
		f.item(e.Object).Note("%s", note(f.done[e.Object], e.Reason))
	case e.Phase == kube.Pruning && e.State == "done" && done != "":
		f.item(e.Object).Done(done)
	case e.State == "done" && done != "":
		f.done[e.Object] = done
		f.item(e.Object).Wait(done)
	}
}

func note(done, state string) string {
	if done == "" {
		return state
	}
	return done + ", " + state
}

// end ends the items of objects that nothing waited for.
func (f *applyProgress) end(err error) {
	if err != nil {
		return
	}
	for _, id := range f.order {
		f.items[id].Done(f.done[id])
	}
}

// placed gives the errors of manifests the form in which errors are printed.
func placed(err error) error {
	var list []error
	for _, e := range manifest.Errors(err) {
		var m *manifest.Error
		if !errors.As(e, &m) {
			list = append(list, e)
			continue
		}
		what := m.Msg
		if m.Object != "" {
			what = m.Object + ": " + what
		}
		list = append(list, &output.Problem{What: what, File: m.Pos.File, Line: m.Pos.Line, Column: m.Pos.Column, Path: m.Field, Fix: m.Hint})
	}
	return errors.Join(list...)
}
