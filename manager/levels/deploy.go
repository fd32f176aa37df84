package levels

import (
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
	"github.com/weft-dev/weft/kube/manifest"
)

// AuthoritySecret is the Secret in which the replicas of a deployed webhook keep their authority.
const AuthoritySecret = "levels-authority"

// Deploy says how the webhook runs in a cluster.
type Deploy struct {
	Account Account // its namespace is the webhook's own
	Image   string  // with weft as /weft
	Address string  // of its Service, by which API servers call it: they know no names of the cluster
	Level   string  // the highest of the Registry: that of the webhook's own namespace
	Port    int64
	Exempt  []string // users of the installation's own programs
}

// Objects are the manifests: a namespace on the highest level, an account that reads everything and writes nothing but how its doors are, what
// workspaces use and its own authority, two replicas with names that stay, so that a replaced one tells its state in the place of the one before, and a Service at a fixed address.
func (d *Deploy) Objects() []manifest.Object {
	name, space := d.Account.Name, d.Account.Namespace
	labels := object{"app.kubernetes.io/name": name}
	meta := func(namespace string) object {
		m := object{"name": name, "labels": labels}
		if namespace != "" {
			m["namespace"] = namespace
		}
		return m
	}
	bind := func(kind, namespace string) object {
		return object{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind + "Binding", "metadata": meta(namespace),
			"roleRef": object{"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}, "subjects": []any{object{"kind": "ServiceAccount", "name": name, "namespace": space}}}
	}
	role := func(kind, namespace string, rules ...any) object {
		return object{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": meta(namespace), "rules": rules}
	}
	rule := func(group string, resources []any, names []any, verbs ...any) object {
		r := object{"apiGroups": []any{group}, "resources": resources, "verbs": verbs}
		if names != nil {
			r["resourceNames"] = names
		}
		return r
	}
	objects := []object{
		{"apiVersion": "v1", "kind": "Namespace", "metadata": object{"name": space, "labels": object{api.LevelLabel: d.Level}}},
		{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta(space)},
		// Labels may be on objects of any kind, so it lists all of them, as metadata.
		role("ClusterRole", "", rule("*", []any{"*"}, nil, "list", "watch"), rule(api.Group, []any{"doors"}, nil, "get", "create", "patch"),
			rule(api.Group, []any{"workspaces"}, nil, "get"), rule(api.Group, []any{"workspaces/status"}, nil, "patch")),
		bind("ClusterRole", ""),
		role("Role", space, rule("", []any{"secrets"}, []any{AuthoritySecret}, "get", "update"), rule("", []any{"secrets"}, nil, "create")),
		bind("Role", space),
		{"apiVersion": "v1", "kind": "Service", "metadata": meta(space), "spec": object{"clusterIP": d.Address, "selector": labels,
			"ports": []any{object{"name": "https", "port": d.Port, "targetPort": "https"}}}},
		{"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": meta(space), "spec": object{"minAvailable": int64(1), "selector": object{"matchLabels": labels}}},
		{"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": meta(space), "spec": object{"replicas": int64(2), "serviceName": name, "podManagementPolicy": "Parallel",
			"selector": object{"matchLabels": labels}, "template": object{"metadata": object{"labels": labels}, "spec": d.pod(labels)}}},
	}
	var out []manifest.Object
	for _, o := range objects {
		out = append(out, manifest.New(&unstructured.Unstructured{Object: o}, "the webhook's deployment"))
	}
	return out
}

func (d *Deploy) pod(labels object) object {
	probe := func(path string) object {
		return object{"httpGet": object{"path": path, "port": "https", "scheme": "HTTPS"}, "periodSeconds": int64(2), "timeoutSeconds": int64(5)}
	}
	serve := []any{"/weft", "level", "webhook", "serve", "--listen", fmt.Sprintf(":%d", d.Port), "--host", d.Address, "--host", d.Account.Name + "." + d.Account.Namespace + ".svc",
		"--authority-secret", d.Account.Namespace + "/" + AuthoritySecret, "--name", "$(POD)", "--audit", "/records/levels.jsonl"}
	for _, user := range d.Exempt {
		serve = append(serve, "--exempt", user)
	}
	return object{
		"serviceAccountName": d.Account.Name, "priorityClassName": "system-cluster-critical", "securityContext": object{"fsGroup": int64(65532)},
		"tolerations": []any{object{"key": "node-role.kubernetes.io/control-plane", "operator": "Exists", "effect": "NoSchedule"}},
		// beside API servers where there are nodes of theirs, and apart from each other
		"affinity": object{
			"nodeAffinity": object{"preferredDuringSchedulingIgnoredDuringExecution": []any{object{"weight": int64(100),
				"preference": object{"matchExpressions": []any{object{"key": "node-role.kubernetes.io/control-plane", "operator": "Exists"}}}}}},
			"podAntiAffinity": object{"preferredDuringSchedulingIgnoredDuringExecution": []any{object{"weight": int64(100),
				"podAffinityTerm": object{"topologyKey": "kubernetes.io/hostname", "labelSelector": object{"matchLabels": labels}}}}},
		},
		"volumes": []any{object{"name": "records", "emptyDir": object{}}},
		"containers": []any{object{
			"name": "webhook", "image": d.Image, "command": serve,
			"env":            []any{object{"name": "POD", "valueFrom": object{"fieldRef": object{"fieldPath": "metadata.name"}}}},
			"ports":          []any{object{"name": "https", "containerPort": d.Port}},
			"readinessProbe": probe("/readyz"), "livenessProbe": probe("/healthz"),
			"volumeMounts": []any{object{"name": "records", "mountPath": "/records"}},
			"resources":    object{"requests": object{"cpu": "50m", "memory": "64Mi"}, "limits": object{"memory": "512Mi"}},
			"securityContext": object{"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "runAsNonRoot": true, "runAsUser": int64(65532),
				"capabilities": object{"drop": []any{"ALL"}}, "seccompProfile": object{"type": "RuntimeDefault"}},
		}},
	}
}
