package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/cmd/internal/source"
	"github.com/weft-dev/weft/stack/config"
	"github.com/weft-dev/weft/stack/spec"
)

// opened is a stack whose plan can be made.
type opened struct {
	meta    *meta
	session *session
	close   func()
}

// open evaluates a stack, or reads its Spec from a file, and opens its state.
func (k *kusionTool) open(ctx context.Context, f *evaluation, r sessionRequest) (*opened, error) {
	m, err := k.meta(f.meta)
	if err != nil {
		return nil, err
	}
	o, err := f.options(k.app)
	if err != nil {
		return nil, err
	}
	given, err := readSpecFile(f.specFile, m.place.Stack.Dir)
	if err != nil {
		return nil, err
	}
	return k.openSource(ctx, m, o, given, r)
}

// openSource opens a stack's state, on what a Spec says or, without one, its program. A request without a source of its own is for
// verbs that do not ask what is wanted.
func (k *kusionTool) openSource(ctx context.Context, m *meta, o source.Options, given *spec.Spec, r sessionRequest) (*opened, error) {
	o.Workspace = m.workspace.Name
	src, err := source.Kusion(o, m.place, m.backend, given)
	if err != nil {
		return nil, placed(err)
	}
	cleanup, err := k.choose(m)
	if err != nil {
		return nil, err
	}
	about := src.About()
	r.settings = settings{Form: about.Form, Root: m.place.Project.Dir, Name: about.Name, Namespace: about.Namespace, Registry: about.Registry}
	if r.operation != "destroy" && r.operation != "rollback" {
		r.source = src
	}
	if r.run.refresh == "" {
		r.run.refresh = "all"
	}
	r.run.force = true // upstream writes over what others set
	s, err := k.app.open(ctx, r)
	if err != nil {
		cleanup()
		return nil, err
	}
	return &opened{m, s, func() { s.Close(); cleanup() }}, nil
}

// readSpecFile reads a Spec, which has to lie in the stack's folder; nil for no file.
func readSpecFile(file, dir string) (*spec.Spec, error) {
	if file == "" {
		return nil, nil
	}
	full, err := filepath.Abs(file)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(full)
	if err != nil {
		return nil, fmt.Errorf("spec file not exist: %s", full)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("spec file must be a regular file: %s", full)
	}
	if rel, err := filepath.Rel(dir, full); err != nil || !filepath.IsLocal(rel) {
		return nil, errors.New("the spec file must be located in the working directory or its subdirectories of the stack")
	}
	if info.Size() > config.MaxSize {
		return nil, fmt.Errorf("%s is larger than %d MB", full, config.MaxSize>>20)
	}
	text, err := os.ReadFile(full)
	if err != nil {
		return nil, err
	}
	s, err := spec.ParseSpec(file, text)
	return s, placed(err)
}

// choose finds the cluster as upstream does: the one of the workspace's context, else, under the name kusion, that of $KUBECONFIG or
// ~/.kube/config. Flags go before all, and without any of these it is the embedded one.
func (k *kusionTool) choose(m *meta) (cleanup func(), err error) {
	a := k.app
	nothing := func() {}
	if a.foreign() {
		return nothing, nil
	}
	text := func(name string) string {
		if t := m.workspace.Context.Get(name); t != nil {
			return t.Text
		}
		return ""
	}
	if content := text("KUBECONFIG_CONTENT"); content != "" {
		f, err := os.CreateTemp("", "weft-kubeconfig-*")
		if err != nil {
			return nil, err
		}
		_, err = f.WriteString(content)
		a.kubeconfig = f.Name()
		return func() { os.Remove(f.Name()) }, errors.Join(err, f.Close())
	}
	if a.kubeconfig = text("KUBECONFIG_PATH"); a.kubeconfig != "" {
		if _, err := os.Stat(a.kubeconfig); err != nil {
			return nil, output.Advise(fmt.Errorf("the workspace %s names the cluster of %s: %w", m.workspace.Name, a.kubeconfig, errors.Unwrap(err)),
				"Change context.KUBECONFIG_PATH with `kusion workspace update`, or name a cluster with --kubeconfig.")
		}
		return nothing, nil
	}
	if a.called != "kusion" {
		return nothing, nil
	}
	candidates := filepath.SplitList(a.getenv("KUBECONFIG"))
	if home := a.getenv("HOME"); len(candidates) == 0 && home != "" {
		candidates = []string{filepath.Join(home, ".kube", "config")}
	}
	for _, file := range candidates {
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() {
			a.kubeconfig = file
			return nothing, nil
		}
	}
	return nothing, nil
}
