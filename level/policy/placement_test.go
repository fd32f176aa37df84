package policy

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
)

var serializer = scheme.Codecs.WithoutConversion()

// placements looks at the affinity that pods get: to nodes at most on their level, in every way in which a node may say its level.
func placements(t *testing.T, users map[string]place, pod func(name, namespace, spec string) string) {
	const c = "containers: [{name: c, image: i}]"
	hans := users["hans"]
	hans.t = t
	terms := func(name, namespace, spec string) []any {
		t.Helper()
		if err := hans.create(pod(name, namespace, spec)); err != nil {
			t.Fatal(err)
		}
		u, err := hans.client.Resource(schema.GroupVersionResource{Version: "v1", Resource: "pods"}).Namespace(namespace).Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		terms, _, err := unstructured.NestedSlice(u.Object, "spec", "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms")
		if err != nil {
			t.Fatal(err)
		}
		return terms
	}
	text := func(v any) string { b, _ := json.Marshal(v); return string(b) }
	end := time.Now().Add(time.Minute)
	for i := 0; terms(fmt.Sprint("early", i), "low", c) == nil; i++ { // an API server learns of a policy that changes objects later than of the others
		if time.Now().After(end) {
			t.Fatal("pods get no affinity")
		}
		time.Sleep(100 * time.Millisecond)
	}
	low := terms("place1", "low", c)
	if len(low) != 4 || !strings.Contains(text(low[0]), `"key":"level.weft.dev/level","operator":"In","values":["base","low"]`) {
		t.Errorf("a low pod: %s", text(low))
	}
	high := terms("place2", "high", c)
	if len(high) != 4 || !strings.Contains(text(high[0]), `"values":["2.5","base","high","low","mid"]`) {
		t.Errorf("a high pod: %s", text(high))
	}
	both := terms("place3", "low", c+`, affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: zone, operator: In, values: [a]}, {key: disk, operator: Exists}]}, {matchFields: [{key: metadata.name, operator: In, values: [plain]}]}]}}}`)
	if len(both) != 8 {
		t.Fatalf("a pod with two terms: %d: %s", len(both), text(both))
	}
	for _, term := range both {
		one := text(term)
		if !strings.Contains(one, "level.weft.dev/level") || !strings.Contains(one, `"key":"zone"`) && !strings.Contains(one, "metadata.name") {
			t.Errorf("a term lost something: %s", one)
		}
	}
	if system := terms("place4", "kube-system", c); system != nil {
		t.Errorf("a pod of the system: %s", text(system))
	}
}
