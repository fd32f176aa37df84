package network

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/weft-dev/weft/kube/manifest"
	"github.com/weft-dev/weft/level"
	packets "github.com/weft-dev/weft/network"
)

// Source is what objects say about the network.
type Source struct {
	Rules   *Rules
	Objects packets.Objects
	// Problems are defects of policies; each is a *manifest.Error. What is defective opens nothing.
	Problems []error
}

// Load reads the objects of a cluster. Workloads stand for their pods where there are none. The error joins everything that is no object
// of its kind, each a *manifest.Error.
func Load(objects []manifest.Object, s *level.Snapshot) (*Source, error) {
	l := &loader{services: map[string]*corev1.Service{}}
	for _, o := range objects {
		if k := o.GroupVersionKind(); k.Group == "" && k.Kind == "Service" {
			var service corev1.Service
			if l.into(o, &service) {
				l.services[service.Namespace+"/"+service.Name] = &service
			}
		}
	}
	var isolated []string
	for _, o := range objects {
		k := o.GroupVersionKind()
		switch k.Kind {
		case "Namespace":
			l.space(o)
		case "Workspace", "WorkspaceTemplate":
			if o.GetAnnotations()[IsolateAnnotation] == "enabled" {
				isolated = append(isolated, o.GetName())
			}
		default:
			l.add(o, k.Group, k.Kind)
		}
	}
	if len(l.errs) > 0 {
		return nil, errors.Join(l.errs...)
	}
	l.Rules = NewRules(s, l.spaces, isolated)
	return &l.Source, nil
}

type loader struct {
	Source
	spaces   []Space
	services map[string]*corev1.Service
	errs     []error
}

func (l *loader) into(o manifest.Object, to any) bool {
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, to); err != nil {
		l.errs = append(l.errs, o.ErrorAt("spec", err.Error(), ""))
		return false
	}
	return true
}

func (l *loader) space(o manifest.Object) {
	a := o.GetAnnotations()
	isolate := a[IsolateAnnotation]
	if isolate != "" && isolate != "enabled" && isolate != "disabled" {
		l.errs = append(l.errs, o.ErrorAt("metadata.annotations["+IsolateAnnotation+"]", fmt.Sprintf("%q is not known", isolate), "use enabled or disabled"))
	}
	l.spaces = append(l.spaces, Space{Name: o.GetName(), Deny: Lists(a[DenyAnnotation]), Allow: Lists(a[AllowAnnotation]), Isolated: isolate == "enabled"})
	l.Objects.Namespaces = append(l.Objects.Namespaces, packets.Namespace{Name: o.GetName(), Labels: o.GetLabels()})
}

func (l *loader) add(o manifest.Object, group, kind string) {
	switch {
	case group == "" && kind == "Pod":
		var pod corev1.Pod
		if l.into(o, &pod) {
			l.pod(pod.Namespace, pod.Name, &pod)
		}
	case (group == "apps" || group == "batch") && hasTemplate(o):
		template, _, _ := unstructured.NestedMap(o.Object, "spec", "template")
		var pod corev1.Pod
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(template, &pod); err != nil {
			l.errs = append(l.errs, o.ErrorAt("spec.template", err.Error(), ""))
			return
		}
		l.pod(o.GetNamespace(), o.GetName(), &pod)
	case group == "networking.k8s.io" && kind == "NetworkPolicy":
		var p networkingv1.NetworkPolicy
		if l.into(o, &p) {
			l.policy(o, &p)
		}
	case group == "policy.networking.k8s.io" && kind == "ClusterNetworkPolicy":
		var p packets.ClusterPolicy
		if l.into(o, &p) {
			l.Objects.Cluster = append(l.Objects.Cluster, &p)
			l.check(o, packets.NewSnapshot(packets.Objects{Cluster: []*packets.ClusterPolicy{&p}}))
		}
	case group == "network.kubesphere.io" && kind == "NamespaceNetworkPolicy":
		p, err := l.convert(o)
		if err != nil {
			l.errs = append(l.errs, err)
			return
		}
		l.policy(o, p)
	}
}

func hasTemplate(o manifest.Object) bool {
	_, ok, err := unstructured.NestedMap(o.Object, "spec", "template", "spec")
	return ok && err == nil
}

func (l *loader) policy(o manifest.Object, p *networkingv1.NetworkPolicy) {
	if p.Namespace == "" {
		p.Namespace = "default"
	}
	l.Objects.Policies = append(l.Objects.Policies, p)
	l.check(o, packets.NewSnapshot(packets.Objects{Policies: []*networkingv1.NetworkPolicy{p}}))
}

func (l *loader) check(o manifest.Object, s *packets.Snapshot) {
	for _, p := range s.Problems() {
		l.Problems = append(l.Problems, o.ErrorAt(p.Field, p.Message, ""))
	}
}

func (l *loader) pod(namespace, name string, pod *corev1.Pod) {
	if namespace == "" {
		namespace = "default"
	}
	p := packets.Pod{Namespace: namespace, Name: name, Labels: pod.Labels, Node: pod.Spec.NodeName, HostNetwork: pod.Spec.HostNetwork, Created: pod.CreationTimestamp.Time,
		Finished: pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed}
	for _, ip := range pod.Status.PodIPs {
		if a, err := netip.ParseAddr(ip.IP); err == nil {
			p.IPs = append(p.IPs, a)
		}
	}
	for _, c := range slices.Concat(pod.Spec.Containers, pod.Spec.InitContainers) {
		for _, port := range c.Ports {
			protocol, err := packets.ParseProtocol(string(port.Protocol))
			if port.Protocol == "" {
				protocol, err = packets.TCP, nil
			}
			if err == nil && port.Name != "" && port.ContainerPort > 0 && port.ContainerPort < 65536 {
				p.Ports = append(p.Ports, packets.NamedPort{Name: port.Name, Protocol: protocol, Number: uint16(port.ContainerPort)})
			}
		}
	}
	l.Objects.Pods = append(l.Objects.Pods, p)
}
