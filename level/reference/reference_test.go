package reference

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
	"sigs.k8s.io/yaml"

	"github.com/weft-dev/weft/kube/manifest"
	"github.com/weft-dev/weft/level"
)

// world is the model of all tests here: namespaces low, mid, high; users of each level; secrets, nodes, volumes with labels of their own.
const world = `
apiVersion: level.weft.dev/v1alpha1
kind: Registry
metadata: {name: cluster}
spec:
  levels: [{name: base}, {name: low}, {name: mid}, {name: high}]
  categories: [{name: hr}]
---
apiVersion: level.weft.dev/v1alpha1
kind: Clearance
metadata: {name: low}
spec: {label: low, subjects: [{kind: User, name: lois}, {kind: Group, name: lows}]}
---
apiVersion: level.weft.dev/v1alpha1
kind: Clearance
metadata: {name: mid}
spec: {label: mid, subjects: [{kind: User, name: mira}]}
---
apiVersion: level.weft.dev/v1alpha1
kind: Clearance
metadata: {name: high}
spec: {label: high.hr, subjects: [{kind: User, name: hans}, {kind: ServiceAccount, namespace: low, name: robot}, {kind: ServiceAccount, namespace: open, name: agent}]}
---
apiVersion: level.weft.dev/v1alpha1
kind: Workspace
metadata: {name: shop, labels: {level.weft.dev/level: mid}}
spec: {members: [{kind: User, name: mira, role: Operator}]}
---
{apiVersion: v1, kind: Namespace, metadata: {name: open}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: kube-system}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: low, labels: {level.weft.dev/level: low}}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: mid, labels: {level.weft.dev/level: mid, level.weft.dev/workspace: shop}}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: high, labels: {level.weft.dev/level: high}}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: mixed, labels: {level.weft.dev/level: high}}}
---
{apiVersion: v1, kind: Secret, metadata: {name: key, namespace: low, labels: {level.weft.dev/level: high}}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: plan, namespace: low, labels: {level.weft.dev/level: high}}}
---
{apiVersion: v1, kind: Secret, metadata: {name: inner, namespace: mixed, labels: {level.weft.dev/level: mid}}}
---
{apiVersion: v1, kind: Pod, metadata: {name: guard, namespace: low, labels: {level.weft.dev/level: high}}}
---
{apiVersion: v1, kind: Service, metadata: {name: guard, namespace: low, labels: {level.weft.dev/level: high}}}
---
{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: vault, namespace: low, labels: {level.weft.dev/level: high}}}
---
{apiVersion: apps/v1, kind: Deployment, metadata: {name: weak, namespace: mixed, labels: {level.weft.dev/level: low}}}
---
{apiVersion: v1, kind: Node, metadata: {name: fort, labels: {level.weft.dev/level: high}}}
---
{apiVersion: v1, kind: Node, metadata: {name: plain}}
---
{apiVersion: v1, kind: PersistentVolume, metadata: {name: gold, labels: {level.weft.dev/level: high}}}
---
{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: golden, labels: {level.weft.dev/level: high}}}
---
{apiVersion: scheduling.k8s.io/v1, kind: PriorityClass, metadata: {name: first, labels: {level.weft.dev/level: high}}}
`

func snapshot(t testing.TB) *level.Snapshot {
	t.Helper()
	objects, err := manifest.Reader{Stdin: strings.NewReader(world)}.Read(t.Context(), "-")
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := level.Load(objects)
	if err != nil {
		t.Fatal(err)
	}
	return level.NewSnapshot(loaded.Model, time.Now())
}

var lookup = Lookup{
	Pod: func(address string) (string, string, bool) {
		if address == "10.0.0.7" {
			return "high", "web", true
		}
		return "", "", false
	},
	Rules: func(namespace, name string) ([]Rule, bool) {
		switch name {
		case "edit":
			return []Rule{{Verbs: []string{"*"}, Groups: []string{""}, Resources: []string{"pods", "serviceaccounts/token"}}, {Verbs: []string{"impersonate"}, Groups: []string{""}, Resources: []string{"serviceaccounts"}}}, true
		case "all":
			return []Rule{{Verbs: []string{"*"}, Groups: []string{"*"}, Resources: []string{"*"}}}, true
		case "maps":
			return []Rule{{Verbs: []string{"get", "list"}, Groups: []string{""}, Resources: []string{"endpoints"}}}, namespace == "low"
		case "discovery":
			return []Rule{{Verbs: []string{"get"}}}, true
		case "nodes":
			return []Rule{{Verbs: []string{"get", "list"}, Groups: []string{"scheduling.k8s.io"}, Resources: []string{"priorityclasses"}, Names: []string{"system-node-critical"}}}, true
		}
		return nil, false
	},
	Paths: func(k level.Kind) []Path {
		if k.Resource == "vaults" {
			return []Path{{Field: "spec.keys.holder", To: level.Kind{Resource: "secrets"}}}
		}
		return nil
	},
}

// input is one object of an archive, as its first line says who does what: "# lois CREATE pods".
func input(t testing.TB, text string) (user string, o *Object) {
	t.Helper()
	head, _, _ := strings.Cut(text, "\n")
	words := strings.Fields(strings.TrimPrefix(head, "#"))
	if len(words) != 3 {
		t.Fatalf("%q: expected # USER OPERATION RESOURCE[.GROUP][/SUBRESOURCE]", head)
	}
	resource, sub, _ := strings.Cut(words[2], "/")
	resource, group, _ := strings.Cut(resource, ".")
	o = &Object{Operation: Operation(words[1]), Resource: level.Kind{Group: group, Resource: resource}, Subresource: sub}
	for i, part := range strings.Split(text, "\n---\n") { // the old object, if there is one, comes first
		data, err := yaml.YAMLToJSON([]byte(part))
		if err != nil {
			t.Fatal(err)
		}
		data = requests(t, data)
		var m map[string]any
		if err := json.Unmarshal(data, &m); err != nil {
			t.Fatal(err)
		}
		if i > 0 {
			o.Old = o.New
		}
		o.New = m
	}
	metadata, _ := o.New["metadata"].(map[string]any)
	o.Name, o.Namespace = field(metadata, "name"), field(metadata, "namespace")
	if resource == "namespaces" {
		o.Namespace = o.Name
	}
	return words[0], o
}

func field(m map[string]any, k string) string { s, _ := m[k].(string); return s }

// requests puts a certificate request in the place of CSR:NAME:GROUP.
func requests(t testing.TB, data []byte) []byte {
	at := bytes.Index(data, []byte("CSR:"))
	if at < 0 {
		return data
	}
	end := at + bytes.IndexByte(data[at:], '"')
	words := strings.Split(string(data[at:end]), ":")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	name := pkix.Name{CommonName: strings.ReplaceAll(words[1], "%", ":")}
	for _, g := range words[2:] {
		name.Organization = append(name.Organization, strings.ReplaceAll(g, "%", ":"))
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: name}, key)
	if err != nil {
		t.Fatal(err)
	}
	encoded := base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
	return slices.Concat(data[:at], []byte(encoded), data[end:])
}

// Each archive holds objects, and in "want" for each what of it is refused.
func TestJudge(t *testing.T) {
	s := snapshot(t)
	archives, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(archives) == 0 {
		t.Fatal("no test data", err)
	}
	for _, path := range archives {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			want, got := "", ""
			for _, f := range a.Files {
				if f.Name == "want" {
					want = string(f.Data)
					continue
				}
				user, o := input(t, string(f.Data))
				var groups []string
				if strings.HasPrefix(user, "system:node:") {
					groups = []string{"system:nodes"}
				}
				findings, err := Judge(s, Requester{user, groups, s.Resolve(user, groups)}, o, lookup)
				if err != nil {
					t.Fatal(f.Name, err)
				}
				lines := []string{}
				for _, one := range findings {
					lines = append(lines, fmt.Sprintf("  %s %s: %s (%s)\n", one.Use, one.Field, one.Reason, one.Cause))
				}
				slices.Sort(lines)
				got += f.Name + ":\n" + strings.Join(slices.Compact(lines), "")
			}
			if os.Getenv("UPDATE") != "" {
				for i := range a.Files {
					if a.Files[i].Name == "want" {
						a.Files[i].Data = []byte(got)
					}
				}
				if err := os.WriteFile(path, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// Whoever has a cluster role gets what is put into it: a changed role is compared with its bindings, also those of roles that collect it.
func TestRolesAreComparedWithTheirBindings(t *testing.T) {
	s := snapshot(t)
	hans, lois := level.SubjectName{Kind: level.User, Name: "hans"}, level.SubjectName{Kind: level.User, Name: "lois"}
	look := Lookup{Bound: func(namespace, role string, labels map[string]string) []Holding {
		switch {
		case namespace != "":
			return []Holding{{lois, namespace}}
		case role == "bound" || labels["collected"] == "yes":
			return []Holding{{hans, ""}, {lois, ""}}
		case role == "in":
			return []Holding{{lois, "low"}, {lois, "mid"}}
		}
		return nil
	}}
	role := func(name, labels, rules string) map[string]any {
		var m map[string]any
		if err := yaml.Unmarshal([]byte("{metadata: {name: "+name+", labels: {"+labels+"}}, rules: ["+rules+"]}"), &m); err != nil {
			t.Fatal(err)
		}
		return m
	}
	const (
		plain   = `{verbs: [get], apiGroups: [storage.k8s.io], resources: [storageclasses], resourceNames: [plain]}`
		secrets = `{verbs: [get], apiGroups: [""], resources: [secrets]}`
		maps    = `{verbs: [get], apiGroups: [""], resources: [endpoints]}`
	)
	who := Requester{Subject: s.Subject(level.SubjectName{Kind: level.User, Name: "system:kube-controller-manager"})} // whom levels do not bind
	for _, c := range []struct {
		name      string
		old, now  map[string]any
		operation Operation
		field     string
		namespace string
	}{
		{"bound", role("bound", "", plain), role("bound", "", plain+","+secrets), Update, "rules[1]", ""},
		{"bound", role("bound", "", plain+","+secrets), role("bound", "", secrets), Update, "", ""}, // it had that already
		{"bound", nil, role("bound", "", plain), Create, "", ""},
		{"other", role("other", "", plain), role("other", "", secrets), Update, "", ""},
		{"other", nil, role("other", "collected: yes", ""), Create, "", ""},
		{"other", nil, role("other", `collected: "yes"`, secrets), Create, "rules[0]", ""},
		{"in", role("in", "", plain), role("in", "", plain+","+maps), Update, "rules[1]", ""}, // she has it in a namespace above her
		{"r", role("r", "", plain), role("r", "", plain+","+secrets), Update, "rules[1]", "mid"},
		{"r", role("r", "", plain), role("r", "", plain+","+maps), Update, "", "low"},
	} {
		o := &Object{Operation: c.operation, Resource: level.Kind{Group: "rbac.authorization.k8s.io", Resource: "clusterroles"}, Name: c.name, New: c.now, Old: c.old}
		if c.namespace != "" {
			o.Resource.Resource, o.Namespace = "roles", c.namespace
		}
		found, err := Judge(s, who, o, look)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if len(found) > 0 {
			got = found[0].Field
		}
		if got != c.field || len(found) > 1 {
			t.Errorf("%s %v: found %v, want %q", c.name, c.now["rules"], found, c.field)
		}
	}
}

// An API server makes its built-in bindings whatever levels say: it would not start again. Nobody else does.
func TestTheServersOwnBindings(t *testing.T) {
	s := snapshot(t)
	o := &Object{Operation: Create, Resource: level.Kind{Group: "rbac.authorization.k8s.io", Resource: "clusterrolebindings"}, Name: "weft:admins",
		New: map[string]any{"roleRef": map[string]any{"kind": "ClusterRole", "name": "cluster-admin"}, "subjects": []any{map[string]any{"kind": "Group", "name": "weft:admins"}}}}
	for user, want := range map[string]int{"system:apiserver": 0, "system:kube-controller-manager": 1} {
		found, err := Judge(s, Requester{User: user, Subject: s.Subject(level.SubjectName{Kind: level.User, Name: user})}, o, Lookup{})
		if err != nil || len(found) != want {
			t.Errorf("%s: %v %v, want %d findings", user, found, err, want)
		}
	}
}
