package cluster

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/weft-dev/weft/manager"
)

// logAgents are agents on every node that tell namespaces apart by tag; what the namespaces write stands in files of a volume, which a pod reads.
const logAgents = `
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: out}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}
---
apiVersion: fluentbit.fluent.io/v1alpha2
kind: FluentBit
metadata: {name: agent, labels: {app: agent}}
spec:
  image: weft.local/logagent:1
  fluentBitConfigName: NS
  namespaceFluentBitCfgSelector: {matchLabels: {for: NS}}
  args: [--config=/fluent-bit/config, --tap=/tmp/tap]
  configCheck: {}
  positionDB: {emptyDir: {}}
  volumes: [{name: out, persistentVolumeClaim: {claimName: out}}]
  volumesMounts: [{name: out, mountPath: /out}]
  readinessProbe: {httpGet: {path: /api/v1/health, port: 2020}}
  terminationGracePeriodSeconds: 5
---
apiVersion: fluentbit.fluent.io/v1alpha2
kind: ClusterFluentBitConfig
metadata: {name: NS}
spec:
  namespace: NS
  service: {flushSeconds: 0.2, httpServer: true, healthCheck: true}
  tenancy: {routing: tag, quota: {recordsPerSecond: 10}}
  inputSelector: {matchLabels: {for: NS}}
  filterSelector: {matchLabels: {for: NS}}
  outputSelector: {matchLabels: {for: NS}}
  parserSelector: {matchLabels: {for: NS}}
  multilineParserSelector: {matchLabels: {for: NS}}
---
apiVersion: fluentbit.fluent.io/v1alpha2
kind: ClusterInput
metadata: {name: NS, labels: {for: NS}}
spec: {tail: {path: /var/log/containers/*.log, excludePath: "*_kube-system_*,*_NS_*", tag: kube.*, db: /fluent-bit/tail/pos.db, multilineParser: cri, refreshIntervalSeconds: 1, readFromHead: true}}
---
apiVersion: fluentbit.fluent.io/v1alpha2
kind: ClusterOutput
metadata: {name: NS, labels: {for: NS}}
spec: {match: kube.*, file: {path: /out, file: rest, format: template, template: "{log}"}}
---
`

// aggregators are a Collector whose output leads nowhere, and a Fluentd.
const aggregators = `
apiVersion: fluentbit.fluent.io/v1alpha2
kind: Collector
metadata: {name: collector, labels: {aggregates: collector}}
spec: {image: weft.local/logagent:1, fluentBitConfigName: NS-collector, pvc: {spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}}}
---
apiVersion: fluentbit.fluent.io/v1alpha2
kind: ClusterFluentBitConfig
metadata: {name: NS-collector}
spec:
  namespace: NS
  service: {flushSeconds: 0.2, schedulerBase: 1, storage: {path: /buffers/fluentbit/log}}
  inputSelector: {matchLabels: {collect: NS}}
  filterSelector: {matchLabels: {collect: NS}}
  outputSelector: {matchLabels: {collect: NS}}
  parserSelector: {matchLabels: {collect: NS}}
  multilineParserSelector: {matchLabels: {collect: NS}}
---
apiVersion: fluentbit.fluent.io/v1alpha2
kind: ClusterInput
metadata: {name: NS-dummy, labels: {collect: NS}}
spec: {dummy: {tag: x}}
---
apiVersion: fluentbit.fluent.io/v1alpha2
kind: ClusterOutput
metadata: {name: NS-absent, labels: {collect: NS}}
spec: {match: "*", retry_limit: no_limits, http: {host: absent.invalid, port: 80}}
---
apiVersion: fluentd.fluent.io/v1alpha1
kind: Fluentd
metadata: {name: fluentd, labels: {aggregates: fluentd}}
spec:
  image: weft.local/logagent:1
  args: [--config=/fluentd/etc, --tap=/tmp/tap]
  globalInputs: [{sample: {tag: s, sample: '{"kubernetes":{"namespace_name":"NS"}}'}}]
  fluentdCfgSelector: {matchLabels: {for: NS}}
  buffer: {pvc: {spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}}}
---
apiVersion: fluentd.fluent.io/v1alpha1
kind: FluentdConfig
metadata: {name: all, labels: {for: NS}}
spec: {filterSelector: {}, outputSelector: {}}
---
apiVersion: fluentd.fluent.io/v1alpha1
kind: Filter
metadata: {name: via}
spec: {filters: [{recordTransformer: {records: [{key: via, value: fluentd}]}}]}
---
apiVersion: fluentd.fluent.io/v1alpha1
kind: Output
metadata: {name: out}
spec: {outputs: [{stdout: {}}]}
---
`

// runManager runs the manager in a pod, as its manifests say, but that the program is not part of the image.
func runManager(t *testing.T, p place) {
	t.Helper()
	weft, err := filepath.Abs(filepath.Join(filepath.Dir(p.Node), "weft"))
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, o := range manager.Deployment(p.ns, TestImage) {
		switch o.GetKind() {
		case "Namespace":
			continue
		case "Deployment":
			volumes := []any{map[string]any{"name": "weft", "hostPath": map[string]any{"path": weft, "type": "File"}}}
			if err := unstructured.SetNestedSlice(o.Object, volumes, "spec", "template", "spec", "volumes"); err != nil {
				t.Fatal(err)
			}
			containers, _, err := unstructured.NestedSlice(o.Object, "spec", "template", "spec", "containers")
			if err != nil || len(containers) != 1 {
				t.Fatal("the Deployment's containers", err)
			}
			containers[0].(map[string]any)["volumeMounts"] = []any{map[string]any{"name": "weft", "mountPath": "/weft", "readOnly": true}}
			if err := unstructured.SetNestedSlice(o.Object, containers, "spec", "template", "spec", "containers"); err != nil {
				t.Fatal(err)
			}
		}
		text, err := o.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(text))
	}
	manifests := strings.Join(all, "\n---\n")
	p.apply(manifests)
	t.Cleanup(func() {
		ctx, stop := context.WithTimeout(context.Background(), 30*time.Second)
		defer stop()
		if t.Failed() {
			out, err := p.Kubectl(ctx, "", "-n", p.ns, "logs", "deployment/weft-manager", "--tail=40")
			t.Log("the manager:", out, err)
		}
		if _, err := p.Kubectl(ctx, manifests, "-n", p.ns, "delete", "-f", "-"); err != nil {
			t.Error(err)
		}
	})
	p.until("the manager to run", func() (bool, string) {
		out := p.kubectl("get", "pods", "-o", "wide")
		d, err := p.Clients.AppsV1().Deployments(p.ns).Get(t.Context(), "weft-manager", metav1.GetOptions{})
		return err == nil && d.Status.ReadyReplicas == 1, fmt.Sprint(err, out)
	})
}

// tenant is a namespace's own pipeline, and a pod that writes a line a second.
func tenant(agents, namespace string) string {
	return strings.NewReplacer("AGENTS", agents, "NS", namespace).Replace(`
apiVersion: fluentbit.fluent.io/v1alpha2
kind: FluentBitConfig
metadata: {name: logs, labels: {for: AGENTS}}
spec: {outputSelector: {}}
---
apiVersion: fluentbit.fluent.io/v1alpha2
kind: Output
metadata: {name: own}
spec: {match: "*", file: {path: /out, file: NS, format: template, template: "{log}"}}
---
`) + shell("talk", `i=0; while :; do echo "line $i from `+namespace+`"; i=$((i+1)); sleep 1; done`)
}

// Pods of three namespaces log; each namespace sees its own lines at its own output. A broken resource harms nobody, a change is taken without a restart, and
// a configuration that the engine refuses does not reach the agents.
func TestLogging(t *testing.T) {
	p := newPlace(t)
	runManager(t, p)
	apply := func(p place, manifests string) {
		t.Helper()
		p.until("manifests to be applied", func() (bool, string) { // the definitions are being installed
			_, err := p.Kubectl(t.Context(), strings.ReplaceAll(manifests, "IMAGE", TestImage), "-n", p.ns, "apply", "-f", "-")
			return err == nil, fmt.Sprint(err)
		})
	}
	apply(p, strings.ReplaceAll(logAgents, "NS", p.ns)+strings.Replace(shell("reader", forever), "    image:", "    volumeMounts: [{name: out, mountPath: /out}]\n    image:", 1)+"  volumes: [{name: out, persistentVolumeClaim: {claimName: out}}]\n")
	tenants := []place{newPlace(t), newPlace(t), newPlace(t)}
	for _, x := range tenants {
		apply(x, tenant(p.ns, x.ns))
	}
	file := func(name string) string {
		out, err := p.Kubectl(t.Context(), "", "-n", p.ns, "exec", "reader", "--", "cat", "/out/"+name)
		if err != nil {
			return ""
		}
		return out
	}
	lines := func(x place, name string, more int) {
		t.Helper()
		before := strings.Count(file(name), "\n")
		p.until("lines of "+x.ns+" in "+name, func() (bool, string) {
			text := file(name)
			pods, _ := p.Kubectl(t.Context(), "", "-n", p.ns, "get", "pods,jobs,fluentbits,clusterfluentbitconfigs", "-o", "wide")
			said, _ := p.Kubectl(t.Context(), "", "-n", p.ns, "logs", "-l", "app=agent", "--tail=20")
			return strings.Count(text, "\n") >= before+more, text + "\n" + pods + "\n" + said
		})
		for line := range strings.Lines(file(name)) {
			if !strings.HasSuffix(strings.TrimSpace(line), "from "+x.ns) {
				t.Errorf("%s has a line of another: %q", name, line)
			}
		}
	}
	p.pod("reader", "ready", ready)
	for _, x := range tenants {
		lines(x, x.ns, 3)
	}
	if rest := file("rest"); strings.Contains(rest, "from test-") {
		t.Errorf("the cluster's output got lines of namespaces: %s", rest)
	}
	agent := p.agentPod(t)

	t.Run("live records are watched in a pod", func(t *testing.T) {
		points := p.tap(t, agent.Name)
		_, rest, found := strings.Cut("\n"+points, "\noutput/")
		if !found {
			t.Fatalf("no output among the points: %s", points)
		}
		point, _, _ := strings.Cut(rest, "\n")
		if line := p.tap(t, agent.Name, "output/"+point, "-n", "1", "-o", "json"); !strings.Contains(line, `"point":"output/`+point) || !strings.Contains(line, `"log":"line `) {
			t.Errorf("at %s: %s", point, line)
		}
	})
	t.Run("a broken resource harms nobody", func(t *testing.T) {
		apply(tenants[1], "apiVersion: fluentbit.fluent.io/v1alpha2\nkind: Output\nmetadata: {name: broken}\nspec: {match: '*', http: {host: x, httpPassword: {valueFrom: {secretKeyRef: {name: none, key: k}}}}}\n")
		tenants[1].until("the status", func() (bool, string) {
			out := tenants[1].kubectl("get", "outputs.fluentbit.fluent.io", "broken", "-o", `jsonpath={.status.conditions[?(@.type=="Accepted")].reason}`)
			return out == "SecretNotFound", out
		})
		for _, x := range tenants {
			lines(x, x.ns, 2)
		}
	})
	t.Run("a change is taken without a restart", func(t *testing.T) {
		apply(tenants[0], "apiVersion: fluentbit.fluent.io/v1alpha2\nkind: Output\nmetadata: {name: second}\nspec: {match: '*', file: {path: /out, file: second, format: template, template: '{log}'}}\n")
		lines(tenants[0], "second", 2)
		if again := p.agentPod(t); again.UID != agent.UID || again.Status.ContainerStatuses[0].RestartCount != 0 {
			t.Errorf("the agent was started again: %s, then %s", agent.UID, again.UID)
		}
	})
	t.Run("a namespace over its quota is told", func(t *testing.T) {
		lines(tenants[2], tenants[2].ns, 1)
		condition := func() string {
			return tenants[2].kubectl("get", "fluentbitconfigs", "logs", "-o", `jsonpath={.status.conditions[?(@.type=="WithinQuota")]}`)
		}
		tenants[2].until("the quota to be kept", func() (bool, string) { return strings.Contains(condition(), `"True"`), condition() })
		tenants[2].apply(shell("shout", `i=0; while :; do echo "line $i from `+tenants[2].ns+`"; i=$((i+1)); [ $((i%50)) != 0 ] || sleep 1; done`))
		tenants[2].until("the status", func() (bool, string) { return strings.Contains(condition(), `"OverRate"`), condition() })
		if told := condition(); !strings.Contains(told, "more than 10 records/s") || strings.Contains(told, "(node "+p.ns) {
			t.Error(told)
		}
		if events := tenants[2].kubectl("get", "events", "--field-selector=involvedObject.name=logs,reason=OverRate", "-o", "name"); strings.Count(events, "event/") != 1 {
			t.Errorf("events: %s", events)
		}
		tenants[2].kubectl("delete", "pod", "shout", "--now")
	})
	t.Run("a Collector and a Fluentd run, and an output whose server is absent retries", func(t *testing.T) {
		apply(p, strings.ReplaceAll(aggregators, "NS", p.ns))
		for _, name := range []string{"collector", "fluentd"} {
			p.until(name+" to run", func() (bool, string) {
				out := p.kubectl("get", "statefulset,pods", "-l", "aggregates="+name, "-o", "wide")
				set, err := p.Clients.AppsV1().StatefulSets(p.ns).Get(t.Context(), name, metav1.GetOptions{})
				return err == nil && set.Status.ReadyReplicas == 1, fmt.Sprint(err, out)
			})
		}
		said := func(pod string) string {
			out, err := p.Kubectl(t.Context(), "", "-n", p.ns, "logs", pod)
			return fmt.Sprint(out, err)
		}
		p.until("the Fluentd's record", func() (bool, string) {
			out := said("fluentd-0")
			return strings.Contains(out, `"via":"fluentd"`), out
		})
		points := p.tap(t, "fluentd-0")
		point, _, found := strings.Cut(points[max(0, strings.Index(points, "output/FluentdConfig-")):], "\n") // behind the filter; output/main is the router before it
		if line := p.tap(t, "fluentd-0", point, "-n", "1"); !found || !strings.Contains(line, `"via":"fluentd"`) {
			t.Errorf("at %s of %s: %s", point, points, line)
		}
		p.until("retries", func() (bool, string) {
			out := said("collector-0")
			return strings.Contains(out, "absent.invalid") && strings.Contains(out, "retry"), out
		})
		for _, name := range []string{"collectors/collector", "fluentds/fluentd"} {
			p.kubectl("delete", name)
		}
		p.until("them to be gone", func() (bool, string) {
			out := p.kubectl("get", "statefulsets,services,serviceaccounts", "-o", "name")
			return !strings.Contains(out, "/collector") && !strings.Contains(out, "/fluentd"), out
		})
	})
	t.Run("what the engine refuses does not reach the agents", func(t *testing.T) {
		before, err := p.Clients.CoreV1().Secrets(p.ns).Get(t.Context(), p.ns, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		apply(p, strings.ReplaceAll("apiVersion: fluentbit.fluent.io/v1alpha2\nkind: ClusterOutput\nmetadata: {name: NS-refused, labels: {for: NS}}\nspec: {match: kube.*, gelf: {host: gelf.invalid, port: 12201, mode: udp, shortMessageKey: log}}\n", "NS", p.ns))
		p.until("the refusal", func() (bool, string) {
			out := p.kubectl("get", "clusterfluentbitconfigs", p.ns, "-o", `jsonpath={.status.conditions[?(@.type=="Accepted")]}`)
			return strings.Contains(out, "RefusedByEngine") && strings.Contains(out, "gelf"), out
		})
		after, err := p.Clients.CoreV1().Secrets(p.ns).Get(t.Context(), p.ns, metav1.GetOptions{})
		if err != nil || string(after.Data["fluent-bit.conf"]) != string(before.Data["fluent-bit.conf"]) {
			t.Errorf("the configuration changed: %v", err)
		}
		lines(tenants[2], tenants[2].ns, 2)
		p.kubectl("delete", "clusteroutputs.fluentbit.fluent.io", p.ns+"-refused")
		p.until("the good state", func() (bool, string) {
			out := p.kubectl("get", "clusterfluentbitconfigs", p.ns, "-o", `jsonpath={.status.conditions[?(@.type=="Accepted")].reason}`)
			return out == "Accepted", out
		})
	})
	p.kubectl("delete", "fluentbits", "agent")
	p.until("the agents to be gone", func() (bool, string) {
		out, err := p.Kubectl(t.Context(), "", "-n", p.ns, "get", "daemonsets,secrets", "-o", "name")
		return err == nil && !strings.Contains(out, "daemonset") && !strings.Contains(out, "secret/"+p.ns+"\n"), out
	})
	for _, o := range []string{"clusterinputs/NS", "clusterinputs/NS-dummy", "clusteroutputs/NS", "clusteroutputs/NS-absent", "clusterfluentbitconfigs/NS", "clusterfluentbitconfigs/NS-collector"} {
		kind, name, _ := strings.Cut(strings.ReplaceAll(o, "NS", p.ns), "/")
		p.kubectl("delete", kind+".fluentbit.fluent.io", name)
	}
}

// tap runs `weft log tap` against a pod.
func (p place) tap(t *testing.T, pod string, args ...string) string {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	cmd := exec.CommandContext(ctx, filepath.Join(filepath.Dir(p.Node), "weft"), append([]string{"log", "tap", "--state", p.State, "--pod", p.ns + "/" + pod, "--socket", "/tmp/tap"}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("weft log tap %v: %v: %s", args, err, out)
	}
	return string(out)
}

// agentPod is the one agent's pod.
func (p place) agentPod(t *testing.T) *corev1.Pod {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
	defer stop()
	pods, err := p.Clients.CoreV1().Pods(p.ns).List(ctx, metav1.ListOptions{LabelSelector: "app=agent"})
	if err != nil || len(pods.Items) != 1 || len(pods.Items[0].Status.ContainerStatuses) != 1 {
		t.Fatalf("agents: %v %v", pods, err)
	}
	return &pods.Items[0]
}
