package policy

import (
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	"github.com/weft-dev/weft/network"
)

// definitionOf is a definition of ClusterNetworkPolicies with two versions, of which the one that is understood may not be served.
func definitionOf(understood bool) string {
	const schema = `schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}`
	return fmt.Sprintf(`
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: clusternetworkpolicies.policy.networking.k8s.io
  annotations: {api-approved.kubernetes.io: "https://github.com/kubernetes-sigs/network-policy-api/pull/300"}
spec:
  group: policy.networking.k8s.io
  names: {kind: ClusterNetworkPolicy, listKind: ClusterNetworkPolicyList, plural: clusternetworkpolicies, singular: clusternetworkpolicy}
  scope: Cluster
  versions:
  - {name: v1alpha2, served: %t, storage: false, %[2]s}
  - {name: v1alpha3, served: true, storage: true, %[2]s}
`, understood, schema)
}

// TestClusterPoliciesNeedTheirDefinition installs the definition while the controller runs, serves another version alone, and removes it: what is in force is what
// can be read, and what is not enforced is told.
func TestClusterPoliciesNeedTheirDefinition(t *testing.T) {
	f := newFixture(t)
	objects, err := dynamic.NewForConfig(plane.config)
	if err != nil {
		t.Fatal(err)
	}
	f.options.Dynamic = objects
	f.pod("a", map[string]string{"app": "web"}, "10.42.0.9")
	f.run()
	f.eventually("without the definition")
	definition := func(understood bool) {
		t.Helper()
		data, err := yaml.YAMLToJSON([]byte(definitionOf(understood)))
		if err == nil {
			force := true
			_, err = objects.Resource(definitionResource).Patch(t.Context(), DefinitionName, types.ApplyPatchType, data, metav1.PatchOptions{FieldManager: "test", Force: &force})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	definition(true)
	var policy network.ClusterPolicy
	text := `{apiVersion: policy.networking.k8s.io/v1alpha2, kind: ClusterNetworkPolicy, metadata: {name: closed}, spec: {tier: Admin, priority: 10, subject: {namespaces: {}}, ingress: [{name: nobody, action: Deny, from: [{namespaces: {}}]}]}}`
	if err := yaml.Unmarshal([]byte(text), &policy); err != nil {
		t.Fatal(err)
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&policy)
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) { // a new definition is known a moment later
		_, err := objects.Resource(clusterPolicyResource).Create(t.Context(), &unstructured.Unstructured{Object: content}, metav1.CreateOptions{})
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	f.cluster = []*network.ClusterPolicy{&policy}
	f.eventually("a policy")
	definition(false)
	f.cluster = nil
	f.eventually("another version alone")
	if s := f.reported(); len(s.Problems) == 0 {
		t.Errorf("nothing is told: %+v", s)
	}
	definition(true)
	f.cluster = []*network.ClusterPolicy{&policy}
	f.eventually("the version that is understood, again")
	if err := objects.Resource(definitionResource).Delete(t.Context(), DefinitionName, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	f.cluster = nil
	f.eventually("no definition")
}
