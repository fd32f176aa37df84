// Package controlplane runs one embedded Kubernetes control plane in this process: etcd, the API server, the controller
// manager and the scheduler, wired from upstream's options without their command objects, because those install signal
// handlers and end the process by themselves.
//
// Kubernetes keeps feature gates and metrics in process-wide variables, so a process runs at most one control plane.
// The package knows nothing of nodes, containers or the command line.
package controlplane

import (
	"context"
	"net"
	"net/http"
	"path/filepath"

	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/client-go/rest"

	"github.com/weft-dev/weft/embedded/pki"
)

// AdminGroup is the group of the user in the kubeconfig that is handed out. It is bound to cluster-admin by an ordinary
// binding; it is not system:masters, which passes before every authorizer.
const AdminGroup = "weft:admins"

// Config says how a control plane runs. All paths are absolute.
type Config struct {
	Data        string     // folder of etcd's data
	Run         string     // folder for sockets; the process changes into it, since socket paths may not be long
	PKI         pki.Folder // as filled by Certificates
	Listeners   []net.Listener
	Components  string   // kubeconfig folder: controller-manager.kubeconfig and scheduler.kubeconfig
	Advertise   net.IP   // address under which pods reach the API server
	Endpoints   bool     // keep the endpoints of the Service "kubernetes" at Advertise
	ServiceCIDR []string // one per IP family
	Fsync       bool     // off only for tests: a crash of the machine then loses data
	Plugins     string   // folder for volume plugins, which upstream would make under /usr

	AuthorizationConfig string // file with an AuthorizationConfiguration; empty means Node and RBAC
	AdmissionManifests  string // folder of folders named after admission plugins, with static manifests; empty means none
	FeatureGates        map[string]bool
	ExtraArgs           []string // further flags of kube-apiserver

	// Guard, when set, makes what stands in front of the server. loopback reaches it with rights above all authorizers, once it serves.
	Guard func(loopback *rest.Config) (*Guard, error)
}

// Guard is what stands in front of a server. Each part may be nil.
type Guard struct {
	// Authorizer stands in front of the configured authorizers of all three servers of the chain.
	Authorizer func(next authorizer.Authorizer) authorizer.Authorizer
	// Authenticator stands around what authenticates requests.
	Authenticator func(next authenticator.Request) authenticator.Request
	// Admission stands in front of the admission plugins of all three servers of the chain.
	Admission func(next admission.Interface) admission.Interface
	// Outer stands in front of all filters, Inner behind them. long says which requests are streams.
	Outer func(next http.Handler) http.Handler
	Inner func(long func(*http.Request, *request.RequestInfo) bool, next http.Handler) http.Handler
	// Run works until the context ends; it begins before the server serves. An error ends the control plane.
	Run func(context.Context) error
}

const (
	etcdSocket        = "etcd.sock"
	etcdPeerSocket    = "etcd-peer.sock"
	serviceAccountKey = "service-account"
)

// Certificates makes whatever is missing in folder: the authorities, the certificates of the control plane and the
// kubeconfig of its components, which reach the API server at server. names and ips are what clients may call it.
func Certificates(folder pki.Folder, components, server string, names []string, ips []net.IP) error {
	ca, err := folder.Authority("ca")
	if err != nil {
		return err
	}
	front, err := folder.Authority("front-proxy-ca")
	if err != nil {
		return err
	}
	if err := folder.SigningKey(serviceAccountKey); err != nil {
		return err
	}
	names = append([]string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"}, names...)
	ips = append([]net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}, ips...)
	requests := []pki.Request{
		{Name: "apiserver", CommonName: "kube-apiserver", DNSNames: names, IPs: ips, Server: true},
		{Name: "apiserver-kubelet-client", CommonName: "kube-apiserver-kubelet-client", Organization: []string{"weft:kubelet-api-admins"}, Client: true},
		{Name: "controller-manager", CommonName: "system:kube-controller-manager", Client: true},
		{Name: "scheduler", CommonName: "system:kube-scheduler", Client: true},
		{Name: "admin", CommonName: "weft-admin", Organization: []string{AdminGroup}, Client: true},
	}
	for _, r := range requests {
		if _, err := ca.Issue(r); err != nil {
			return err
		}
	}
	if _, err := front.Issue(pki.Request{Name: "front-proxy-client", CommonName: "front-proxy-client", Client: true}); err != nil {
		return err
	}
	for _, name := range []string{"controller-manager", "scheduler"} {
		if err := Kubeconfig(folder, ca, name, server).Write(filepath.Join(components, name+".kubeconfig")); err != nil {
			return err
		}
	}
	return nil
}

// Kubeconfig describes the kubeconfig of the client certificate called name.
func Kubeconfig(folder pki.Folder, ca *pki.Authority, name, server string) pki.Kubeconfig {
	return pki.Kubeconfig{Cluster: "weft", Server: server, CAPEM: ca.CertPEM(), User: name, Cert: folder.Cert(name), Key: folder.Key(name)}
}
