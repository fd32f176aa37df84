package network

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ClusterPolicy is a ClusterNetworkPolicy of the group policy.networking.k8s.io, version v1alpha2: rules of the cluster's administrator that
// stand before (tier Admin) or after (tier Baseline) the NetworkPolicies. Field names, limits and meaning are those of
// kubernetes-sigs/network-policy-api apis/v1alpha2/clusternetworkpolicy_types.go, so that its YAML can be read into it.
type ClusterPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              ClusterPolicySpec `json:"spec"`
}

// ClusterPolicySpec is what a ClusterPolicy wants.
type ClusterPolicySpec struct {
	Tier ClusterTier `json:"tier"`
	// Priority is 0 to 1000; the lowest number is asked first. Of two policies with one number the first by name is asked
	// first, and a Problem says so.
	Priority int32          `json:"priority"`
	Subject  ClusterSubject `json:"subject"`
	// Ingress and Egress hold at most 25 rules each. The first that matches decides.
	Ingress []ClusterRule `json:"ingress,omitempty"`
	Egress  []ClusterRule `json:"egress,omitempty"`
}

// ClusterTier is Admin or Baseline.
type ClusterTier string

// AdminTier stands before the NetworkPolicies, BaselineTier after them: it is asked only for pods that none of them isolates.
const (
	AdminTier    ClusterTier = "Admin"
	BaselineTier ClusterTier = "Baseline"
)

// ClusterSubject selects pods: exactly one field is set.
type ClusterSubject struct {
	Namespaces *metav1.LabelSelector `json:"namespaces,omitempty"`
	Pods       *ClusterPods          `json:"pods,omitempty"`
}

// ClusterPods selects pods by namespace and pod labels; an empty selector selects all.
type ClusterPods struct {
	NamespaceSelector metav1.LabelSelector `json:"namespaceSelector"`
	PodSelector       metav1.LabelSelector `json:"podSelector"`
}

// ClusterRule is an ingress rule (From is set) or an egress rule (To is set).
type ClusterRule struct {
	Name   string        `json:"name,omitempty"`
	Action ClusterAction `json:"action"`
	From   []ClusterPeer `json:"from,omitempty"`
	To     []ClusterPeer `json:"to,omitempty"`
	// Protocols restrict the rule; none means any traffic.
	Protocols []ClusterProtocol `json:"protocols,omitempty"`
}

// ClusterAction is Accept, Deny or Pass.
type ClusterAction string

// ActionAccept and ActionDeny settle the direction; ActionPass leaves it to the next tier.
const (
	ActionAccept ClusterAction = "Accept"
	ActionDeny   ClusterAction = "Deny"
	ActionPass   ClusterAction = "Pass"
)

// ClusterPeer is the other end: exactly one field is set. Nodes and Networks are for egress only. DomainNames is not
// enforced: a rule that uses it fails closed.
type ClusterPeer struct {
	Namespaces  *metav1.LabelSelector `json:"namespaces,omitempty"`
	Pods        *ClusterPods          `json:"pods,omitempty"`
	Nodes       *metav1.LabelSelector `json:"nodes,omitempty"`
	Networks    []string              `json:"networks,omitempty"`
	DomainNames []string              `json:"domainNames,omitempty"`
}

// ClusterProtocol restricts a rule: exactly one field is set.
type ClusterProtocol struct {
	TCP  *ClusterPortMatch `json:"tcp,omitempty"`
	UDP  *ClusterPortMatch `json:"udp,omitempty"`
	SCTP *ClusterPortMatch `json:"sctp,omitempty"`
	// DestinationNamedPort is a container port's name, with any protocol.
	DestinationNamedPort string `json:"destinationNamedPort,omitempty"`
}

// ClusterPortMatch restricts a protocol.
type ClusterPortMatch struct {
	DestinationPort *ClusterPort `json:"destinationPort,omitempty"`
}

// ClusterPort is one port or a range, both ends inclusive.
type ClusterPort struct {
	Number int32             `json:"number,omitempty"`
	Range  *ClusterPortRange `json:"range,omitempty"`
}

// ClusterPortRange is Start to End, inclusive; Start is less than End.
type ClusterPortRange struct {
	Start int32 `json:"start"`
	End   int32 `json:"end"`
}
