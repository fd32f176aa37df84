// Package resource holds Fluent Operator's resources as documents: plain values with their place, found by kind, namespace and labels. It
// knows neither files nor a cluster, and nothing of what the resources mean.
package resource

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// The API groups of the resources.
const (
	FluentBitGroup = "fluentbit.fluent.io"
	FluentdGroup   = "fluentd.fluent.io"
)

// Document is one resource. It must not be changed after it was made: what is derived from it is kept under its address.
type Document struct {
	Group     string
	Kind      string
	Namespace string // "" for what belongs to the cluster
	Name      string
	Labels    map[string]string
	// Object is the whole resource as decoded from JSON: maps, lists, strings, float64 or int64, booleans.
	Object map[string]any
	// Place tells where a field was written, for example file:line:column; nil if that is not known.
	Place func(field string) string
}

// New makes a document of a decoded object.
func New(object map[string]any, place func(field string) string) *Document {
	metadata, _ := object["metadata"].(map[string]any)
	d := &Document{Object: object, Place: place, Labels: map[string]string{}}
	version, _ := object["apiVersion"].(string)
	d.Group, _, _ = strings.Cut(version, "/")
	d.Kind, _ = object["kind"].(string)
	d.Name, _ = metadata["name"].(string)
	d.Namespace, _ = metadata["namespace"].(string)
	if strings.HasPrefix(d.Kind, "Cluster") && (d.Group == FluentBitGroup || d.Group == FluentdGroup) {
		d.Namespace = "" // whatever is written, it has none
	}
	labels, _ := metadata["labels"].(map[string]any)
	for k, v := range labels {
		d.Labels[k], _ = v.(string)
	}
	return d
}

// Spec is the resource's spec, never nil.
func (d *Document) Spec() map[string]any {
	if spec, ok := d.Object["spec"].(map[string]any); ok {
		return spec
	}
	return map[string]any{}
}

// Annotation is the value of an annotation, or "".
func (d *Document) Annotation(name string) string {
	metadata, _ := d.Object["metadata"].(map[string]any)
	annotations, _ := metadata["annotations"].(map[string]any)
	value, _ := annotations[name].(string)
	return value
}

// String is for example "Output team-a/es" or "ClusterOutput es".
func (d *Document) String() string {
	if d.Namespace == "" {
		return d.Kind + " " + d.Name
	}
	return d.Kind + " " + d.Namespace + "/" + d.Name
}

// ID is an identity that differs also between the groups.
func (d *Document) ID() string { return d.Group + " " + d.String() }

// Severity of a problem.
type Severity string

// The severities. A resource with an error is left out of the configuration; one with a warning is not.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
)

// Problem is something wrong with a resource.
type Problem struct {
	Document *Document `json:"-"`
	Resource string    `json:"resource"`
	Field    string    `json:"field,omitempty"` // path of the field, for example spec.es.port
	Place    string    `json:"place,omitempty"` // file:line:column
	Severity Severity  `json:"severity"`
	Reason   string    `json:"reason"` // one word in CamelCase
	Message  string    `json:"message"`
}

func (p Problem) Error() string {
	var b strings.Builder
	if p.Place != "" {
		b.WriteString(p.Place + ": ")
	}
	b.WriteString(p.Resource)
	if p.Field != "" {
		b.WriteString(": " + p.Field)
	}
	return b.String() + ": " + p.Message
}

// Problem makes a problem of this document.
func (d *Document) Problem(severity Severity, reason, field, format string, args ...any) Problem {
	p := Problem{Document: d, Resource: d.String(), Field: field, Severity: severity, Reason: reason, Message: fmt.Sprintf(format, args...)}
	if d.Place != nil {
		p.Place = d.Place(field)
	}
	return p
}

// Set is documents that can be searched.
type Set struct {
	all    []*Document
	byKind map[kind][]*Document // sorted by namespace and name
}

type kind struct{ group, name string }

// NewSet makes a set. Of documents with the same identity the last counts.
func NewSet(documents []*Document) *Set {
	type identity struct{ group, kind, namespace, name string }
	of := func(d *Document) identity { return identity{d.Group, d.Kind, d.Namespace, d.Name} }
	s := &Set{byKind: map[kind][]*Document{}, all: make([]*Document, 0, len(documents))}
	last := make(map[identity]*Document, len(documents))
	for _, d := range documents {
		last[of(d)] = d
	}
	for _, d := range documents {
		if last[of(d)] == d {
			s.all = append(s.all, d)
			key := kind{d.Group, d.Kind}
			s.byKind[key] = append(s.byKind[key], d)
		}
	}
	for _, list := range s.byKind {
		slices.SortFunc(list, func(a, b *Document) int {
			return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
		})
	}
	return s
}

// All are the documents in the order in which they were given.
func (s *Set) All() []*Document { return s.all }

// Kind are the documents of a kind, by namespace and name.
func (s *Set) Kind(group, name string) []*Document { return s.byKind[kind{group, name}] }

// Select are the documents of a kind whose labels a selector matches, in a namespace ("" for all).
func (s *Set) Select(group, kind, namespace string, selector Selector) []*Document {
	list := s.Kind(group, kind)
	if namespace != "" {
		from, _ := slices.BinarySearchFunc(list, namespace, func(d *Document, ns string) int { return cmp.Compare(d.Namespace, ns) })
		list = list[from:]
	}
	var found []*Document
	for _, d := range list {
		if namespace != "" && d.Namespace != namespace {
			break
		}
		if selector.Matches(d.Labels) {
			found = append(found, d)
		}
	}
	return found
}

// Selector is a label selector.
type Selector struct {
	Labels      map[string]string
	Expressions []Expression
	none        bool
}

// Expression is one of a selector's matchExpressions.
type Expression struct {
	Key      string
	Operator string
	Values   []string
}

// Nothing is the selector that matches nothing.
var Nothing = Selector{none: true}

// ParseSelector reads a selector as it stands in a resource. An absent or empty one matches everything, as in Kubernetes.
func ParseSelector(value any) (Selector, error) {
	var s Selector
	object, ok := value.(map[string]any)
	if !ok {
		if value == nil {
			return s, nil
		}
		return Nothing, fmt.Errorf("a selector is a map with matchLabels and matchExpressions")
	}
	labels, _ := object["matchLabels"].(map[string]any)
	for k, v := range labels {
		text, ok := v.(string)
		if !ok {
			return Nothing, fmt.Errorf("matchLabels.%s must be a string", k)
		}
		if s.Labels == nil {
			s.Labels = map[string]string{}
		}
		s.Labels[k] = text
	}
	expressions, _ := object["matchExpressions"].([]any)
	for i, e := range expressions {
		m, _ := e.(map[string]any)
		x := Expression{}
		x.Key, _ = m["key"].(string)
		x.Operator, _ = m["operator"].(string)
		values, _ := m["values"].([]any)
		for _, v := range values {
			text, _ := v.(string)
			x.Values = append(x.Values, text)
		}
		switch x.Operator {
		case "In", "NotIn":
			if len(x.Values) == 0 {
				return Nothing, fmt.Errorf("matchExpressions[%d] needs values for %s", i, x.Operator)
			}
		case "Exists", "DoesNotExist":
		default:
			return Nothing, fmt.Errorf("matchExpressions[%d].operator %q; there are In, NotIn, Exists and DoesNotExist", i, x.Operator)
		}
		s.Expressions = append(s.Expressions, x)
	}
	return s, nil
}

// Matches tells whether labels are selected.
func (s Selector) Matches(labels map[string]string) bool {
	if s.none {
		return false
	}
	for k, v := range s.Labels {
		if have, ok := labels[k]; !ok || have != v {
			return false
		}
	}
	for _, e := range s.Expressions {
		have, ok := labels[e.Key]
		in := ok && slices.Contains(e.Values, have)
		switch e.Operator {
		case "In":
			if !in {
				return false
			}
		case "NotIn":
			if in {
				return false
			}
		case "Exists":
			if !ok {
				return false
			}
		case "DoesNotExist":
			if ok {
				return false
			}
		}
	}
	return true
}

// Reference is something besides the documents that a configuration needs.
type Reference struct {
	Kind      string // Secret or ConfigMap
	Namespace string
	Name      string
	Key       string
}

func (r Reference) String() string {
	return fmt.Sprintf("%s %s/%s, key %s", r.Kind, r.Namespace, r.Name, r.Key)
}

// Found gives the content of references; ok is false if the object or its key does not exist.
type Found interface {
	Lookup(r Reference) (value string, ok bool)
}

// FoundMap is a Found in memory.
type FoundMap map[Reference]string

// Lookup gives the content of a reference.
func (m FoundMap) Lookup(r Reference) (string, bool) {
	v, ok := m[r]
	return v, ok
}
