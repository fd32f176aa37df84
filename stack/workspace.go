package stack

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/weft-dev/weft/stack/config"
	"github.com/weft-dev/weft/stack/spec"
)

// DefaultWorkspace is there from the beginning.
const DefaultWorkspace = "default"

// Workspace is a target of stacks, with what its platform decided for all of them.
type Workspace struct {
	Name        string
	Modules     []ModuleConfig
	SecretStore *spec.SecretStore
	Context     *config.Tree

	tree *config.Tree // as it was written
}

// ModuleConfig configures a module in a workspace.
type ModuleConfig struct {
	Name, Path, Version string
	Default             *config.Tree
	Patchers            []PatcherConfig
}

// PatcherConfig changes a module's configuration for some projects.
type PatcherConfig struct {
	Name     string
	Projects []string
	Config   *config.Tree // without projectSelector
}

const projectSelector = "projectSelector"

// ParseWorkspace reads and checks a workspace's file. Name is the workspace's.
func ParseWorkspace(file, name string, text []byte) (*Workspace, error) {
	tree, err := config.ParseYAML(file, text)
	if err != nil {
		return nil, err
	}
	r := &config.Reader{}
	if name == "" {
		return nil, fmt.Errorf("a workspace needs a name")
	}
	w := &Workspace{Name: name, tree: tree}
	n := r.Node(tree, "")
	n.Field("modules").Each(func(name string, v config.Node) { w.Modules = append(w.Modules, readModule(name, v)) })
	w.SecretStore = spec.ReadSecretStore(n.Field("secretStore"))
	if c := n.Field("context"); c.Is() {
		c.Each(func(string, config.Node) {})
		w.Context = c.Tree()
	}
	return w, r.Err()
}

func readModule(name string, n config.Node) ModuleConfig {
	m := ModuleConfig{Name: name, Path: n.Field("path").Text(), Version: n.Field("version").Scalar()}
	if !n.Is() {
		n.Fail("is empty; expected path, version and configs")
		return m
	}
	for _, field := range []string{"path", "version"} {
		if f := n.Field(field); !f.Is() {
			f.FailWith("A module is named by its path, for example oci://ghcr.io/kusionstack/"+name+", and its version.", "is missing")
		}
	}
	selected := map[string]string{}
	n.Field("configs").Each(func(block string, v config.Node) {
		if block == DefaultWorkspace {
			m.Default = v.Tree()
			if v.Field(projectSelector).Is() {
				v.Field(projectSelector).Fail("must not be in the block default, which is for all projects")
			}
			return
		}
		m.Patchers = append(m.Patchers, readPatcher(block, v, selected))
	})
	return m
}

func readPatcher(name string, n config.Node, selected map[string]string) PatcherConfig {
	p := PatcherConfig{Name: name}
	if !n.Is() {
		n.Fail("is empty; expected %s and what to configure", projectSelector)
		return p
	}
	projects := n.Required(projectSelector)
	projects.Items(func(_ int, v config.Node) {
		project := v.Scalar()
		switch other, twice := selected[project]; {
		case project == "":
			v.Fail("must be the name of a project")
		case twice && other == name:
			v.Fail("%s is there twice", project)
		case twice:
			v.Fail("%s is selected by the block %s already", project, other)
		}
		selected[project] = name
		p.Projects = append(p.Projects, project)
	})
	if projects.Is() && len(p.Projects) == 0 {
		projects.Fail("must name a project")
	}
	p.Config = n.Tree().Without(projectSelector)
	if n.Is() && len(p.Config.Fields) == 0 {
		n.Fail("configures nothing")
	}
	return p
}

// Config is a module's configuration for a project: the default, with the fields of the block that selects the project laid over it.
// It is nil if there is none.
func (w *Workspace) Config(module, project string) *config.Tree {
	for _, m := range w.Modules {
		if m.Name != module {
			continue
		}
		result := m.Default
		for _, p := range m.Patchers {
			if slices.Contains(p.Projects, project) {
				for _, f := range p.Config.Fields {
					result = result.With(f)
				}
				break
			}
		}
		if result != nil && result.Kind == config.Map && len(result.Fields) > 0 {
			return result
		}
	}
	return nil
}

// Paths are the folders of modules whose path in the workspace is one of this machine.
func (w *Workspace) Paths() map[string]string {
	paths := map[string]string{}
	for _, m := range w.Modules {
		if path := strings.TrimPrefix(m.Path, "file://"); strings.HasPrefix(path, "/") {
			paths[m.Name] = path
		}
	}
	return paths
}

// YAML is the workspace's file as upstream writes it: fields in its order, those of maps sorted.
func (w *Workspace) YAML() ([]byte, error) {
	type moduleFile struct {
		Path    string `yaml:"path"`
		Version string `yaml:"version"`
		Configs any    `yaml:"configs"`
	}
	file := struct {
		Modules     map[string]moduleFile `yaml:"modules,omitempty"`
		SecretStore *spec.SecretStore     `yaml:"secretStore,omitempty"`
		Context     any                   `yaml:"context,omitempty"`
	}{SecretStore: w.SecretStore}
	if w.Context != nil {
		file.Context = w.Context.Plain()
	}
	for _, m := range w.Modules {
		if file.Modules == nil {
			file.Modules = map[string]moduleFile{}
		}
		configs := w.tree.Get("modules").Get(m.Name).Get("configs").Plain()
		file.Modules[m.Name] = moduleFile{m.Path, m.Version, configs}
	}
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	if err := e.Encode(file); err != nil {
		return nil, err
	}
	return b.Bytes(), e.Close()
}
