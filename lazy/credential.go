package lazy

import (
	"sync"

	"github.com/google/go-containerregistry/pkg/authn"
)

// credentials are those of requests, by repository, in front of others. They are kept in memory only.
type credentials struct {
	next authn.Keychain

	mu    sync.Mutex
	known map[string]authn.AuthConfig
}

// Resolve answers with the credentials of a repository.
func (c *credentials) Resolve(r authn.Resource) (authn.Authenticator, error) {
	c.mu.Lock()
	config, ok := c.known[r.String()]
	c.mu.Unlock()
	if ok {
		return authn.FromConfig(config), nil
	}
	if c.next == nil {
		return authn.Anonymous, nil
	}
	return c.next.Resolve(r)
}

func (c *credentials) set(repository string, config authn.AuthConfig) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known[repository] = config
}

// all is a copy of what is known.
func (c *credentials) all() map[string]authn.AuthConfig {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := make(map[string]authn.AuthConfig, len(c.known))
	for k, v := range c.known {
		m[k] = v
	}
	return m
}
