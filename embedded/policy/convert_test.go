package policy

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weft-dev/weft/network"
)

func TestTrimKeepsWhatCounts(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "x", Name: "a", Labels: map[string]string{"l": "v"}, Annotations: map[string]string{"big": "text"}, CreationTimestamp: metav1.Now()},
		Spec: corev1.PodSpec{NodeName: "n1", Containers: []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: 80, Protocol: corev1.ProtocolTCP}}}},
			InitContainers: []corev1.Container{
				{Ports: []corev1.ContainerPort{{Name: "init", ContainerPort: 1, Protocol: corev1.ProtocolTCP}}},
				{RestartPolicy: &always, Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: 81, Protocol: corev1.ProtocolTCP}, {Name: "side", ContainerPort: 82, Protocol: corev1.ProtocolUDP}}},
			}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIPs: []corev1.PodIP{{IP: "10.42.0.9"}, {IP: "nonsense"}}},
	}
	trimmed, err := trim(p)
	if err != nil {
		t.Fatal(err)
	}
	full, kept := convertPod(p), convertPod(trimmed.(*corev1.Pod))
	if fmt.Sprintf("%+v", full) != fmt.Sprintf("%+v", kept) {
		t.Errorf("trimming changed\n%+v\nto\n%+v", full, kept)
	}
	if trimmed.(*corev1.Pod).Annotations != nil {
		t.Error("annotations are kept")
	}
	if n, _ := kept.NamedPort("web", network.TCP); n != 80 {
		t.Errorf("web is %d: a container's port goes before a sidecar's", n)
	}
	if n, _ := kept.NamedPort("side", network.UDP); n != 82 {
		t.Errorf("the sidecar's port is %d", n)
	}
	if _, ok := kept.NamedPort("init", network.TCP); ok {
		t.Error("an init container that ends has no port")
	}
}
