package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
)

// tokenCache holds what is known about the authentication of one host. Tokens are by scope, so that a token for
// pushing is only asked for by a push.
type tokenCache struct {
	client *Client
	host   Host
	mu     sync.Mutex
	last   *challenge             // the newest challenge; nil: none was seen
	asked  map[string]challenge   // by scopes: what the registry answered to a request that needs them
	tokens map[string]token       // by scopes
	flight map[string]*sync.Mutex // by scopes: one request for a token at a time
}

type token struct {
	value   string
	expires time.Time
}

func (c *Client) tokenCache(h Host) *tokenCache {
	key := h.Scheme + "://" + h.Name + h.Base
	c.mu.Lock()
	defer c.mu.Unlock()
	t, ok := c.tokens[key]
	if !ok {
		t = &tokenCache{client: c, host: h, asked: map[string]challenge{}, tokens: map[string]token{}, flight: map[string]*sync.Mutex{}}
		c.tokens[key] = t
	}
	return t
}

// scopesOf is what a request needs: distribution's "Token Scope Documentation".
func scopesOf(r request) []string {
	if r.repo.Name == "" {
		if strings.HasPrefix(r.path, "/_catalog") {
			return []string{"registry:catalog:*"}
		}
		return nil
	}
	actions := "pull"
	switch {
	case r.method == http.MethodDelete && !strings.Contains(r.path, "/uploads/"):
		actions = "pull,push,delete"
	case r.push:
		actions = "pull,push"
	}
	scopes := []string{"repository:" + r.repo.Name + ":" + actions}
	if r.mount != "" && r.mount != r.repo.Name {
		scopes = append(scopes, "repository:"+r.mount+":pull")
	}
	return scopes
}

// authorize puts credentials on a request as far as it is known which are wanted. It returns the header it set.
func (t *tokenCache) authorize(ctx context.Context, req *http.Request, r request, scopes []string) (string, error) {
	asked, ok := t.challenge(scopes)
	if !ok {
		return "", nil
	}
	creds, err := t.credentials(ctx, r.repo)
	if err != nil {
		return "", permanent(fmt.Errorf("reading the credentials for %s: %w", t.host.Name, err))
	}
	var header string
	switch {
	case creds.RegistryToken != "":
		header = "Bearer " + creds.RegistryToken
	case asked.scheme == "basic":
		if creds.Username == "" && creds.Password == "" && creds.Auth == "" {
			return "", nil
		}
		req.SetBasicAuth(basicOf(creds))
		return req.Header.Get("Authorization"), nil
	default:
		value, err := t.token(ctx, creds, asked, scopes)
		if err != nil {
			return "", err
		}
		header = "Bearer " + value
	}
	req.Header.Set("Authorization", header)
	return header, nil
}

// challenge is what the registry wants for these scopes, as far as that is known. The scope that it names itself counts
// for these scopes only: behind a mirror's path the repository may have another name there.
func (t *tokenCache) challenge(scopes []string) (challenge, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c, ok := t.asked[strings.Join(scopes, " ")]; ok {
		return c, true
	}
	if t.last == nil {
		return challenge{}, false
	}
	c := challenge{t.last.scheme, maps.Clone(t.last.parameters)}
	delete(c.parameters, "scope")
	return c, true
}

func basicOf(c *authn.AuthConfig) (user, password string) {
	if c.Username == "" && c.Auth != "" {
		var decoded authn.AuthConfig
		if data, err := json.Marshal(map[string]string{"auth": c.Auth}); err == nil && json.Unmarshal(data, &decoded) == nil {
			return decoded.Username, decoded.Password
		}
	}
	return c.Username, c.Password
}

// credentials asks the keychain for the host that is really spoken to: a mirror never gets those of the registry.
func (t *tokenCache) credentials(ctx context.Context, repo Repository) (*authn.AuthConfig, error) {
	a, err := authn.Resolve(ctx, t.client.options.Keychain, Repository{Host: t.host.Name, Name: repo.Name})
	if err != nil {
		return nil, err
	}
	return authn.Authorization(ctx, a)
}

// learn takes in the challenge of a refused request. It says whether another attempt can help.
func (t *tokenCache) learn(challenges []challenge, used string, scopes []string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, scheme := range []string{"bearer", "basic"} {
		for _, c := range challenges {
			if c.scheme != scheme {
				continue
			}
			t.last, t.asked[strings.Join(scopes, " ")] = &c, c
			if strings.HasPrefix(used, "Bearer ") {
				maps.DeleteFunc(t.tokens, func(_ string, tok token) bool { return "Bearer "+tok.value == used })
			}
			return scheme == "bearer" || !strings.HasPrefix(used, "Basic ")
		}
	}
	return false
}

func (t *tokenCache) token(ctx context.Context, creds *authn.AuthConfig, c challenge, scopes []string) (string, error) {
	key := strings.Join(scopes, " ")
	if named := strings.Fields(c.parameters["scope"]); len(named) > 0 {
		scopes = append(named, scopes[min(1, len(scopes)):]...) // what follows the first is for a mount
	}
	t.mu.Lock()
	flight, ok := t.flight[key]
	if !ok {
		flight = &sync.Mutex{}
		t.flight[key] = flight
	}
	t.mu.Unlock()
	flight.Lock()
	defer flight.Unlock()
	t.mu.Lock()
	tok, ok := t.tokens[key]
	t.mu.Unlock()
	if ok && time.Now().Before(tok.expires) {
		return tok.value, nil
	}
	tok, err := t.fetch(ctx, creds, c, scopes)
	if err != nil {
		return "", fmt.Errorf("getting a token for %s: %w", t.host.Name, err)
	}
	t.mu.Lock()
	t.tokens[key] = tok
	t.mu.Unlock()
	return tok.value, nil
}

// fetch asks the token server: distribution's "Token Authentication Specification", or with an identity token its
// "OAuth2 Token Authentication".
func (t *tokenCache) fetch(ctx context.Context, creds *authn.AuthConfig, c challenge, scopes []string) (token, error) {
	realm, err := url.Parse(c.parameters["realm"])
	if err != nil || realm.Host == "" || (realm.Scheme != "https" && realm.Scheme != "http") {
		return token{}, permanent(fmt.Errorf("the registry names no usable token server: %q", printable(c.parameters["realm"], 200)))
	}
	user, password := basicOf(creds)
	secret := password != "" || creds.IdentityToken != ""
	if secret && realm.Scheme == "http" && !IsLoopback(realm.Host) && (t.host.Scheme == "https" || realm.Host != t.host.Name) {
		return token{}, permanent(fmt.Errorf("the token server %s speaks no TLS: credentials are not sent there", realm.Host))
	}
	q := realm.Query()
	if service := c.parameters["service"]; service != "" {
		q.Set("service", service)
	}
	var req *http.Request
	if creds.IdentityToken != "" {
		form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {creds.IdentityToken}, "client_id": {t.client.options.UserAgent},
			"service": {c.parameters["service"]}, "scope": {strings.Join(scopes, " ")}}
		req, err = http.NewRequestWithContext(ctx, http.MethodPost, realm.String(), strings.NewReader(form.Encode()))
		if err == nil {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
	} else {
		for _, s := range scopes {
			if !slices.Contains(q["scope"], s) {
				q.Add("scope", s)
			}
		}
		if user != "" {
			q.Set("account", user)
		}
		realm.RawQuery = q.Encode()
		req, err = http.NewRequestWithContext(ctx, http.MethodGet, realm.String(), nil)
		if err == nil && user != "" {
			req.SetBasicAuth(user, password)
		}
	}
	if err != nil {
		return token{}, permanent(err)
	}
	req.Header.Set("User-Agent", t.client.options.UserAgent)
	resp, err := t.client.send(req, Host{Name: t.host.Name, Scheme: t.host.Scheme, TLS: t.host.TLS})
	if err != nil {
		return token{}, err
	}
	if resp.StatusCode != http.StatusOK {
		return token{}, newError(resp)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return token{}, err
	}
	return parseToken(body, time.Now())
}

// parseToken reads a token server's answer. A token is used until shortly before its end.
func parseToken(body []byte, now time.Time) (token, error) {
	var answer struct {
		Token       string  `json:"token"`
		AccessToken string  `json:"access_token"`
		ExpiresIn   float64 `json:"expires_in"` // seconds; 60 if it is not said
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return token{}, permanent(errors.New("the token server's answer is not the JSON document that is expected")) // not printed: it may hold a token
	}
	value := answer.Token
	if value == "" {
		value = answer.AccessToken
	}
	if value == "" || strings.ContainsAny(value, "\r\n") {
		return token{}, permanent(errors.New("the token server's answer holds no token"))
	}
	seconds := answer.ExpiresIn
	if seconds <= 0 {
		seconds = 60
	}
	life := time.Duration(min(seconds, 1e6) * float64(time.Second))
	return token{value, now.Add(life - min(life/10, 10*time.Second))}, nil
}
