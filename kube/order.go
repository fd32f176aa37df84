package kube

import (
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var (
	crdKind       = schema.GroupKind{Group: "apiextensions.k8s.io", Kind: "CustomResourceDefinition"}
	namespaceKind = schema.GroupKind{Kind: "Namespace"}
	volumeKind    = schema.GroupKind{Kind: "PersistentVolume"}
	claimKind     = schema.GroupKind{Kind: "PersistentVolumeClaim"}
	podKind       = schema.GroupKind{Kind: "Pod"}
)

// Objects are applied in waves, each after the one before it, and deleted in the opposite order. Within a wave nothing
// needs anything else of it.
const (
	waveDefinitions = iota // namespaces and the kinds themselves
	waveClasses            // what others refer to by name and that admits or defaults them
	waveAccounts           // who may do what
	waveData               // what pods mount
	waveServices           // before pods, which get their addresses in the environment
	waveWorkloads
	waveRest // custom resources and what selects workloads
	waveGuards
	waveCount
)

// waves lists the kinds by name: groups differ between versions of Kubernetes, their names do not.
var waves = map[string]int{
	"Namespace": waveDefinitions, "CustomResourceDefinition": waveDefinitions,

	"PriorityClass": waveClasses, "StorageClass": waveClasses, "RuntimeClass": waveClasses, "IngressClass": waveClasses,
	"GatewayClass": waveClasses, "CSIDriver": waveClasses, "VolumeSnapshotClass": waveClasses, "DeviceClass": waveClasses,
	"ResourceQuota": waveClasses, "LimitRange": waveClasses, "NetworkPolicy": waveClasses, "AdminNetworkPolicy": waveClasses,

	"ServiceAccount": waveAccounts, "Role": waveAccounts, "ClusterRole": waveAccounts,
	// A binding is checked against the rules of its role, which has to be there.
	"RoleBinding": waveData, "ClusterRoleBinding": waveData,

	"ConfigMap": waveData, "Secret": waveData, "PersistentVolume": waveData, "PersistentVolumeClaim": waveData,

	"Service": waveServices, "Endpoints": waveServices, "EndpointSlice": waveServices,

	"Pod": waveWorkloads, "ReplicationController": waveWorkloads, "ReplicaSet": waveWorkloads, "Deployment": waveWorkloads,
	"StatefulSet": waveWorkloads, "DaemonSet": waveWorkloads, "Job": waveWorkloads, "CronJob": waveWorkloads,

	// Guards come last: they answer from workloads of the same set and would refuse everything until those run.
	"APIService": waveGuards, "ValidatingWebhookConfiguration": waveGuards, "MutatingWebhookConfiguration": waveGuards,
	"ValidatingAdmissionPolicy": waveGuards, "ValidatingAdmissionPolicyBinding": waveGuards,
	"MutatingAdmissionPolicy": waveGuards, "MutatingAdmissionPolicyBinding": waveGuards,
}

func waveOf(gk schema.GroupKind) int {
	if w, ok := waves[gk.Kind]; ok && ownGroup(gk.Group) {
		return w
	}
	return waveRest
}

// ownGroup tells Kubernetes' own groups from those of others, which may use the same names for their kinds.
func ownGroup(group string) bool {
	switch group {
	case "", "apps", "batch", "autoscaling", "policy", "extensions":
		return true
	}
	const suffix = ".k8s.io"
	return len(group) > len(suffix) && group[len(group)-len(suffix):] == suffix
}

// precious are the kinds with which data or other people's objects go. They are removed only when the caller names them.
var precious = map[schema.GroupKind]string{
	namespaceKind: "everything in it goes with it",
	crdKind:       "all objects of its kind go with it",
	volumeKind:    "the data on it may go with it",
	claimKind:     "the data on it may go with it",
}

// secretResource is known without asking the cluster.
var secretResource = Resource{GVR: schema.GroupVersionResource{Version: "v1", Resource: "secrets"}, Kind: "Secret", Namespaced: true}

var namespaceResource = Resource{GVR: schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}, Kind: "Namespace"}

// Precious says what would go with an object of the kind if it were deleted; empty for kinds that may be deleted freely.
func Precious(gk schema.GroupKind) string { return precious[gk] }
