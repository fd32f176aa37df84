package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/engine"
	"github.com/weft-dev/weft/supervise/control"
)

// address is where a Service of type LoadBalancer answers.
type address struct {
	Service string `json:"service"` // NAMESPACE/NAME
	Port    int    `json:"port"`    // the Service's
	Address string `json:"address"` // host:port
	URL     string `json:"url,omitempty"`
}

func (a address) String() string {
	if a.URL != "" {
		return a.URL
	}
	return fmt.Sprintf("%s port %d: %s", a.Service, a.Port, a.Address)
}

// addressBook tells the addresses on the host's loopback.
type addressBook interface {
	Status(context.Context) (control.Status, error)
}

// waitForAddresses waits until every port of the source's Services of type LoadBalancer has an address, and pages answer.
func (s *session) waitForAddresses(ctx context.Context, progress *output.Progress, timeout time.Duration) ([]address, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("it took longer than %s", timeout))
	defer cancel()
	found := []address{}
	for _, r := range s.set.Resources {
		inputs, _ := engine.Reveal(r.Inputs).(map[string]any)
		service, ok := loadBalancer(&unstructured.Unstructured{Object: inputs})
		if !ok {
			continue
		}
		for _, port := range service.Spec.Ports {
			if port.Protocol != "" && port.Protocol != corev1.ProtocolTCP {
				continue
			}
			a, err := s.waitForPort(ctx, service, port, progress)
			if err != nil {
				return found, err
			}
			found = append(found, a)
		}
	}
	return found, nil
}

func loadBalancer(u *unstructured.Unstructured) (*corev1.Service, bool) {
	if u.GetKind() != "Service" || u.GetAPIVersion() != "v1" {
		return nil, false
	}
	service := &corev1.Service{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, service); err != nil {
		return nil, false // the server has accepted it, so that cannot be
	}
	return service, service.Spec.Type == corev1.ServiceTypeLoadBalancer
}

// waitForPort shows an item only when it has to wait.
func (s *session) waitForPort(ctx context.Context, service *corev1.Service, port corev1.ServicePort, progress *output.Progress) (address, error) {
	name := service.Namespace + "/" + service.Name
	a := address{Service: name, Port: int(port.Port)}
	var item *output.Item
	for {
		reason := "has no address yet"
		host, err := s.lookUp(ctx, service, port)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			return a, err
		case host != "":
			a.Address = host
			if reason = a.probe(ctx, port); reason == "" {
				if item != nil {
					item.Done("answers")
				}
				return a, nil
			}
		}
		if item == nil {
			item = progress.Start("address of " + name)
		}
		item.Wait(reason)
		select {
		case <-ctx.Done():
			item.Fail(reason)
			return a, output.Advise(fmt.Errorf("service %s, port %d: %s: %w", name, port.Port, reason, context.Cause(ctx)),
				"Look at it with `weft kubectl -n "+service.Namespace+" describe service "+service.Name+"`.")
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// lookUp returns host:port of a Service's port, or "" as long as it has none.
func (s *session) lookUp(ctx context.Context, service *corev1.Service, port corev1.ServicePort) (string, error) {
	if s.addresses != nil {
		status, err := s.addresses.Status(ctx)
		if err != nil {
			return "", err
		}
		for _, b := range status.LoadBalancers {
			if b.Namespace == service.Namespace && b.Service == service.Name && b.Port == int(port.Port) {
				if b.Error != "" {
					return "", output.Advise(fmt.Errorf("service %s/%s, port %d: %s", b.Namespace, b.Service, b.Port, b.Error), "Choose another port, or end what uses it.")
				}
				return b.Address, nil
			}
		}
		return "", nil
	}
	u := &unstructured.Unstructured{}
	u.SetAPIVersion("v1")
	u.SetKind("Service")
	u.SetNamespace(service.Namespace)
	u.SetName(service.Name)
	live, err := s.place.Client.Get(ctx, u)
	if err != nil || live == nil {
		return "", err
	}
	now, _ := loadBalancer(live)
	if now == nil {
		return "", nil
	}
	for _, in := range now.Status.LoadBalancer.Ingress {
		host := in.IP
		if host == "" {
			host = in.Hostname
		}
		if host != "" {
			return net.JoinHostPort(host, fmt.Sprint(port.Port)), nil
		}
	}
	return "", nil
}

// probe asks for the page, or opens a connection where no page is to be expected. It returns what is missing, or "" when all is well.
func (a *address) probe(ctx context.Context, port corev1.ServicePort) string {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	scheme := schemeOf(port)
	if scheme != "http" {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", a.Address)
		if err != nil {
			return "does not answer at " + a.Address
		}
		c.Close()
		if scheme != "" {
			a.URL = scheme + "://" + a.Address
		}
		return ""
	}
	a.URL = "http://" + strings.TrimSuffix(a.Address, ":80")
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, a.URL, nil)
	if err != nil {
		return err.Error()
	}
	// The page is on this machine or in a cluster of the user's, so no proxy stands between; a redirect is an answer.
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Do(request)
	if err != nil {
		return "does not answer at " + a.Address + ": " + rootCause(err).Error()
	}
	defer response.Body.Close()
	if response.StatusCode >= http.StatusInternalServerError {
		return "answers " + response.Status
	}
	return ""
}

func rootCause(err error) error {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err
		}
		err = next
	}
}

// schemeOf guesses what a port speaks from its application protocol, name and number; "" where it is nothing for a browser.
func schemeOf(port corev1.ServicePort) string {
	if port.AppProtocol != nil {
		switch strings.ToLower(*port.AppProtocol) {
		case "http", "https":
			return strings.ToLower(*port.AppProtocol)
		}
		return ""
	}
	switch {
	case strings.HasPrefix(port.Name, "https"), port.Port == 443, port.Port == 8443:
		return "https"
	case strings.HasPrefix(port.Name, "http"), strings.HasPrefix(port.Name, "web"), port.Port == 80, port.Port == 8080:
		return "http"
	}
	return ""
}
