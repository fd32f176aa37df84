package policy

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weft-dev/weft/network"
)

// convertPod keeps of a pod what policies need.
func convertPod(p *corev1.Pod) network.Pod {
	out := network.Pod{
		Namespace: p.Namespace, Name: p.Name, Labels: p.Labels, Node: p.Spec.NodeName, HostNetwork: p.Spec.HostNetwork,
		Finished: p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed,
		Created:  p.CreationTimestamp.Time,
	}
	for _, ip := range p.Status.PodIPs {
		if a, err := netip.ParseAddr(ip.IP); err == nil {
			out.IPs = append(out.IPs, a)
		}
	}
	for i := range p.Spec.InitContainers {
		c := &p.Spec.InitContainers[i]
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			out.Ports = append(out.Ports, namedPorts(c)...)
		}
	}
	var ports []network.NamedPort
	for i := range p.Spec.Containers {
		ports = append(ports, namedPorts(&p.Spec.Containers[i])...)
	}
	out.Ports = append(ports, out.Ports...) // sidecars last, as Services look them up
	return out
}

func namedPorts(c *corev1.Container) []network.NamedPort {
	var out []network.NamedPort
	for _, port := range c.Ports {
		protocol, err := network.ParseProtocol(string(port.Protocol))
		if port.Name == "" || err != nil || port.ContainerPort < 1 || port.ContainerPort > 65535 {
			continue
		}
		out = append(out, network.NamedPort{Name: port.Name, Protocol: protocol, Number: uint16(port.ContainerPort)})
	}
	return out
}

// convertNode keeps of a node what policies need.
func convertNode(n *corev1.Node) network.Node {
	out := network.Node{Name: n.Name, Labels: n.Labels}
	for _, address := range n.Status.Addresses {
		if a, err := netip.ParseAddr(address.Address); err == nil { // not a name
			out.IPs = append(out.IPs, a)
		}
	}
	return out
}

// trim drops from cached objects what the controller never reads: most of a pod.
func trim(object any) (any, error) {
	switch o := object.(type) {
	case *corev1.Pod:
		kept := &corev1.Pod{ObjectMeta: trimMeta(o.ObjectMeta)}
		kept.Spec.NodeName, kept.Spec.HostNetwork = o.Spec.NodeName, o.Spec.HostNetwork
		for _, c := range o.Spec.Containers {
			kept.Spec.Containers = append(kept.Spec.Containers, corev1.Container{Ports: c.Ports})
		}
		for _, c := range o.Spec.InitContainers {
			kept.Spec.InitContainers = append(kept.Spec.InitContainers, corev1.Container{Ports: c.Ports, RestartPolicy: c.RestartPolicy})
		}
		kept.Status.Phase, kept.Status.PodIPs = o.Status.Phase, o.Status.PodIPs
		return kept, nil
	case *corev1.Namespace:
		return &corev1.Namespace{ObjectMeta: trimMeta(o.ObjectMeta)}, nil
	case *corev1.Node:
		return &corev1.Node{ObjectMeta: trimMeta(o.ObjectMeta), Status: corev1.NodeStatus{Addresses: o.Status.Addresses}}, nil
	case *networkingv1.NetworkPolicy:
		return &networkingv1.NetworkPolicy{ObjectMeta: trimMeta(o.ObjectMeta), Spec: o.Spec}, nil
	}
	return object, nil
}

func trimMeta(m metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: m.Namespace, Name: m.Name, UID: m.UID, Labels: m.Labels, CreationTimestamp: m.CreationTimestamp,
		ResourceVersion: m.ResourceVersion}
}
