package lazy

import (
	"context"
	"maps"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/weft-dev/weft/registry"
)

// credentials are those of requests, by repository, in front of others. They are kept in memory only, and the next process that serves the folder gets them.
type credentials struct {
	next    authn.Keychain
	follows bool   // next is not asked: what it answered an earlier process counts
	changed func() // what the next process is to get; nil: nobody wants to know

	mu    sync.Mutex
	known map[string]authn.AuthConfig
	lent  map[string]authn.AuthConfig // what next answered last, nothing included
}

// maxLent bounds for how many repositories others' answers are remembered. When there are more all are forgotten: they are asked again.
const maxLent = 10000

func newCredentials(next authn.Keychain, follows bool) *credentials {
	return &credentials{next: next, follows: follows, known: map[string]authn.AuthConfig{}, lent: map[string]authn.AuthConfig{}}
}

// Resolve answers with the credentials of a repository.
func (c *credentials) Resolve(r authn.Resource) (authn.Authenticator, error) {
	name := r.String()
	c.mu.Lock()
	config, ok := c.known[name]
	if !ok && c.follows {
		config, ok = c.lent[name]
	}
	c.mu.Unlock()
	if ok && config != (authn.AuthConfig{}) {
		return authn.FromConfig(config), nil
	}
	if c.next == nil || c.follows {
		return authn.Anonymous, nil
	}
	a, err := c.next.Resolve(r)
	if err == nil {
		c.remember(name, a)
	}
	return a, err
}

// remember keeps an answer for the next process.
func (c *credentials) remember(name string, a authn.Authenticator) {
	config, err := authn.Authorization(context.Background(), a)
	if err != nil {
		return // who asked finds that out
	}
	c.mu.Lock()
	old := c.lent[name]
	if len(c.lent) >= maxLent {
		clear(c.lent)
	}
	c.lent[name] = *config
	c.mu.Unlock()
	if old != *config && c.changed != nil {
		c.changed()
	}
}

// again asks others again for what they were asked before, so that the next process gets what holds now.
func (c *credentials) again() {
	if c.next == nil || c.follows {
		return
	}
	c.mu.Lock()
	names := maps.Clone(c.lent)
	c.mu.Unlock()
	for name := range names {
		host, path, _ := strings.Cut(name, "/")
		_, _ = c.Resolve(registry.Repository{Host: host, Name: path}) // an error leaves what was known
	}
}

// set says whether that is something new.
func (c *credentials) set(repository string, config authn.AuthConfig) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	old, ok := c.known[repository]
	c.known[repository] = config
	return !ok || old != config
}

// inheritance is what the next process gets.
type inheritance struct {
	Version int                         `json:"version"`
	Known   map[string]authn.AuthConfig `json:"known"` // of requests
	Lent    map[string]authn.AuthConfig `json:"lent"`  // others' answers
}

const inheritanceVersion = 2 // 1 was the map of those of requests alone

func (c *credentials) leave() inheritance {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := inheritance{inheritanceVersion, maps.Clone(c.known), maps.Clone(c.lent)}
	maps.DeleteFunc(i.Lent, func(_ string, a authn.AuthConfig) bool { return a == (authn.AuthConfig{}) })
	return i
}

func (c *credentials) inherit(i inheritance) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.Copy(c.known, i.Known)
	maps.Copy(c.lent, i.Lent)
}

// SetCredentials says with what a repository (HOST/PATH) is read from now on, for images that are prepared, too. They are kept in memory, and left to the
// next process that serves the folder.
func (s *Service) SetCredentials(repository string, config authn.AuthConfig) {
	if s.credentials.set(repository, config) {
		s.guard.secrets()
	}
}
