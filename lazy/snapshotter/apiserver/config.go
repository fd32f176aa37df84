package apiserver

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sigs.k8s.io/yaml"
)

// maxFile is the greatest file that is read, in bytes.
const maxFile = 1 << 20

// kubeconfig is what is read of a kubeconfig file (k8s.io/client-go, tools/clientcmd/api/v1).
type kubeconfig struct {
	CurrentContext string `json:"current-context"`
	Contexts       []struct {
		Name    string `json:"name"`
		Context struct {
			Cluster string `json:"cluster"`
			User    string `json:"user"`
		} `json:"context"`
	} `json:"contexts"`
	Clusters []struct {
		Name    string  `json:"name"`
		Cluster cluster `json:"cluster"`
	} `json:"clusters"`
	Users []struct {
		Name string `json:"name"`
		User user   `json:"user"`
	} `json:"users"`
}

type cluster struct {
	Server     string `json:"server"`
	ServerName string `json:"tls-server-name"`
	Insecure   bool   `json:"insecure-skip-tls-verify"`
	CA         string `json:"certificate-authority"`
	CAData     []byte `json:"certificate-authority-data"`
	Proxy      string `json:"proxy-url"`
}

type user struct {
	Certificate     string `json:"client-certificate"`
	CertificateData []byte `json:"client-certificate-data"`
	Key             string `json:"client-key"`
	KeyData         []byte `json:"client-key-data"`
	Token           string `json:"token"`
	TokenFile       string `json:"tokenFile"`
	Username        string `json:"username"`
	Password        string `json:"password"`
	As              string `json:"as"`
	Exec            any    `json:"exec"`
	Provider        any    `json:"auth-provider"`
}

// Where a pod finds the service account that it runs as.
const serviceAccount = "/var/run/secrets/kubernetes.io/serviceaccount"

// Find is the kubeconfig file that is used if none is named: that of $KUBECONFIG, or ~/.kube/config; "" if there is none, so that the service account
// of the pod is used.
func Find() string {
	for _, f := range filepath.SplitList(os.Getenv("KUBECONFIG")) {
		if f != "" {
			return f
		}
	}
	if home, err := os.UserHomeDir(); err == nil {
		f := filepath.Join(home, ".kube", "config")
		if _, err := os.Stat(f); err == nil {
			return f
		}
	}
	return ""
}

// Open reads a kubeconfig file, or with "" takes the service account of the pod that the program runs in. Nothing is asked yet.
func Open(file string) (*Client, error) {
	if file == "" {
		return ofPod(os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT"), serviceAccount)
	}
	b, err := readFile(file)
	if err != nil {
		return nil, err
	}
	cl, u, err := parseKubeconfig(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	dir := filepath.Dir(file)
	for _, p := range []*string{&cl.CA, &u.Certificate, &u.Key, &u.TokenFile} {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
	c, err := newClient(cl, u)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return c, nil
}

func ofPod(host, port, dir string) (*Client, error) {
	if host == "" || port == "" {
		return nil, errors.New("there is no kubeconfig file, and this is no pod with a service account: name a file")
	}
	return newClient(cluster{Server: "https://" + net.JoinHostPort(host, port), CA: filepath.Join(dir, "ca.crt")}, user{TokenFile: filepath.Join(dir, "token")})
}

func readFile(file string) ([]byte, error) {
	st, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Size() > maxFile {
		return nil, &fs.PathError{Op: "read", Path: file, Err: fmt.Errorf("it is no file of at most %d bytes", maxFile)}
	}
	return os.ReadFile(file)
}

// parseKubeconfig finds cluster and user of the current context.
func parseKubeconfig(b []byte) (cluster, user, error) {
	var k kubeconfig
	none := func(format string, args ...any) (cluster, user, error) {
		return cluster{}, user{}, fmt.Errorf(format, args...)
	}
	if err := yaml.Unmarshal(b, &k); err != nil {
		return none("not a kubeconfig file: %w", withoutValues(err))
	}
	if k.CurrentContext == "" {
		return none("current-context is missing: it says which of the contexts is used")
	}
	clusterName, userName, found := "", "", false
	for _, c := range k.Contexts {
		if c.Name == k.CurrentContext {
			clusterName, userName, found = c.Context.Cluster, c.Context.User, true
		}
	}
	if !found {
		return none("current-context: there is no context %q", k.CurrentContext)
	}
	var cl *cluster
	for i, c := range k.Clusters {
		if c.Name == clusterName {
			cl = &k.Clusters[i].Cluster
		}
	}
	if cl == nil {
		return none("contexts: %s: there is no cluster %q", k.CurrentContext, clusterName)
	}
	var u user
	for i, c := range k.Users {
		if c.Name == userName {
			u, found = k.Users[i].User, false
		}
	}
	if userName != "" && found {
		return none("contexts: %s: there is no user %q", k.CurrentContext, userName)
	}
	switch {
	case u.Exec != nil:
		return none("users: %s: exec: programs for credentials are not run; give a token, a tokenFile or a client certificate", userName)
	case u.Provider != nil:
		return none("users: %s: auth-provider is not supported; give a token, a tokenFile or a client certificate", userName)
	case u.As != "":
		return none("users: %s: as: acting as another user is not supported; give that user's own credentials", userName)
	}
	return *cl, u, nil
}

// withoutValues says where a document is wrong, without what it holds: that may be a secret.
func withoutValues(err error) error {
	text, _, _ := strings.Cut(err.Error(), "\n")
	if at := strings.Index(text, "line "); at >= 0 {
		digits := strings.TrimLeft(text[at+len("line "):], "0123456789")
		return fmt.Errorf("YAML: error in %s", strings.TrimSuffix(text[at:], digits))
	}
	return errors.New("its fields are not those of a kubeconfig file")
}

// newClient makes a client. Files of certificates and tokens are read again when they may have changed.
func newClient(cl cluster, u user) (*Client, error) {
	base, err := url.Parse(cl.Server)
	if err != nil || base.Host == "" || base.User != nil {
		return nil, errors.New("clusters: server is no https:// address")
	}
	switch base.Scheme {
	case "https":
	case "http":
		if ip := net.ParseIP(base.Hostname()); base.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return nil, fmt.Errorf("clusters: server: %s is not encrypted, and not this machine's loopback: use https", cl.Server)
		}
	default:
		return nil, fmt.Errorf("clusters: server: %q is none of https, http", base.Scheme)
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: cl.ServerName, InsecureSkipVerify: cl.Insecure} //nolint:gosec // the file says so
	if cl.CA != "" && len(cl.CAData) == 0 {
		if cl.CAData, err = readFile(cl.CA); err != nil {
			return nil, fmt.Errorf("clusters: certificate-authority: %w", err)
		}
	}
	if len(cl.CAData) > 0 {
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(cl.CAData) {
			return nil, errors.New("clusters: certificate-authority holds no certificate in PEM form")
		}
	}
	if err := u.present(t); err != nil {
		return nil, err
	}
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: t, ForceAttemptHTTP2: true, TLSHandshakeTimeout: 10 * time.Second,
		DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext, MaxIdleConns: 2, IdleConnTimeout: 90 * time.Second,
		// A watch says nothing for minutes: without this a server that has gone is not noticed.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second},
	}
	if cl.Proxy != "" {
		p, err := url.Parse(cl.Proxy)
		if err != nil {
			return nil, errors.New("clusters: proxy-url is no address")
		}
		transport.Proxy = http.ProxyURL(p)
	}
	return &Client{base: base, header: u.header, http: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return errors.New("the API server led to another address") },
	}}, nil
}

// present adds the user's certificate.
func (u user) present(t *tls.Config) error {
	certificate := func() (*tls.Certificate, error) {
		cert, key := u.CertificateData, u.KeyData
		var err error
		if len(cert) == 0 {
			if cert, err = readFile(u.Certificate); err != nil {
				return nil, fmt.Errorf("users: client-certificate: %w", err)
			}
		}
		if len(key) == 0 {
			if key, err = readFile(u.Key); err != nil {
				return nil, fmt.Errorf("users: client-key: %w", err)
			}
		}
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("users: client-certificate and client-key: %w", err)
		}
		return &pair, nil
	}
	if u.Certificate == "" && len(u.CertificateData) == 0 {
		return nil
	}
	if _, err := certificate(); err != nil {
		return err
	}
	t.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return certificate() }
	return nil
}

// header is the value of Authorization; "" if there is none.
func (u user) header() (string, error) {
	switch {
	case u.TokenFile != "":
		b, err := readFile(u.TokenFile)
		if err != nil {
			return "", fmt.Errorf("users: tokenFile: %w", err)
		}
		return "Bearer " + strings.TrimSpace(string(b)), nil
	case u.Token != "":
		return "Bearer " + u.Token, nil
	case u.Username != "":
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(u.Username+":"+u.Password)), nil
	}
	return "", nil
}
