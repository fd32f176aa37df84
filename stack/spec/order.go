package spec

import "slices"

// Kinds is the order in which kinds are applied: a resource depends on all resources of the kinds before its own, and one of a
// kind that is not among them on all of these (kusion-module-framework pkg/module/generator).
var Kinds = []string{
	"Namespace", "ResourceQuota", "StorageClass", "CustomResourceDefinition", "ServiceAccount", "PodSecurityPolicy", "Role", "ClusterRole",
	"RoleBinding", "ClusterRoleBinding", "ConfigMap", "Secret", "Endpoints", "Service", "LimitRange", "PriorityClass", "PersistentVolume",
	"PersistentVolumeClaim", "Deployment", "StatefulSet", "CronJob", "PodDisruptionBudget", "MutatingWebhookConfiguration",
	"ValidatingWebhookConfiguration",
}

// Order adds the edges that follow from the order of kinds, each once.
func Order(resources []Resource) {
	byKind := map[string][]string{}
	for i := range resources {
		if kind := resources[i].Kind(); kind != "" {
			byKind[kind] = append(byKind[kind], resources[i].ID)
		}
	}
	for i := range resources {
		r := &resources[i]
		if r.Type != Kubernetes {
			continue
		}
		before := Kinds
		if own := slices.Index(Kinds, r.Kind()); own >= 0 {
			before = Kinds[:own]
		}
		has := map[string]bool{}
		for _, id := range r.DependsOn {
			has[id] = true
		}
		for _, kind := range before {
			for _, id := range byKind[kind] {
				if !has[id] {
					has[id], r.DependsOn = true, append(r.DependsOn, id)
				}
			}
		}
	}
}
