package controlplane

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
	"github.com/weft-dev/weft/level"
)

// levels are what the control plane of these tests judges writes by.
var levels atomic.Pointer[level.Snapshot]

func registry(setting api.DoorSetting) *level.Registry {
	r, err := level.NewRegistry(api.RegistrySpec{Levels: []api.Level{{Name: "low"}, {Name: "high"}}, Doors: api.Doors{Admission: setting}})
	if err != nil {
		panic(err) // the specification is a constant
	}
	return r
}

// The door stands in the server's own process and sees objects in the form in which they were sent.
func TestLevelsAtAdmission(t *testing.T) {
	client := admin(t)
	for _, name := range []string{"level-low", "level-high"} {
		if _, err := client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	model := func(setting api.DoorSetting) *level.Model {
		high := level.Label{Rank: 1}
		return &level.Model{Registry: registry(setting),
			Namespaces: []level.Namespace{{Name: "level-low"}, {Name: "level-high", Label: &high}, {Name: "kube-system"}},
			Objects:    []level.Object{{Kind: level.Kind{Resource: "secrets"}, Namespace: "level-low", Name: "key", Label: high}}}
	}
	defer levels.Store(levels.Load())
	var warnings warned
	config, err := clientcmd.BuildConfigFromFlags("", plane.kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	config.WarningHandler = &warnings
	client, err = kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	mounting := func(name string) *corev1.Pod {
		no := false
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{AutomountServiceAccountToken: &no, Containers: []corev1.Container{{Name: "c", Image: "i"}},
			Volumes: []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "key"}}}}}}
	}
	dry := metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}
	create := func(p *corev1.Pod, namespace string) error {
		_, err := client.CoreV1().Pods(namespace).Create(t.Context(), p, dry)
		return err
	}
	awaitAccount(t, client, "level-low")
	levels.Store(level.NewSnapshot(model(api.Audit), time.Now()))
	if err := create(mounting("a"), "level-low"); err != nil || len(warnings) > 0 {
		t.Errorf("audit: %v, warnings %q", err, warnings)
	}
	levels.Store(level.NewSnapshot(model(api.Warn), time.Now()))
	if err := create(mounting("a"), "level-low"); err != nil || len(warnings) != 1 || !strings.Contains(warnings[0], "spec.volumes[0].secret.secretName") {
		t.Errorf("warn: %v, warnings %q", err, warnings)
	}
	levels.Store(level.NewSnapshot(model(api.Enforce), time.Now()))
	if err := create(mounting("a"), "level-low"); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "spec.volumes[0].secret.secretName") {
		t.Errorf("enforce: %v", err)
	}
	plain := mounting("b")
	plain.Spec.Volumes = nil
	if err := create(plain, "level-low"); err != nil {
		t.Errorf("a pod of its level: %v", err)
	}
	if _, err := client.CoreV1().ConfigMaps("level-high").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "c"}}, dry); !apierrors.IsForbidden(err) {
		t.Errorf("a write into a high namespace: %v", err)
	}
	_, err = client.CoreV1().Namespaces().Update(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "level-low", Labels: map[string]string{api.LevelLabel: "high"}}}, metav1.UpdateOptions{})
	if !apierrors.IsForbidden(err) {
		t.Errorf("a raised namespace: %v", err)
	}
}

type warned []string

func (w *warned) HandleWarningHeader(_ int, _ string, text string) { *w = append(*w, text) }

var _ rest.WarningHandler = (*warned)(nil)

// awaitAccount waits for the account without which pods are refused.
func awaitAccount(t *testing.T, client kubernetes.Interface, namespace string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if _, err := client.CoreV1().ServiceAccounts(namespace).Get(t.Context(), "default", metav1.GetOptions{}); err == nil {
			return
		}
	}
	t.Fatal("no default service account")
}
