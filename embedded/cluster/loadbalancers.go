package cluster

import (
	"cmp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"

	"github.com/weft-dev/weft/embedded/addons/balancer"
	"github.com/weft-dev/weft/supervise/control"
)

// watchLoadBalancers keeps the addresses of LoadBalancer services on the board until the cluster stops.
func (c *cluster) watchLoadBalancers() {
	factory := informers.NewSharedInformerFactoryWithOptions(c.client, 0, informers.WithTransform(trimService))
	services := factory.Core().V1().Services()
	show := func() {
		// The lister reads memory: it cannot fail on a selector that selects everything.
		list := services.Informer().GetStore().List()
		found := []control.LoadBalancer{}
		for _, o := range list {
			if s, ok := o.(*corev1.Service); ok {
				found = append(found, loadBalancers(s)...)
			}
		}
		slices.SortFunc(found, func(a, b control.LoadBalancer) int {
			return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Service, b.Service), cmp.Compare(a.Port, b.Port))
		})
		c.board.update(func(s *control.Status) { s.LoadBalancers = found })
	}
	_, err := services.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { show() },
		UpdateFunc: func(any, any) { show() },
		DeleteFunc: func(any) { show() },
	})
	if err != nil {
		return // only a stopped informer refuses, and this one has not been started
	}
	factory.StartWithContext(c.background)
}

// trimService drops what is not shown.
func trimService(o any) (any, error) {
	if s, ok := o.(*corev1.Service); ok {
		s.ManagedFields = nil
	}
	return o, nil
}

// loadBalancers lists where each port of a Service answers. A port without an address yet is shown with the reason.
func loadBalancers(s *corev1.Service) []control.LoadBalancer {
	if s.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return nil
	}
	addresses := strings.Split(s.Annotations[balancer.AddressAnnotation], ",")
	var list []control.LoadBalancer
	for i, p := range s.Spec.Ports {
		b := control.LoadBalancer{Namespace: s.Namespace, Service: s.Name, Port: int(p.Port), Protocol: string(p.Protocol)}
		if i < len(addresses) && addresses[i] != "" {
			b.Address = addresses[i]
		} else {
			b.Error = "no address on the host since " + s.CreationTimestamp.Format(time.TimeOnly) + "; `weft kubectl describe service` says why"
		}
		list = append(list, b)
	}
	return list
}
