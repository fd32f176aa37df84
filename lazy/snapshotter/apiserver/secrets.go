package apiserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/weft-dev/weft/registry"
)

// Secrets are the credentials of a cluster's Secrets of the type kubernetes.io/dockerconfigjson. They are watched, and kept in memory only. As a keychain
// it takes for a repository the entry with the longest path that fits, as the kubelet does; of several the one of the youngest Secret. Unlike the
// kubelet it is not told for which pod an image is fetched; containerd has read the image's manifest with that pod's own before.
type Secrets struct {
	client     *Client
	namespaces []string // one that is "" stands for all
	log        *slog.Logger
	next       authn.Keychain

	mu    sync.Mutex
	known map[string]map[string]secret // by what is followed, and NAMESPACE/NAME
}

// secret is one of them.
type secret struct {
	entries []entry
	made    time.Time
}

// entry are the credentials of a registry, or of some of its repositories.
type entry struct {
	host string // may have * in the parts of the name, as in *.example.com
	path string // beginning of the repositories' names
	auth authn.AuthConfig
}

// NewSecrets knows nothing before Run. It asks next (nil: nobody) for what no Secret fits. Without namespaces it reads those of all.
func NewSecrets(client *Client, namespaces []string, next authn.Keychain, log *slog.Logger) *Secrets {
	if len(namespaces) == 0 {
		namespaces = []string{""}
	}
	return &Secrets{client: client, namespaces: namespaces, log: log, next: next, known: map[string]map[string]secret{}}
}

// Run reads the Secrets and follows their changes until the context ends. ready is closed when all were read once.
func (s *Secrets) Run(ctx context.Context, ready chan<- struct{}) {
	var first, all sync.WaitGroup
	first.Add(len(s.namespaces))
	for _, ns := range s.namespaces {
		all.Go(func() { s.follow(ctx, ns, sync.OnceFunc(first.Done)) })
	}
	all.Go(func() {
		first.Wait()
		close(ready)
	})
	all.Wait()
}

// How long a request is waited with after one that failed.
const (
	firstPause = time.Second
	lastPause  = 30 * time.Second
)

// follow keeps up with one namespace. What is known stays known while the API server does not answer.
func (s *Secrets) follow(ctx context.Context, namespace string, listed func()) {
	defer listed()
	pause, told := firstPause, ""
	for ctx.Err() == nil {
		version, err := s.list(ctx, namespace)
		if err == nil {
			listed()
			pause, told = firstPause, ""
			for err == nil && ctx.Err() == nil {
				version, err = s.watch(ctx, namespace, version)
			}
			if gone(err) {
				continue
			}
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil && err.Error() != told {
			told = err.Error()
			s.log.Warn("Secrets with credentials of registries cannot be read; it is tried again", "server", s.client.Server(), "namespace", namespace, "error", err)
		}
		select {
		case <-time.After(pause/2 + rand.N(pause)):
		case <-ctx.Done():
		}
		pause = min(2*pause, lastPause)
	}
}

// secretObject is what is read of a Secret.
type secretObject struct {
	Metadata struct {
		Namespace, Name, ResourceVersion string
		CreationTimestamp                time.Time
	} `json:"metadata"`
	Data struct {
		Config []byte `json:".dockerconfigjson"`
	} `json:"data"`
}

func (o *secretObject) key() string { return o.Metadata.Namespace + "/" + o.Metadata.Name }

func secretsPath(namespace string) string {
	if namespace == "" {
		return "/api/v1/secrets"
	}
	return path.Join("/api/v1/namespaces", namespace, "secrets")
}

// secretType is the only one that is asked for (kubernetes, pkg/apis/core/types.go).
const secretType = "kubernetes.io/dockerconfigjson"

func secretsQuery(more ...string) url.Values {
	q := url.Values{"fieldSelector": {"type=" + secretType}}
	for i := 0; i+1 < len(more); i += 2 {
		q.Set(more[i], more[i+1])
	}
	return q
}

// list reads all Secrets and says as of which version.
func (s *Secrets) list(ctx context.Context, namespace string) (version string, err error) {
	found := map[string]secret{}
	for next := ""; ; {
		var l struct {
			Metadata struct{ ResourceVersion, Continue string } `json:"metadata"`
			Items    []secretObject                             `json:"items"`
		}
		if err := s.client.get(ctx, secretsPath(namespace), secretsQuery("limit", page, "continue", next), &l); err != nil {
			return "", err
		}
		for i := range l.Items {
			if v, ok := s.read(&l.Items[i]); ok {
				found[l.Items[i].key()] = v
			}
		}
		if next = l.Metadata.Continue; next == "" {
			s.mu.Lock()
			s.known[namespace] = found
			s.mu.Unlock()
			s.log.Debug("Secrets with credentials of registries were read", "namespace", namespace, "secrets", len(found))
			return l.Metadata.ResourceVersion, nil
		}
	}
}

// read takes what a Secret holds; false if that is nothing.
func (s *Secrets) read(o *secretObject) (secret, bool) {
	entries, err := parseAuths(o.Data.Config)
	if err != nil {
		s.log.Warn("a Secret has no credentials of registries", "secret", o.key(), "error", err)
		return secret{}, false
	}
	return secret{entries, o.Metadata.CreationTimestamp}, true
}

// How long a watch may last, in seconds, and how large an event may be.
const (
	watchSeconds = 300
	maxEvent     = 4 << 20
)

// watch is told of changes after a version, until the server ends that. It returns the version from where to go on.
func (s *Secrets) watch(ctx context.Context, namespace, version string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, (watchSeconds+30)*time.Second)
	defer cancel()
	seconds := strconv.Itoa(watchSeconds/2 + rand.IntN(watchSeconds/2))
	resp, err := s.client.do(ctx, http.MethodGet, secretsPath(namespace),
		secretsQuery("watch", "true", "resourceVersion", version, "allowWatchBookmarks", "true", "timeoutSeconds", seconds), nil)
	if err != nil {
		return version, err
	}
	defer resp.Body.Close()
	limited := &io.LimitedReader{R: resp.Body, N: maxEvent}
	for d := json.NewDecoder(limited); ; limited.N = maxEvent {
		var e struct {
			Type   string          `json:"type"`
			Object json.RawMessage `json:"object"`
		}
		if err := d.Decode(&e); errors.Is(err, io.EOF) && limited.N > 0 {
			return version, nil // it lasted as long as it was to
		} else if err != nil {
			return version, unreadable(err)
		}
		v, err := s.change(namespace, e.Type, e.Object)
		if err != nil {
			return version, err
		}
		version = v
	}
}

// change does what an event says, and returns the version after it.
func (s *Secrets) change(namespace, kind string, object []byte) (version string, err error) {
	if kind == "ERROR" {
		var status struct {
			Code    int    `json:"code"`
			Message string `json:"message"`
		}
		_ = json.Unmarshal(object, &status)
		return "", &Error{status.Code, oneLine(status.Message)}
	}
	var o secretObject
	if err := json.Unmarshal(object, &o); err != nil {
		return "", unreadable(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch kind {
	case "ADDED", "MODIFIED":
		delete(s.known[namespace], o.key())
		if v, ok := s.read(&o); ok {
			s.known[namespace][o.key()] = v
		}
	case "DELETED":
		delete(s.known[namespace], o.key())
	}
	return o.Metadata.ResourceVersion, nil
}

// Resolve implements authn.Keychain.
func (s *Secrets) Resolve(r authn.Resource) (authn.Authenticator, error) {
	if auth, ok := s.of(r); ok {
		return authn.FromConfig(auth), nil
	}
	if s.next == nil {
		return authn.Anonymous, nil
	}
	return s.next.Resolve(r)
}

func (s *Secrets) of(r authn.Resource) (best authn.AuthConfig, found bool) {
	host := r.RegistryStr()
	repository := strings.TrimPrefix(strings.TrimPrefix(r.String(), host), "/")
	s.mu.Lock()
	defer s.mu.Unlock()
	var chosen entry
	var of secret
	var name string
	for _, namespace := range s.known {
		for key, v := range maps.All(namespace) {
			for _, e := range v.entries {
				if !e.fits(host, repository) {
					continue
				}
				if !found || better(e, v, key, chosen, of, name) {
					chosen, of, name, found = e, v, key, true
				}
			}
		}
	}
	return chosen.auth, found
}

// better orders entries that fit, so that it does not depend on the order in which they came.
func better(e entry, v secret, name string, than entry, of secret, other string) bool {
	exact, otherExact := !strings.Contains(e.host, "*"), !strings.Contains(than.host, "*")
	switch {
	case len(e.path) != len(than.path):
		return len(e.path) > len(than.path)
	case exact != otherExact:
		return exact
	case !v.made.Equal(of.made):
		return v.made.After(of.made)
	}
	return name < other
}

// fits is the kubelet's rule (kubernetes, pkg/credentialprovider/keyring.go): each part of the host's name by itself, the same port, and the beginning of
// the path.
func (e entry) fits(host, repository string) bool {
	if !strings.HasPrefix(repository, e.path) {
		return false
	}
	pattern, port, _ := strings.Cut(e.host, ":")
	name, otherPort, _ := strings.Cut(host, ":")
	parts, others := strings.Split(pattern, "."), strings.Split(name, ".")
	if port != otherPort || len(parts) != len(others) {
		return false
	}
	for i := range parts {
		if ok, err := path.Match(parts[i], others[i]); err != nil || !ok {
			return false
		}
	}
	return true
}

// parseAuths reads the auths of a Docker config.json. What else may stand there, such as the names of programs, is not looked at.
func parseAuths(b []byte) ([]entry, error) {
	var config struct {
		Auths map[string]json.RawMessage `json:"auths"`
	}
	// The text of a decoder's error could quote a secret.
	if err := json.Unmarshal(b, &config); err != nil {
		return nil, errors.New(".dockerconfigjson is not a JSON object with auths")
	}
	var list []entry
	for key, value := range config.Auths {
		e, ok := parseKey(key)
		if !ok {
			return nil, fmt.Errorf(".dockerconfigjson: auths: %q names no registry", key)
		}
		if err := json.Unmarshal(value, &e.auth); err != nil {
			return nil, fmt.Errorf(".dockerconfigjson: auths: %q: neither username and password nor base64 of USER:PASSWORD in auth", key)
		}
		if e.auth != (authn.AuthConfig{}) {
			list = append(list, e)
		}
	}
	return list, nil
}

// parseKey reads the name of a registry, with or without scheme, versions and path.
func parseKey(key string) (e entry, ok bool) {
	rest := key
	for _, scheme := range []string{"https://", "http://"} {
		rest = strings.TrimPrefix(rest, scheme)
	}
	e.host, e.path, _ = strings.Cut(rest, "/")
	e.host, e.path = strings.ToLower(e.host), strings.Trim(e.path, "/")
	if e.path == "v1" || e.path == "v2" {
		e.path = ""
	}
	e.path = strings.TrimPrefix(strings.TrimPrefix(e.path, "v1/"), "v2/")
	if e.host == "docker.io" || e.host == "registry-1.docker.io" {
		e.host = registry.DockerHub
	}
	return e, e.host != "" && !strings.ContainsAny(e.host, " \t\r\n")
}
