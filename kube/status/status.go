// Package status tells from an object alone whether what it asks for has come about, and if not, why. It has a rule for
// every built-in kind and reads the usual conditions of others. It must not ask a cluster: whoever has them hands over
// the pods and warnings that belong to an object.
package status

import (
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// State is where an object stands.
type State string

// The states.
const (
	Ready   State = "ready"
	Waiting State = "waiting"
	Failed  State = "failed" // it will not become ready unless somebody changes something
)

// Status is an object's state and why.
type Status struct {
	State  State
	Reason string // one line for a person; may be empty when ready
	// Stuck marks a waiting object that will hardly get further by itself (an image that cannot be pulled), though it may.
	Stuck bool
}

func ready(reason string) Status { return Status{State: Ready, Reason: reason} }

func waiting(format string, args ...any) Status {
	return Status{State: Waiting, Reason: fmt.Sprintf(format, args...)}
}

func failed(format string, args ...any) Status {
	return Status{State: Failed, Reason: fmt.Sprintf(format, args...)}
}

func stuck(format string, args ...any) Status {
	s := waiting(format, args...)
	s.Stuck = true
	return s
}

// Related is what belongs to an object and explains it. Everything may be missing.
type Related struct {
	Pods []*unstructured.Unstructured // of a workload
	// Warnings are the latest warnings about the object itself and, by name, about its pods.
	Warning     string
	PodWarnings map[string]string
	// BindsLate says that the claim's storage class makes a volume only for the first pod (WaitForFirstConsumer).
	BindsLate bool
}

type rule func(u *unstructured.Unstructured, r Related) Status

// rules are by group and kind; the group "" with "extensions" history is not served any more and has no entry.
var rules = map[schema.GroupKind]rule{
	{Kind: "Pod"}:                                                     typed(pod),
	{Kind: "Service"}:                                                 typed(service),
	{Kind: "PersistentVolume"}:                                        typed(volume),
	{Kind: "PersistentVolumeClaim"}:                                   typed(claim),
	{Kind: "Namespace"}:                                               typed(namespace),
	{Kind: "ResourceQuota"}:                                           typed(quota),
	{Kind: "ReplicationController"}:                                   typed(replicationController),
	{Group: "apps", Kind: "Deployment"}:                               typed(deployment),
	{Group: "apps", Kind: "StatefulSet"}:                              typed(statefulSet),
	{Group: "apps", Kind: "DaemonSet"}:                                typed(daemonSet),
	{Group: "apps", Kind: "ReplicaSet"}:                               typed(replicaSet),
	{Group: "batch", Kind: "Job"}:                                     typed(job),
	{Group: "autoscaling", Kind: "HorizontalPodAutoscaler"}:           typed(autoscaler),
	{Group: "policy", Kind: "PodDisruptionBudget"}:                    typed(disruptionBudget),
	{Group: "apiextensions.k8s.io", Kind: "CustomResourceDefinition"}: definition,
	{Group: "apiregistration.k8s.io", Kind: "APIService"}:             apiService,
}

// immediate are the built-in kinds that are ready as soon as they exist.
var immediate = map[schema.GroupKind]bool{
	{Kind: "ConfigMap"}: true, {Kind: "Secret"}: true, {Kind: "ServiceAccount"}: true, {Kind: "LimitRange"}: true,
	{Kind: "Endpoints"}: true, {Kind: "PodTemplate"}: true, {Kind: "Event"}: true,
	{Group: "batch", Kind: "CronJob"}:                                                 true,
	{Group: "networking.k8s.io", Kind: "Ingress"}:                                     true,
	{Group: "networking.k8s.io", Kind: "IngressClass"}:                                true,
	{Group: "networking.k8s.io", Kind: "NetworkPolicy"}:                               true,
	{Group: "discovery.k8s.io", Kind: "EndpointSlice"}:                                true,
	{Group: "rbac.authorization.k8s.io", Kind: "Role"}:                                true,
	{Group: "rbac.authorization.k8s.io", Kind: "ClusterRole"}:                         true,
	{Group: "rbac.authorization.k8s.io", Kind: "RoleBinding"}:                         true,
	{Group: "rbac.authorization.k8s.io", Kind: "ClusterRoleBinding"}:                  true,
	{Group: "scheduling.k8s.io", Kind: "PriorityClass"}:                               true,
	{Group: "storage.k8s.io", Kind: "StorageClass"}:                                   true,
	{Group: "storage.k8s.io", Kind: "CSIDriver"}:                                      true,
	{Group: "node.k8s.io", Kind: "RuntimeClass"}:                                      true,
	{Group: "coordination.k8s.io", Kind: "Lease"}:                                     true,
	{Group: "apps", Kind: "ControllerRevision"}:                                       true,
	{Group: "admissionregistration.k8s.io", Kind: "ValidatingWebhookConfiguration"}:   true,
	{Group: "admissionregistration.k8s.io", Kind: "MutatingWebhookConfiguration"}:     true,
	{Group: "admissionregistration.k8s.io", Kind: "ValidatingAdmissionPolicy"}:        true,
	{Group: "admissionregistration.k8s.io", Kind: "ValidatingAdmissionPolicyBinding"}: true,
}

// Immediate says that objects of the kind are ready as soon as they exist, so that nobody has to look at them again.
func Immediate(gk schema.GroupKind) bool { return immediate[gk] }

// Ruled says that the kind has a rule of its own; of others the conditions are read.
func Ruled(gk schema.GroupKind) bool { return rules[gk] != nil }

// RunsPods says that the kind's objects have pods that explain their state; Selector finds them.
func RunsPods(gk schema.GroupKind) bool {
	switch gk.Kind {
	case "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet":
		return gk.Group == "apps"
	case "Job":
		return gk.Group == "batch"
	case "ReplicationController", "Pod":
		return gk.Group == ""
	}
	return false
}

// Of returns the status of an object as it was read from a cluster.
func Of(u *unstructured.Unstructured, r Related) Status {
	if u.GetDeletionTimestamp() != nil {
		return waiting("it is being deleted%s", finalizers(u))
	}
	gk := u.GroupVersionKind().GroupKind()
	if immediate[gk] {
		return ready("")
	}
	if observed, found, err := unstructured.NestedInt64(u.Object, "status", "observedGeneration"); err == nil && found && observed < u.GetGeneration() {
		return waiting("its controller has not seen the change yet")
	}
	if rule, ok := rules[gk]; ok {
		return rule(u, r)
	}
	return generic(u)
}

func finalizers(u *unstructured.Unstructured) string {
	if f := u.GetFinalizers(); len(f) > 0 {
		return fmt.Sprintf(", held back by %v", f)
	}
	return ""
}

// typed makes a rule of a function of the kind's Go type.
func typed[T any](f func(*T, Related) Status) rule {
	return func(u *unstructured.Unstructured, r Related) Status {
		var object T
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &object); err != nil {
			return waiting("its status cannot be read: %v", err)
		}
		return f(&object, r)
	}
}
