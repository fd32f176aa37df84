// Package balancer answers Services of type LoadBalancer on the host's loopback, 127.0.0.1 and ::1: it listens there and forwards
// to the Service's cluster IP. How to listen on the host and how to reach the cluster are handed in; it must not know of network
// namespaces nor how the cluster's processes run.
package balancer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcore "k8s.io/client-go/kubernetes/typed/core/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/workqueue"
)

const (
	// Class is the loadBalancerClass that is served besides none.
	Class = "weft.dev/loopback"
	// AddressAnnotation on a Service says where it answers on the host: 127.0.0.1:PORT for each of its ports, in their
	// order, joined by commas. [::1]:PORT leads to the same where the host has IPv6.
	AddressAnnotation = "weft.dev/address"

	loopback  = "127.0.0.1"
	loopback6 = "::1"
)

// errUnsupported is told once as an event; another attempt would not help.
var errUnsupported = errors.New("the protocol is not supported")

// Network is how connections are made.
type Network struct {
	Listen       func(address string) (net.Listener, error)                           // TCP on the host
	ListenPacket func(address string) (net.PacketConn, error)                         // UDP on the host
	Dial         func(ctx context.Context, network, address string) (net.Conn, error) // into the cluster
}

// Controller answers the Services of one cluster.
type Controller struct {
	Client  kubernetes.Interface
	Network Network

	services corelisters.ServiceLister
	queue    workqueue.TypedRateLimitingInterface[types.NamespacedName]
	events   record.EventRecorder
	open     map[types.NamespacedName]map[portKey]*forward // used by one goroutine
}

// portKey is one port of a Service.
type portKey struct {
	protocol corev1.Protocol
	port     int32
}

// Run serves until ctx ends; then everything is closed.
func (c *Controller) Run(ctx context.Context) error {
	broadcaster := record.NewBroadcaster(record.WithContext(ctx))
	defer broadcaster.Shutdown()
	broadcaster.StartRecordingToSink(&typedcore.EventSinkImpl{Interface: c.Client.CoreV1().Events("")})
	c.events = broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "loopback-balancer"})
	c.open = map[types.NamespacedName]map[portKey]*forward{}
	defer func() {
		for name := range c.open {
			c.close(name, nil)
		}
	}()
	c.queue = workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[types.NamespacedName](100*time.Millisecond, 30*time.Second))
	factory := informers.NewSharedInformerFactory(c.Client, 10*time.Minute)
	defer factory.Shutdown()
	services := factory.Core().V1().Services()
	c.services = services.Lister()
	if _, err := services.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    c.enqueue,
		UpdateFunc: func(_, obj any) { c.enqueue(obj) },
		DeleteFunc: c.enqueue,
	}); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx) // before the factory's shutdown, which waits for it
	defer cancel()
	factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), services.Informer().HasSynced) {
		return fmt.Errorf("reading the list of Services: %w", context.Cause(ctx))
	}
	go func() {
		<-ctx.Done()
		c.queue.ShutDown()
	}()
	for {
		name, shutdown := c.queue.Get()
		if shutdown {
			return nil
		}
		if err := c.sync(ctx, name); err != nil {
			c.queue.AddRateLimited(name)
		} else {
			c.queue.Forget(name)
		}
		c.queue.Done(name)
	}
}

func (c *Controller) enqueue(obj any) {
	if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = gone.Obj
	}
	if s, ok := obj.(*corev1.Service); ok {
		c.queue.Add(types.NamespacedName{Namespace: s.Namespace, Name: s.Name})
	}
}

// ours says whether a Service is to be answered.
func ours(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeLoadBalancer && s.DeletionTimestamp == nil &&
		(s.Spec.LoadBalancerClass == nil || *s.Spec.LoadBalancerClass == Class)
}

// sync opens and closes what a Service needs now and writes that into its status.
func (c *Controller) sync(ctx context.Context, name types.NamespacedName) error {
	s, err := c.services.Services(name.Namespace).Get(name.Name)
	if apierrors.IsNotFound(err) {
		c.close(name, nil)
		return nil
	}
	if err != nil {
		return err
	}
	if !ours(s) {
		wasOurs := c.open[name] != nil || s.Annotations[AddressAnnotation] != ""
		c.close(name, nil)
		if wasOurs && s.DeletionTimestamp == nil {
			return c.publish(ctx, s, nil, nil, "")
		}
		return nil
	}
	target := clusterIP(s)
	if target == "" {
		return nil // it is given one soon
	}
	keep := map[portKey]bool{}
	for _, p := range s.Spec.Ports {
		keep[keyOf(p)] = true
	}
	c.close(name, keep)
	if c.open[name] == nil {
		c.open[name] = map[portKey]*forward{}
	}
	var failures []error
	var status []corev1.PortStatus
	var addresses []string
	hosts := []string{loopback, loopback6}
	for i, p := range s.Spec.Ports {
		f, err := c.forward(s, i, target)
		if err != nil {
			if !errors.Is(err, errUnsupported) {
				failures = append(failures, err)
			}
			continue
		}
		status = append(status, corev1.PortStatus{Port: int32(f.port), Protocol: protocolOf(p)})
		hosts = hosts[:min(len(hosts), len(f.closers))] // one listener for each
		addresses = append(addresses, net.JoinHostPort(loopback, strconv.Itoa(f.port)))
	}
	return errors.Join(append(failures, c.publish(ctx, s, hosts, status, strings.Join(addresses, ",")))...)
}

func keyOf(p corev1.ServicePort) portKey { return portKey{protocolOf(p), p.Port} }

func protocolOf(p corev1.ServicePort) corev1.Protocol {
	if p.Protocol == "" {
		return corev1.ProtocolTCP
	}
	return p.Protocol
}

// clusterIP is the address in the cluster, IPv4 if there is one.
func clusterIP(s *corev1.Service) string {
	for _, ip := range append(slices.Clone(s.Spec.ClusterIPs), s.Spec.ClusterIP) {
		if parsed := net.ParseIP(ip); parsed != nil && parsed.To4() != nil {
			return ip
		}
	}
	if net.ParseIP(s.Spec.ClusterIP) != nil {
		return s.Spec.ClusterIP
	}
	return ""
}

// forward finds or opens the listener for a port of a Service.
func (c *Controller) forward(s *corev1.Service, index int, target string) (*forward, error) {
	name := types.NamespacedName{Namespace: s.Namespace, Name: s.Name}
	p := s.Spec.Ports[index]
	address := net.JoinHostPort(target, strconv.Itoa(int(p.Port)))
	if f := c.open[name][keyOf(p)]; f != nil {
		f.setTarget(address)
		return f, nil
	}
	if protocol := protocolOf(p); protocol != corev1.ProtocolTCP && protocol != corev1.ProtocolUDP {
		c.events.Eventf(s, corev1.EventTypeWarning, "UnsupportedProtocol", "port %d: %s cannot be answered on the host's loopback, only TCP and UDP", p.Port, protocol)
		return nil, errUnsupported
	}
	var last error
	for _, port := range candidates(s, index) {
		f, err := c.listen(protocolOf(p), port, address)
		if err != nil {
			last = err
			continue
		}
		if f.port != int(p.Port) {
			c.events.Eventf(s, corev1.EventTypeNormal, "OtherPort", "port %d of %s is taken on the host; the Service answers at %s:%d", p.Port, loopback, loopback, f.port)
		} else {
			c.events.Eventf(s, corev1.EventTypeNormal, "Listening", "The Service answers at %s:%d", loopback, f.port)
		}
		c.open[name][keyOf(p)] = f
		return f, nil
	}
	c.events.Eventf(s, corev1.EventTypeWarning, "NoPort", "no port could be opened on the host's loopback for port %d: %v", p.Port, last)
	return nil, last
}

// candidates are the host's ports to try: the Service's own, the one it had before, its node port, any.
func candidates(s *corev1.Service, index int) []int {
	p := s.Spec.Ports[index]
	ports := []int{int(p.Port)}
	before := strings.Split(s.Annotations[AddressAnnotation], ",")
	if len(before) == len(s.Spec.Ports) {
		if _, text, err := net.SplitHostPort(before[index]); err == nil {
			if n, err := strconv.Atoi(text); err == nil && n > 0 && n < 1<<16 {
				ports = append(ports, n)
			}
		}
	}
	if p.NodePort > 0 {
		ports = append(ports, int(p.NodePort))
	}
	return append(ports, 0)
}

// listen opens a port of the host, 0 for any, on both loopback addresses: a name such as localhost may mean either. A host without IPv6 has
// one only.
func (c *Controller) listen(protocol corev1.Protocol, port int, target string) (*forward, error) {
	if protocol == corev1.ProtocolUDP {
		conns, err := listenBoth(port, c.Network.ListenPacket, func(p net.PacketConn) net.Addr { return p.LocalAddr() })
		if err != nil {
			return nil, err
		}
		return forwardUDP(conns, c.Network.Dial, target), nil
	}
	listeners, err := listenBoth(port, c.Network.Listen, net.Listener.Addr)
	if err != nil {
		return nil, err
	}
	return forwardTCP(listeners, c.Network.Dial, target), nil
}

// listenBoth opens one port on 127.0.0.1 and ::1, or none.
func listenBoth[L io.Closer](port int, listen func(address string) (L, error), addr func(L) net.Addr) ([]L, error) {
	for attempt := 0; ; attempt++ {
		four, err := listen(net.JoinHostPort(loopback, strconv.Itoa(port)))
		if err != nil {
			return nil, err
		}
		six, err := listen(net.JoinHostPort(loopback6, strconv.Itoa(portOf(addr(four)))))
		switch {
		case err == nil:
			return []L{four, six}, nil
		case errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, syscall.EAFNOSUPPORT), errors.Is(err, syscall.EPROTONOSUPPORT):
			return []L{four}, nil // no IPv6 here
		}
		four.Close()
		if port != 0 || attempt == 9 { // the port that any of IPv4 gave may be taken in IPv6
			return nil, err
		}
	}
}

func portOf(a net.Addr) int {
	switch a := a.(type) {
	case *net.TCPAddr:
		return a.Port
	case *net.UDPAddr:
		return a.Port
	}
	return 0
}

// close closes the ports of a Service that are not to be kept.
func (c *Controller) close(name types.NamespacedName, keep map[portKey]bool) {
	for key, f := range c.open[name] {
		if !keep[key] {
			f.close()
			delete(c.open[name], key)
		}
	}
	if len(c.open[name]) == 0 {
		delete(c.open, name)
	}
}

// publish writes where a Service answers into its status and annotation, if that is not there already.
func (c *Controller) publish(ctx context.Context, s *corev1.Service, hosts []string, ports []corev1.PortStatus, addresses string) error {
	var ingress []corev1.LoadBalancerIngress
	if len(ports) > 0 {
		// Mode Proxy keeps kube-proxy from sending the cluster's own traffic for loopback to the Service.
		mode := corev1.LoadBalancerIPModeProxy
		for _, host := range hosts {
			ingress = append(ingress, corev1.LoadBalancerIngress{IP: host, IPMode: &mode, Ports: ports})
		}
	}
	if s.Annotations[AddressAnnotation] != addresses {
		var value any
		if addresses != "" {
			value = addresses
		}
		patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]any{AddressAnnotation: value}}})
		if err != nil {
			return err
		}
		if _, err := c.Client.CoreV1().Services(s.Namespace).Patch(ctx, s.Name, types.MergePatchType, patch, metav1.PatchOptions{}); ignoreGone(err) != nil {
			return err
		}
	}
	if sameIngress(s.Status.LoadBalancer.Ingress, ingress) {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"status": map[string]any{"loadBalancer": map[string]any{"ingress": ingress}}})
	if err != nil {
		return err
	}
	_, err = c.Client.CoreV1().Services(s.Namespace).Patch(ctx, s.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	return ignoreGone(err)
}

func ignoreGone(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

func sameIngress(a, b []corev1.LoadBalancerIngress) bool {
	return slices.EqualFunc(a, b, func(x, y corev1.LoadBalancerIngress) bool {
		return x.IP == y.IP && x.Hostname == y.Hostname && slices.Equal(x.Ports, y.Ports) && (x.IPMode == nil) == (y.IPMode == nil)
	})
}
