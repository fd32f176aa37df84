// Package network says which namespaces may send packets to which: by their levels, by black and white lists of each, and by isolation. It compiles that
// to ClusterNetworkPolicies, to NetworkPolicies where a cluster knows no others, or to a matrix for the kernel, and tells which rules contradict or shadow
// each other.
//
// It is a pure function of a level.Snapshot and of what namespaces say in their annotations. It must not know how packets are filtered: that is told
// by the package network that it builds on.
package network
