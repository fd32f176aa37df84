package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"
)

// Capability is what a host may be used for.
type Capability int

// Capabilities of a host, as containerd's hosts.toml names them.
const (
	CapabilityPull    Capability = 1 << iota // read manifests and blobs by digest
	CapabilityResolve                        // say what a tag means
	CapabilityPush                           // take pushes
)

// Host is an address that serves a registry: itself or a mirror of it.
type Host struct {
	Name         string      // host or host:port
	Scheme       string      // http or https
	Base         string      // path of the API, "/v2" unless it is overridden
	Capabilities Capability  // 0: all
	Header       http.Header // sent with each request to this host
	TLS          TLS
	DialTimeout  time.Duration // 0: default
	Mirror       bool          // it is not the registry itself: it is told for which one it is asked
}

// TLS of a host. Paths are of PEM files.
type TLS struct {
	CA         []string
	Client     [][2]string // certificate and key; the key may be empty if it is in the same file
	SkipVerify bool
}

func (t TLS) isZero() bool { return len(t.CA) == 0 && len(t.Client) == 0 && !t.SkipVerify }

// Mirrors says which hosts serve a registry, in the order to ask them. None means the registry itself.
type Mirrors interface {
	Hosts(ctx context.Context, registry string) ([]Host, error)
}

// ExplicitMirrors are mirrors by registry ("docker.io" or "registry.example.com:5000", "*" for all others), as URLs such as
// https://mirror.example.com or https://cache.example.com/v2/hub. They are used for pulling; the registry itself is
// asked last.
type ExplicitMirrors map[string][]string

// Hosts lists the mirrors of a registry.
func (m ExplicitMirrors) Hosts(_ context.Context, registry string) ([]Host, error) {
	urls, ok := m[hubAlias(registry)]
	if !ok {
		urls, ok = m["*"]
	}
	if !ok {
		return nil, nil
	}
	var hosts []Host
	for _, u := range urls {
		h, err := parseHostURL(u)
		if err != nil {
			return nil, fmt.Errorf("mirror of %s: %w", registry, err)
		}
		h.Capabilities, h.Mirror = CapabilityPull|CapabilityResolve, true
		hosts = append(hosts, h)
	}
	return hosts, nil
}

// hubAlias is the name under which people configure Docker Hub.
func hubAlias(registry string) string {
	if registry == DockerHub {
		return "docker.io"
	}
	return registry
}

// parseHostURL reads the URL of a host: https unless it says otherwise or is loopback, and /v2 is added to its path.
func parseHostURL(s string) (Host, error) {
	text := s
	if !strings.Contains(text, "://") {
		scheme := "https://"
		if first, _, _ := strings.Cut(text, "/"); IsLoopback(first) {
			scheme = "http://"
		}
		text = scheme + text
	}
	u, err := url.Parse(text)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || !hostPattern.MatchString(u.Host) {
		return Host{}, fmt.Errorf("%q is not a host: expected https://HOST[:PORT][/PATH]", s)
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return Host{}, fmt.Errorf("%q: user, query and fragment have no place in a host", u.Redacted())
	}
	base := strings.TrimRight(u.Path, "/")
	if !strings.HasSuffix(base, "/v2") && !strings.Contains(base, "/v2/") {
		base += "/v2"
	}
	return Host{Name: u.Host, Scheme: u.Scheme, Base: base}, nil
}

// origin is the host that is the registry itself.
func (c *Client) origin(registry string) Host {
	h := Host{Name: registry, Scheme: "https", Base: "/v2"}
	if IsLoopback(registry) || slices.Contains(c.options.PlainHTTP, registry) {
		h.Scheme = "http"
	} else if name, _, err := net.SplitHostPort(registry); err == nil && slices.Contains(c.options.PlainHTTP, name) {
		h.Scheme = "http"
	}
	return h
}

// hosts lists who can do that for a registry; there is at least one.
func (c *Client) hosts(ctx context.Context, registry string, can Capability) ([]Host, error) {
	if !hostPattern.MatchString(registry) {
		return nil, fmt.Errorf("%q is not a host or host:port", registry)
	}
	var all []Host
	if c.options.Mirrors != nil {
		found, err := c.options.Mirrors.Hosts(ctx, registry)
		if err != nil {
			return nil, err
		}
		all = found
	}
	if !slices.ContainsFunc(all, func(h Host) bool { return !h.Mirror }) {
		all = append(slices.Clip(all), c.origin(registry))
	}
	able := slices.DeleteFunc(slices.Clone(all), func(h Host) bool { return h.Capabilities != 0 && h.Capabilities&can == 0 })
	if len(able) == 0 {
		return nil, fmt.Errorf("no host of %s is configured to %s", registry, can)
	}
	return able, nil
}

// String is the word of hosts.toml.
func (c Capability) String() string {
	switch c {
	case CapabilityPull:
		return "pull"
	case CapabilityResolve:
		return "resolve"
	case CapabilityPush:
		return "push"
	}
	return fmt.Sprintf("capability %d", int(c))
}

// url is the address of a path below the host's API. A path may be a whole URL, as a registry's Location is. A mirror
// is told by the parameter ns for which registry it is asked, as containerd does.
func (h Host) url(path, query string, repo Repository) (string, error) {
	target := h.Scheme + "://" + h.Name + h.Base + path
	if strings.Contains(path, "://") {
		target = path
	}
	u, err := url.Parse(target)
	if err != nil {
		return "", fmt.Errorf("%q is not a URL", printable(target, 200))
	}
	if query == "" && !h.Mirror {
		return u.String(), nil
	}
	q := u.Query()
	extra, err := url.ParseQuery(query)
	if err != nil {
		return "", err
	}
	for k, v := range extra {
		q[k] = v
	}
	if h.Mirror && repo.Host != "" {
		q.Set("ns", hubAlias(repo.Host))
	}
	u.RawQuery = q.Encode()
	return u.String(), nil
}

// transportOf is the client's transport, or one with the host's TLS settings.
func (c *Client) transportOf(h Host) (http.RoundTripper, error) {
	if h.TLS.isZero() && h.DialTimeout == 0 {
		return c.transport, nil
	}
	key := fmt.Sprintf("%s %v %v", h.Name, h.TLS, h.DialTimeout)
	c.mu.Lock()
	defer c.mu.Unlock()
	if t, ok := c.transports[key]; ok {
		return t, nil
	}
	config, err := h.TLS.config()
	if err != nil {
		return nil, fmt.Errorf("host %s: %w", h.Name, err)
	}
	t := newTransport()
	t.TLSClientConfig = config
	if h.DialTimeout > 0 {
		t.DialContext = (&net.Dialer{Timeout: h.DialTimeout, KeepAlive: 30 * time.Second}).DialContext
	}
	c.transports[key] = t
	return t, nil
}

func (t TLS) config() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: t.SkipVerify} // the person who configures the host asks for it
	if len(t.CA) > 0 {
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		for _, path := range t.CA {
			pem, err := os.ReadFile(path)
			if err != nil {
				return nil, fmt.Errorf("reading the certificate authority: %w", err)
			}
			if !pool.AppendCertsFromPEM(pem) {
				return nil, fmt.Errorf("%s holds no PEM certificate", path)
			}
		}
		config.RootCAs = pool
	}
	for _, pair := range t.Client {
		key := pair[1]
		if key == "" {
			key = pair[0]
		}
		cert, err := tls.LoadX509KeyPair(pair[0], key)
		if err != nil {
			return nil, fmt.Errorf("reading the client certificate %s: %w", pair[0], err)
		}
		config.Certificates = append(config.Certificates, cert)
	}
	return config, nil
}
