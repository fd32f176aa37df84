package cluster

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestJobAndCronJob(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.apply(`apiVersion: batch/v1
kind: Job
metadata: {name: three}
spec:
  completions: 3
  parallelism: 2
  template:
    spec:
      restartPolicy: Never
      containers: [{name: main, image: IMAGE, command: [sh, -c, "exit 0"]}]
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: minutely}
spec:
  schedule: "* * * * *"
  jobTemplate:
    spec:
      template:
        spec:
          restartPolicy: Never
          containers: [{name: main, image: IMAGE, command: [sh, -c, "echo tick"]}]
`)
	p.kubectl("wait", "--for=condition=Complete", "job/three", "--timeout=180s")
	p.until("the CronJob to have run", func() (bool, string) {
		jobs, err := p.Clients.BatchV1().Jobs(p.ns).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return false, err.Error()
		}
		for _, j := range jobs.Items {
			if strings.HasPrefix(j.Name, "minutely-") && j.Status.Succeeded == 1 {
				return true, ""
			}
		}
		return false, "no job of it is complete"
	})
}

func TestStatefulSetKeepsNamesAndData(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.apply(`apiVersion: v1
kind: Service
metadata: {name: db}
spec: {clusterIP: None, selector: {app: db}, ports: [{port: 8080}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  replicas: 2
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: main
        image: IMAGE
        volumeMounts: [{name: data, mountPath: /data}]
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}
`)
	p.kubectl("rollout", "status", "statefulset/db", "--timeout=180s")
	p.kubectl("exec", "db-1", "--", "sh", "-c", "echo kept > /data/file")
	before := p.pod("db-1", "ready", ready)
	p.kubectl("delete", "pod", "db-1")
	p.pod("db-1", "ready under its old name", func(pod *corev1.Pod) bool { return ready(pod) && pod.UID != before.UID })
	if out := p.kubectl("exec", "db-1", "--", "cat", "/data/file"); out != "kept\n" {
		t.Errorf("data %q", out)
	}
	p.until("the pod's own DNS name", func() (bool, string) {
		out, err := p.Kubectl(t.Context(), "", "-n", p.ns, "exec", "db-0", "--", "testpod", "get", "http://db-1.db:8080/")
		if err != nil {
			return false, err.Error()
		}
		return true, out
	})
}

func TestDaemonSetRunsOnTheNode(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.apply(`apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec: {terminationGracePeriodSeconds: 1, containers: [{name: main, image: IMAGE}]}
`)
	p.kubectl("rollout", "status", "daemonset/agent", "--timeout=180s")
}

func TestRollout(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.apply(deployment("web", 2, `env: [{name: GENERATION, value: "1"}]`))
	p.kubectl("rollout", "status", "deployment/web", "--timeout=180s")
	p.kubectl("set", "env", "deployment/web", "GENERATION=2")
	p.kubectl("rollout", "status", "deployment/web", "--timeout=180s")
	if out := p.kubectl("exec", "deployment/web", "--", "sh", "-c", "echo $GENERATION"); out != "2\n" {
		t.Errorf("after the rollout: %q", out)
	}
	p.kubectl("rollout", "undo", "deployment/web")
	p.kubectl("rollout", "status", "deployment/web", "--timeout=180s")
}

func TestEventsTellWhatHappened(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.apply(shell("told", "exit 0"))
	p.pod("told", "done", succeeded)
	p.until("the events of the pod", func() (bool, string) {
		out := p.kubectl("get", "events", "--field-selector", "involvedObject.name=told", "-o", "jsonpath={.items[*].reason}")
		return strings.Contains(out, "Scheduled") && strings.Contains(out, "Started"), out
	})
}

func TestServicesAndDNS(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.apply(deployment("web", 2, "") + `---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: open}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
`)
	p.apply(shell("client", forever))
	p.kubectl("rollout", "status", "deployment/web", "--timeout=180s")
	client := p.pod("client", "ready", ready)
	ip := p.kubectl("get", "service", "web", "-o", "jsonpath={.spec.clusterIP}")
	port := p.kubectl("get", "service", "open", "-o", "jsonpath={.spec.ports[0].nodePort}")
	for _, address := range []string{"web", "web." + p.ns, "web." + p.ns + ".svc.cluster.local", ip, client.Status.HostIP + ":" + port} {
		p.until("an answer from "+address, func() (bool, string) {
			out, err := p.Kubectl(t.Context(), "", "-n", p.ns, "exec", "client", "--", "testpod", "get", "http://"+address+"/")
			if err != nil {
				return false, err.Error()
			}
			return true, out
		})
	}
}
