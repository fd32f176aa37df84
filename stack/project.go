package stack

import (
	"regexp"

	"github.com/weft-dev/weft/stack/config"
)

// The names of the files that make a folder a project or a stack.
const (
	ProjectFile = "project.yaml"
	StackFile   = "stack.yaml"
)

// Project is an application, or several that belong together, with its stacks.
type Project struct {
	Name        string
	Description string
	Labels      map[string]string
	Extensions  []Extension
	Dir         string // absolute
}

// Stack is one deployment of a project, the smallest thing that is planned and applied.
type Stack struct {
	Name        string
	Description string
	Labels      map[string]string
	Extensions  []Extension
	Dir         string // absolute
}

// Extension changes how resources are made.
type Extension struct {
	Kind        string // kubernetesNamespace or kubernetesMetadata
	Namespace   string
	Labels      map[string]string
	Annotations map[string]string
}

// The kinds of extensions.
const (
	NamespaceExtension = "kubernetesNamespace"
	MetadataExtension  = "kubernetesMetadata"
)

var (
	nameForm      = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,100}$`)
	namespaceForm = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
)

// CheckName says what is wrong with the name of a project or stack; "" if nothing is.
func CheckName(name string) string {
	if !nameForm.MatchString(name) {
		return "must have 1 to 100 letters, digits, hyphens, underscores and periods"
	}
	return ""
}

// ParseProject reads project.yaml. Fields that mean nothing are let be, as upstream does; warnings tell of them.
func ParseProject(file string, text []byte) (*Project, []string, error) {
	p := &Project{}
	warnings, err := parse(file, text, func(n config.Node) {
		p.Name, p.Description, p.Labels, p.Extensions = readCommon(n)
	}, "path", "stacks", "generator")
	return p, warnings, err
}

// ParseStack reads stack.yaml.
func ParseStack(file string, text []byte) (*Stack, []string, error) {
	s := &Stack{}
	warnings, err := parse(file, text, func(n config.Node) {
		s.Name, s.Description, s.Labels, s.Extensions = readCommon(n)
	}, "path", "backend", "workspace")
	return s, warnings, err
}

func parse(file string, text []byte, read func(config.Node), silent ...string) (warnings []string, err error) {
	tree, err := config.ParseYAML(file, text)
	if err != nil {
		return nil, err
	}
	r := &config.Reader{}
	if tree == nil {
		return nil, &config.Problem{At: config.Place{File: file}, Path: "name", What: "is missing: the file is empty", Fix: "Write: name: NAME"}
	}
	n := r.Node(tree, "")
	read(n)
	known := map[string]bool{"name": true, "description": true, "labels": true, "extensions": true}
	for _, name := range silent {
		known[name] = true
	}
	n.Each(func(name string, v config.Node) {
		if !known[name] {
			warnings = append(warnings, v.Place().String()+": the field "+name+" means nothing here")
		}
	})
	return warnings, r.Err()
}

func readCommon(n config.Node) (name, description string, labels map[string]string, extensions []Extension) {
	name = n.Required("name").Scalar()
	if n.Field("name").Is() {
		if fault := CheckName(name); fault != "" {
			n.Field("name").Fail("%s, got %q", fault, name)
		}
	}
	return name, n.Field("description").Scalar(), scalars(n.Field("labels")), readExtensions(n.Field("extensions"))
}

func scalars(n config.Node) map[string]string {
	if !n.Is() {
		return nil
	}
	m := map[string]string{}
	n.Each(func(name string, v config.Node) { m[name] = v.Scalar() })
	return m
}

func readExtensions(n config.Node) []Extension {
	var list []Extension
	n.Items(func(_ int, v config.Node) {
		e := Extension{Kind: v.Required("kind").Text()}
		switch e.Kind {
		case NamespaceExtension:
			space := v.Required(NamespaceExtension).Required("namespace")
			e.Namespace = space.Text()
			if space.Is() && !namespaceForm.MatchString(e.Namespace) {
				space.Fail("must be a name of a namespace: at most 63 small letters, digits and hyphens, got %q", e.Namespace)
			}
		case MetadataExtension:
			m := v.Field(MetadataExtension)
			e.Labels, e.Annotations = scalars(m.Field("labels")), scalars(m.Field("annotations"))
		default:
			if v.Field("kind").Is() {
				v.Field("kind").Fail("must be %s or %s, got %q", NamespaceExtension, MetadataExtension, e.Kind)
			}
		}
		list = append(list, e)
	})
	return list
}

// extensions are those of a stack, and those of its project of other kinds.
func extensions(p *Project, s *Stack) []Extension {
	list := append([]Extension(nil), s.Extensions...)
	has := map[string]bool{}
	for _, e := range list {
		has[e.Kind] = true
	}
	for _, e := range p.Extensions {
		if !has[e.Kind] {
			list = append(list, e)
		}
	}
	return list
}

// Namespace is where a stack's namespaced objects go: what an extension says, else the project's name.
func Namespace(p *Project, s *Stack) string {
	for _, e := range extensions(p, s) {
		if e.Kind == NamespaceExtension {
			return e.Namespace
		}
	}
	return p.Name
}
