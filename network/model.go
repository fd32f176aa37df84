package network

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
)

// Protocol is an IP protocol number (IANA protocol numbers).
type Protocol uint8

// The protocols a policy can name, and the two kinds of ICMP, which only rules without ports allow.
const (
	ICMP   Protocol = 1
	TCP    Protocol = 6
	UDP    Protocol = 17
	ICMPv6 Protocol = 58
	SCTP   Protocol = 132
)

func (p Protocol) String() string {
	switch p {
	case ICMP:
		return "ICMP"
	case TCP:
		return "TCP"
	case UDP:
		return "UDP"
	case ICMPv6:
		return "ICMPv6"
	case SCTP:
		return "SCTP"
	}
	return fmt.Sprintf("protocol %d", uint8(p))
}

// hasPorts reports whether packets of the protocol carry port numbers that a policy can match.
func (p Protocol) hasPorts() bool { return p == TCP || p == UDP || p == SCTP }

// ParseProtocol reads a protocol as Kubernetes spells it (TCP, UDP, SCTP) or ICMP, ICMPv6, in any case.
func ParseProtocol(s string) (Protocol, error) {
	switch strings.ToUpper(s) {
	case "TCP":
		return TCP, nil
	case "UDP":
		return UDP, nil
	case "SCTP":
		return SCTP, nil
	case "ICMP":
		return ICMP, nil
	case "ICMPV6":
		return ICMPv6, nil
	}
	return 0, fmt.Errorf("unknown protocol %q: expected TCP, UDP, SCTP, ICMP or ICMPv6", s)
}

// NamedPort is a port that a container declares with a name.
type NamedPort struct {
	Name     string
	Protocol Protocol
	Number   uint16
}

// Pod is what the policies need to know of a pod.
type Pod struct {
	Namespace, Name string
	Labels          map[string]string
	// IPs are the pod's addresses, at most one per family; none while the pod waits for them.
	IPs []netip.Addr
	// Node is the name of the node the pod runs on, empty when unknown.
	Node string
	// HostNetwork pods share the node's addresses: no policy selects them and no selector finds them as a peer.
	HostNetwork bool
	// Ports are the named ports of the containers, sidecars included, in the order of the pod's specification.
	Ports []NamedPort
	// Finished is true once all containers have ended for good (phase Succeeded or Failed): the address may already
	// belong to another pod. A pod that is merely being deleted is not finished and stays protected.
	Finished bool
	// Created breaks ties when two pods claim one address: the younger one has it.
	Created time.Time
}

// Key is the pod's namespace and name, "shop/web-0".
func (p *Pod) Key() string { return p.Namespace + "/" + p.Name }

// NamedPort returns the number of the first port with that name and protocol.
func (p *Pod) NamedPort(name string, protocol Protocol) (uint16, bool) {
	for _, port := range p.Ports {
		if port.Name == name && port.Protocol == protocol {
			return port.Number, true
		}
	}
	return 0, false
}

// subject reports whether policies can select the pod, as target or as peer.
func (p *Pod) subject() bool { return !p.HostNetwork && !p.Finished }

// equal reports whether nothing the policies look at differs.
func (p *Pod) equal(q *Pod) bool {
	return p.Namespace == q.Namespace && p.Name == q.Name && p.Node == q.Node && p.HostNetwork == q.HostNetwork &&
		p.Finished == q.Finished && p.Created.Equal(q.Created) && maps.Equal(p.Labels, q.Labels) &&
		slices.Equal(p.IPs, q.IPs) && slices.Equal(p.Ports, q.Ports)
}

// takesOver reports whether p rather than q owns an address that both claim.
func (p *Pod) takesOver(q *Pod) bool {
	if c := p.Created.Compare(q.Created); c != 0 {
		return c > 0
	}
	return p.Key() > q.Key()
}

// Namespace is a namespace and its labels. The label kubernetes.io/metadata.name, which every API server sets, is
// added where it is missing.
type Namespace struct {
	Name   string
	Labels map[string]string
}

// Node is a node's name, labels and addresses. Traffic between a node and its own pods is never filtered.
type Node struct {
	Name   string
	Labels map[string]string
	IPs    []netip.Addr
}

// Problem is a defect of a policy. The defective part matches nothing, so that a mistake never opens anything.
type Problem struct {
	// Policy is "NetworkPolicy shop/web".
	Policy string
	// Field is the path to the defect, "spec.ingress[0].from[1].ipBlock.cidr".
	Field string
	// Message says what is wrong and what was expected.
	Message string
}

func (p Problem) Error() string { return p.Policy + ": " + p.Field + ": " + p.Message }

// Snapshot is an immutable, indexed picture of everything a decision depends on. It is safe for concurrent use.
type Snapshot struct {
	pods       map[string]*Pod
	addresses  map[netip.Addr]*Pod
	namespaces map[string]map[string]string
	nodes      map[string]*Node
	nodeByIP   map[netip.Addr]*Node
	policies   map[string][]*policy // by namespace, sorted by name
	cluster    map[ClusterTier][]*clusterPolicy
	problems   []Problem
}

// Objects is what a Snapshot is made from.
type Objects struct {
	Pods       []Pod
	Namespaces []Namespace
	Nodes      []Node
	Policies   []*networkingv1.NetworkPolicy
	Cluster    []*ClusterPolicy
}

// NewSnapshot indexes the objects. Later objects replace earlier ones with the same name.
func NewSnapshot(objects Objects) *Snapshot {
	s := &Snapshot{
		pods: map[string]*Pod{}, addresses: map[netip.Addr]*Pod{}, namespaces: map[string]map[string]string{},
		nodes: map[string]*Node{}, nodeByIP: map[netip.Addr]*Node{}, policies: map[string][]*policy{},
	}
	for _, n := range objects.Namespaces {
		s.namespaces[n.Name] = withNameLabel(n.Name, n.Labels)
	}
	for i := range objects.Nodes {
		n := &objects.Nodes[i]
		s.nodes[n.Name] = n
		for _, a := range n.IPs {
			s.nodeByIP[a.Unmap()] = n
		}
	}
	for i := range objects.Pods {
		p := &objects.Pods[i]
		s.pods[p.Key()] = p
		if s.namespaces[p.Namespace] == nil {
			s.namespaces[p.Namespace] = withNameLabel(p.Namespace, nil)
		}
	}
	for _, p := range s.pods {
		if !p.subject() {
			continue
		}
		for _, a := range p.IPs {
			if old := s.addresses[a.Unmap()]; old == nil || p.takesOver(old) {
				s.addresses[a.Unmap()] = p
			}
		}
	}
	for _, np := range objects.Policies {
		parsed, problems := parsePolicy(np)
		s.problems = append(s.problems, problems...)
		list := s.policies[np.Namespace]
		if i := slices.IndexFunc(list, func(q *policy) bool { return q.name == parsed.name }); i >= 0 {
			list[i] = parsed
			continue
		}
		s.policies[np.Namespace] = append(list, parsed)
	}
	cluster := map[string]*clusterPolicy{}
	for _, cp := range objects.Cluster {
		parsed, problems := parseClusterPolicy(cp)
		s.problems = append(s.problems, problems...)
		cluster[parsed.name] = parsed
	}
	var tied []Problem
	s.cluster, tied = sortCluster(slices.Collect(maps.Values(cluster)))
	s.problems = append(s.problems, tied...)
	for _, list := range s.policies {
		slices.SortFunc(list, func(a, b *policy) int { return cmp.Compare(a.name, b.name) })
	}
	return s
}

// Problems are the defects found in the policies.
func (s *Snapshot) Problems() []Problem { return s.problems }

// Pod returns the pod with that namespace and name, nil if there is none.
func (s *Snapshot) Pod(namespace, name string) *Pod { return s.pods[namespace+"/"+name] }

// Address returns the endpoint that owns the address: a pod, or something outside.
func (s *Snapshot) Address(a netip.Addr) Endpoint {
	a = a.Unmap()
	return Endpoint{Pod: s.addresses[a], Addr: a}
}

// Between returns the endpoints of two pods with addresses of one family (IPv6 if v6). An address stays empty where the pod
// has none of that family; selectors still apply to it, IP blocks do not.
func (s *Snapshot) Between(from, to *Pod, v6 bool) (Endpoint, Endpoint) {
	return Endpoint{Pod: from, Addr: from.address(v6)}, Endpoint{Pod: to, Addr: to.address(v6)}
}

func (p *Pod) address(v6 bool) netip.Addr {
	for _, a := range p.IPs {
		if a = a.Unmap(); a.Is6() == v6 {
			return a
		}
	}
	return netip.Addr{}
}

// namespaceNameLabel is set on every namespace by the API server (k8s.io/api/core/v1 LabelMetadataName).
const namespaceNameLabel = "kubernetes.io/metadata.name"

func withNameLabel(name string, labels map[string]string) map[string]string {
	if labels[namespaceNameLabel] == name {
		return labels
	}
	out := make(map[string]string, len(labels)+1)
	maps.Copy(out, labels)
	out[namespaceNameLabel] = name
	return out
}
