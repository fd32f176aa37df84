package registrytest

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// Token lets the registry want tokens, from a token server that the test registry brings along.
type Token struct {
	User, Password string        // whom the token server gives tokens; "" for anyone
	Identity       string        // an identity token that it takes instead
	TTL            time.Duration // how long a token is good; 0: an hour
	Uses           int           // for how many requests a token is good; 0: no limit
	Hidden         bool          // the token server does not say when a token ends
}

type tokenServer struct {
	config Token
	web    *httptest.Server
	mu     sync.Mutex
	count  int
	tokens map[string]*grant
}

type grant struct {
	scopes []string
	until  time.Time
	uses   int
}

func newTokenServer(t testing.TB, c Token) *tokenServer {
	s := &tokenServer{config: c, tokens: map[string]*grant{}}
	s.web = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.web.Close)
	return s
}

func (s *tokenServer) given() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

func (s *tokenServer) expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.tokens)
}

// serve answers as distribution's token specification says, by GET with a password or by POST with an identity token.
func (s *tokenServer) serve(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	user, password, _ := r.BasicAuth()
	ok := s.config.User == "" || user == s.config.User && password == s.config.Password
	if r.Method == http.MethodPost {
		ok = s.config.Identity != "" && r.Form.Get("grant_type") == "refresh_token" && r.Form.Get("refresh_token") == s.config.Identity
	}
	if !ok {
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = w.Write([]byte(`{"errors":[{"code":"UNAUTHORIZED","message":"wrong user or password"}]}`))
		return
	}
	ttl := s.config.TTL
	if ttl == 0 {
		ttl = time.Hour
	}
	value := rand.Text()
	s.mu.Lock()
	s.count++
	s.tokens[value] = &grant{strings.Fields(strings.Join(r.Form["scope"], " ")), time.Now().Add(ttl), s.config.Uses}
	s.mu.Unlock()
	answer := map[string]any{"token": value, "expires_in": ttl.Seconds()}
	if s.config.Hidden {
		answer = map[string]any{"access_token": value}
	}
	_ = json.NewEncoder(w).Encode(answer)
}

// allows says whether a token is good for a scope.
func (s *tokenServer) allows(value, repository, action string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, ok := s.tokens[value]
	if !ok || time.Now().After(g.until) {
		return false
	}
	if s.config.Uses > 0 {
		if g.uses == 0 {
			return false
		}
		g.uses--
	}
	if repository == "" {
		return true
	}
	for _, scope := range g.scopes {
		if actions, ok := strings.CutPrefix(scope, "repository:"+repository+":"); ok && strings.Contains(","+actions+",", ","+action+",") {
			return true
		}
	}
	return false
}

// authorized answers 401 to requests without what the registry wants.
func (r *Registry) authorized(w http.ResponseWriter, req *http.Request) bool {
	if b := r.config.Basic; b != nil {
		user, password, _ := req.BasicAuth()
		if user == b.User && password == b.Password {
			return true
		}
		w.Header().Set("Www-Authenticate", `Basic realm="test"`)
		unauthorized(w)
		return false
	}
	if r.tokens == nil {
		return true
	}
	repository, action := scopeOf(req)
	value, _ := strings.CutPrefix(req.Header.Get("Authorization"), "Bearer ")
	if r.tokens.allows(value, repository, action) {
		return true
	}
	challenge := `Bearer realm="` + r.tokens.web.URL + `/token",service="test"`
	if repository != "" {
		actions := action
		if action != "pull" {
			actions = "pull," + action
		}
		challenge += `,scope="repository:` + repository + ":" + actions + `"`
	}
	w.Header().Set("Www-Authenticate", challenge)
	unauthorized(w)
	return false
}

func scopeOf(req *http.Request) (repository, action string) {
	path, ok := strings.CutPrefix(req.URL.Path, "/v2/")
	if !ok {
		return "", ""
	}
	for _, kind := range []string{"/blobs/", "/manifests/", "/tags/", "/referrers/"} {
		if i := strings.LastIndex(path, kind); i > 0 {
			repository = path[:i]
			break
		}
	}
	switch {
	case req.Method == http.MethodGet && !strings.Contains(path, "/uploads/"), req.Method == http.MethodHead:
		return repository, "pull"
	case req.Method == http.MethodDelete && !strings.Contains(path, "/uploads/"):
		return repository, "delete"
	}
	return repository, "push"
}

func unauthorized(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusUnauthorized)
	_, _ = w.Write([]byte(`{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`))
}
