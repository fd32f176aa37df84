package status

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"
)

// TestOf runs the tables: every file is one case, an object followed by its pods; comments "# warning:", "# pod warning
// NAME:" and "# binds late" give what else is known. The file want has a line for each case.
func TestOf(t *testing.T) {
	tables, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(tables) == 0 {
		t.Fatal("no tables", err)
	}
	seen := map[schema.GroupKind]map[bool]bool{} // whether a case of the kind is ready, and one is not
	for _, path := range tables {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			want := -1
			for i, f := range ar.Files {
				if f.Name == "want" {
					want = i
					continue
				}
				u, related := readCase(t, f.Data)
				s := Of(u, related)
				gk := u.GroupVersionKind().GroupKind()
				if seen[gk] == nil {
					seen[gk] = map[bool]bool{}
				}
				seen[gk][s.State == Ready] = true
				mark := ""
				if s.Stuck {
					mark = ", stuck"
				}
				fmt.Fprintf(&got, "%s: %s%s: %s\n", f.Name, s.State, mark, s.Reason)
			}
			if os.Getenv("UPDATE") != "" {
				if want < 0 {
					ar.Files, want = append(ar.Files, txtar.File{Name: "want"}), len(ar.Files)
				}
				ar.Files[want].Data = []byte(got.String())
				if err := os.WriteFile(path, txtar.Format(ar), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if want < 0 || got.String() != string(ar.Files[want].Data) {
				t.Errorf("got\n%s\nwant\n%s", got.String(), ar.Files[want].Data)
			}
		})
	}
	for gk := range rules {
		if !seen[gk][true] || !seen[gk][false] {
			t.Errorf("%s has no case that is ready, or none that is not", gk)
		}
	}
}

func readCase(t *testing.T, data []byte) (*unstructured.Unstructured, Related) {
	t.Helper()
	r := Related{PodWarnings: map[string]string{}}
	for line := range strings.SplitSeq(string(data), "\n") {
		if text, ok := strings.CutPrefix(line, "# warning: "); ok {
			r.Warning = text
		}
		if text, ok := strings.CutPrefix(line, "# pod warning "); ok {
			name, text, _ := strings.Cut(text, ": ")
			r.PodWarnings[name] = text
		}
		r.BindsLate = r.BindsLate || line == "# binds late"
	}
	var objects []*unstructured.Unstructured
	for _, doc := range bytes.Split(data, []byte("\n---\n")) {
		u := &unstructured.Unstructured{}
		text, err := yaml.YAMLToJSON(doc)
		if err == nil {
			err = u.UnmarshalJSON(text) // numbers as a client reads them
		}
		if err != nil {
			t.Fatal(err)
		}
		objects = append(objects, u)
	}
	r.Pods = objects[1:]
	return objects[0], r
}

// TestEveryBuiltInKindHasARule lists the kinds that a person applies; none may fall to the generic rule by oversight.
func TestEveryBuiltInKindHasARule(t *testing.T) {
	for _, gk := range []string{"Pod", "Service", "PersistentVolume", "PersistentVolumeClaim", "Namespace", "ResourceQuota", "ReplicationController",
		"ConfigMap", "Secret", "ServiceAccount", "LimitRange", "Endpoints", "Deployment.apps", "StatefulSet.apps", "DaemonSet.apps", "ReplicaSet.apps",
		"Job.batch", "CronJob.batch", "HorizontalPodAutoscaler.autoscaling", "PodDisruptionBudget.policy", "Ingress.networking.k8s.io",
		"NetworkPolicy.networking.k8s.io", "IngressClass.networking.k8s.io", "Role.rbac.authorization.k8s.io", "ClusterRole.rbac.authorization.k8s.io",
		"RoleBinding.rbac.authorization.k8s.io", "ClusterRoleBinding.rbac.authorization.k8s.io", "StorageClass.storage.k8s.io", "PriorityClass.scheduling.k8s.io",
		"CustomResourceDefinition.apiextensions.k8s.io", "APIService.apiregistration.k8s.io", "RuntimeClass.node.k8s.io", "Lease.coordination.k8s.io",
		"ValidatingWebhookConfiguration.admissionregistration.k8s.io", "MutatingWebhookConfiguration.admissionregistration.k8s.io"} {
		kind := schema.ParseGroupKind(gk)
		if rules[kind] == nil && !Immediate(kind) {
			t.Errorf("%s has no rule", gk)
		}
	}
}

func TestDamagedStatusDoesNotPanic(t *testing.T) {
	for gk := range rules {
		for _, status := range []any{nil, "text", []any{1}, map[string]any{"conditions": "x", "phase": 3, "replicas": "many"}} {
			u := &unstructured.Unstructured{Object: map[string]any{"status": status, "spec": []any{}}}
			u.SetGroupVersionKind(gk.WithVersion("v1"))
			if s := Of(u, Related{}); s.State == "" {
				t.Errorf("%v with status %v: no state", gk, status)
			}
		}
	}
}
