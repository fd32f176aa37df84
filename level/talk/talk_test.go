package talk

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/weft-dev/weft/kube/manifest"
)

// TestPoliciesAreWritten compares the network policies of graded management, as they are translated, with those that package network tries on packets, which
// knows nothing of levels; UPDATE=1 writes them. The project of level 2 is x; y is above it, z carries no level.
func TestPoliciesAreWritten(t *testing.T) {
	published, err := os.ReadFile(filepath.Join("..", "..", "examples", "levels", "talk", "network.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("kubernetes.io/level: 2", `kubernetes.io/level: "2"`, "demo-ns", "x").Replace(string(published)) +
		"\n---\n{apiVersion: v1, kind: Namespace, metadata: {name: \"y\", labels: {kubernetes.io/level: \"3\"}}}\n"
	objects, err := manifest.Reader{Stdin: strings.NewReader(text)}.Read(t.Context(), "-")
	if err != nil {
		t.Fatal(err)
	}
	pieces, err := Translate(objects)
	if err != nil {
		t.Fatal(err)
	}
	var policies []*networkingv1.NetworkPolicy
	for _, p := range pieces {
		if p.Object.GetKind() != "NetworkPolicy" {
			continue
		}
		policy := &networkingv1.NetworkPolicy{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(p.Object.Object, policy); err != nil {
			t.Fatal(err)
		}
		policies = append(policies, policy)
	}
	got, err := yaml.Marshal(map[string]any{
		"labels":          map[string]map[string]string{"x": {"kubernetes.io/level": "2"}, "y": {"kubernetes.io/level": "3"}},
		"networkPolicies": policies,
		"allowed":         []string{"x > x", "x > y", "x > z", "y > x", "y > y", "y > z", "z > y", "z > z"}, // only into the project there is a guard
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join("testdata", "policies.yaml")
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("%s holds other policies than the translation makes: run with UPDATE=1, and the tests of package network", file)
	}
}
