package kusion

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/weft-dev/weft/stack"
	"github.com/weft-dev/weft/stack/config"
	"github.com/weft-dev/weft/stack/spec"
)

// Backend is where workspaces and releases are kept: a folder.
type Backend struct {
	Name string
	Dir  string
}

// OpenBackend returns the backend of a name, the current one for "".
func OpenBackend(home, name string) (*Backend, error) {
	c, err := OpenConfig(home)
	if err != nil {
		return nil, err
	}
	if name == "" {
		name = c.Current()
	}
	kind, configs, ok := c.Backend(name)
	switch {
	case !ok:
		return nil, fmt.Errorf("config of backend %s does not exist: make it with `kusion config set backends.%s.type local`", name, name)
	case kind != localBackend:
		return nil, fmt.Errorf("the backend %s is of the type %s, and Weft can use local ones only for now", name, kind)
	}
	dir := home
	if path, ok := configs["path"].(string); ok && path != "" {
		if dir, err = filepath.Abs(path); err != nil {
			return nil, err
		}
	}
	return &Backend{name, dir}, nil
}

const metadataFile = ".metadata.yml"

// Errors that upstream gives these texts.
var (
	ErrWorkspaceMissing = errors.New("workspace does not exist")
	ErrWorkspaceExists  = errors.New("workspace has already existed")
	ErrReleaseMissing   = errors.New("release does not exist")
	ErrReleaseExists    = errors.New("release has already existed")
)

// Workspaces are those of a backend.
type Workspaces struct {
	dir  string
	meta struct {
		Current   string   `yaml:"current,omitempty"`
		Available []string `yaml:"availableWorkspaces,omitempty"`
	}
}

// Workspaces reads which there are. One called default is always there.
func (b *Backend) Workspaces() (*Workspaces, error) {
	w := &Workspaces{dir: filepath.Join(b.Dir, "workspaces")}
	if err := readMeta(filepath.Join(w.dir, metadataFile), &w.meta); err != nil {
		return nil, err
	}
	if !w.Has(stack.DefaultWorkspace) {
		if err := writeFile(w.path(stack.DefaultWorkspace), []byte("{}\n")); err != nil {
			return nil, err
		}
		w.meta.Available = append(w.meta.Available, stack.DefaultWorkspace)
		if w.meta.Current == "" {
			w.meta.Current = stack.DefaultWorkspace
		}
		return w, w.save()
	}
	if w.meta.Current == "" {
		w.meta.Current = stack.DefaultWorkspace
	}
	return w, nil
}

func readMeta(path string, into any) error {
	content, err := readFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := config.ParseYAML(path, content); err != nil { // for an error with a place
		return err
	}
	if err := yaml.Unmarshal(content, into); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func writeMeta(path string, meta any) error {
	content, err := yaml.Marshal(meta)
	if err != nil {
		return err
	}
	return writeFile(path, content)
}

func (w *Workspaces) save() error { return writeMeta(filepath.Join(w.dir, metadataFile), w.meta) }

func (w *Workspaces) path(name string) string { return filepath.Join(w.dir, name+".yaml") }

// Has says whether a workspace is there.
func (w *Workspaces) Has(name string) bool { return slices.Contains(w.meta.Available, name) }

// Names are the workspaces, in the order in which they were made.
func (w *Workspaces) Names() []string { return slices.Clone(w.meta.Available) }

// Current is the workspace that is meant where none is named.
func (w *Workspaces) Current() string { return w.meta.Current }

// SetCurrent changes which workspace is meant where none is named.
func (w *Workspaces) SetCurrent(name string) error {
	if !w.Has(name) {
		return fmt.Errorf("%w: %s; there are %v", ErrWorkspaceMissing, name, w.meta.Available)
	}
	w.meta.Current = name
	return w.save()
}

// Get reads a workspace, the current one for "".
func (w *Workspaces) Get(name string) (*stack.Workspace, error) {
	if name == "" {
		name = w.meta.Current
	}
	if !w.Has(name) {
		return nil, fmt.Errorf("%w: %s; there are %v", ErrWorkspaceMissing, name, w.meta.Available)
	}
	content, err := readFile(w.path(name))
	if err != nil {
		return nil, err
	}
	return stack.ParseWorkspace(w.path(name), name, content)
}

// Put writes a workspace: a new one, or over one that is there.
func (w *Workspaces) Put(ws *stack.Workspace, create bool) error {
	if fault := stack.CheckName(ws.Name); fault != "" {
		return fmt.Errorf("the name of a workspace %s, got %q", fault, ws.Name)
	}
	if has := w.Has(ws.Name); create && has {
		return fmt.Errorf("%w: %s", ErrWorkspaceExists, ws.Name)
	} else if !create && !has {
		return fmt.Errorf("%w: %s; there are %v", ErrWorkspaceMissing, ws.Name, w.meta.Available)
	}
	content, err := ws.YAML()
	if err != nil {
		return err
	}
	if err := writeFile(w.path(ws.Name), content); err != nil {
		return err
	}
	if create {
		w.meta.Available = append(w.meta.Available, ws.Name)
	}
	return w.save()
}

// Delete removes a workspace; one that is not there is gone already.
func (w *Workspaces) Delete(name string) error {
	if !w.Has(name) {
		return nil
	}
	w.drop(name)
	if err := w.save(); err != nil {
		return err
	}
	if err := os.Remove(w.path(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func (w *Workspaces) drop(name string) {
	w.meta.Available = slices.DeleteFunc(w.meta.Available, func(n string) bool { return n == name })
	if w.meta.Current == name {
		w.meta.Current = stack.DefaultWorkspace
	}
}

// Rename gives a workspace another name.
func (w *Workspaces) Rename(old, name string) error {
	if fault := stack.CheckName(name); fault != "" {
		return fmt.Errorf("the name of a workspace %s, got %q", fault, name)
	}
	if !w.Has(old) {
		return fmt.Errorf("%w: %s; there are %v", ErrWorkspaceMissing, old, w.meta.Available)
	}
	if w.Has(name) {
		return fmt.Errorf("%w: %s", ErrWorkspaceExists, name)
	}
	if err := os.Rename(w.path(old), w.path(name)); err != nil {
		return err
	}
	w.drop(old)
	w.meta.Available = append(w.meta.Available, name)
	return w.save()
}

// Releases are those of a project in a workspace.
type Releases struct {
	dir  string
	meta struct {
		Latest uint64        `yaml:"latestRevision,omitempty"`
		All    []releaseMeta `yaml:"releaseMetaDatas,omitempty"`
	}
}

type releaseMeta struct {
	Revision uint64 `yaml:"revision"`
	Stack    string `yaml:"stack"`
}

// Releases reads which there are.
func (b *Backend) Releases(project, workspace string) (*Releases, error) {
	r := &Releases{dir: filepath.Join(b.Dir, "releases", project, workspace)}
	return r, readMeta(filepath.Join(r.dir, metadataFile), &r.meta)
}

// Revisions are the numbers of all releases, in order.
func (r *Releases) Revisions() []uint64 {
	var list []uint64
	for _, m := range r.meta.All {
		list = append(list, m.Revision)
	}
	return list
}

// Latest is the number of the latest release, 0 if there is none.
func (r *Releases) Latest() uint64 { return r.meta.Latest }

func (r *Releases) path(revision uint64) string {
	return filepath.Join(r.dir, fmt.Sprintf("%d.yaml", revision))
}

// Get reads a release.
func (r *Releases) Get(revision uint64) (*spec.Release, error) {
	if !slices.Contains(r.Revisions(), revision) {
		return nil, ErrReleaseMissing
	}
	content, err := readFile(r.path(revision))
	if err != nil {
		return nil, err
	}
	return spec.ParseRelease(r.path(revision), content)
}

// Put writes a release: a new one, or over one that is there.
func (r *Releases) Put(rel *spec.Release, create bool) error {
	if err := rel.Validate(); err != nil {
		return err
	}
	if has := slices.Contains(r.Revisions(), rel.Revision); create && has {
		return ErrReleaseExists
	} else if !create && !has {
		return ErrReleaseMissing
	}
	content, err := rel.YAML()
	if err != nil {
		return err
	}
	if err := writeFile(r.path(rel.Revision), content); err != nil {
		return err
	}
	if !create {
		return nil
	}
	r.meta.Latest = rel.Revision
	r.meta.All = append(r.meta.All, releaseMeta{rel.Revision, rel.Stack})
	return writeMeta(filepath.Join(r.dir, metadataFile), r.meta)
}

// Projects are the projects with releases, by workspace.
func (b *Backend) Projects() (map[string][]string, error) {
	projects := map[string][]string{}
	root := filepath.Join(b.Dir, "releases")
	list, err := os.ReadDir(root)
	if errors.Is(err, os.ErrNotExist) {
		return projects, nil
	}
	if err != nil {
		return nil, err
	}
	for _, p := range list {
		if !p.IsDir() {
			continue
		}
		workspaces, err := os.ReadDir(filepath.Join(root, p.Name()))
		if err != nil {
			return nil, err
		}
		for _, w := range workspaces {
			if w.IsDir() {
				projects[w.Name()] = append(projects[w.Name()], p.Name())
			}
		}
	}
	return projects, nil
}

// GraphPath is the file of a project's resources in a workspace.
func (b *Backend) GraphPath(project, workspace string) string {
	return filepath.Join(b.Dir, "resources", project, workspace, "graph.json")
}
