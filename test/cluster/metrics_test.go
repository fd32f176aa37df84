package cluster

import (
	"encoding/json"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// burning is a Deployment whose pod uses as much processor time as it may.
func burning() string {
	return deployment("burner", 1, `command: [sh, -c, "trap 'exit 0' TERM; while :; do :; done"], resources: {requests: {cpu: 100m}, limits: {cpu: 300m}}`) + "---\n"
}

func TestTopShowsWhatIsUsed(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.apply(burning() + shell("idle", forever))
	p.pod("idle", "ready", ready)
	p.until("both pods to be measured", func() (bool, string) {
		out, err := p.Kubectl(t.Context(), "", "-n", p.ns, "top", "pods", "--no-headers")
		return err == nil && strings.Contains(out, "burner-") && strings.Contains(out, "idle "), out
	})
	p.until("the node to be measured", func() (bool, string) { // twice, which takes the kubelet longer than a new pod
		out, err := p.Kubectl(t.Context(), "", "-n", p.ns, "top", "nodes", "--no-headers")
		return err == nil && strings.Contains(out, "weft") && !strings.Contains(out, "<unknown>"), out
	})
	p.until("the burning pod's use to be near its limit", func() (bool, string) {
		out := p.kubectl("get", "--raw", "/apis/metrics.k8s.io/v1beta1/namespaces/"+p.ns+"/pods?labelSelector=app%3Dburner")
		var list struct {
			Items []struct {
				Containers []struct{ Usage corev1.ResourceList }
			}
		}
		if err := json.Unmarshal([]byte(out), &list); err != nil {
			t.Fatal(err)
		}
		if len(list.Items) != 1 || len(list.Items[0].Containers) != 1 {
			return false, out
		}
		milli := list.Items[0].Containers[0].Usage.Cpu().MilliValue()
		return milli > 50 && milli < 400, out // other work on the machine may take from it
	})
	for selector, want := range map[string]bool{"--field-selector=metadata.name=idle": true, "--selector=app=idle": true, "--selector=app=other": false} {
		out, err := p.Kubectl(t.Context(), "", "-n", p.ns, "get", "pods.metrics.k8s.io", selector, "--no-headers")
		if err != nil || strings.Contains(out, "idle") != want || strings.Contains(out, "burner") {
			t.Errorf("%s: %q, %v", selector, out, err)
		}
	}
	if out := p.kubectl("get", "podmetrics", "idle"); !strings.Contains(out, "CPU") || !strings.Contains(out, "MEMORY") || !strings.Contains(out, "WINDOW") {
		t.Errorf("table: %s", out)
	}
	if out, err := p.Kubectl(t.Context(), "", "-n", p.ns, "get", "podmetrics", "absent"); err == nil || !strings.Contains(err.Error(), "not found") {
		t.Errorf("an absent pod: %s, %v", out, err)
	}
}

// Who may view a namespace may see its metrics; who may not, may not.
func TestMetricsAreAuthorized(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.kubectl("create", "serviceaccount", "viewer")
	p.kubectl("create", "rolebinding", "viewer", "--clusterrole=view", "--serviceaccount="+p.ns+":viewer")
	as := func(name string) (string, error) {
		return p.Kubectl(t.Context(), "", "-n", p.ns, "--as=system:serviceaccount:"+p.ns+":"+name, "get", "podmetrics")
	}
	p.until("the viewer to see metrics", func() (bool, string) {
		out, err := as("viewer")
		if err != nil {
			return false, err.Error()
		}
		return true, out
	})
	if out, err := as("default"); err == nil || !strings.Contains(err.Error(), "forbidden") {
		t.Errorf("somebody without rights: %s, %v", out, err)
	}
}

func TestAutoscalerScalesOnCPU(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.apply(burning())
	p.kubectl("autoscale", "deployment", "burner", "--min=1", "--max=2", "--cpu=50%")
	p.until("a second pod", func() (bool, string) {
		out := p.kubectl("get", "deployment", "burner", "-o", "jsonpath={.status.readyReplicas}")
		hpa := p.kubectl("get", "hpa", "burner", "-o", "jsonpath={.status}")
		return out == "2", hpa
	})
	if out := p.kubectl("get", "events", "--field-selector", "involvedObject.name=burner,reason=SuccessfulRescale", "-o", "jsonpath={.items[*].message}"); !strings.Contains(out, "above target") {
		t.Errorf("events: %s", out)
	}
}
