package ceiling

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
	"github.com/weft-dev/weft/level"
	"github.com/weft-dev/weft/level/admission"
	"github.com/weft-dev/weft/test/graded"
	"github.com/weft-dev/weft/test/kube"
)

func TestMain(m *testing.M) { kube.Main(m) }

// replica is a process that judges: it has its own sight of the pods.
func replica(t *testing.T, place kube.Place, s *level.Snapshot) *admission.Judge {
	t.Helper()
	usage := &admission.Usage{}
	keeper, err := New(place.Config, usage, func() *level.Snapshot { return s }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ledger, err := NewLedger(place.Config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); keeper.Run(ctx) }()
	t.Cleanup(func() { stop(); <-done })
	for range 1000 {
		if usage.Known() {
			return &admission.Judge{Snapshot: func() *level.Snapshot { return s }, Setting: func() api.DoorSetting { return api.Enforce }, Usage: usage, Ledger: ledger}
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("the pods were never listed")
	return nil
}

func pod(namespace, name string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID("uid-" + name)}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i",
		Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m")}}}}}}
}

func creating(t *testing.T, p *corev1.Pod) *admissionv1.AdmissionRequest {
	t.Helper()
	data, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	r := &admissionv1.AdmissionRequest{UID: "u", Operation: admissionv1.Create, Namespace: p.Namespace, Name: p.Name, Object: runtime.RawExtension{Raw: data}}
	r.Resource.Resource = "pods"
	r.UserInfo.Username = "system:kube-scheduler" // whom levels do not bind; ceilings do
	return r
}

// TestReplicasCountTogether asks two replicas about pods at the same moment: together they let through what one would.
func TestReplicasCountTogether(t *testing.T) {
	place := kube.Namespace(t)
	c := graded.New(t, place.Config)
	c.Install()
	c.Apply("workspaces", `{apiVersion: level.weft.dev/v1alpha1, kind: Workspace, metadata: {name: together}, spec: {ceiling: {pods: "5"}}}`)
	t.Cleanup(func() { c.Remove("workspaces", "together") })
	registry, err := level.NewRegistry(api.RegistrySpec{Levels: []api.Level{{Name: "low"}}})
	if err != nil {
		t.Fatal(err)
	}
	five := resource.MustParse("5")
	s := level.NewSnapshot(&level.Model{Registry: registry, Workspaces: []level.Workspace{{Name: "together", Ceiling: api.Amount{Pods: &five}}},
		Namespaces: []level.Namespace{{Name: place.Namespace, Workspace: "together"}}}, time.Now())
	judges := []*admission.Judge{replica(t, place, s), replica(t, place, s)}
	var allowed atomic.Int64
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			answer := judges[i%2].Review(creating(t, pod(place.Namespace, fmt.Sprint("p", i))))
			switch {
			case answer.Allowed:
				allowed.Add(1)
			case !strings.Contains(answer.Result.Message, "its ceiling is 5") && !strings.Contains(answer.Result.Message, "try again"):
				t.Error(answer.Result.Message)
			}
		})
	}
	all.Wait()
	if allowed.Load() != 5 {
		t.Errorf("two replicas let %d of 16 pods through, the ceiling is 5", allowed.Load())
	}
	for i, j := range judges {
		if answer := j.Review(creating(t, pod(place.Namespace, "more"))); answer.Allowed {
			t.Errorf("replica %d lets one more through", i)
		}
	}
}
