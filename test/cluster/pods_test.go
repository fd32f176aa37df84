package cluster

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestMain(m *testing.M) { Main(m) }

// place is one test's namespace.
type place struct {
	*Cluster
	t  *testing.T
	ns string
}

// newPlace makes a namespace whose pods may run as soon as this returns.
func newPlace(t *testing.T) place {
	t.Helper()
	c := Shared(t)
	made, err := c.Clients.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := c.Clients.CoreV1().Namespaces().Delete(ctx, made.Name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	p := place{c, t, made.Name}
	p.until("the default service account", func() (bool, string) {
		_, err := c.Clients.CoreV1().ServiceAccounts(p.ns).Get(t.Context(), "default", metav1.GetOptions{})
		return err == nil, fmt.Sprint(err)
	})
	return p
}

// until waits for a condition; why tells what stands in its way.
func (p place) until(what string, condition func() (ok bool, why string)) {
	p.t.Helper()
	deadline := time.Now().Add(Patience)
	for {
		ok, why := condition()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("waited for %s: %s\n%s", what, why, p.Logs())
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (p place) kubectl(args ...string) string {
	p.t.Helper()
	out, err := p.Kubectl(p.t.Context(), "", append([]string{"-n", p.ns}, args...)...)
	if err != nil {
		p.t.Fatal(err)
	}
	return out
}

// apply applies manifests; IMAGE stands for the test image.
func (p place) apply(manifests string) {
	p.t.Helper()
	if _, err := p.Kubectl(p.t.Context(), strings.ReplaceAll(manifests, "IMAGE", TestImage), "-n", p.ns, "apply", "-f", "-"); err != nil {
		p.t.Fatal(err)
	}
}

// deployment is a Deployment of the test image, which listens on 8080; more are further fields of its container, as in YAML's braces.
func deployment(name string, replicas int, more string) string {
	return fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s}
spec:
  replicas: %[2]d
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec: {terminationGracePeriodSeconds: 1, containers: [{name: main, image: IMAGE, %[3]s}]}
`, name, replicas, more)
}

// pod waits until a pod is as wanted and returns it.
func (p place) pod(name, what string, wanted func(*corev1.Pod) bool) *corev1.Pod {
	p.t.Helper()
	var pod *corev1.Pod
	p.until(fmt.Sprintf("pod %s to be %s", name, what), func() (bool, string) {
		var err error
		pod, err = p.Clients.CoreV1().Pods(p.ns).Get(p.t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return false, err.Error()
		}
		events, _ := p.Kubectl(p.t.Context(), "", "-n", p.ns, "get", "events", "--field-selector", "involvedObject.name="+name)
		return wanted(pod), fmt.Sprintf("phase %s, %+v\n%s", pod.Status.Phase, pod.Status.ContainerStatuses, events)
	})
	return pod
}

func ready(pod *corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func succeeded(pod *corev1.Pod) bool { return pod.Status.Phase == corev1.PodSucceeded }

// shell is a pod that runs a script in the test image.
func shell(name, script string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: %s, labels: {app: %[1]s}}
spec:
  terminationGracePeriodSeconds: 5
  restartPolicy: Never
  containers:
  - name: main
    image: IMAGE
    command: [sh, -c, %q]
`, name, script)
}

// forever ends at once on SIGTERM.
const forever = "trap 'exit 0' TERM; while :; do sleep 0.1; done"

func TestLogs(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.apply(shell("talker", "echo one; echo two >&2; "+forever))
	p.pod("talker", "ready", ready)
	p.until("both lines", func() (bool, string) {
		out := p.kubectl("logs", "talker")
		return strings.Contains(out, "one\n") && strings.Contains(out, "two\n"), out
	})
	if out := p.kubectl("logs", "talker", "--tail=1", "--timestamps"); !regexp.MustCompile(`^\d{4}-\d\d-\d\dT\S+ (one|two)\n$`).MatchString(out) {
		t.Errorf("--tail=1 --timestamps printed %q", out)
	}
}

func TestLogsFollowAndPrevious(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.apply(strings.Replace(shell("loop", "echo run; sleep 1; exit 3"), "Never", "Always", 1))
	pod := p.pod("loop", "restarted", func(pod *corev1.Pod) bool {
		return len(pod.Status.ContainerStatuses) == 1 && pod.Status.ContainerStatuses[0].RestartCount > 0
	})
	if s := pod.Status.ContainerStatuses[0].LastTerminationState.Terminated; s == nil || s.ExitCode != 3 {
		t.Errorf("last state %+v, want exit code 3", s)
	}
	if out := p.kubectl("logs", "--previous", "loop"); out != "run\n" {
		t.Errorf("--previous printed %q", out)
	}
	p.apply(shell("counter", "for i in 1 2 3; do echo $i; sleep 0.3; done"))
	p.pod("counter", "started", func(pod *corev1.Pod) bool { return pod.Status.Phase != corev1.PodPending })
	if out := p.kubectl("logs", "--follow", "counter"); out != "1\n2\n3\n" {
		t.Errorf("--follow printed %q", out)
	}
}

func TestExecAttachAndCopy(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.apply(strings.Replace(shell("box", "read line; echo got $line; "+forever), "    image:", "    stdin: true\n    image:", 1))
	p.pod("box", "ready", ready)
	if out := p.kubectl("exec", "box", "--", "sh", "-c", "echo $HOSTNAME; cat /etc/hostname"); out != "box\nbox\n" {
		t.Errorf("exec printed %q", out)
	}
	out, err := p.Kubectl(t.Context(), "words", "-n", p.ns, "exec", "-i", "box", "--", "cat")
	if err != nil || out != "words" {
		t.Errorf("exec with input: %q, %v", out, err)
	}
	if _, err := p.Kubectl(t.Context(), "", "-n", p.ns, "exec", "box", "--", "sh", "-c", "exit 7"); err == nil || !strings.Contains(err.Error(), "exit code 7") {
		t.Errorf("the exit code of a failing command is lost: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second) // attach stays until the container ends
	defer cancel()
	_, _ = p.Kubectl(ctx, "hello\n", "-n", p.ns, "attach", "-i", "box") // ended by the time limit
	p.until("the line typed on attach", func() (bool, string) {
		out := p.kubectl("logs", "box")
		return out == "got hello\n", out
	})
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("copied"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.kubectl("cp", file, "box:/tmp/there")
	p.kubectl("cp", "box:/tmp/there", file+".back")
	if back, err := os.ReadFile(file + ".back"); err != nil || string(back) != "copied" {
		t.Errorf("copied there and back: %q, %v", back, err)
	}
}

func TestPortForward(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.kubectl("run", "web", "--image="+TestImage)
	p.pod("web", "ready", ready)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cmd := exec.CommandContext(ctx, p.Node, "kubectl", "--kubeconfig", filepath.Join(p.State, "kubeconfig"), "-n", p.ns, "port-forward", "web", ":8080")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cancel(); _ = cmd.Wait() }() // killed
	buf := make([]byte, 256)
	n, err := out.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	address := regexp.MustCompile(`127\.0\.0\.1:\d+`).FindString(string(buf[:n]))
	response, err := http.Get("http://" + address + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Errorf("through port-forward: %s", response.Status)
	}
	_, _ = io.Copy(io.Discard, response.Body) // only the status matters
}

func TestDeletionIsQuickForAPodThatEndsOnTerm(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.apply(shell("polite", forever))
	p.pod("polite", "ready", ready)
	began := time.Now()
	p.kubectl("delete", "pod", "polite")
	// The pod's grace is 5 s: on a loaded machine this still tells obedience from a kill.
	if d := time.Since(began); d > 4500*time.Millisecond {
		t.Errorf("gone after %s: SIGTERM did not reach the container", d)
	}
	p.apply(shell("stubborn", "trap '' TERM; while :; do sleep 0.1; done"))
	p.pod("stubborn", "ready", ready)
	began = time.Now()
	p.kubectl("delete", "pod", "stubborn", "--grace-period=2")
	if d := time.Since(began); d < 2*time.Second {
		t.Errorf("gone after %s: the grace period was not kept", d)
	}
}

func TestProbes(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.apply(`apiVersion: v1
kind: Pod
metadata: {name: probed}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: IMAGE
    startupProbe: {tcpSocket: {port: 8081}, periodSeconds: 1, failureThreshold: 60}
    readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
    livenessProbe: {exec: {command: [sh, -c, "test ! -e /tmp/sick"]}, periodSeconds: 1, failureThreshold: 2}
`)
	p.pod("probed", "ready", ready)
	p.kubectl("exec", "probed", "--", "touch", "/tmp/sick")
	p.pod("probed", "restarted by its liveness probe", func(pod *corev1.Pod) bool {
		return pod.Status.ContainerStatuses[0].RestartCount > 0
	})
	p.pod("probed", "ready again", ready)
}

func TestInitAndSidecarContainers(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.apply(`apiVersion: v1
kind: Pod
metadata: {name: staged}
spec:
  restartPolicy: Never
  volumes: [{name: shared, emptyDir: {}}]
  initContainers:
  - {name: first, image: IMAGE, command: [sh, -c, "echo first >> /shared/order"], volumeMounts: [{name: shared, mountPath: /shared}]}
  - {name: sidecar, image: IMAGE, restartPolicy: Always, command: [sh, -c, "echo sidecar >> /shared/order; trap 'exit 0' TERM; while :; do sleep 0.1; done"],
     volumeMounts: [{name: shared, mountPath: /shared}], startupProbe: {exec: {command: [grep, sidecar, /shared/order]}, periodSeconds: 1}}
  containers:
  - {name: main, image: IMAGE, command: [sh, -c, "echo main >> /shared/order; cat /shared/order"], volumeMounts: [{name: shared, mountPath: /shared}]}
`)
	p.pod("staged", "done although its sidecar ran on", succeeded)
	if out := p.kubectl("logs", "staged", "-c", "main"); out != "first\nsidecar\nmain\n" {
		t.Errorf("order %q", out)
	}
}

func TestRestartPolicies(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.apply(shell("never", "exit 1"))
	p.apply(strings.Replace(shell("onfailure", "test -e /cache/done && exit 0; touch /cache/done; exit 1"), "restartPolicy: Never", "restartPolicy: OnFailure\n  volumes: [{name: cache, emptyDir: {}}]", 1) +
		"    volumeMounts: [{name: cache, mountPath: /cache}]\n")
	p.pod("never", "failed", func(pod *corev1.Pod) bool { return pod.Status.Phase == corev1.PodFailed })
	pod := p.pod("onfailure", "done at the second try", succeeded)
	if n := pod.Status.ContainerStatuses[0].RestartCount; n != 1 {
		t.Errorf("%d restarts, want 1", n)
	}
}

func TestVolumesAndEnvironment(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.kubectl("create", "configmap", "settings", "--from-literal=color=blue")
	p.kubectl("create", "secret", "generic", "hidden", "--from-literal=word=sesame")
	p.apply(`apiVersion: v1
kind: Pod
metadata: {name: reader, labels: {tier: test}}
spec:
  restartPolicy: Never
  volumes:
  - {name: settings, configMap: {name: settings}}
  - {name: hidden, secret: {secretName: hidden, defaultMode: 0400}}
  - name: all
    projected:
      sources:
      - {configMap: {name: settings}}
      - {secret: {name: hidden}}
      - {serviceAccountToken: {path: token, audience: test}}
      - {downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}
  containers:
  - name: main
    image: IMAGE
    resources: {limits: {cpu: 500m, memory: 64Mi}}
    env:
    - {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: LIMIT, valueFrom: {resourceFieldRef: {resource: limits.memory}}}
    - {name: COLOR, valueFrom: {configMapKeyRef: {name: settings, key: color}}}
    - {name: WORD, valueFrom: {secretKeyRef: {name: hidden, key: word}}}
    volumeMounts: [{name: settings, mountPath: /settings}, {name: hidden, mountPath: /hidden}, {name: all, mountPath: /all}]
    command: [sh, -c, 'echo $POD $LIMIT $COLOR $WORD; cat /settings/color /hidden/word /all/color /all/word; echo; stat -L -c %a /hidden/word; cat /all/labels; echo; test -s /all/token && test -n "$IP" && echo complete']
`)
	p.pod("reader", "done", succeeded)
	want := "reader 67108864 blue sesame\nbluesesamebluesesame\n400\ntier=\"test\"\ncomplete\n"
	if out := p.kubectl("logs", "reader"); out != want {
		t.Errorf("printed %q, want %q", out, want)
	}
}

func TestMemoryLimitKills(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.apply(`apiVersion: v1
kind: Pod
metadata: {name: greedy}
spec:
  restartPolicy: Never
  containers:
  - {name: main, image: IMAGE, resources: {limits: {memory: 32Mi}}, command: [sh, -c, "exec tail /dev/zero"]}
`)
	pod := p.pod("greedy", "killed", func(pod *corev1.Pod) bool { return pod.Status.Phase == corev1.PodFailed })
	if s := pod.Status.ContainerStatuses[0].State.Terminated; s == nil || s.Reason != "OOMKilled" {
		t.Errorf("state %+v, want OOMKilled", s)
	}
}
