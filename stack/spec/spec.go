// Package spec holds the files in which Kusion keeps what it wants and what it did: Spec, State and Release, as
// KusionStack/kusion pkg/apis/api.kusion.io/v1 (v0.15) defines them, and the rules by which resources are named, ordered and
// refer to each other.
//
// It knows neither modules nor clusters, and it reads no files by itself.
package spec

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/weft-dev/weft/stack/config"
)

// The types of resources.
const (
	Kubernetes = "Kubernetes"
	Terraform  = "Terraform"
)

// Extensions of resources.
const (
	GVK          = "GVK"                      // "apps/v1, Kind=Deployment"
	IsWorkload   = "kusion.io/is-workload"    // true on the workload
	ImportID     = "kusionstack.io/import-id" // what exists already and is taken over
	HealthPolicy = "healthPolicy"             // when the resource counts as ready
	KubeConfig   = "kubeConfig"               // path of another cluster's kubeconfig
)

// Resource is something that should exist, or exists.
type Resource struct {
	ID         string         `yaml:"id" json:"id"`
	Type       string         `yaml:"type" json:"type"`
	Attributes map[string]any `yaml:"attributes" json:"attributes"`
	DependsOn  []string       `yaml:"dependsOn,omitempty" json:"dependsOn,omitempty"`
	Extensions map[string]any `yaml:"extensions,omitempty" json:"extensions,omitempty"`

	// Origin is where the resource comes from in the sources; it is not part of the file.
	Origin config.Place `yaml:"-" json:"-"`
	// Generated are the keys of a Secret's data that were made up; they are not part of the file either.
	Generated []string `yaml:"-" json:"-"`
}

// Spec is what a stack should be.
type Spec struct {
	Resources   []Resource     `yaml:"resources" json:"resources"`
	SecretStore *SecretStore   `yaml:"secretStore" json:"secretStore"`
	Context     map[string]any `yaml:"context" json:"context"`
}

// State is what a stack is.
type State struct {
	Resources []Resource `yaml:"resources" json:"resources"`
}

// Phase is how far a release is. All but Succeeded and Failed are of a release in progress, which locks the stack.
type Phase string

// The phases of a release.
const (
	Generating Phase = "generating"
	Previewing Phase = "previewing"
	Applying   Phase = "applying"
	Destroying Phase = "destroying"
	Succeeded  Phase = "succeeded"
	Failed     Phase = "failed"
)

// Final says whether a release is over.
func (p Phase) Final() bool { return p == Succeeded || p == Failed }

// Release is one apply or destroy of a stack in a workspace.
type Release struct {
	Project      string    `yaml:"project" json:"project"`
	Workspace    string    `yaml:"workspace" json:"workspace"`
	Revision     uint64    `yaml:"revision" json:"revision"`
	Stack        string    `yaml:"stack" json:"stack"`
	Spec         *Spec     `yaml:"spec,omitempty" json:"spec,omitempty"`
	State        *State    `yaml:"state" json:"state"`
	Phase        Phase     `yaml:"phase" json:"phase"`
	CreateTime   time.Time `yaml:"createTime" json:"createTime"`
	ModifiedTime time.Time `yaml:"modifiedTime" json:"modifiedTime"`

	// Weft is what Weft notes besides; upstream passes over it.
	Weft *WeftNote `yaml:"weft,omitempty" json:"weft,omitempty"`
}

// WeftNote is what Weft notes in a release.
type WeftNote struct {
	Revision uint64 `yaml:"revision" json:"revision"` // of the engine's state
}

// KubernetesID is the id of an object.
func KubernetesID(apiVersion, kind, namespace, name string) string {
	if namespace == "" {
		return apiVersion + ":" + kind + ":" + name
	}
	return apiVersion + ":" + kind + ":" + namespace + ":" + name
}

// Object makes the resource of an object, with its id and GVK.
func Object(attributes map[string]any) Resource {
	text := func(m map[string]any, key string) string { s, _ := m[key].(string); return s }
	metadata, _ := attributes["metadata"].(map[string]any)
	apiVersion, kind := text(attributes, "apiVersion"), text(attributes, "kind")
	gvk := apiVersion
	if !strings.Contains(gvk, "/") {
		gvk = "/" + gvk
	}
	return Resource{
		ID:         KubernetesID(apiVersion, kind, text(metadata, "namespace"), text(metadata, "name")),
		Type:       Kubernetes,
		Attributes: attributes,
		Extensions: map[string]any{GVK: gvk + ", Kind=" + kind},
	}
}

// Kind is the kind of an object, "" for other resources.
func (r *Resource) Kind() string {
	if r.Type != Kubernetes {
		return ""
	}
	kind, _ := r.Attributes["kind"].(string)
	return kind
}

// Workload says whether the resource is an application's workload.
func (r *Resource) Workload() bool {
	switch v := r.Extensions[IsWorkload].(type) {
	case bool:
		return v
	case string:
		return v == "true"
	}
	return false
}

// YAML is the file that upstream writes.
func (s *Spec) YAML() ([]byte, error) { return marshal(s) }

// YAML is the file that upstream writes.
func (r *Release) YAML() ([]byte, error) { return marshal(r) }

func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return b.Bytes(), e.Close()
}

// ParseSpec reads a Spec. A field that is none of a Spec's is an error, as it is upstream.
func ParseSpec(file string, text []byte) (*Spec, error) {
	tree, err := config.ParseYAML(file, text)
	if err != nil {
		return nil, err
	}
	r := &config.Reader{}
	s := readSpec(r.Node(tree, ""))
	return s, r.Err()
}

func readSpec(n config.Node) *Spec {
	s := &Spec{}
	n.Only("resources", "secretStore", "context")
	s.Resources = readResources(n.Field("resources"))
	s.SecretStore = ReadSecretStore(n.Field("secretStore"))
	s.Context, _ = n.Field("context").Tree().Plain().(map[string]any)
	return s
}

func readResources(n config.Node) []Resource {
	list := []Resource{}
	seen := map[string]bool{}
	n.Items(func(_ int, v config.Node) {
		v.Only("id", "type", "attributes", "dependsOn", "extensions")
		r := Resource{ID: v.Required("id").Text(), Type: v.Required("type").Text(), Origin: v.Place()}
		if seen[r.ID] {
			v.Field("id").Fail("there is another resource with the id %q", r.ID)
		}
		seen[r.ID] = true
		if r.Type != Kubernetes && r.Type != Terraform && v.Field("type").Is() {
			v.Field("type").Fail("must be %s or %s, got %q", Kubernetes, Terraform, r.Type)
		}
		r.Attributes = readMap(v.Field("attributes"))
		r.Extensions = readMap(v.Field("extensions"))
		v.Field("dependsOn").Items(func(_ int, d config.Node) { r.DependsOn = append(r.DependsOn, d.Text()) })
		if r.Type == Kubernetes {
			a := v.Field("attributes")
			a.Required("apiVersion").Text()
			a.Required("kind").Text()
			a.Field("metadata").Required("name").Scalar()
		}
		list = append(list, r)
	})
	return list
}

func readMap(n config.Node) map[string]any {
	if !n.Is() {
		return nil
	}
	n.Each(func(string, config.Node) {}) // says so if it is no map
	m, _ := n.Tree().Plain().(map[string]any)
	return m
}

// ParseRelease reads a release file.
func ParseRelease(file string, text []byte) (*Release, error) {
	tree, err := config.ParseYAML(file, text)
	if err != nil {
		return nil, err
	}
	r := &config.Reader{}
	n := r.Node(tree, "")
	rel := &Release{
		Project: n.Required("project").Scalar(), Workspace: n.Required("workspace").Scalar(), Stack: n.Required("stack").Scalar(),
		Revision: uint64(max(n.Required("revision").IntIn(1, 1<<53), 0)), Phase: Phase(n.Required("phase").Text()),
		State: &State{Resources: readResources(n.Field("state").Field("resources"))},
	}
	if n.Field("spec").Is() {
		rel.Spec = readSpec(n.Field("spec"))
	}
	if !slices.Contains([]Phase{Generating, Previewing, Applying, Destroying, Succeeded, Failed}, rel.Phase) && n.Field("phase").Is() {
		n.Field("phase").Fail("%q is no phase of a release", rel.Phase)
	}
	rel.CreateTime, rel.ModifiedTime = readTime(n.Required("createTime")), readTime(n.Required("modifiedTime"))
	if revision := n.Field("weft").Field("revision"); revision.Is() {
		rel.Weft = &WeftNote{uint64(max(revision.IntIn(1, 1<<53), 0))}
	}
	return rel, r.Err()
}

func readTime(n config.Node) time.Time {
	text := n.Text()
	if text == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		n.Fail("must be a time such as 2024-05-11T15:30:00Z, got %q", text)
	}
	return t
}

// Validate says what keeps a release from being written.
func (r *Release) Validate() error {
	switch {
	case r.Project == "" || r.Workspace == "" || r.Stack == "":
		return fmt.Errorf("a release needs a project, a workspace and a stack")
	case r.Revision == 0:
		return fmt.Errorf("a release needs a revision from 1 on")
	case r.State == nil:
		return fmt.Errorf("a release needs a state")
	case r.CreateTime.IsZero() || r.ModifiedTime.IsZero():
		return fmt.Errorf("a release needs the times at which it was made and changed")
	}
	return nil
}
