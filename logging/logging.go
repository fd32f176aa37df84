// Package logging turns Fluent Operator's resources into what runs: checked configurations and the objects that hold them. Its functions are pure:
// Needs tells what else must be read, Planner.Plan makes objects and problems, Observe makes status. Files, clocks and clusters are
// left to the callers.
package logging

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/weft-dev/weft/logging/lint"
	"github.com/weft-dev/weft/logging/render"
	"github.com/weft-dev/weft/logging/resource"
	"github.com/weft-dev/weft/logging/usage"
	"github.com/weft-dev/weft/logging/workload"
)

// Configuration is what one set of agents reads.
type Configuration struct {
	Engine    string             `json:"engine"` // fluentbit or fluentd
	Owner     *resource.Document `json:"-"`      // FluentBit, Collector or Fluentd; nil if the set has none
	Config    *resource.Document `json:"-"`      // ClusterFluentBitConfig; nil for Fluentd
	Namespace string             `json:"namespace"`
	Secret    string             `json:"secret"` // name
	Files     map[string][]byte  `json:"-"`      // nil if nothing may be rolled out; the last good configuration stays
	Hash      string             `json:"hash,omitempty"`
	Pipeline  *render.Pipeline   `json:"-"` // Fluent Bit: what was rendered
	Router    *render.Router     `json:"-"` // Fluentd: what was rendered
}

// Object is a Kubernetes object with the document and field that caused it.
type Object struct {
	Object   map[string]any
	Document *resource.Document
	Field    string
	Owner    *resource.Document // the FluentBit, Collector or Fluentd with which it comes and goes; nil if the set has none
	// Configuration is the one whose Secret this is; nil for other objects.
	Configuration *Configuration
}

// Result is what a set of documents becomes.
type Result struct {
	Configurations []*Configuration
	Objects        []Object
	Problems       []resource.Problem
}

// Needs are the Secrets and ConfigMaps that a set of documents refers to.
func Needs(set *resource.Set, namespace string) []resource.Reference {
	return render.Needs(set, namespace)
}

// Planner plans, and keeps what it rendered of each document for the next time.
type Planner struct {
	// Namespace is where Secrets of a ClusterFluentBitConfig without namespace are, and its own Secret.
	Namespace string
	compiler  render.Compiler
	checker   lint.Checker
}

// Plan makes the configurations of a set. A document with an error is left out and told; the others are rendered all the same. A mistake in
// what holds for a whole configuration (its service section) stops this configuration alone.
func (p *Planner) Plan(set *resource.Set, found resource.Found) *Result {
	p.compiler.Found, p.compiler.Namespace = found, p.Namespace
	p.checker.Begin()
	r := &Result{}
	for _, pipeline := range p.compiler.FluentBit(set) {
		r.fluentBit(pipeline, &p.checker)
	}
	for _, router := range p.compiler.Fluentd(set) {
		r.fluentd(router)
	}
	for _, c := range r.Configurations {
		if c.Files != nil {
			r.Objects = append(r.Objects, c.secret())
		}
	}
	for _, d := range set.All() {
		problems := workload.Problems(d)
		if r.Problems = append(r.Problems, problems...); len(problems) > 0 {
			continue
		}
		for _, o := range workload.Objects(d) {
			r.Objects = append(r.Objects, Object{Object: o.Object, Document: d, Field: o.Field, Owner: d})
		}
	}
	r.Problems = distinct(r.Problems)
	return r
}

// fluentBit checks a pipeline until what is left of it is good: leaving out a parser can make a filter wrong.
func (r *Result) fluentBit(p *render.Pipeline, checker *lint.Checker) {
	c := &Configuration{Engine: "fluentbit", Owner: p.Owner, Config: p.Config, Namespace: p.Namespace}
	r.Problems = append(r.Problems, p.Problems...)
	if p.Config == nil {
		return
	}
	c.Secret = p.Config.Name
	blocked := broken(p.Problems)[p.Config]
	for range 10 {
		problems := checker.Pipeline(p)
		bad := broken(problems)
		r.Problems = append(r.Problems, problems...)
		blocked = blocked || bad[p.Config]
		delete(bad, p.Config)
		if len(bad) == 0 {
			break
		}
		p = p.Without(func(d *resource.Document) bool { return bad[d] })
	}
	c.Pipeline = p
	r.Configurations = append(r.Configurations, c)
	if blocked {
		return
	}
	files, err := p.Files()
	if err != nil {
		r.Problems = append(r.Problems, p.Config.Problem(resource.Error, "NotRendered", "", "%v", err))
		return
	}
	c.fill(files)
}

func (r *Result) fluentd(router *render.Router) {
	c := &Configuration{Engine: "fluentd", Owner: router.Owner, Secret: "fluentd-config", Router: router}
	if router.Owner != nil {
		c.Namespace, c.Secret = router.Owner.Namespace, router.Owner.Name+"-config"
	}
	r.Problems = append(r.Problems, router.Problems...)
	for range 10 {
		problems := lint.Router(router)
		bad := broken(problems)
		r.Problems = append(r.Problems, problems...)
		if len(bad) == 0 {
			break
		}
		router.Drop(func(d *resource.Document) bool { return bad[d] })
	}
	r.Configurations = append(r.Configurations, c)
	files, err := router.Files()
	if err != nil {
		document := router.Owner
		if document == nil && len(router.Labels) > 0 {
			document = router.Labels[0].Config
		}
		if document != nil {
			r.Problems = append(r.Problems, document.Problem(resource.Error, "NotRendered", "", "%v", err))
		}
		return
	}
	c.fill(files)
}

func broken(problems []resource.Problem) map[*resource.Document]bool {
	bad := map[*resource.Document]bool{}
	for _, p := range problems {
		if p.Severity == resource.Error {
			bad[p.Document] = true
		}
	}
	return bad
}

// distinct drops what is told twice because a document is part of several configurations.
func distinct(problems []resource.Problem) []resource.Problem {
	seen := map[string]bool{}
	return slices.DeleteFunc(problems, func(p resource.Problem) bool {
		key := p.Document.ID() + "\x00" + p.Field + "\x00" + p.Reason + "\x00" + p.Message
		if seen[key] {
			return true
		}
		seen[key] = true
		return false
	})
}

func (c *Configuration) fill(files map[string][]byte) {
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintf(h, "%s\x00%d\x00", name, len(files[name]))
		h.Write(files[name])
	}
	c.Files, c.Hash = files, fmt.Sprintf("%x", h.Sum(nil))
}

// HashAnnotation is where the Secret tells which configuration it holds.
const HashAnnotation = "weft.dev/config-hash"

func (c *Configuration) secret() Object {
	data := map[string]any{}
	for name, content := range c.Files {
		data[name] = base64.StdEncoding.EncodeToString(content)
	}
	document := cmp.Or(c.Config, c.Owner)
	return Object{Document: document, Owner: c.Owner, Configuration: c, Field: "spec", Object: map[string]any{
		"apiVersion": "v1", "kind": "Secret", "type": "Opaque",
		"metadata": map[string]any{"name": c.Secret, "namespace": c.Namespace, "annotations": map[string]any{HashAnnotation: c.Hash}},
		"data":     data,
	}}
}

// Status is what is told about a document.
type Status struct {
	Document   *resource.Document
	State      string // valid or invalid; of a Fluentd active or inactive
	Messages   string
	Conditions []Condition
}

// Condition is a Kubernetes condition.
type Condition struct {
	Type               string `json:"type"`
	Status             string `json:"status"` // True, False or Unknown
	Reason             string `json:"reason"`
	Message            string `json:"message"`
	LastTransitionTime string `json:"lastTransitionTime"`
	ObservedGeneration int64  `json:"observedGeneration,omitempty"`
}

// Observe makes the status of every document of a set from what a plan found and from what is known of namespaces under a quota, by their names. now
// is for conditions that changed.
func Observe(set *resource.Set, result *Result, known map[string]usage.Namespace, now time.Time) []Status {
	problems := map[*resource.Document][]resource.Problem{}
	for _, p := range result.Problems {
		problems[p.Document] = append(problems[p.Document], p)
	}
	used, limited := result.used(), result.limited()
	var all []Status
	for _, d := range set.All() {
		if d.Group != resource.FluentBitGroup && d.Group != resource.FluentdGroup {
			continue
		}
		accepted := condition(d, "Accepted", problems[d], used[d])
		s := Status{Document: d, State: state(d, accepted.Status == "True"), Messages: accepted.Message, Conditions: []Condition{transition(d, accepted, now)}}
		if limited[d.Namespace] && d.Kind == "FluentBitConfig" {
			s.Conditions = append(s.Conditions, transition(d, withinQuota(known, d.Namespace), now))
		}
		all = append(all, s)
	}
	return all
}

// limited are the namespaces that have a quota.
func (r *Result) limited() map[string]bool {
	limited := map[string]bool{}
	for _, c := range r.Configurations {
		if c.Pipeline != nil {
			for namespace := range c.Pipeline.Quotas {
				limited[namespace] = true
			}
		}
	}
	return limited
}

func withinQuota(known map[string]usage.Namespace, namespace string) Condition {
	c := Condition{Type: "WithinQuota", Status: "Unknown", Reason: "NotMeasured", Message: "no agent was asked yet"}
	if n, asked := known[namespace]; asked {
		c.Status, c.Reason, c.Message = n.Condition()
	}
	return c
}

func state(d *resource.Document, good bool) string {
	switch {
	case d.Kind == "Fluentd" && good:
		return "active"
	case d.Kind == "Fluentd":
		return "inactive"
	case good:
		return "valid"
	}
	return "invalid"
}

// used are the documents that are part of a configuration.
func (r *Result) used() map[*resource.Document]bool {
	used := map[*resource.Document]bool{}
	for _, c := range r.Configurations {
		used[c.Owner], used[c.Config] = true, true
		if c.Pipeline != nil {
			for _, e := range c.Pipeline.Entries {
				used[e.Document] = true
			}
		}
		if c.Router != nil {
			for _, e := range c.Router.Sources {
				used[e.Document] = true
			}
			for _, l := range c.Router.Labels {
				used[l.Config] = true
				for _, e := range l.Elements {
					used[e.Document] = true
				}
			}
		}
	}
	return used
}

func condition(d *resource.Document, name string, problems []resource.Problem, used bool) Condition {
	var messages []string
	reason, status := "Accepted", "True"
	for _, severity := range []resource.Severity{resource.Error, resource.Warning} {
		for _, p := range problems {
			if p.Severity != severity {
				continue
			}
			if severity == resource.Error && status == "True" {
				reason, status = p.Reason, "False"
			} else if reason == "Accepted" {
				reason = p.Reason
			}
			messages = append(messages, strings.TrimPrefix(cmp.Or(p.Field, "spec")+": "+p.Message, ": "))
		}
	}
	switch {
	case len(messages) > 0:
	case !used && d.Kind != "FluentBitConfig":
		reason, messages = "NotSelected", []string{"no configuration selects this resource"}
	default:
		messages = []string{"part of the configuration"}
	}
	return Condition{Type: name, Status: status, Reason: reason, Message: strings.Join(messages, "; ")}
}

// transition keeps the time of a condition that says the same as before.
func transition(d *resource.Document, c Condition, now time.Time) Condition {
	c.LastTransitionTime = now.UTC().Format(time.RFC3339)
	if metadata, ok := d.Object["metadata"].(map[string]any); ok {
		switch g := metadata["generation"].(type) {
		case int64:
			c.ObservedGeneration = g
		case float64:
			c.ObservedGeneration = int64(g)
		}
	}
	status, _ := d.Object["status"].(map[string]any)
	conditions, _ := status["conditions"].([]any)
	for _, item := range conditions {
		old, _ := item.(map[string]any)
		if old["type"] == c.Type && old["status"] == c.Status {
			if at, ok := old["lastTransitionTime"].(string); ok {
				c.LastTransitionTime = at
			}
		}
	}
	return c
}
