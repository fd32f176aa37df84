// Package workload makes the Kubernetes objects that run agents: of a FluentBit a DaemonSet, of a Collector a StatefulSet, of a Fluentd either, with service
// account, rights and Service. The objects are those of Fluent Operator, but that rights are an agent's own: two agents do not share a
// ClusterRole, so that one can be removed with all it had.
package workload

import (
	"cmp"
	"fmt"
	"maps"

	"github.com/weft-dev/weft/logging/resource"
)

// Object is a Kubernetes object with the field of the document that caused it.
type Object struct {
	Object map[string]any
	Field  string
}

type object = map[string]any

// Objects are the objects of a FluentBit, Collector or Fluentd; nil for other documents.
func Objects(d *resource.Document) []Object {
	b := &builder{d: d, spec: d.Spec()}
	switch {
	case d.Group == resource.FluentBitGroup && d.Kind == "FluentBit":
		return b.fluentBit()
	case d.Group == resource.FluentBitGroup && d.Kind == "Collector":
		return b.collector()
	case d.Group == resource.FluentdGroup && d.Kind == "Fluentd":
		return b.fluentd()
	}
	return nil
}

// Problems are what is wrong with a FluentBit, Collector or Fluentd, so that no pod could run.
func Problems(d *resource.Document) []resource.Problem {
	b := &builder{d: d, spec: d.Spec()}
	if len(Objects(d)) == 0 || b.text("image") != "" {
		return nil
	}
	return []resource.Problem{d.Problem(resource.Error, "MissingField", "spec.image", "no image is named, so that no pod can run")}
}

type builder struct {
	d    *resource.Document
	spec object
}

func (b *builder) text(field string) string { s, _ := b.spec[field].(string); return s }
func (b *builder) flag(field string) bool   { v, _ := b.spec[field].(bool); return v }
func (b *builder) list(field string) []any  { l, _ := b.spec[field].([]any); return l }

func (b *builder) number(field string, otherwise int64) int64 {
	return number(b.spec[field], otherwise)
}

func number(value any, otherwise int64) int64 {
	switch n := value.(type) {
	case float64:
		return int64(n)
	case int64:
		return n
	}
	return otherwise
}

// inside is a map inside of the spec, never nil.
func (b *builder) inside(field string) object {
	if m, ok := b.spec[field].(object); ok {
		return m
	}
	return object{}
}

// copy takes fields of the spec over as they are.
func (b *builder) copy(to object, fields ...string) {
	for _, f := range fields {
		if value := b.spec[f]; value != nil && value != "" && value != false {
			to[f] = value
		}
	}
}

// labels are the document's own, or a name if it has none: a selector must select something.
func (b *builder) labels() object {
	labels := object{}
	for k, v := range b.d.Labels {
		labels[k] = v
	}
	if len(labels) == 0 {
		labels["app.kubernetes.io/name"] = b.d.Name
	}
	return labels
}

func (b *builder) metadata(name string, labels, annotations any) object {
	m := object{"name": name, "namespace": b.d.Namespace}
	if l, ok := labels.(object); ok && len(l) > 0 {
		m["labels"] = l
	}
	if a, ok := annotations.(object); ok && len(a) > 0 {
		m["annotations"] = a
	}
	return m
}

func (b *builder) annotations() any {
	metadata, _ := b.d.Object["metadata"].(object)
	annotations, _ := metadata["annotations"].(object)
	annotations = maps.Clone(annotations)
	delete(annotations, "kubectl.kubernetes.io/last-applied-configuration") // it is about the document and not about this
	return annotations
}

// rights are the service account and what it may do: read pods, and what rbacRules add.
func (b *builder) rights(component string) []Object {
	name := "fluent-operator-" + component + "-" + b.d.Namespace + "-" + b.d.Name
	rules := append([]any{object{"apiGroups": []any{""}, "resources": []any{"pods"}, "verbs": []any{"get"}}}, b.list("rbacRules")...)
	return []Object{
		{object{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": b.metadata(b.d.Name, nil, b.spec["serviceAccountAnnotations"])}, "spec.serviceAccountAnnotations"},
		{object{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": object{"name": name}, "rules": rules}, "spec.rbacRules"},
		{object{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": object{"name": name},
			"roleRef":  object{"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
			"subjects": []any{object{"kind": "ServiceAccount", "name": b.d.Name, "namespace": b.d.Namespace}}}, "spec.rbacRules"},
	}
}

func fieldEnv(name, path string) object {
	return object{"name": name, "valueFrom": object{"fieldRef": object{"fieldPath": path}}}
}

func secretVolume(name, secret string) object {
	return object{"name": name, "secret": object{"secretName": secret}}
}

func hostVolume(name, path string) object {
	return object{"name": name, "hostPath": object{"path": path}}
}

func mount(name, path string) object {
	return object{"name": name, "readOnly": true, "mountPath": path}
}

// secrets are mounted at /fluent-bit/secrets/NAME.
func (b *builder) secrets(volumes, mounts []any) ([]any, []any) {
	for _, item := range b.list("secrets") {
		name, _ := item.(string)
		volumes = append(volumes, secretVolume(name, name))
		mounts = append(mounts, mount(name, "/fluent-bit/secrets/"+name))
	}
	return volumes, mounts
}

func (b *builder) fluentBit() []Object {
	labels := b.inside("labels")
	if len(labels) == 0 {
		labels = b.labels()
	}
	port := b.number("metricsPort", 2020)
	volumes, mounts := []any{secretVolume("config", b.text("fluentBitConfigName"))}, []any{mount("config", "/fluent-bit/config")}
	if !b.flag("disableLogVolumes") {
		logs := cmp.Or(b.text("containerLogRealPath"), "/var/lib/docker/containers")
		propagation := cmp.Or(b.text("internalMountPropagation"), "None")
		for _, v := range [][3]string{{"varlibcontainers", logs, logs}, {"varlogs", "/var/log", "/var/log/"}, {"systemd", "/var/log/journal", "/var/log/journal"}} {
			volumes = append(volumes, hostVolume(v[0], v[1]))
			m := mount(v[0], v[2])
			m["mountPropagation"] = propagation
			mounts = append(mounts, m)
		}
	}
	volumes, mounts = append(volumes, b.list("volumes")...), append(mounts, b.list("volumesMounts")...)
	if db := b.inside("positionDB"); len(db) > 0 {
		volume := object{"name": "positions"}
		maps.Copy(volume, db)
		volumes, mounts = append(volumes, volume), append(mounts, object{"name": "positions", "mountPath": "/fluent-bit/tail"})
	}
	volumes, mounts = b.secrets(volumes, mounts)
	container := object{
		"name": "fluent-bit", "image": b.text("image"), "volumeMounts": mounts,
		"ports": append([]any{object{"name": "metrics", "containerPort": port, "protocol": "TCP"}}, b.list("ports")...),
		"env":   append([]any{fieldEnv("NODE_NAME", "spec.nodeName"), fieldEnv("HOST_IP", "status.hostIP")}, b.list("envVars")...),
	}
	b.copy(container, "imagePullPolicy", "args", "command", "resources", "readinessProbe", "livenessProbe")
	if c := b.inside("containerSecurityContext"); len(c) > 0 {
		container["securityContext"] = c
	}
	pod := object{"serviceAccountName": b.d.Name, "containers": []any{container}, "volumes": volumes}
	b.copy(pod, "imagePullSecrets", "initContainers", "nodeSelector", "tolerations", "affinity", "securityContext", "hostNetwork", "terminationGracePeriodSeconds", "hostAliases",
		"runtimeClassName", "dnsPolicy", "priorityClassName", "schedulerName")
	objects := append(b.rights("fluent-bit"), Object{object{
		"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": b.metadata(b.d.Name, labels, b.annotations()),
		"spec": object{"selector": object{"matchLabels": labels}, "template": object{"metadata": b.template(labels), "spec": pod}},
	}, "spec"})
	if !b.flag("disableService") {
		ports := []any{servicePort("metrics", port, port, "TCP")}
		objects = append(objects, b.service(labels, b.ownLabels(), append(ports, portsOf(b.list("ports"))...)))
	}
	return objects
}

func (b *builder) template(labels object) object {
	m := object{"labels": labels}
	if a := b.inside("annotations"); len(a) > 0 {
		m["annotations"] = a
	}
	return m
}

func (b *builder) ownLabels() object {
	labels := object{}
	for k, v := range b.d.Labels {
		labels[k] = v
	}
	return labels
}

func servicePort(name string, port, target any, protocol any) object {
	p := object{"name": name, "port": port, "targetPort": target}
	if protocol != nil && protocol != "" {
		p["protocol"] = protocol
	}
	return p
}

func portsOf(ports []any) []any {
	var all []any
	for _, item := range ports {
		p, _ := item.(object)
		name, _ := p["name"].(string)
		n := number(p["containerPort"], 0)
		all = append(all, servicePort(name, n, n, p["protocol"]))
	}
	return all
}

// service stands in front of the agents.
func (b *builder) service(selector, labels object, ports []any) Object {
	wanted := b.inside("service")
	name, _ := wanted["name"].(string)
	if l, ok := wanted["labels"].(object); ok && len(l) > 0 {
		labels = l
	}
	kind, _ := wanted["type"].(string)
	return Object{object{"apiVersion": "v1", "kind": "Service", "metadata": b.metadata(cmp.Or(name, b.d.Name), labels, wanted["annotations"]),
		"spec": object{"selector": selector, "type": cmp.Or(kind, "ClusterIP"), "ports": ports}}, "spec.service"}
}

func (b *builder) collector() []Object {
	labels := b.labels()
	volumes, mounts := []any{secretVolume("config", b.text("fluentBitConfigName"))}, []any{mount("config", "/fluent-bit/config")}
	volumes, mounts = append(volumes, b.list("volumes")...), append(mounts, b.list("volumesMounts")...)
	volumes, mounts = b.secrets(volumes, mounts)
	claim := b.d.Name + "-buffer-pvc"
	mounts = append(mounts, object{"name": claim, "mountPath": cmp.Or(b.text("bufferPath"), "/buffers/fluentbit/log")})
	container := object{
		"name": "fluent-bit", "image": b.text("image"), "volumeMounts": mounts,
		"ports": append([]any{object{"name": "metrics", "containerPort": int64(2020), "protocol": "TCP"}}, b.list("ports")...),
		"env":   []any{fieldEnv("NODE_NAME", "spec.nodeName"), fieldEnv("HOST_IP", "status.hostIP")},
	}
	b.copy(container, "imagePullPolicy", "args", "resources")
	pod := object{"serviceAccountName": b.d.Name, "containers": []any{container}, "volumes": volumes}
	b.copy(pod, "imagePullSecrets", "nodeSelector", "tolerations", "affinity", "securityContext", "hostNetwork", "runtimeClassName", "priorityClassName", "schedulerName")
	objects := append(b.rights("fluent-bit-collector"), Object{object{
		"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": b.metadata(b.d.Name, labels, nil),
		"spec": object{"replicas": b.number("replicas", 1), "serviceName": b.d.Name, "selector": object{"matchLabels": labels},
			"template": object{"metadata": b.template(labels), "spec": pod}, "volumeClaimTemplates": []any{b.claim(claim, labels, b.inside("pvc"))}},
	}, "spec"})
	if !b.flag("disableService") {
		objects = append(objects, b.service(labels, b.ownLabels(), append([]any{servicePort("metrics", int64(2020), int64(2020), "TCP")}, portsOf(b.list("ports"))...)))
	}
	return objects
}

// claim is the volume for buffers: as wanted, else one GiB.
func (b *builder) claim(name string, labels, wanted object) object {
	spec := object{"accessModes": []any{"ReadWriteOnce"}, "volumeMode": "Filesystem", "resources": object{"requests": object{"storage": "1Gi"}}}
	if given, ok := wanted["spec"].(object); ok {
		spec = object{}
		for _, f := range []string{"accessModes", "resources", "volumeMode", "storageClassName"} {
			if given[f] != nil {
				spec[f] = given[f]
			}
		}
	}
	return object{"metadata": object{"name": name, "labels": labels}, "spec": spec}
}

func (b *builder) fluentd() []Object {
	own := object{"app.kubernetes.io/name": b.d.Name, "app.kubernetes.io/instance": "fluentd", "app.kubernetes.io/component": "fluentd"}
	labels := b.ownLabels()
	maps.Copy(labels, own)
	agent := b.text("mode") == "agent"
	volumes, mounts := []any{secretVolume("config", b.d.Name+"-config")}, []any{mount("config", "/fluentd/etc")}
	if agent {
		volumes = append(volumes, hostVolume("varlogs", "/var/log"), hostVolume("systemd", "/var/log/journal"))
		mounts = append(mounts, mount("varlogs", "/var/log/"), mount("systemd", "/var/log/journal"))
	}
	volumes, mounts = append(volumes, b.list("volumes")...), append(mounts, b.list("volumeMounts")...)
	if db := b.inside("positionDB"); agent && len(db) > 0 {
		volume := object{"name": "positions"}
		maps.Copy(volume, db)
		volumes, mounts = append(volumes, volume), append(mounts, object{"name": "positions", "mountPath": "/fluentd/tail"})
	}
	claims := b.list("volumeClaimTemplates")
	name := b.d.Name + "-buffer-pvc"
	switch buffer := b.inside("buffer"); {
	case buffer["disableBufferVolume"] == true:
	case buffer["hostPath"] != nil:
		volumes, mounts = append(volumes, object{"name": name, "hostPath": buffer["hostPath"]}), append(mounts, object{"name": name, "mountPath": "/buffers"})
	case buffer["emptyDir"] != nil:
		volumes, mounts = append(volumes, object{"name": name, "emptyDir": buffer["emptyDir"]}), append(mounts, object{"name": name, "mountPath": "/buffers"})
	case !agent:
		wanted, _ := buffer["pvc"].(object)
		claims = append(claims, b.claim(name, own, wanted))
		mounts = append(mounts, object{"name": name, "mountPath": "/buffers"})
	}
	container := object{
		"name": "fluentd", "image": b.text("image"), "volumeMounts": mounts, "ports": b.fluentdPorts(),
		"env": append([]any{object{"name": "BUFFER_PATH", "value": "/buffers"}}, b.list("envVars")...),
	}
	b.copy(container, "args", "imagePullPolicy", "resources", "envFrom", "readinessProbe", "livenessProbe")
	if c := b.inside("containerSecurityContext"); len(c) > 0 {
		container["securityContext"] = c
	}
	pod := object{"serviceAccountName": b.d.Name, "containers": []any{container}, "volumes": volumes}
	b.copy(pod, "imagePullSecrets", "nodeSelector", "tolerations", "affinity", "hostAliases", "runtimeClassName", "priorityClassName", "schedulerName", "securityContext")
	if pod["securityContext"] == nil && !agent {
		pod["securityContext"] = object{"fsGroup": int64(101)}
	}
	spec := object{"selector": object{"matchLabels": labels}, "template": object{"metadata": b.template(labels), "spec": pod}}
	set := object{"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": b.metadata(b.d.Name, labels, b.annotations()), "spec": spec}
	if !agent {
		set["kind"] = "StatefulSet"
		spec["replicas"], spec["serviceName"] = max(1, b.number("replicas", 1)), b.d.Name
		if len(claims) > 0 {
			spec["volumeClaimTemplates"] = claims
		}
	}
	objects := append(b.rights("fluentd"), Object{set, "spec"})
	if ports := b.fluentdServicePorts(); !b.flag("disableService") && len(ports) > 0 {
		// the Service selects by the labels that every pod has, whatever labels the Service itself is given
		objects = append(objects, b.service(own, own, ports))
	}
	return objects
}

// listening are the ports at which global inputs listen.
func (b *builder) listening() [][2]any {
	var ports [][2]any
	for _, item := range b.list("globalInputs") {
		input, _ := item.(object)
		for _, p := range []struct {
			field string
			port  int64
		}{{"forward", 24224}, {"http", 9880}} {
			if plugin, ok := input[p.field].(object); ok {
				ports = append(ports, [2]any{p.field, number(plugin["port"], p.port)})
			}
		}
	}
	return ports
}

func (b *builder) fluentdPorts() []any {
	ports := []any{object{"name": "metrics", "containerPort": int64(2021), "protocol": "TCP"}}
	for i, p := range b.listening() {
		ports = append(ports, object{"name": portName(p[0].(string), i, b.listening()), "containerPort": p[1], "protocol": "TCP"})
	}
	return ports
}

func (b *builder) fluentdServicePorts() []any {
	var ports []any
	for i, p := range b.listening() {
		name := portName(p[0].(string), i, b.listening())
		ports = append(ports, servicePort(name, p[1], name, "TCP"))
	}
	return ports
}

// portName is the kind of input; of a second one of the kind, with its number, since names of ports must differ.
func portName(kind string, index int, all [][2]any) string {
	n := 0
	for _, p := range all[:index] {
		if p[0] == kind {
			n++
		}
	}
	if n == 0 {
		return kind
	}
	return fmt.Sprintf("%s-%d", kind, n+1)
}
