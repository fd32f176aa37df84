package kube_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weft-dev/weft/test/kube"
)

func TestMain(m *testing.M) { kube.Main(m) }

func TestNamespacesAreApart(t *testing.T) {
	a, b := kube.Namespace(t), kube.Namespace(t)
	if a.Namespace == b.Namespace || a.Kubeconfig != b.Kubeconfig {
		t.Fatalf("two namespaces in one server expected: %+v %+v", a, b)
	}
	for _, p := range []kube.Place{a, b} {
		_, err := p.Clients.CoreV1().ConfigMaps(p.Namespace).Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "same"}}, metav1.CreateOptions{})
		if err != nil {
			t.Error(err)
		}
	}
}
