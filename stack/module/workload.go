package module

import (
	"github.com/weft-dev/weft/stack/config"
	"github.com/weft-dev/weft/stack/spec"
)

// workload is what services and jobs have in common.
type workload struct {
	request             *Request
	dev, platform       config.Node
	labels, annotations map[string]any // the developer's, with the platform's for what he left out
	pods                pods
}

func readWorkload(r *Request, dev, platform config.Node) *workload {
	w := &workload{request: r, dev: dev, platform: platform}
	w.labels = merged(platform.Field("labels").TextMap(), dev.Field("labels").TextMap())
	w.annotations = merged(platform.Field("annotations").TextMap(), dev.Field("annotations").TextMap())
	w.pods = readPods(dev.Field("containers"), r.appName())
	return w
}

func (w *workload) allLabels() map[string]any { return merged(w.request.appLabels(), w.labels) }

// object begins the workload itself.
func (w *workload) object(apiVersion, kind string) map[string]any {
	return object(apiVersion, kind, w.request.Namespace, w.request.appName(), w.allLabels(), w.annotations)
}

// template is the pods'.
func (w *workload) template(podSpec map[string]any) map[string]any {
	set(podSpec, "containers", w.pods.containers)
	set(podSpec, "volumes", w.pods.volumes)
	return map[string]any{"metadata": metadata("", "", w.allLabels(), w.annotations), "spec": podSpec}
}

// resources are the ConfigMaps of the files, and then the workload.
func (w *workload) resources(object map[string]any) []spec.Resource {
	var list []spec.Resource
	for _, m := range w.pods.configMaps {
		m["metadata"].(map[string]any)["namespace"] = w.request.Namespace
		list = append(list, spec.Object(m))
	}
	return at(w.dev.Place(), append(list, spec.Object(object))...)
}

// replicas are the developer's, else the platform's; ok is false if nobody named any.
func (w *workload) replicas() (n int64, ok bool) {
	for _, from := range []config.Node{w.dev.Field("replicas"), w.platform.Field("replicas")} {
		if from.Is() {
			return from.IntIn(0, 1<<31-1), true
		}
	}
	return 0, false
}

const collaSetGroup = "apps.kusionstack.io/v1alpha1"

// service makes a Deployment, or a CollaSet of KusionStack's operating, for what runs for long.
func service(r *Request) (*Response, error) {
	if r.Dev == nil {
		return nil, nil
	}
	reader, dev, platform := r.nodes()
	w := readWorkload(r, dev, platform)
	kind := dev.Field("type")
	if !kind.Is() {
		kind = platform.Field("type")
	}
	name := kind.Text()
	if name == "" {
		name = "Deployment"
	}
	podSpec := map[string]any{}
	set(podSpec, "topologySpreadConstraints", spreadConstraints(dev.Field("topologySpreadConstraints")))
	body := map[string]any{"selector": map[string]any{"matchLabels": r.appLabels()}, "template": w.template(podSpec)}
	if n, ok := w.replicas(); ok {
		body["replicas"] = n
	}
	var o map[string]any
	switch name {
	case "Deployment":
		body["strategy"] = map[string]any{}
		if w.pods.claims { // a volume has one writer as a rule: the old pod ends before the new one begins
			body["strategy"] = map[string]any{"type": "Recreate"}
		}
		o = w.object("apps/v1", name)
	case "CollaSet":
		body["scaleStrategy"], body["updateStrategy"] = map[string]any{}, map[string]any{}
		o = w.object(collaSetGroup, name)
	default:
		kind.Fail("must be Deployment or CollaSet, got %q", name)
	}
	checkServicePorts(dev.Field("ports"))
	if err := reader.Err(); err != nil {
		return nil, err
	}
	o["spec"], o["status"] = body, map[string]any{}
	return &Response{Resources: w.resources(o)}, nil
}

// checkServicePorts checks the ports of a workload, from which nothing is made: that is the network module's.
func checkServicePorts(n config.Node) {
	type key struct {
		port     int64
		protocol string
	}
	seen := map[key]bool{}
	n.Items(func(_ int, v config.Node) {
		k := key{readPort(v.Required("port")), readProtocol(v.Field("protocol"))}
		if v.Field("targetPort").Is() {
			readPort(v.Field("targetPort"))
		}
		if seen[k] {
			v.Fail("port %d/%s is there twice", k.port, k.protocol)
		}
		seen[k] = true
	})
}

func readPort(n config.Node) int64 { return n.IntIn(1, 65535) }

func readProtocol(n config.Node) string {
	protocol := n.Text()
	if protocol != "TCP" && protocol != "UDP" {
		n.Fail("must be TCP or UDP, got %q", protocol)
	}
	return protocol
}

// spreadConstraints are told by name so that layers can override them; a Pod has a list.
func spreadConstraints(n config.Node) []any {
	var list []any
	n.Sorted(func(_ string, v config.Node) {
		c := map[string]any{
			"maxSkew":           v.Required("maxSkew").IntIn(1, 1<<31-1),
			"topologyKey":       v.Required("topologyKey").Text(),
			"whenUnsatisfiable": v.Required("whenUnsatisfiable").Text(),
		}
		set(c, "minDomains", v.Field("minDomains").IntIn(1, 1<<31-1))
		set(c, "nodeAffinityPolicy", v.Field("nodeAffinityPolicy").Text())
		set(c, "nodeTaintsPolicy", v.Field("nodeTaintsPolicy").Text())
		set(c, "matchLabelKeys", v.Field("matchLabelKeys").Texts())
		if selector := v.Field("labelSelector"); selector.Is() {
			s := map[string]any{}
			set(s, "matchLabels", selector.Field("matchLabels").TextMap())
			var expressions []any
			selector.Field("matchExpressions").Items(func(_ int, e config.Node) {
				x := map[string]any{"key": e.Required("key").Text(), "operator": e.Required("operator").Text()}
				set(x, "values", e.Field("values").Texts())
				expressions = append(expressions, x)
			})
			set(s, "matchExpressions", expressions)
			c["labelSelector"] = s
		}
		list = append(list, c)
	})
	return list
}

// job makes a Job, or a CronJob where there is a schedule.
func job(r *Request) (*Response, error) {
	if r.Dev == nil {
		return nil, nil
	}
	reader, dev, platform := r.nodes()
	w := readWorkload(r, dev, platform)
	body := map[string]any{"template": w.template(map[string]any{"restartPolicy": "Never"})}
	kind := "Job"
	if schedule := dev.Field("schedule").Text(); schedule != "" {
		kind = "CronJob"
		body = map[string]any{"schedule": schedule, "jobTemplate": map[string]any{"metadata": metadata("", "", nil, nil), "spec": body}}
	}
	if err := reader.Err(); err != nil {
		return nil, err
	}
	o := w.object("batch/v1", kind)
	o["spec"], o["status"] = body, map[string]any{}
	return &Response{Resources: w.resources(o)}, nil
}
