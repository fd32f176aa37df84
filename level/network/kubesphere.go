package network

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/weft-dev/weft/kube/manifest"
)

// namespacePolicy is the specification of a NamespaceNetworkPolicy (kubesphere v3.4.1, api/network/v1alpha1).
type namespacePolicy struct {
	Ingress []struct {
		From  []namespacePeer                  `json:"from,omitempty"`
		Ports []networkingv1.NetworkPolicyPort `json:"ports,omitempty"`
	} `json:"ingress,omitempty"`
	Egress []struct {
		To    []namespacePeer                  `json:"to,omitempty"`
		Ports []networkingv1.NetworkPolicyPort `json:"ports,omitempty"`
	} `json:"egress,omitempty"`
	PolicyTypes []networkingv1.PolicyType `json:"policyTypes,omitempty"`
}

type namespacePeer struct {
	Namespace *struct {
		Name string `json:"name"`
	} `json:"namespace,omitempty"`
	IPBlock *networkingv1.IPBlock `json:"ipBlock,omitempty"`
	Service *struct {
		Name      string `json:"name"`
		Namespace string `json:"namespace"`
	} `json:"service,omitempty"`
}

// convert makes a NetworkPolicy of a NamespaceNetworkPolicy, which is about all pods of its namespace. A service stands for the pods that it selects, at
// the ports of these pods. With egress, questions to DNS pass.
func (l *loader) convert(o manifest.Object) (*networkingv1.NetworkPolicy, error) {
	var in struct {
		Spec namespacePolicy `json:"spec"`
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &in); err != nil {
		return nil, o.ErrorAt("spec", err.Error(), "")
	}
	out := &networkingv1.NetworkPolicy{TypeMeta: metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "NetworkPolicy"},
		ObjectMeta: metav1.ObjectMeta{Name: o.GetName(), Namespace: o.GetNamespace()}, Spec: networkingv1.NetworkPolicySpec{PolicyTypes: in.Spec.PolicyTypes}}
	for i, rule := range in.Spec.Ingress {
		r := networkingv1.NetworkPolicyIngressRule{Ports: rule.Ports}
		for j := range rule.From {
			peer, _, err := l.peer(o, fmt.Sprintf("spec.ingress[%d].from[%d]", i, j), &rule.From[j])
			if err != nil {
				return nil, err
			}
			r.From = append(r.From, peer)
		}
		out.Spec.Ingress = append(out.Spec.Ingress, r)
	}
	for i, rule := range in.Spec.Egress {
		r := networkingv1.NetworkPolicyEgressRule{Ports: rule.Ports}
		for j := range rule.To {
			peer, ports, err := l.peer(o, fmt.Sprintf("spec.egress[%d].to[%d]", i, j), &rule.To[j])
			if err != nil {
				return nil, err
			}
			if len(rule.Ports) == 0 && len(ports) > 0 { // each service has ports of its own
				out.Spec.Egress = append(out.Spec.Egress, networkingv1.NetworkPolicyEgressRule{To: []networkingv1.NetworkPolicyPeer{peer}, Ports: ports})
				continue
			}
			r.To = append(r.To, peer)
		}
		if len(r.To) > 0 || len(rule.To) == 0 {
			out.Spec.Egress = append(out.Spec.Egress, r)
		}
	}
	if len(in.Spec.Egress) > 0 {
		udp, tcp, dns := corev1.ProtocolUDP, corev1.ProtocolTCP, intstr.FromInt32(53)
		out.Spec.Egress = append(out.Spec.Egress, networkingv1.NetworkPolicyEgressRule{Ports: []networkingv1.NetworkPolicyPort{{Protocol: &udp, Port: &dns}, {Protocol: &tcp, Port: &dns}}})
	}
	return out, nil
}

func (l *loader) peer(o manifest.Object, field string, in *namespacePeer) (out networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort, err error) {
	set := 0
	for _, there := range []bool{in.Namespace != nil, in.IPBlock != nil, in.Service != nil} {
		if there {
			set++
		}
	}
	if set != 1 {
		return out, nil, o.ErrorAt(field, fmt.Sprintf("%d kinds of peers", set), "expected exactly one of namespace, service and ipBlock")
	}
	by := func(name string) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchLabels: map[string]string{nameLabel: name}}
	}
	switch {
	case in.IPBlock != nil:
		out.IPBlock = in.IPBlock
	case in.Namespace != nil:
		out.NamespaceSelector = by(in.Namespace.Name)
	default:
		service := l.services[in.Service.Namespace+"/"+in.Service.Name]
		if service == nil {
			return out, nil, o.ErrorAt(field+".service", fmt.Sprintf("the Service %s/%s is not among the objects", in.Service.Namespace, in.Service.Name), "add it: its selector says which pods are meant")
		}
		if len(service.Spec.Selector) == 0 {
			return out, nil, o.ErrorAt(field+".service", fmt.Sprintf("the Service %s/%s selects no pods", in.Service.Namespace, in.Service.Name), "use ipBlock")
		}
		out.NamespaceSelector, out.PodSelector = by(in.Service.Namespace), &metav1.LabelSelector{MatchLabels: service.Spec.Selector}
		for _, p := range service.Spec.Ports {
			protocol, port := p.Protocol, p.TargetPort
			if protocol == "" {
				protocol = corev1.ProtocolTCP
			}
			if port == (intstr.IntOrString{}) {
				port = intstr.FromInt32(p.Port)
			}
			ports = append(ports, networkingv1.NetworkPolicyPort{Protocol: &protocol, Port: &port})
		}
	}
	return out, ports, nil
}
