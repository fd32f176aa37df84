package apiserver

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/weft-dev/weft/registry"
	"github.com/weft-dev/weft/test/kube"
)

func TestMain(m *testing.M) { kube.Main(m) }

// account makes a service account that may list and watch the Secrets of its namespace, and a kubeconfig file with its token in a file beside it.
func account(t *testing.T, p kube.Place) string {
	t.Helper()
	ctx := t.Context()
	meta := metav1.ObjectMeta{Name: "snapshotter", Namespace: p.Namespace}
	if _, err := p.Clients.CoreV1().ServiceAccounts(p.Namespace).Create(ctx, &corev1.ServiceAccount{ObjectMeta: meta}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	role := &rbacv1.Role{ObjectMeta: meta, Rules: []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: []string{"list", "watch"}}}}
	if _, err := p.Clients.RbacV1().Roles(p.Namespace).Create(ctx, role, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	binding := &rbacv1.RoleBinding{ObjectMeta: meta, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: meta.Name},
		Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Name: meta.Name, Namespace: p.Namespace}}}
	if _, err := p.Clients.RbacV1().RoleBindings(p.Namespace).Create(ctx, binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	token, err := p.Clients.CoreV1().ServiceAccounts(p.Namespace).CreateToken(ctx, meta.Name, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "config")
	write(t, filepath.Join(dir, "token"), token.Status.Token+"\n")
	write(t, filepath.Join(dir, "ca.crt"), string(p.Config.CAData))
	write(t, file, fmt.Sprintf(`
current-context: here
contexts: [{name: here, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: %q, certificate-authority: ca.crt}}]
users: [{name: u, user: {tokenFile: token}}]
`, p.Config.Host))
	return file
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// pullSecret is a Secret with credentials by registry: the password is the user's name.
func pullSecret(name string, users map[string]string) *corev1.Secret {
	var auths []string
	for host, user := range users {
		auths = append(auths, fmt.Sprintf(`%q: {"username": %q, "password": %q}`, host, user, user))
	}
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, Type: corev1.SecretTypeDockerConfigJson,
		Data: map[string][]byte{corev1.DockerConfigJsonKey: []byte(`{"auths": {` + strings.Join(auths, ",") + `}}`)}}
}

// userOf is the user with whom a repository is read.
func userOf(t *testing.T, s *Secrets, name string) string {
	t.Helper()
	ref, err := registry.ParseReference(name)
	if err != nil {
		t.Fatal(err)
	}
	a, err := s.Resolve(ref.Repository)
	if err != nil {
		t.Fatal(err)
	}
	c, err := a.Authorization()
	if err != nil {
		t.Fatal(err)
	}
	return c.Username
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited for %s", what)
		}
	}
}

// TestSecretsAreFollowed reads Secrets of one namespace of a real API server, as a service account that may do nothing else, and is told of new, changed
// and removed ones.
func TestSecretsAreFollowed(t *testing.T) {
	p, other := kube.Namespace(t), kube.Namespace(t)
	secrets := p.Clients.CoreV1().Secrets(p.Namespace)
	create := func(p kube.Place, s *corev1.Secret) {
		t.Helper()
		if _, err := p.Clients.CoreV1().Secrets(p.Namespace).Create(t.Context(), s, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	create(p, pullSecret("first", map[string]string{"https://one.example.com/v1/": "first", "two.example.com/team": "team"}))
	create(other, pullSecret("elsewhere", map[string]string{"three.example.com": "elsewhere"}))
	create(p, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "another"}, Data: map[string][]byte{corev1.DockerConfigJsonKey: []byte(`{"auths":{"three.example.com":{"username":"x"}}}`)}})

	client, err := Open(account(t, p))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var log bytes.Buffer
	s := NewSecrets(client, []string{p.Namespace}, nil, slog.New(slog.NewTextHandler(&log, nil)))
	ctx, cancel := context.WithCancel(t.Context())
	ready, done := make(chan struct{}), make(chan struct{})
	go func() { s.Run(ctx, ready); close(done) }()
	defer func() { cancel(); <-done }()
	<-ready
	for name, want := range map[string]string{
		"one.example.com/a": "first", "two.example.com/team/app": "team", "two.example.com/others/app": "", "three.example.com/a": "", "one.example.com:5000/a": "",
	} {
		if got := userOf(t, s, name); got != want {
			t.Errorf("%s is read as %q, expected %q", name, got, want)
		}
	}

	create(p, pullSecret("second", map[string]string{"three.example.com": "second"}))
	await(t, "the new Secret", func() bool { return userOf(t, s, "three.example.com/a") == "second" })
	changed := pullSecret("second", map[string]string{"three.example.com": "changed"})
	if _, err := secrets.Update(t.Context(), changed, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	await(t, "the changed Secret", func() bool { return userOf(t, s, "three.example.com/a") == "changed" })
	if err := secrets.Delete(t.Context(), "second", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	await(t, "the Secret to be forgotten", func() bool { return userOf(t, s, "three.example.com/a") == "" })

	// Nothing but that is allowed, and the answer says so.
	if _, err := client.Containers(t.Context(), "node"); err == nil || !strings.Contains(err.Error(), "403") {
		t.Errorf("pods: %v", err)
	}
	cancel()
	<-done
	if log.Len() > 0 {
		t.Errorf("the log: %s", log.String())
	}
}

// TestSecretsOutOfReach holds that what is known stays known, that the log has one line a reason, and that the start is not held up.
func TestSecretsOutOfReach(t *testing.T) {
	p := kube.Namespace(t)
	client, err := Open(account(t, p))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var log bytes.Buffer
	s := NewSecrets(client, []string{"kube-system"}, nil, slog.New(slog.NewTextHandler(&log, nil)))
	s.known["kube-system"] = map[string]secret{"kube-system/x": {entries: []entry{{host: "one.example.com"}}}}
	s.known["kube-system"]["kube-system/x"].entries[0].auth.Username = "kept"
	tries := &counted{RoundTripper: client.http.Transport}
	client.http.Transport = tries
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { s.Run(ctx, make(chan struct{})); close(done) }()
	await(t, "three tries", func() bool { return tries.n.Load() >= 3 })
	cancel()
	<-done
	if got := userOf(t, s, "one.example.com/a"); got != "kept" {
		t.Errorf("read as %q", got)
	}
	if n := strings.Count(log.String(), "\n"); n != 1 || !strings.Contains(log.String(), "403") || !strings.Contains(log.String(), "forbidden") {
		t.Errorf("%d lines:\n%s", n, log.String())
	}
}

// counted counts requests.
type counted struct {
	http.RoundTripper
	n atomic.Int32
}

func (c *counted) RoundTrip(r *http.Request) (*http.Response, error) {
	c.n.Add(1)
	return c.RoundTripper.RoundTrip(r)
}

func TestBestEntry(t *testing.T) {
	s := NewSecrets(nil, nil, nil, slog.New(slog.DiscardHandler))
	s.known[""] = map[string]secret{}
	add := func(name string, made int64, users map[string]string) {
		entries, err := parseAuths(pullSecret(name, users).Data[corev1.DockerConfigJsonKey])
		if err != nil {
			t.Fatal(err)
		}
		s.known[""][name] = secret{entries, time.Unix(made, 0)}
	}
	add("a/old", 1, map[string]string{"r.example.com": "old", "r.example.com/team/app": "app", "docker.io": "hub"})
	add("a/new", 2, map[string]string{"r.example.com": "new", "*.example.com": "any", "*.example.com/team": "any team"})
	add("b/same", 2, map[string]string{"r.example.com": "same age"})
	for name, want := range map[string]string{
		"r.example.com/x": "new", "r.example.com/team/app": "app", "r.example.com/team/other": "any team", "q.example.com/x": "any", "p.q.example.com/x": "",
		"alpine": "hub", "r.example.com:443/x": "",
	} {
		if got := userOf(t, s, name); got != want {
			t.Errorf("%s is read as %q, expected %q", name, got, want)
		}
	}
}

func TestBadSecrets(t *testing.T) {
	for text, want := range map[string]string{
		`{"auths": "topsecret"}`: "is not a JSON object",
		`topsecret`:              "is not a JSON object",
		`{"auths": {"r": {"auth": "topsecret"}}}`:           "neither username and password",
		`{"auths": {"r": "topsecret"}}`:                     "neither username and password",
		`{"auths": {"": {"username": "topsecret"}}}`:        "names no registry",
		`{"auths": {"/v2/x": {"username": "topsecret"}}}`:   "names no registry",
		`{"auths": {"a b/x": {"username": "topsecret"}}}`:   "names no registry",
		`{"auths": {"r": {"username": ["topsecret"]}}}`:     "neither username and password",
		`{"auths": {"r": {"auth": "bm90IGEgcGFpcg=="}}}`:    "neither username and password",
		`{"auths": {}, "credHelpers": {"r": "topsecret"}}`:  "",
		`{"auths": {"r": {}}}`:                              "",
		`{"auths": {"R.example.com": {"auth": "YTpi"}}}`:    "",
		`{"auths": {"r": {"identitytoken": "topsecret"}}} `: "",
	} {
		list, err := parseAuths([]byte(text))
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", text, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, expected %q", text, err, want)
		case err != nil && strings.Contains(err.Error(), "topsecret"):
			t.Errorf("the error has what the Secret holds: %v", err)
		}
		if strings.Contains(text, "R.example") && (len(list) != 1 || list[0].host != "r.example.com" || list[0].auth.Username != "a" || list[0].auth.Password != "b") {
			t.Errorf("%s: %+v", text, list)
		}
	}
}

func TestBadKubeconfigs(t *testing.T) {
	good := map[string]any{
		"current-context": "c", "contexts": []any{map[string]any{"name": "c", "context": map[string]any{"cluster": "k", "user": "u"}}},
		"clusters": []any{map[string]any{"name": "k", "cluster": map[string]any{"server": "https://k:6443"}}},
		"users":    []any{map[string]any{"name": "u", "user": map[string]any{"token": "topsecret"}}},
	}
	cl := func(v map[string]any) any { return []any{map[string]any{"name": "k", "cluster": v}} }
	us := func(v map[string]any) any { return []any{map[string]any{"name": "u", "user": v}} }
	for _, c := range []struct {
		key  string
		v    any
		want string
	}{
		{"", nil, ""},
		{"current-context", "", "current-context is missing"},
		{"current-context", "topsecret2", "there is no context"},
		{"current-context", []any{"topsecret"}, "not a kubeconfig file"},
		{"clusters", nil, "there is no cluster \"k\""},
		{"users", nil, "there is no user \"u\""},
		{"clusters", cl(map[string]any{"server": "k"}), "server is no https:// address"},
		{"clusters", cl(map[string]any{"server": "ftp://k"}), "is none of https, http"},
		{"clusters", cl(map[string]any{"server": "http://k"}), "is not encrypted"},
		{"clusters", cl(map[string]any{"server": "http://127.0.0.1:1"}), ""},
		{"clusters", cl(map[string]any{"server": "https://k", "certificate-authority": "nowhere"}), "certificate-authority"},
		{"clusters", cl(map[string]any{"server": "https://k", "certificate-authority-data": "YQ=="}), "no certificate in PEM"},
		{"users", us(map[string]any{"exec": map[string]any{"command": "topsecret"}}), "exec: programs for credentials are not run"},
		{"users", us(map[string]any{"auth-provider": map[string]any{"name": "topsecret"}}), "auth-provider is not supported"},
		{"users", us(map[string]any{"as": "topsecret"}), "acting as another user"},
		{"users", us(map[string]any{"client-certificate": "nowhere"}), "client-certificate"},
		{"users", us(map[string]any{"client-certificate-data": "YQ==", "client-key-data": "YQ=="}), "client-certificate and client-key"},
		{"users", us(map[string]any{"token": []any{"topsecret"}}), "not a kubeconfig file"},
	} {
		doc := map[string]any{}
		for k, v := range good {
			doc[k] = v
		}
		if c.key != "" {
			doc[c.key] = c.v
		}
		b, err := yaml.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "config")
		write(t, file, string(b))
		_, err = Open(file)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), file)) {
			t.Errorf("%s: %v, expected %q", b, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "topsecret\"") {
			t.Errorf("the error has a secret: %v", err)
		}
	}
	if _, err := ofPod("", "", t.TempDir()); err == nil || !strings.Contains(err.Error(), "name a file") {
		t.Errorf("no pod: %v", err)
	}
}

func FuzzKubeconfig(f *testing.F) {
	f.Add([]byte("current-context: c\ncontexts: [{name: c, context: {cluster: k}}]\nclusters: [{name: k, cluster: {server: https://k}}]\n"))
	f.Add([]byte("{"))
	f.Fuzz(func(_ *testing.T, b []byte) {
		if cl, u, err := parseKubeconfig(b); err == nil {
			_, _ = newClient(cluster{Server: cl.Server, CAData: cl.CAData, Proxy: cl.Proxy}, user{CertificateData: u.CertificateData, KeyData: u.KeyData, Token: u.Token})
		}
	})
}

func FuzzAuths(f *testing.F) {
	f.Add([]byte(`{"auths": {"https://r.example.com/v1/": {"auth": "YTpi"}, "*.x/y": {"username": "u"}}}`))
	f.Add([]byte(`{"auths": {"[a": {"username": "u"}}}`))
	f.Fuzz(func(_ *testing.T, b []byte) {
		list, err := parseAuths(b)
		for _, e := range list {
			if err == nil {
				e.fits("r.example.com", "team/app")
			}
		}
	})
}
