package cluster

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apicore "k8s.io/client-go/applyconfigurations/core/v1"
	apidiscovery "k8s.io/client-go/applyconfigurations/discovery/v1"
	apirbac "k8s.io/client-go/applyconfigurations/rbac/v1"
)

// waitNode waits until the node takes pods. The Ready condition of an earlier run says nothing by itself: either the kubelet
// has reported since, as on a new node, or it has renewed its lease, as on a known one.
func (c *cluster) waitNode(ctx context.Context, since time.Time) error {
	var last string
	for {
		ok, why := c.nodeReady(ctx, since)
		if ok {
			return nil
		}
		last = why
		select {
		case <-ctx.Done():
			return fmt.Errorf("the node does not become ready (%s): %w", last, context.Cause(ctx))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (c *cluster) nodeReady(ctx context.Context, since time.Time) (ok bool, why string) {
	node, err := c.client.CoreV1().Nodes().Get(ctx, nodeName, metav1.GetOptions{})
	if err != nil {
		return false, err.Error()
	}
	for _, taint := range node.Spec.Taints {
		if taint.Key == corev1.TaintNodeNotReady || taint.Key == corev1.TaintNodeUnreachable {
			return false, "the node has the taint " + taint.Key
		}
	}
	for _, condition := range node.Status.Conditions {
		switch {
		case condition.Type != corev1.NodeReady:
		case condition.Status != corev1.ConditionTrue:
			return false, condition.Message
		case condition.LastHeartbeatTime.Time.Before(since.Truncate(time.Second)) && !c.leaseRenewed(ctx, since):
			return false, "the kubelet has not reported since it was started"
		default:
			return true, ""
		}
	}
	return false, "the node has not reported its condition"
}

func (c *cluster) leaseRenewed(ctx context.Context, since time.Time) bool {
	lease, err := c.client.CoordinationV1().Leases(corev1.NamespaceNodeLease).Get(ctx, nodeName, metav1.GetOptions{})
	return err == nil && lease.Spec.RenewTime != nil && lease.Spec.RenewTime.Time.After(since)
}

// fieldManager owns what the cluster itself keeps in the API.
var ownedApply = metav1.ApplyOptions{FieldManager: "weft-cluster", Force: true}

// announceDNS makes the Service under which pods ask for names. Its endpoint is the DNS program on the node.
func (c *cluster) announceDNS(ctx context.Context) error {
	const namespace, name = metav1.NamespaceSystem, "kube-dns"
	labels := map[string]string{"k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS"}
	service := apicore.Service(name, namespace).WithLabels(labels).WithSpec(apicore.ServiceSpec().
		WithClusterIP(dnsService).
		WithIPFamilyPolicy(corev1.IPFamilyPolicySingleStack).
		WithPorts(
			apicore.ServicePort().WithName("dns").WithProtocol(corev1.ProtocolUDP).WithPort(dnsPort),
			apicore.ServicePort().WithName("dns-tcp").WithProtocol(corev1.ProtocolTCP).WithPort(dnsPort),
		))
	if _, err := c.client.CoreV1().Services(namespace).Apply(ctx, service, ownedApply); err != nil {
		return fmt.Errorf("announcing DNS: %w", err)
	}
	slice := apidiscovery.EndpointSlice(name+"-node", namespace).
		WithLabels(map[string]string{discoveryv1.LabelServiceName: name, discoveryv1.LabelManagedBy: "weft"}).
		WithAddressType(discoveryv1.AddressTypeIPv4).
		WithEndpoints(apidiscovery.Endpoint().WithAddresses(nodeIPv4).WithConditions(apidiscovery.EndpointConditions().WithReady(true))).
		WithPorts(
			apidiscovery.EndpointPort().WithName("dns").WithProtocol(corev1.ProtocolUDP).WithPort(dnsPort),
			apidiscovery.EndpointPort().WithName("dns-tcp").WithProtocol(corev1.ProtocolTCP).WithPort(dnsPort),
		)
	if _, err := c.client.DiscoveryV1().EndpointSlices(namespace).Apply(ctx, slice, ownedApply); err != nil {
		return fmt.Errorf("announcing DNS: %w", err)
	}
	return c.grant(ctx, "weft:dns", dnsUser,
		apirbac.PolicyRule().WithAPIGroups("").WithResources("endpoints", "services", "pods", "namespaces").WithVerbs("list", "watch"),
		apirbac.PolicyRule().WithAPIGroups("discovery.k8s.io").WithResources("endpointslices").WithVerbs("list", "watch"))
}

// grant gives a user of our own exactly these rights.
func (c *cluster) grant(ctx context.Context, role, user string, rules ...*apirbac.PolicyRuleApplyConfiguration) error {
	if _, err := c.client.RbacV1().ClusterRoles().Apply(ctx, apirbac.ClusterRole(role).WithRules(rules...), ownedApply); err != nil {
		return fmt.Errorf("granting %s its rights: %w", user, err)
	}
	binding := apirbac.ClusterRoleBinding(role).
		WithRoleRef(apirbac.RoleRef().WithAPIGroup(rbacv1.GroupName).WithKind("ClusterRole").WithName(role)).
		WithSubjects(apirbac.Subject().WithAPIGroup(rbacv1.GroupName).WithKind(rbacv1.UserKind).WithName(user))
	if _, err := c.client.RbacV1().ClusterRoleBindings().Apply(ctx, binding, ownedApply); err != nil {
		return fmt.Errorf("granting %s its rights: %w", user, err)
	}
	return nil
}
