package module

import (
	"strconv"
	"strings"
	"time"

	"github.com/weft-dev/weft/stack/config"
	"github.com/weft-dev/weft/stack/spec"
)

const monitoringLabel = "kusion_monitoring_appname"

// monitoring has Prometheus collect an application's figures: by annotations, or by a monitor of the Prometheus operator.
func monitoring(r *Request) (*Response, error) {
	if r.Dev == nil && r.Platform == nil {
		return nil, nil
	}
	reader, dev, platform := r.nodes()
	endpoint := map[string]any{"interval": "30s", "scrapeTimeout": "15s", "scheme": "http"}
	for name, from := range map[string]string{"interval": "interval", "scrapeTimeout": "timeout", "scheme": "scheme"} {
		set(endpoint, name, platform.Field(from).Text())
	}
	set(endpoint, "path", dev.Field("path").Text())
	set(endpoint, "port", dev.Field("port").Text())
	if duration(platform.Field("timeout"), endpoint["scrapeTimeout"]) > duration(platform.Field("interval"), endpoint["interval"]) {
		platform.Field("timeout").Fail("must not be longer than the interval %s, got %s", endpoint["interval"], endpoint["scrapeTimeout"])
	}
	operator := platform.Field("operatorMode").Bool()
	kind := platform.Field("monitorType").Text()
	if kind == "" {
		kind = "Service"
	}
	if operator && kind != "Service" && kind != "Pod" {
		platform.Field("monitorType").Fail("must be Service or Pod, got %q", kind)
	}
	if err := reader.Err(); err != nil {
		return nil, err
	}
	if !operator {
		text := func(name string) string { s, _ := endpoint[name].(string); return s }
		return &Response{Patcher: &Patcher{Annotations: map[string]string{
			"prometheus.io/scrape": "true", "prometheus.io/path": text("path"), "prometheus.io/port": text("port"), "prometheus.io/scheme": text("scheme"),
		}}}, nil
	}
	endpoint["bearerTokenSecret"] = map[string]any{"key": ""}
	o := object("monitoring.coreos.com/v1", kind+"Monitor", r.Namespace, r.appName()+"-"+strings.ToLower(kind)+"-monitor", nil, nil)
	body := map[string]any{"namespaceSelector": map[string]any{}, "selector": map[string]any{"matchLabels": map[string]any{monitoringLabel: r.App}}}
	body[map[string]string{"Service": "endpoints", "Pod": "podMetricsEndpoints"}[kind]] = []any{endpoint}
	o["spec"] = body
	place := dev.Place()
	if r.Dev == nil {
		place = platform.Place()
	}
	return &Response{Resources: at(place, spec.Object(o)), Patcher: &Patcher{Labels: map[string]string{monitoringLabel: r.App}}}, nil
}

func duration(n config.Node, text any) time.Duration {
	d, err := time.ParseDuration(text.(string))
	if err != nil {
		n.Fail("must be a duration such as 30s, got %q", text)
	}
	return d
}

// opsRule bounds how many pods of a CollaSet may be unavailable at once; other workloads have no such rule.
func opsRule(r *Request) (*Response, error) {
	if r.Dev == nil && r.Platform == nil {
		return nil, nil
	}
	reader, dev, platform := r.nodes()
	work := reader.Node(r.Workload, "workload")
	if strings.Contains(schemaOf(r.Workload), ".Job") || !strings.EqualFold(work.Field("type").Text(), "collaset") {
		return nil, reader.Err()
	}
	n := dev.Field("maxUnavailable")
	if !n.Is() {
		n = platform.Field("maxUnavailable")
	}
	most := any(int64(0))
	if n.Is() {
		text := n.Scalar()
		if number, err := strconv.ParseInt(text, 10, 32); err == nil {
			most = number
		} else if most = text; !strings.HasSuffix(text, "%") {
			n.Fail("must be a number of pods or a percentage such as 30%%, got %q", text)
		}
	}
	if err := reader.Err(); err != nil {
		return nil, err
	}
	o := object(collaSetGroup, "PodTransitionRule", r.Namespace, r.appName(), nil, nil)
	o["spec"] = map[string]any{
		"selector": map[string]any{"matchLabels": r.appLabels()},
		"rules":    []any{map[string]any{"name": "maxUnavailable", "availablePolicy": map[string]any{"maxUnavailableValue": most}}},
	}
	o["status"] = map[string]any{}
	place := dev.Place()
	if r.Dev == nil {
		place = platform.Place()
	}
	return &Response{Resources: at(place, spec.Object(o))}, nil
}

// schemaOf is the full name of a tree's schema.
func schemaOf(t *config.Tree) string {
	if t == nil {
		return ""
	}
	if name := t.Get("_type"); name != nil && name.Text != "" {
		return name.Text
	}
	return t.Type
}

// k8sManifest takes objects from files as they are.
func k8sManifest(r *Request) (*Response, error) {
	reader, dev, platform := r.nodes()
	var resources []spec.Resource
	seen := map[string]bool{}
	read := func(_ int, v config.Node) {
		path := v.Text()
		if path == "" || seen[path] {
			return
		}
		seen[path] = true
		if r.Manifests == nil {
			v.Fail("no files can be read here")
			return
		}
		manifests, err := r.Manifests(path)
		if err != nil {
			v.Fail("%s cannot be read: %v", path, err)
		}
		for _, m := range manifests {
			o := spec.Object(m.Object)
			o.Extensions, o.Origin = nil, m.At
			resources = append(resources, o)
		}
	}
	dev.Field("paths").Items(read)
	platform.Field("paths").Items(read)
	if len(seen) == 0 && reader.Err() == nil {
		dev.Field("paths").Fail("names no file and no folder")
	}
	if err := reader.Err(); err != nil {
		return nil, err
	}
	return &Response{Resources: resources}, nil
}
