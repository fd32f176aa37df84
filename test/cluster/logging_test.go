package cluster

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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
  tenancy: {routing: tag}
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
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	m := &manager.Manager{Config: p.Config, Parts: []manager.Part{manager.NewLogging(p.ns)}, Install: true}
	go func() { ended <- m.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
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
	for _, kind := range []string{"clusterinputs.fluentbit.fluent.io", "clusteroutputs.fluentbit.fluent.io", "clusterfluentbitconfigs.fluentbit.fluent.io"} {
		p.kubectl("delete", kind, p.ns)
	}
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
