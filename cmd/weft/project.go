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
	"github.com/weft-dev/weft/cmd/internal/project"
	"github.com/weft-dev/weft/kube"
	"github.com/weft-dev/weft/kube/manifest"
	"github.com/weft-dev/weft/supervise/control"
)

// projectFlags are the choices of `weft up DIR`.
type projectFlags struct {
	namespace string
	registry  string
	timeout   time.Duration
}

// projectResult is what `weft up DIR -o json` prints.
type projectResult struct {
	Project   string              `json:"project"`
	Namespace string              `json:"namespace"`
	Changed   bool                `json:"changed"`
	Images    []buildpack.Result  `json:"images"`
	Objects   []kube.Step         `json:"objects"`
	Counts    map[kube.Action]int `json:"counts"`
	Addresses []address           `json:"addresses"`
	URL       string              `json:"url,omitempty"` // the first page among the addresses
	Seconds   float64             `json:"seconds"`
}

// destination is the cluster and the registry that a project goes to.
type destination struct {
	client    *kube.Client
	namespace string // for objects that name none
	registry  string // host and path
	state     string // folder for what is known of earlier builds
	addresses addressBook
}

// upProject builds, pushes and applies a project, and waits until it answers.
func (a *app) upProject(ctx context.Context, dir string, flags projectFlags) error {
	began := time.Now()
	p, err := project.Load(ctx, dir)
	if err != nil {
		return placed(err)
	}
	to, err := a.destination(ctx, p, flags)
	if err != nil {
		return err
	}
	result := projectResult{Project: p.Name, Namespace: to.namespace, Addresses: []address{}}
	progress := a.print().Progress()
	defer progress.Close()
	references, err := a.buildImages(ctx, p, to, progress, &result)
	if err != nil {
		return err
	}
	if err := a.applyProject(ctx, p, to, flags, references, progress, &result); err != nil {
		return err
	}
	if result.Addresses, err = to.waitForAddresses(ctx, p, progress, flags.timeout); err != nil {
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

// destination finds the cluster: the one that was named, or the embedded one, which is started if need be.
func (a *app) destination(ctx context.Context, p *project.Project, flags projectFlags) (*destination, error) {
	c, err := a.cluster()
	if err != nil {
		return nil, err
	}
	to := &destination{state: filepath.Join(c.State, "build")}
	config := a.kubeconfig
	if a.foreign() {
		to.registry = flags.registry
		if to.registry == "" {
			to.registry = p.Registry
		}
		if to.registry == "" && len(p.Images) > 0 {
			return nil, output.Advise(errors.New("no registry is named, from which that cluster could pull the built images"),
				"Name one with --registry HOST/PATH, or in "+project.ConfigName+" with registry: HOST/PATH.")
		}
		if to.state, err = buildState(a.getenv); err != nil {
			return nil, err
		}
	} else {
		status, _, err := a.startCluster(ctx)
		if err != nil {
			return nil, err
		}
		if status.Mode == control.ModeAPI {
			return nil, output.Advise(errors.New("pods cannot run on this machine: "+strings.Join(status.Missing, "; ")), "See `weft doctor`, or name another cluster with --kubeconfig or --context.")
		}
		config, to.registry, to.addresses = status.Kubeconfig, status.Registry, c
	}
	rest, namespace, err := kube.Config(config, a.context)
	if err != nil {
		return nil, err
	}
	for _, n := range []string{flags.namespace, p.Namespace} {
		if n != "" {
			namespace = n
			break
		}
	}
	to.namespace = namespace
	to.client, err = kube.New(rest)
	return to, err
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

// buildImages builds and pushes the project's images and returns their references by digest.
func (a *app) buildImages(ctx context.Context, p *project.Project, to *destination, progress *output.Progress, result *projectResult) (map[string]string, error) {
	references := map[string]string{}
	result.Images = []buildpack.Result{}
	for _, image := range p.Images {
		item := progress.Start("image " + image.Name)
		follow := &buildProgress{item: item}
		built, err := buildpack.Build(ctx, buildpack.Options{
			Source:         image.Source,
			Image:          to.registry + "/" + project.ImagePath(p, image),
			State:          to.state,
			Env:            image.Env,
			DefaultProcess: image.Process,
			Events:         follow.show,
		})
		if err != nil {
			item.Fail("not built")
			return nil, a.buildFailure(ctx, image, follow, err)
		}
		if built.Unchanged {
			item.Skip("unchanged")
		} else {
			item.Done("built and pushed, " + shortDigest(built.Digest))
		}
		references[image.Name] = built.Ref
		result.Images = append(result.Images, built)
		result.Changed = result.Changed || !built.Unchanged
	}
	return references, nil
}

func shortDigest(digest string) string {
	_, hex, _ := strings.Cut(digest, ":")
	return hex[:min(12, len(hex))]
}

// buildFailure shows what the buildpacks said last.
func (a *app) buildFailure(ctx context.Context, image project.Image, follow *buildProgress, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("the build of %s was interrupted: %w", image.Name, context.Cause(ctx))
	}
	for _, line := range follow.last {
		a.print().Say("  " + line)
	}
	return fmt.Errorf("the image %s cannot be built from %s: %w", image.Name, image.Source, err)
}

// buildProgress shows the events of a build in one item.
type buildProgress struct {
	item *output.Item
	last []string // lines of the build, the newest last
}

func (b *buildProgress) show(e buildpack.Event) {
	switch e.Kind {
	case buildpack.PhaseStarted:
		if e.Phase == buildpack.PhaseAnalyze {
			b.item.Wait(e.Phase) // often all there is, and over at once
			return
		}
		b.item.Note("%s", e.Phase)
	case buildpack.Output, buildpack.Warning, buildpack.Message:
		b.last = append(b.last, e.Line)
		if n := len(b.last) - 40; n > 0 {
			b.last = b.last[n:]
		}
		b.item.Wait(e.Phase + ": " + strings.TrimSpace(e.Line))
	}
}

// withImages returns the objects with the references of built images, by image name.
func withImages(p *project.Project, references map[string]string) []manifest.Object {
	objects := make([]manifest.Object, len(p.Objects))
	for i, o := range p.Objects {
		u := o.DeepCopy()
		project.ReplaceImages(u.Object, func(reference string) any {
			if built, ok := references[project.Repository(reference)]; ok {
				return built
			}
			return reference
		})
		objects[i] = o.With(u)
	}
	return objects
}

// applyProject brings the cluster to what the project wants and waits until it is ready.
func (a *app) applyProject(ctx context.Context, p *project.Project, to *destination, flags projectFlags, references map[string]string, progress *output.Progress, result *projectResult) error {
	follow := newApplyProgress(progress)
	applied, err := to.client.Apply(ctx, kube.Set{
		Owner:            kube.Owner{Namespace: to.namespace, Name: p.Name},
		Objects:          withImages(p, references),
		CreateNamespaces: true,
		Wait:             true,
		Timeout:          flags.timeout,
		Progress:         follow.show,
	})
	follow.end(err)
	if err != nil {
		if ctx.Err() != nil {
			return output.Advise(fmt.Errorf("interrupted while the objects were applied: %w", context.Cause(ctx)), "The same command goes on from here.")
		}
		return placed(err)
	}
	for _, w := range applied.Plan.Warnings {
		a.print().Warn("%s", w)
	}
	for _, step := range applied.Plan.Steps {
		if step.Action == kube.Blocked {
			a.print().Remark("%s is no longer wanted and kept: %s", step.Object, step.Reason)
		}
	}
	result.Objects, result.Counts = applied.Plan.Steps, applied.Counts
	result.Changed = result.Changed || applied.Changed()
	return nil
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
