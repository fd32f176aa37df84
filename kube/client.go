// Package kube changes a Kubernetes cluster: it applies objects by server-side apply under one field manager, knows
// which objects it owns (a label and an inventory), removes those that are no longer wanted, tells what would change,
// and waits until objects are ready, with reasons.
//
// It works on manifests and knows nothing of what they are for. It must not know Weft's other parts.
package kube

import (
	"context"
	"net"
	"net/url"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// FieldManager is the field manager under which Weft applies unless told otherwise.
const FieldManager = "weft"

// Client is a connection to one cluster. It may be used by several goroutines.
type Client struct {
	host     string
	dynamic  dynamic.Interface
	metadata metadata.Interface
	kinds    *kinds
	schemas  *schemas
	warnings *warnings
	manager  string
}

// Option changes a Client.
type Option func(*Client)

// WithFieldManager applies under another name than FieldManager.
func WithFieldManager(name string) Option { return func(c *Client) { c.manager = name } }

// New connects with the given configuration, which is copied. Unless it sets a rate, requests to a loopback address
// are not limited and others are limited to 50 a second with bursts of 300, like kubectl's.
func New(cfg *rest.Config, opts ...Option) (*Client, error) {
	cfg = rest.CopyConfig(cfg)
	if cfg.QPS == 0 && cfg.RateLimiter == nil {
		cfg.QPS, cfg.Burst = 50, 300
		if isLoopback(cfg.Host) {
			cfg.QPS = -1
		}
	}
	if cfg.UserAgent == "" {
		cfg.UserAgent = FieldManager
	}
	w := &warnings{}
	cfg.WarningHandlerWithContext = w
	httpClient, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, err
	}
	dyn, err := dynamic.NewForConfigAndClient(cfg, httpClient)
	if err != nil {
		return nil, err
	}
	meta, err := metadata.NewForConfigAndClient(metadata.ConfigFor(cfg), httpClient)
	if err != nil {
		return nil, err
	}
	disco, err := discovery.NewDiscoveryClientForConfigAndClient(cfg, httpClient)
	if err != nil {
		return nil, err
	}
	c := &Client{host: cfg.Host, dynamic: dyn, metadata: meta, kinds: newKinds(disco), schemas: &schemas{disco: disco}, warnings: w, manager: FieldManager}
	for _, o := range opts {
		o(c)
	}
	return c, nil
}

// Config finds a cluster's configuration as kubectl does: the given file, else $KUBECONFIG, else ~/.kube/config, with
// the given context or the file's current one. It also returns the context's namespace ("default" if it names none).
func Config(file, contextName string) (cfg *rest.Config, namespace string, err error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = file
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: contextName})
	if cfg, err = loader.ClientConfig(); err != nil {
		return nil, "", err
	}
	namespace, _, err = loader.Namespace()
	return cfg, namespace, err
}

func isLoopback(host string) bool {
	u, err := url.Parse(host)
	if err != nil || u.Hostname() == "" {
		u = &url.URL{Host: host}
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

// on returns the client for one kind in one namespace ("" for cluster-scoped kinds and for all namespaces).
func (c *Client) on(r Resource, namespace string) dynamic.ResourceInterface {
	if r.Namespaced && namespace != "" {
		return c.dynamic.Resource(r.GVR).Namespace(namespace)
	}
	return c.dynamic.Resource(r.GVR)
}

// Get reads the live object that has the identity of the given one; nil without an error if there is none.
func (c *Client) Get(ctx context.Context, u *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	r, err := c.kinds.find(ctx, u.GroupVersionKind())
	if err != nil {
		return nil, err
	}
	return c.get(ctx, r, u.GetNamespace(), u.GetName())
}

// warnings collects what the server warns of (deprecated versions, doubtful fields), each text once.
type warnings struct {
	mu   sync.Mutex
	seen map[string]bool
	tell func(text string)
}

// HandleWarningHeaderWithContext implements rest.WarningHandlerWithContext.
func (w *warnings) HandleWarningHeaderWithContext(_ context.Context, code int, _ string, text string) {
	if code != 299 || text == "" {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.seen == nil {
		w.seen = map[string]bool{}
	}
	if w.seen[text] {
		return
	}
	w.seen[text] = true
	if w.tell != nil {
		w.tell(text)
	}
}

func (w *warnings) to(tell func(text string)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tell = tell
}
