// Package network decides and enforces which pods may talk to which.
//
// It has two halves that share one reading of the policies. Evaluate answers, from a snapshot of pods, namespaces
// and policies, whether a packet would pass and which policy and rule decided; it touches nothing. Compiler turns
// the same policies into the sets, maps and chains of one nftables table and keeps them up to date element by element;
// Table writes them to a network namespace over netlink, without the nft program.
//
// The package knows Kubernetes' policy types and nothing else of Kubernetes: no client, no informer, no API server. Who
// watches pods and policies (the embedded cluster's policy controller, a simulator that reads YAML) feeds it plain values.
package network
