package manager

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/weft-dev/weft/kube/manifest"
)

// Deployment are the manifests that run the manager in a cluster: a namespace, an account with the rights that it needs, and a Deployment of an image in
// which weft is /weft. The definitions of the parts are installed by the manager itself.
func Deployment(namespace, image string) []manifest.Object {
	type object = map[string]any
	all := []any{"get", "list", "watch", "create", "update", "patch", "delete"}
	rule := func(group string, verbs []any, resources ...any) object {
		return object{"apiGroups": []any{group}, "resources": resources, "verbs": verbs}
	}
	labels := object{"app.kubernetes.io/name": "weft-manager"}
	rights := []any{
		rule("fluentbit.fluent.io", all, "*"), rule("fluentd.fluent.io", all, "*"),
		rule("apiextensions.k8s.io", all, "customresourcedefinitions"),
		rule("", all, "secrets", "configmaps", "services", "serviceaccounts"), rule("", []any{"create"}, "events"), rule("", []any{"get", "list"}, "namespaces", "pods"),
		rule("apps", all, "daemonsets", "statefulsets"),
		rule("batch", all, "jobs"), // in which engines check configurations
		rule("coordination.k8s.io", all, "leases"),
		// agents are given what their rbacRules say: what that is, those decide who may write a FluentBit
		rule("rbac.authorization.k8s.io", append([]any{"bind", "escalate"}, all...), "clusterroles", "clusterrolebindings"),
	}
	container := object{
		"name": "manager", "image": image, "command": []any{"/weft", "manager", "run", "--elect", "--namespace", namespace},
		"resources":       object{"requests": object{"cpu": "20m", "memory": "64Mi"}, "limits": object{"memory": "512Mi"}},
		"securityContext": object{"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "runAsNonRoot": true, "runAsUser": int64(65532), "capabilities": object{"drop": []any{"ALL"}}, "seccompProfile": object{"type": "RuntimeDefault"}},
	}
	objects := []object{
		{"apiVersion": "v1", "kind": "Namespace", "metadata": object{"name": namespace}},
		{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": object{"name": "weft-manager", "namespace": namespace}},
		{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": object{"name": "weft-manager"}, "rules": rights},
		{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": object{"name": "weft-manager"},
			"roleRef":  object{"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "weft-manager"},
			"subjects": []any{object{"kind": "ServiceAccount", "name": "weft-manager", "namespace": namespace}}},
		{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": object{"name": "weft-manager", "namespace": namespace, "labels": labels},
			"spec": object{"replicas": int64(1), "selector": object{"matchLabels": labels},
				"template": object{"metadata": object{"labels": labels}, "spec": object{"serviceAccountName": "weft-manager", "containers": []any{container}}}}},
	}
	var out []manifest.Object
	for _, o := range objects {
		out = append(out, manifest.New(&unstructured.Unstructured{Object: o}, "the manager's deployment"))
	}
	return out
}
