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

// set says whether that is something new.
func (c *credentials) set(repository string, config authn.AuthConfig) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	old, ok := c.known[repository]
	c.known[repository] = config
	return !ok || old != config
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

// SetCredentials says with what a repository (HOST/PATH) is read from now on, for images that are prepared, too. They are kept in memory, and left to the
// next process that serves the folder.
func (s *Service) SetCredentials(repository string, config authn.AuthConfig) {
	if s.credentials.set(repository, config) {
		s.guard.secrets()
	}
}
