package levels

import (
	"strings"
	"testing"
)

func TestWithoutLevels(t *testing.T) {
	config, err := AuthorizationConfiguration("/etc/kubernetes/levels.kubeconfig", Account{"weft", "levels"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	changed, found, err := WithoutLevels(config)
	if err != nil || !found || strings.Contains(string(changed), AuthorizerName) || !strings.Contains(string(changed), "RBAC") || !strings.Contains(string(changed), "Node") {
		t.Error(string(changed), found, err)
	}
	if again, found, err := WithoutLevels(changed); err != nil || found || string(again) != string(changed) {
		t.Error(string(again), found, err)
	}
	for text, want := range map[string]string{"kind: Config": "expected AuthorizationConfiguration", "kind: AuthorizationConfiguration": "expected a list", "\t": "no YAML"} {
		if _, _, err := WithoutLevels([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
