package spec

import (
	"slices"
	"strings"

	"github.com/weft-dev/weft/stack/config"
)

// SecretStore says where secrets are kept.
type SecretStore struct {
	Provider *Provider `yaml:"provider" json:"provider"`
}

// Provider is exactly one of the stores. Those from Kubernetes on are Weft's own.
type Provider struct {
	Alicloud     *Alicloud     `yaml:"alicloud,omitempty" json:"alicloud,omitempty"`
	AWS          *AWS          `yaml:"aws,omitempty" json:"aws,omitempty"`
	Vault        *Vault        `yaml:"vault,omitempty" json:"vault,omitempty"`
	Azure        *Azure        `yaml:"azure,omitempty" json:"azure,omitempty"`
	ViettelCloud *ViettelCloud `yaml:"viettelcloud,omitempty" json:"viettelcloud,omitempty"`
	Fake         *Fake         `yaml:"fake,omitempty" json:"fake,omitempty"`
	OnPremises   *OnPremises   `yaml:"onpremises,omitempty" json:"onpremises,omitempty"`

	Kubernetes  *KubernetesStore  `yaml:"kubernetes,omitempty" json:"kubernetes,omitempty"`
	Environment *EnvironmentStore `yaml:"environment,omitempty" json:"environment,omitempty"`
	Age         *AgeStore         `yaml:"age,omitempty" json:"age,omitempty"`
}

// Alicloud is the Secrets Manager of Alibaba Cloud.
type Alicloud struct {
	Region string `yaml:"region" json:"region"`
}

// AWS is the Secrets Manager of Amazon.
type AWS struct {
	Region  string `yaml:"region" json:"region"`
	Profile string `yaml:"profile,omitempty" json:"profile,omitempty"`
}

// Vault is a key-value engine of a HashiCorp Vault. The token is read from VAULT_SERVER_TOKEN or VAULT_TOKEN.
type Vault struct {
	Server string `yaml:"server" json:"server"`
	// Path is where the engine is mounted; without it, it is the first part of a reference.
	Path *string `yaml:"path,omitempty" json:"path,omitempty"`
	// Version is v1 or v2, by default v2.
	Version string `yaml:"version" json:"version"`
}

// Azure is a Key Vault.
type Azure struct {
	VaultURL        string `yaml:"vaultUrl" json:"vaultUrl"`
	TenantID        string `yaml:"tenantId" json:"tenantId"`
	EnvironmentType string `yaml:"environmentType,omitempty" json:"environmentType,omitempty"`
}

// ViettelCloud is the Secrets Manager of Viettel Cloud.
type ViettelCloud struct {
	CmpURL    string `yaml:"cmpURL" json:"cmpURL"`
	ProjectID string `yaml:"projectID" json:"projectID"`
}

// Fake returns what it is given, for trying things out.
type Fake struct {
	Data []FakeData `yaml:"data" json:"data"`
}

// FakeData is one secret of a Fake: a value, or several by property.
type FakeData struct {
	Key      string            `yaml:"key" json:"key"`
	Value    string            `yaml:"value,omitempty" json:"value,omitempty"`
	ValueMap map[string]string `yaml:"valueMap,omitempty" json:"valueMap,omitempty"`
	Version  string            `yaml:"version,omitempty" json:"version,omitempty"`
}

// OnPremises is a store of the user's own making.
type OnPremises struct {
	Name       string            `yaml:"name" json:"name"`
	Attributes map[string]string `yaml:"attributes,omitempty" json:"attributes,omitempty"`
}

// KubernetesStore reads Secrets of the cluster: ref://SECRET/KEY or ref://NAMESPACE/SECRET/KEY.
type KubernetesStore struct {
	Namespace string `yaml:"namespace,omitempty" json:"namespace,omitempty"` // of references that name none; default "default"
}

// EnvironmentStore reads variables of the process: ref://NAME. A prefix is put before each name.
type EnvironmentStore struct {
	Prefix string `yaml:"prefix,omitempty" json:"prefix,omitempty"`
}

// AgeStore reads a YAML file that is encrypted with age: ref://NAME/PROPERTY. The identity is that of Weft's states.
type AgeStore struct {
	File string `yaml:"file" json:"file"`
}

// Name is the provider's, "" if there is none.
func (s *SecretStore) Name() string {
	if s == nil || s.Provider == nil {
		return ""
	}
	names := s.Provider.names()
	if len(names) != 1 {
		return ""
	}
	return names[0]
}

func (p *Provider) names() []string {
	var names []string
	add := func(is bool, name string) {
		if is {
			names = append(names, name)
		}
	}
	add(p.Alicloud != nil, "alicloud")
	add(p.AWS != nil, "aws")
	add(p.Vault != nil, "vault")
	add(p.Azure != nil, "azure")
	add(p.ViettelCloud != nil, "viettelcloud")
	add(p.Fake != nil, "fake")
	add(p.OnPremises != nil, "onpremises")
	add(p.Kubernetes != nil, "kubernetes")
	add(p.Environment != nil, "environment")
	add(p.Age != nil, "age")
	return names
}

// providers are the names in a file.
var providers = []string{"alicloud", "aws", "vault", "azure", "viettelcloud", "fake", "onpremises", "kubernetes", "environment", "age"}

// ReadSecretStore reads and checks the section of a workspace or Spec; nil if there is none.
func ReadSecretStore(n config.Node) *SecretStore {
	if !n.Is() {
		return nil
	}
	p := n.Required("provider")
	if !p.Is() {
		return nil
	}
	p.Only(providers...)
	s := &SecretStore{Provider: &Provider{}}
	count := 0
	p.Each(func(name string, v config.Node) {
		if slices.Contains(providers, name) {
			count++
			s.Provider.read(name, v)
		}
	})
	if count != 1 {
		p.Fail("names %d stores; expected one of %s", count, strings.Join(providers, ", "))
	}
	return s
}

func (p *Provider) read(name string, n config.Node) {
	switch name {
	case "alicloud":
		p.Alicloud = &Alicloud{Region: n.Required("region").Text()}
	case "aws":
		p.AWS = &AWS{Region: n.Required("region").Text(), Profile: n.Field("profile").Text()}
	case "vault":
		p.Vault = readVault(n)
	case "azure":
		p.Azure = &Azure{VaultURL: n.Required("vaultUrl").Text(), TenantID: n.Required("tenantId").Text(), EnvironmentType: n.Field("environmentType").Text()}
	case "viettelcloud":
		p.ViettelCloud = &ViettelCloud{CmpURL: n.Field("cmpURL").Text(), ProjectID: n.Field("projectID").Text()}
	case "fake":
		p.Fake = &Fake{}
		n.Field("data").Items(func(_ int, v config.Node) {
			d := FakeData{Key: v.Required("key").Scalar(), Value: v.Field("value").Scalar(), Version: v.Field("version").Scalar()}
			values := v.Field("valueMap")
			if !values.Is() {
				values = v.Field("valuemap") // as upstream writes it
			}
			d.ValueMap = texts(values)
			p.Fake.Data = append(p.Fake.Data, d)
		})
	case "onpremises":
		p.OnPremises = &OnPremises{Name: n.Required("name").Text(), Attributes: texts(n.Field("attributes"))}
	case "kubernetes":
		p.Kubernetes = &KubernetesStore{Namespace: n.Field("namespace").Text()}
	case "environment":
		p.Environment = &EnvironmentStore{Prefix: n.Field("prefix").Text()}
	case "age":
		p.Age = &AgeStore{File: n.Required("file").Text()}
	}
}

func readVault(n config.Node) *Vault {
	v := &Vault{Server: n.Required("server").Text(), Version: n.Field("version").Text()}
	if path := n.Field("path"); path.Is() {
		text := path.Text()
		v.Path = &text
	}
	if v.Version != "" && v.Version != "v1" && v.Version != "v2" {
		n.Field("version").Fail("must be v1 or v2, got %q", v.Version)
	}
	return v
}

func texts(n config.Node) map[string]string {
	if !n.Is() {
		return nil
	}
	m := map[string]string{}
	n.Each(func(name string, v config.Node) { m[name] = v.Scalar() })
	return m
}

// Map is the store as a tree, and StoreOf reads it back.
func (s *SecretStore) Map() (map[string]any, error) {
	text, err := marshal(s)
	if err != nil {
		return nil, err
	}
	tree, err := config.ParseYAML("secretStore", text)
	if err != nil {
		return nil, err
	}
	m, _ := tree.Plain().(map[string]any)
	return m, nil
}

// StoreOf reads what Map gave.
func StoreOf(m map[string]any) (*SecretStore, error) {
	text, err := marshal(m)
	if err != nil {
		return nil, err
	}
	tree, err := config.ParseYAML("secretStore", text)
	if err != nil {
		return nil, err
	}
	r := &config.Reader{}
	s := ReadSecretStore(r.Node(tree, "secretStore"))
	return s, r.Err()
}
