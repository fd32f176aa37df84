package fluentd

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/pipeline/flow"
	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/pipeline/record"
	"github.com/weft-dev/weft/logging/plugin"
)

// labelRouter sends each record to the labels whose conditions its Kubernetes metadata meets, as the gem fluent-plugin-label-router does
// (lib/fluent/plugin/out_label_router.rb). It is what Fluent Operator's configurations begin with.
type labelRouter struct {
	*part
	routes   []*labelRoute
	fallback *labelRoute // for records that no route takes; nil if they are dropped
}

// labelRoute is one <route>.
type labelRoute struct {
	to    *router
	tag   string // that records get, "" for the one they have
	rules []labelRule
}

// labelRule is one <match> of a route: all that it names must hold.
type labelRule struct {
	namespaces, hosts, containers []string
	labels, namespaceLabels       map[string]string
	negate                        bool
}

func newLabelRouter(b *builder, p *part) target {
	r := &labelRouter{part: p}
	p.only("route")
	p.set.Pass("emit_mode", "sticky_tags", "metrics", "registry_labels") // each record goes by its own metadata, in batches; metrics are those of all outputs
	for _, s := range p.section.Sections {
		if s.Kind == "route" {
			r.routes = append(r.routes, b.labelRoute(p, s))
		}
	}
	if label := p.set.String("default_route"); label != "" {
		property, _ := p.section.Get("default_route")
		property.Value = label
		r.fallback = &labelRoute{tag: p.set.String("default_tag")}
		b.later = append(b.later, func() { r.fallback.to = b.label(p, property) })
	} else if tag := p.set.String("default_tag"); tag != "" {
		p.set.Failf("default_tag", "default_tag without default_route sends records back to this output; name a label with default_route")
	}
	return r
}

func (b *builder) labelRoute(p *part, s *config.Section) *labelRoute {
	route := &labelRoute{}
	o := options.New(s, plugin.Fluentd().Groups["route"], b.options.Env)
	route.tag = o.String("tag")
	o.Ignore("@label")
	o.Pass("metrics_labels")
	if label, ok := s.Get("@label"); ok {
		b.later = append(b.later, func() { route.to = b.label(p, label) })
	} else {
		o.FailAt(s.Pos, "<route> needs @label, the label that the records go to")
	}
	for _, m := range s.Sections {
		if m.Kind != "match" {
			o.FailAt(m.Pos, "<%s> is not built into logagent inside of <route>", m.Kind)
			continue
		}
		route.rules = append(route.rules, b.labelRule(o, m))
	}
	p.finish(o)
	return route
}

func (b *builder) labelRule(outer *options.Set, s *config.Section) labelRule {
	o := options.New(s, plugin.Fluentd().Groups["match"], b.options.Env)
	rule := labelRule{namespaces: o.Commas("namespaces"), hosts: o.Commas("hosts"), containers: o.Commas("container_names"), negate: o.Bool("negate"),
		labels: pairs(o, "labels"), namespaceLabels: pairs(o, "namespace_labels")}
	if err := o.Done(); err != nil {
		outer.Join(err)
	}
	return rule
}

// pairs reads a:b,c:d.
func pairs(o *options.Set, key string) map[string]string {
	all := map[string]string{}
	for _, item := range o.Commas(key) {
		name, value, found := strings.Cut(item, ":")
		if !found {
			o.Failf(key, "%s: expected name:value, found %q", key, item)
		}
		all[strings.TrimSpace(name)] = strings.TrimSpace(value)
	}
	return all
}

// takes tells whether a record goes this way: the first rule that its metadata meets decides.
func (r *labelRoute) takes(kubernetes []byte) bool {
	for i := range r.rules {
		if r.rules[i].met(kubernetes) {
			return !r.rules[i].negate
		}
	}
	return false
}

func (r *labelRule) met(kubernetes []byte) bool {
	for _, x := range []struct {
		key  string
		want []string
	}{{"host", r.hosts}, {"namespace_name", r.namespaces}, {"container_name", r.containers}} {
		if len(x.want) > 0 && !slices.Contains(x.want, textOf(kubernetes, x.key)) {
			return false
		}
	}
	return has(kubernetes, "labels", r.labels) && has(kubernetes, "namespace_labels", r.namespaceLabels)
}

func has(kubernetes []byte, key string, want map[string]string) bool {
	if len(want) == 0 {
		return true
	}
	labels, ok := record.Get(kubernetes, key)
	if !ok {
		return false
	}
	for name, value := range want {
		if textOf(labels, name) != value {
			return false
		}
	}
	return true
}

// textOf is a text inside of a map, "" if there is none.
func textOf(body []byte, key string) string {
	value, ok := record.Get(body, key)
	if !ok {
		return ""
	}
	text, _ := record.Text(value)
	return string(text)
}

func (r *labelRouter) emit(ctx context.Context, b flow.Batch) error {
	r.records.Add(int64(b.Count))
	r.bytes.Add(int64(len(b.Data)))
	type part struct {
		data  []byte
		count int
	}
	parts := make([]part, len(r.routes)+1)
	for e := record.NewReader(b.Data); e.Next(); {
		kubernetes, _ := record.Get(e.Body, "kubernetes")
		taken := false
		for i, route := range r.routes {
			if route.takes(kubernetes) {
				taken = true
				parts[i].data, parts[i].count = append(parts[i].data, e.Raw...), parts[i].count+1
			}
		}
		if last := &parts[len(r.routes)]; !taken {
			last.data, last.count = append(last.data, e.Raw...), last.count+1
		}
	}
	for i, x := range parts {
		route := r.fallback
		if i < len(r.routes) {
			route = r.routes[i]
		}
		switch {
		case x.count == 0:
		case route == nil:
			r.dropped.Add(int64(x.count))
		default:
			r.added.Add(int64(x.count))
			out := b
			out.Data, out.Count = x.data, x.count
			if route.tag != "" {
				out.Tag = route.tag
			}
			if err := route.to.emit(ctx, out); err != nil {
				return fmt.Errorf("label_router: %w", err)
			}
		}
	}
	return nil
}
