package kusion

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"filippo.io/age"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/weft-dev/weft/engine"
	"github.com/weft-dev/weft/engine/seal"
	"github.com/weft-dev/weft/kube"
	"github.com/weft-dev/weft/stack"
	"github.com/weft-dev/weft/stack/config"
	"github.com/weft-dev/weft/stack/spec"
)

// Secrets reads the values that resources refer to.
type Secrets struct {
	Client *kube.Client // nil where no cluster is reachable
	Getenv func(string) string
	HTTP   *http.Client // nil is a client of its own
}

// maxSecret bounds what a store answers, in bytes.
const maxSecret = 4 << 20

// Answers says whether a value is of a kind that is read here.
func Answers(v engine.External) bool {
	return strings.HasPrefix(v.URL, stack.GeneratedURL) || spec.IsSecretRef(v.URL)
}

// Resolve reads a value. Its errors name the reference and the store, and never a value.
func (s Secrets) Resolve(ctx context.Context, v engine.External) (any, error) {
	if g, ok := stack.ParseGenerated(v.URL); ok {
		return s.generated(ctx, g)
	}
	ref, err := spec.ParseSecretRef(v.URL)
	if err != nil {
		return nil, err
	}
	store, err := spec.StoreOf(v.Store)
	if err != nil {
		return nil, err
	}
	text, err := s.read(ctx, store.Provider, ref)
	if err != nil {
		return nil, fmt.Errorf("the secret %s cannot be read from the store %s: %w", ref, store.Name(), err)
	}
	return text, nil
}

func (s Secrets) read(ctx context.Context, p *spec.Provider, ref spec.SecretRef) (string, error) {
	switch {
	case p.Vault != nil:
		return s.vault(ctx, p.Vault, ref)
	case p.Kubernetes != nil:
		return s.kubernetes(ctx, p.Kubernetes, ref)
	case p.Environment != nil:
		name := p.Environment.Prefix + ref.Name
		value := s.Getenv(name)
		if value == "" {
			return "", fmt.Errorf("the variable %s is not set", name)
		}
		if ref.Property == "" {
			return value, nil
		}
		return property([]byte(value), ref.Property)
	case p.Age != nil:
		return s.age(p.Age, ref)
	case p.Fake != nil:
		return fake(p.Fake, ref)
	}
	return "", errors.New("Weft does not speak to this store yet; stores are vault, kubernetes, environment and age")
}

// generated returns a value that is made up once: the one in the Secret if that is there, else one that follows from the user's key, so
// that planning and applying agree.
func (s Secrets) generated(ctx context.Context, g stack.Generated) (any, error) {
	if s.Client != nil {
		value, err := s.secretKey(ctx, g.Namespace, g.Name, g.Key)
		if err == nil && value != "" || err != nil && !errors.Is(err, errNotThere) {
			return value, err
		}
	}
	key, err := s.identity()
	if err != nil {
		return nil, err
	}
	return spell([]byte(key), g.String(), 54), nil
}

// identity is the user's age key: $WEFT_IDENTITY, else the file identity in the configuration folder.
func (s Secrets) identity() (string, error) {
	if key := s.Getenv("WEFT_IDENTITY"); key != "" {
		return key, nil
	}
	base := s.Getenv("XDG_CONFIG_HOME")
	if !filepath.IsAbs(base) {
		home := s.Getenv("HOME")
		if home == "" {
			return "", errors.New("no age key: neither WEFT_IDENTITY nor XDG_CONFIG_HOME nor HOME is set")
		}
		base = filepath.Join(home, ".config")
	}
	return seal.UserIdentity(filepath.Join(base, "weft", "identity"))
}

var errNotThere = errors.New("it is not there")

func (s Secrets) kubernetes(ctx context.Context, p *spec.KubernetesStore, ref spec.SecretRef) (string, error) {
	namespace, name, found := strings.Cut(ref.Name, "/")
	if !found {
		namespace, name = p.Namespace, ref.Name
		if namespace == "" {
			namespace = "default"
		}
	}
	if ref.Property == "" {
		return "", errors.New("it names no key of the Secret: write ref://SECRET/KEY")
	}
	if s.Client == nil {
		return "", errors.New("no cluster is reachable")
	}
	value, err := s.secretKey(ctx, namespace, name, ref.Property)
	if errors.Is(err, errNotThere) {
		return "", fmt.Errorf("there is no Secret %s/%s with the key %s", namespace, name, ref.Property)
	}
	return value, err
}

func (s Secrets) secretKey(ctx context.Context, namespace, name, key string) (string, error) {
	u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": name, "namespace": namespace}}}
	live, err := s.Client.Get(ctx, u)
	if err != nil {
		return "", err
	}
	if live == nil {
		return "", errNotThere
	}
	text, ok, err := unstructured.NestedString(live.Object, "data", key)
	if err != nil || !ok {
		return "", errNotThere
	}
	plain, err := base64.StdEncoding.DecodeString(text)
	return string(plain), err
}

// age reads a property of a YAML file that is encrypted to the user's key.
func (s Secrets) age(p *spec.AgeStore, ref spec.SecretRef) (string, error) {
	key, err := s.identity()
	if err != nil {
		return "", err
	}
	id, err := age.ParseX25519Identity(strings.TrimSpace(key))
	if err != nil {
		return "", errors.New("the user's identity is no age secret key")
	}
	f, err := os.Open(p.File)
	if err != nil {
		return "", err
	}
	defer f.Close()
	plain, err := age.Decrypt(f, id)
	if err != nil {
		return "", fmt.Errorf("%s cannot be decrypted with the key %s: %w", p.File, id.Recipient(), err)
	}
	text, err := io.ReadAll(io.LimitReader(plain, maxSecret+1))
	if err != nil {
		return "", fmt.Errorf("%s is damaged: %w", p.File, err)
	}
	if len(text) > maxSecret {
		return "", fmt.Errorf("%s holds more than %d MB", p.File, maxSecret>>20)
	}
	tree, err := config.ParseYAML(p.File, text)
	if err != nil {
		return "", fmt.Errorf("%s holds no YAML", p.File) // the error would show a part of it
	}
	path := strings.Split(ref.Name, "/")
	if ref.Property != "" {
		path = append(path, ref.Property)
	}
	var v any = tree.Plain()
	for i, name := range path {
		m, ok := v.(map[string]any)
		if !ok || m[name] == nil {
			return "", fmt.Errorf("%s has no field %s", p.File, strings.Join(path[:i+1], "."))
		}
		v = m[name]
	}
	return textOf(v)
}

func fake(p *spec.Fake, ref spec.SecretRef) (string, error) {
	for _, d := range p.Data {
		if d.Key != ref.Name || ref.Version != "" && d.Version != ref.Version {
			continue
		}
		if ref.Property == "" {
			return d.Value, nil
		}
		if v, ok := d.ValueMap[ref.Property]; ok {
			return v, nil
		}
		return property([]byte(d.Value), ref.Property)
	}
	return "", errNotThere
}

// property takes a field out of JSON: one of that name, or a path with dots.
func property(text []byte, name string) (string, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return "", fmt.Errorf("it is no JSON, of which the property %s could be taken", name)
	}
	if m, ok := v.(map[string]any); ok {
		if p, ok := m[name]; ok {
			return textOf(p)
		}
	}
	for _, part := range strings.Split(name, ".") {
		switch t := v.(type) {
		case map[string]any:
			v = t[part]
		case []any:
			i, err := strconv.Atoi(part)
			if err != nil || i < 0 || i >= len(t) {
				v = nil
				continue
			}
			v = t[i]
		default:
			v = nil
		}
	}
	if v == nil {
		return "", fmt.Errorf("it has no property %s", name)
	}
	return textOf(v)
}

// textOf is a value as a secret's text: texts as they are, others as JSON.
func textOf(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case nil:
		return "", nil
	}
	text, err := json.Marshal(v)
	return string(text), err
}

// vault reads a secret of a key-value engine.
func (s Secrets) vault(ctx context.Context, p *spec.Vault, ref spec.SecretRef) (string, error) {
	address, err := url.Parse(strings.TrimSuffix(p.Server, "/"))
	if err != nil || address.Scheme != "https" && address.Scheme != "http" || address.Host == "" {
		return "", fmt.Errorf("the server %q is no address such as https://vault.example.com:8200", p.Server)
	}
	address.Path += "/v1/" + vaultPath(p, ref.Name)
	if ref.Version != "" {
		address.RawQuery = url.Values{"version": {ref.Version}}.Encode()
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address.String(), nil)
	if err != nil {
		return "", err
	}
	token := s.Getenv("VAULT_SERVER_TOKEN")
	if token == "" {
		token = s.Getenv("VAULT_TOKEN")
	}
	if token == "" {
		return "", errors.New("no token: set VAULT_TOKEN")
	}
	r.Header.Set("X-Vault-Token", token)
	r.Header.Set("X-Vault-Request", "true")
	if space := s.Getenv("VAULT_NAMESPACE"); space != "" {
		r.Header.Set("X-Vault-Namespace", space)
	}
	client, err := s.client()
	if err != nil {
		return "", err
	}
	response, err := client.Do(r)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxSecret+1))
	switch {
	case err != nil:
		return "", err
	case len(body) > maxSecret:
		return "", fmt.Errorf("the answer has more than %d MB", maxSecret>>20)
	case response.StatusCode == http.StatusNotFound:
		return "", errNotThere
	case response.StatusCode == http.StatusForbidden:
		return "", fmt.Errorf("the token may not read %s", address.Path)
	case response.StatusCode != http.StatusOK:
		return "", fmt.Errorf("%s answers %s to %s", address.Host, response.Status, address.Path)
	}
	type envelope struct {
		Data json.RawMessage `json:"data"`
	}
	var answer envelope
	if err := json.Unmarshal(body, &answer); err != nil {
		return "", fmt.Errorf("%s answers something else than JSON to %s", address.Host, address.Path)
	}
	if p.Version != "v1" {
		var inner envelope
		if err := json.Unmarshal(answer.Data, &inner); err != nil || inner.Data == nil {
			return "", errors.New("the answer has no field data.data: is the engine of version v1?")
		}
		answer = inner
	}
	if string(answer.Data) == "null" || answer.Data == nil {
		return "", errNotThere // deleted
	}
	if ref.Property == "" {
		return string(answer.Data), nil
	}
	return property(answer.Data, ref.Property)
}

// vaultPath is where the API has a secret: the mount, for version 2 the word data, and the secret's name. A name may begin with the
// mount, and with data after it.
func vaultPath(p *spec.Vault, name string) string {
	mount, rest := "", name
	if p.Path != nil {
		mount = strings.Trim(*p.Path, "/")
		if after, ok := strings.CutPrefix(rest, mount+"/"); ok {
			rest = after
			if p.Version != "v1" {
				rest = strings.TrimPrefix(rest, "data/")
			}
		}
	} else if p.Version != "v1" {
		if strings.Contains(name, "/data/") {
			return name
		}
		mount, rest, _ = strings.Cut(name, "/")
	} else {
		return name
	}
	parts := []string{mount}
	if p.Version != "v1" {
		parts = append(parts, "data")
	}
	return strings.Join(append(parts, rest), "/")
}

// client speaks to a Vault: it follows no redirects, so that a token goes to the server that was named and nowhere else.
func (s Secrets) client() (*http.Client, error) {
	if s.HTTP != nil {
		return s.HTTP, nil
	}
	c := &http.Client{Timeout: 30 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error {
		return errors.New("it leads to another address, which is not followed")
	}}
	if file := s.Getenv("VAULT_CACERT"); file != "" {
		pem, err := readFile(file)
		if err != nil {
			return nil, fmt.Errorf("VAULT_CACERT: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("VAULT_CACERT: %s holds no certificate", file)
		}
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
		c.Transport = transport
	}
	return c, nil
}
