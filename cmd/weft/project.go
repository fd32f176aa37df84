package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/weft-dev/weft/buildpack"
	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/cmd/internal/source"
	"github.com/weft-dev/weft/engine"
	"github.com/weft-dev/weft/kube"
	"github.com/weft-dev/weft/kube/manifest"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// projectResult is what `weft up DIR -o json` prints.
type projectResult struct {
	Project   string              `json:"project"`
	Namespace string              `json:"namespace"`
	Changed   bool                `json:"changed"`
	Revision  uint64              `json:"revision,omitempty"` // 0: nothing was to do
	Images    []buildpack.Result  `json:"images"`
	Objects   []projectStep       `json:"objects"`
	Counts    map[kube.Action]int `json:"counts"`
	Addresses []address           `json:"addresses"`
	URL       string              `json:"url,omitempty"` // the first page among the addresses
	Seconds   float64             `json:"seconds"`
}

// projectStep is what was done with one object, and why.
type projectStep struct {
	Action  kube.Action       `json:"action"`
	Object  manifest.Identity `json:"object"`
	Reason  string            `json:"reason"`
	Origin  string            `json:"origin,omitempty"`
	Changes []engine.Change   `json:"changes,omitempty"`
}

// upProject builds, pushes and applies a project, and waits until it answers.
func (a *app) upProject(ctx context.Context, dir string, src sourceFlags, state stateFlags, timeout time.Duration) error {
	began := time.Now()
	reader, settings, err := a.readSource(ctx, dir, src)
	if err != nil {
		return err
	}
	drained, drain, stop := a.gently(ctx)
	defer stop()
	progress := a.print().Progress()
	defer progress.Close()
	s, err := a.open(ctx, sessionRequest{operation: "up", settings: settings, state: state, run: runFlags{refresh: "all", createNamespaces: true}, apply: applyFlags{timeout: timeout, retries: 4, wait: "all"},
		starts: true, runsPods: true, drain: drain, progress: progress, source: reader})
	if err != nil {
		return err
	}
	defer s.Close()
	p, err := s.engine.Plan(ctx, s.set.Resources)
	if err != nil {
		return err
	}
	result := projectResult{Project: s.settings.Name, Namespace: s.place.Namespace, Addresses: []address{}}
	applied, err := s.run(drained, "up", func(ctx context.Context) (*engine.Result, error) { return s.engine.Apply(ctx, p) })
	if err != nil {
		if ctx.Err() != nil {
			return output.Advise(fmt.Errorf("interrupted while the objects were applied: %w", err), "The same command goes on from here.")
		}
		return err
	}
	s.describe(&result, p)
	result.Revision, result.Changed = applied.Revision, applied.Revision > 0
	if result.Addresses, err = s.waitForAddresses(ctx, progress, timeout); err != nil {
		return err
	}
	progress.Close()
	for _, ad := range result.Addresses {
		if result.URL == "" && ad.URL != "" {
			result.URL = ad.URL
		}
	}
	result.Seconds = time.Since(began).Seconds()
	return a.print().Result(result, func(page *output.Page) { projectPage(page, result) })
}

// objectActions are the engine's actions as those of objects are called.
var objectActions = map[engine.Action]kube.Action{
	engine.Create: kube.Create, engine.Update: kube.Update, engine.Replace: kube.Update, engine.CreateReplacement: kube.Update, engine.Adopt: kube.AdoptIt,
	engine.Delete: kube.Delete, engine.DeleteDeposed: kube.Delete, engine.Forget: kube.Forget, engine.Retain: kube.Blocked, engine.NoOp: kube.Unchanged,
}

// describe says what was done with images and objects.
func (s *session) describe(result *projectResult, p *engine.Plan) {
	result.Images, result.Objects, result.Counts = []buildpack.Result{}, []projectStep{}, map[kube.Action]int{}
	for _, step := range p.Steps {
		if step.Type == source.BuildType {
			if built, ok := s.follow.results[step.ID]; ok {
				result.Images = append(result.Images, built)
			}
			continue
		}
		record := s.backend.State().Record(step.ID)
		if record == nil {
			record = step.Record()
		}
		if record == nil {
			continue
		}
		action := objectActions[step.Action]
		result.Counts[action]++
		result.Objects = append(result.Objects, projectStep{Action: action, Object: manifest.IdentityOf(&unstructured.Unstructured{Object: record.Inputs}),
			Reason: step.Cause, Origin: step.Origin, Changes: step.Changes})
		if action == kube.Blocked {
			s.app.print().Remark("%s is kept: %s", step.ID, step.Cause)
		}
	}
}

// foreign says whether another cluster than the embedded one was named.
func (a *app) foreign() bool { return a.kubeconfig != "" || a.context != "" }

// buildState is the folder for builds that belong to no embedded cluster.
func buildState(getenv func(string) string) (string, error) {
	base := getenv("XDG_CACHE_HOME")
	if !filepath.IsAbs(base) {
		home := getenv("HOME")
		if home == "" {
			return "", errors.New("no place for the caches of builds: neither XDG_CACHE_HOME nor HOME is set")
		}
		base = filepath.Join(home, ".cache")
	}
	return filepath.Join(base, "weft", "build"), nil
}

func shortDigest(digest string) string {
	_, hex, _ := strings.Cut(digest, ":")
	return hex[:min(12, len(hex))]
}

// buildProgress shows the events of a build in one item: each phase when it is over, with its time and what it took from earlier builds,
// and what buildpacks print.
type buildProgress struct {
	item *output.Item
	last []string // lines of the build, the newest last
}

func (b *buildProgress) show(e buildpack.Event) {
	switch e.Kind {
	case buildpack.PhaseStarted:
		b.item.Wait(e.Phase)
	case buildpack.PhaseDone:
		if e.Cache != buildpack.CacheUnchanged { // then it is all there is, and the item says so
			b.item.Step("%s  %s", e.Phase, strings.TrimSuffix(fmt.Sprintf("%s, %s", e.Duration.Round(time.Millisecond), e.Cache), ", "))
		}
	case buildpack.Output, buildpack.Warning, buildpack.Message:
		b.last = append(b.last, e.Line)
		if n := len(b.last) - 40; n > 0 {
			b.last = b.last[n:]
		}
		if e.Kind == buildpack.Message {
			b.item.Wait(e.Phase + ": " + strings.TrimSpace(e.Line))
			return
		}
		b.item.Note("%s", e.Line)
	}
}

func projectPage(page *output.Page, r projectResult) {
	switch {
	case r.Changed:
		page.Line("%s is up: %s (%.1f s).", r.Project, describeCounts(r.Counts), r.Seconds)
	default:
		page.Line("Nothing has changed: %s (%.2f s).", describeCounts(r.Counts), r.Seconds)
	}
	for _, ad := range r.Addresses {
		if ad.URL != r.URL {
			page.Line("%s", ad)
		}
	}
	if r.URL != "" {
		page.Line("%s", r.URL)
	}
}

// describeCounts says for example "2 created, 1 unchanged".
func describeCounts(counts map[kube.Action]int) string {
	var parts []string
	for _, c := range []struct {
		action kube.Action
		words  string
	}{{kube.Create, "created"}, {kube.AdoptIt, "adopted"}, {kube.Update, "updated"}, {kube.Delete, "deleted"}, {kube.Forget, "forgotten"}, {kube.Blocked, "kept though no longer wanted"}, {kube.Unchanged, "unchanged"}} {
		if n := counts[c.action]; n > 0 {
			parts = append(parts, fmt.Sprint(n, " ", c.words))
		}
	}
	if len(parts) == 0 {
		return "no objects"
	}
	return strings.Join(parts, ", ")
}
