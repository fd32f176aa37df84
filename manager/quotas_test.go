package manager

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/weft-dev/weft/logging/resource"
)

// A namespace over its quota is told so in the status of its FluentBitConfig and by one event, and when it keeps it again. The test's API server has no
// nodes, so the test plays the kubelet: a pod of the DaemonSet whose address is that of a server with an agent's metrics.
func TestQuotaStatus(t *testing.T) {
	var limited, dropped, asked atomic.Int64
	var input atomic.Pointer[string] // the name of the namespace's input
	agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.URL.Path != "/api/v2/metrics/prometheus" {
			http.NotFound(w, r)
			return
		}
		fmt.Fprintf(w, strings.ReplaceAll(metrics, "INPUT", *input.Load()), limited.Load(), dropped.Load())
	}))
	defer agent.Close()
	_, port, err := net.SplitHostPort(agent.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c := serve(t, false, func(l *Logging) { l.quotas.every = 100 * time.Millisecond })
	name := c.Namespace + "-tail." + c.Namespace
	input.Store(&name)
	c.apply(strings.Replace(agents, "service: {httpServer: true}", "service: {httpServer: true, httpPort: "+port+"}\n  tenancy: {routing: tag, quotas: {NS: {recordsPerSecond: 5, bufferedBytes: 1M, whenFull: dropOldest}}}", 1))
	var set *appsv1.DaemonSet
	c.eventually("the agents", func() (err error) {
		set, err = c.Clients.AppsV1().DaemonSets(c.Namespace).Get(t.Context(), "agent", metav1.GetOptions{})
		return err
	})
	told := func(want string) {
		t.Helper()
		c.eventually(want, func() error {
			if got := c.quota("tenant"); got != want {
				return fmt.Errorf("%s", got)
			}
			return nil
		})
	}
	told("Unknown NotMeasured") // no agent runs
	yes := true
	other, err := c.Clients.CoreV1().Secrets(c.Namespace).Get(t.Context(), "password", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	// the labels of an agent, but of another maker; one without a maker would become the DaemonSet's
	c.pod("impostor", set.Spec.Selector.MatchLabels, []metav1.OwnerReference{{APIVersion: "v1", Kind: "Secret", Name: other.Name, UID: other.UID, Controller: &yes}})
	c.pod("agent-1", set.Spec.Selector.MatchLabels, []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "DaemonSet", Name: set.Name, UID: set.UID, Controller: &yes}})
	c.eventually("a question", func() error {
		if asked.Load() == 0 {
			return fmt.Errorf("the agent was not asked")
		}
		return nil
	})
	told("True WithinQuota")
	dropped.Store(4096) // which lasts until the next question
	c.eventually("the event of dropped records", func() error {
		events, err := c.Clients.CoreV1().Events(c.Namespace).List(t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=tenant,reason=RecordsDropped"})
		if err == nil && len(events.Items) != 1 {
			err = fmt.Errorf("%v", events.Items)
		}
		return err
	})
	told("True WithinQuota")
	limited.Store(1)
	told("False OverRate")
	c.eventually("the event", func() error {
		events, err := c.Clients.CoreV1().Events(c.Namespace).List(t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=tenant,reason=OverRate"})
		if err == nil && (len(events.Items) != 1 || !strings.Contains(events.Items[0].Message, "more than 5 records/s") || !strings.Contains(events.Items[0].Message, "agent-1") || strings.Contains(events.Items[0].Message, "impostor")) {
			err = fmt.Errorf("%v", events.Items)
		}
		return err
	})
	limited.Store(0)
	told("True WithinQuota")
	agent.Close()
	told("Unknown NotMeasured")
}

const metrics = `fluentbit_input_records_total{name="INPUT"} 1
fluentbit_input_rate_gate_limited{name="INPUT"} %d
fluentbit_input_memrb_dropped_bytes{name="INPUT"} %d
`

// quota is the condition WithinQuota of a FluentBitConfig.
func (c *cluster) quota(name string) string {
	u, err := c.objects.Resource(loggingResource(resource.FluentBitGroup, "FluentBitConfig")).Namespace(c.Namespace).Get(c.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		return err.Error()
	}
	conditions, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	for _, item := range conditions {
		if x, _ := item.(map[string]any); x["type"] == "WithinQuota" {
			return fmt.Sprint(x["status"], " ", x["reason"])
		}
	}
	return fmt.Sprint(conditions)
}

// pod makes a pod that the test says is running at the loopback address.
func (c *cluster) pod(name string, labels map[string]string, owners []metav1.OwnerReference) {
	c.t.Helper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels, OwnerReferences: owners}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "agent", Image: "example.test/fluent-bit"}}}}
	c.eventually("the service account", func() error {
		_, err := c.Clients.CoreV1().Pods(c.Namespace).Create(c.t.Context(), pod, metav1.CreateOptions{})
		return err
	})
	running := []byte(`{"status":{"phase":"Running","podIP":"127.0.0.1","podIPs":[{"ip":"127.0.0.1"}]}}`)
	if _, err := c.Clients.CoreV1().Pods(c.Namespace).Patch(c.t.Context(), name, types.MergePatchType, running, metav1.PatchOptions{}, "status"); err != nil {
		c.t.Fatal(err)
	}
}
