// Package apiserver is what a snapshotter asks of the API server of its node's cluster: the Secrets that hold credentials of registries, and the pods
// whose images were not guarded, which get events. It speaks HTTP and JSON itself, because a program that runs on every node links no Kubernetes types.
// It must not know what a snapshot is.
package apiserver
