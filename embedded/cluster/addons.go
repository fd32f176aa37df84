package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	apicore "k8s.io/client-go/applyconfigurations/core/v1"
	apidiscovery "k8s.io/client-go/applyconfigurations/discovery/v1"
	apirbac "k8s.io/client-go/applyconfigurations/rbac/v1"

	"github.com/weft-dev/weft/embedded/addons/balancer"
	"github.com/weft-dev/weft/embedded/addons/metrics"
	"github.com/weft-dev/weft/embedded/addons/volume"
)

// runVolumes gives claims of the default StorageClass their folders.
func runVolumes(ctx context.Context, a *agent) error {
	v := volume.Controller{Client: a.client, Node: nodeName, Folder: filepath.Join(a.config.State, "data", "volumes")}
	return v.Run(ctx)
}

// runBalancers answers Services of type LoadBalancer on the host's loopback.
func runBalancers(ctx context.Context, a *agent) error {
	b := balancer.Controller{Client: a.client, Network: balancer.Network{
		Listen: func(address string) (net.Listener, error) {
			return inNetwork(a.host, func() (net.Listener, error) { return net.Listen("tcp", address) })
		},
		ListenPacket: func(address string) (net.PacketConn, error) {
			return inNetwork(a.host, func() (net.PacketConn, error) { return net.ListenPacket("udp", address) })
		},
		Dial: (&net.Dialer{}).DialContext, // the agent lives in the node's network
	}}
	return b.Run(ctx)
}

// The metrics API's place in the cluster.
const (
	metricsService = "weft-metrics"
	metricsPort    = 4443
	metricsEvery   = 10 * time.Second // as often as the kubelet measures
)

// runMetrics serves metrics.k8s.io.
func runMetrics(ctx context.Context, a *agent) error {
	pki := State{Dir: a.config.State}.PKI()
	s := metrics.Server{Config: a.rest, Kubeconfig: a.config.Kubeconfig, Node: nodeName, Kubelet: net.JoinHostPort(nodeIPv4, "10250"),
		Listen: net.JoinHostPort(nodeIPv4, strconv.Itoa(metricsPort)), Cert: pki.Cert("metrics"), Key: pki.Key("metrics"), Every: metricsEvery}
	return s.Run(ctx)
}

// announceMetrics lets the API server pass on requests for metrics.k8s.io to the agent.
func (c *cluster) announceMetrics(ctx context.Context) error {
	const namespace = metav1.NamespaceSystem
	service := apicore.Service(metricsService, namespace).WithSpec(apicore.ServiceSpec().
		WithPorts(apicore.ServicePort().WithName("https").WithProtocol(corev1.ProtocolTCP).WithPort(443).WithTargetPort(intstr.FromInt32(metricsPort))))
	if _, err := c.client.CoreV1().Services(namespace).Apply(ctx, service, ownedApply); err != nil {
		return fmt.Errorf("announcing metrics: %w", err)
	}
	slice := apidiscovery.EndpointSlice(metricsService+"-node", namespace).
		WithLabels(map[string]string{discoveryv1.LabelServiceName: metricsService, discoveryv1.LabelManagedBy: "weft"}).
		WithAddressType(discoveryv1.AddressTypeIPv4).
		WithEndpoints(apidiscovery.Endpoint().WithAddresses(nodeIPv4).WithConditions(apidiscovery.EndpointConditions().WithReady(true))).
		WithPorts(apidiscovery.EndpointPort().WithName("https").WithProtocol(corev1.ProtocolTCP).WithPort(metricsPort))
	if _, err := c.client.DiscoveryV1().EndpointSlices(namespace).Apply(ctx, slice, ownedApply); err != nil {
		return fmt.Errorf("announcing metrics: %w", err)
	}
	ca, err := os.ReadFile(c.state.PKI().Cert("ca"))
	if err != nil {
		return err
	}
	for i, version := range metrics.Versions {
		name := version + ".metrics.k8s.io"
		body, err := json.Marshal(map[string]any{
			"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
			"metadata": map[string]any{"name": name},
			"spec": map[string]any{
				"group": "metrics.k8s.io", "version": version, "groupPriorityMinimum": 100, "versionPriority": 100 - i, "caBundle": ca,
				"service": map[string]any{"namespace": namespace, "name": metricsService, "port": 443},
			},
		})
		if err != nil {
			return err
		}
		err = c.client.Discovery().RESTClient().Patch(types.ApplyPatchType).AbsPath("/apis/apiregistration.k8s.io/v1/apiservices", name).
			Param("fieldManager", ownedApply.FieldManager).Param("force", "true").Body(body).Do(ctx).Error()
		if err != nil {
			return fmt.Errorf("announcing metrics: %w", err)
		}
	}
	return c.grantMetrics(ctx)
}

// grantMetrics lets the agent measure and ask the API server who somebody is and what he may do, and lets those who may
// view a namespace see its metrics.
func (c *cluster) grantMetrics(ctx context.Context) error {
	rule := apirbac.PolicyRule
	err := c.grant(ctx, "weft:metrics", agentUser,
		rule().WithAPIGroups("").WithResources("nodes/metrics").WithVerbs("get"),
		rule().WithAPIGroups("").WithResources("pods", "nodes").WithVerbs("get", "list", "watch"),
		rule().WithAPIGroups("authentication.k8s.io").WithResources("tokenreviews").WithVerbs("create"),
		rule().WithAPIGroups("authorization.k8s.io").WithResources("subjectaccessreviews").WithVerbs("create"))
	if err != nil {
		return err
	}
	reader := apirbac.RoleBinding("weft:metrics", metav1.NamespaceSystem).
		WithRoleRef(apirbac.RoleRef().WithAPIGroup(rbacv1.GroupName).WithKind("Role").WithName("extension-apiserver-authentication-reader")).
		WithSubjects(apirbac.Subject().WithAPIGroup(rbacv1.GroupName).WithKind(rbacv1.UserKind).WithName(agentUser))
	if _, err := c.client.RbacV1().RoleBindings(metav1.NamespaceSystem).Apply(ctx, reader, ownedApply); err != nil {
		return fmt.Errorf("granting the metrics API its rights: %w", err)
	}
	view := apirbac.ClusterRole("system:aggregated-metrics-reader").
		WithLabels(map[string]string{"rbac.authorization.k8s.io/aggregate-to-view": "true", "rbac.authorization.k8s.io/aggregate-to-edit": "true",
			"rbac.authorization.k8s.io/aggregate-to-admin": "true"}).
		WithRules(rule().WithAPIGroups("metrics.k8s.io").WithResources("pods", "nodes").WithVerbs("get", "list", "watch"))
	if _, err := c.client.RbacV1().ClusterRoles().Apply(ctx, view, ownedApply); err != nil {
		return fmt.Errorf("letting viewers see metrics: %w", err)
	}
	return nil
}

// grantAddons lets the agent do what the addons need.
func (c *cluster) grantAddons(ctx context.Context) error {
	rule := apirbac.PolicyRule
	return c.grant(ctx, "weft:addons", agentUser,
		rule().WithAPIGroups("").WithResources("persistentvolumeclaims").WithVerbs("get", "list", "watch"),
		rule().WithAPIGroups("").WithResources("persistentvolumes").WithVerbs("get", "list", "watch", "create", "delete"),
		rule().WithAPIGroups("storage.k8s.io").WithResources("storageclasses").WithVerbs("get", "list", "watch", "create", "patch"),
		rule().WithAPIGroups("").WithResources("services").WithVerbs("get", "list", "watch", "patch"),
		rule().WithAPIGroups("").WithResources("services/status").WithVerbs("patch"),
		rule().WithAPIGroups("").WithResources("events").WithVerbs("create", "patch", "update"))
}
