// Package ceiling keeps the ceilings of workspaces in a running cluster: it follows the pods, so that whoever judges new ones knows what there is, and
// writes into the status of each Workspace what its pods request. It must not know how a pod is judged, nor how a request arrives.
package ceiling
