package cluster

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// logSample is what of the operator's manifests is meant to be used together.
type logSample struct {
	files   []string          // below manifests/
	said    []string          // by the pods
	refused map[string]string // kind and name to the reason in its status
}

var logSamples = []logSample{
	{files: []string{"quick-start/fluentbit.yaml"}, said: []string{`"message"=>"dummy"`}},
	{files: []string{"quick-start/fluentd-forward.yaml"}},
	{files: []string{"quick-start/fluentd-http.yaml"}},
	{files: []string{"logging-stack/*.yaml", "fluentd/fluentbit-output-forward.yaml"}, said: []string{"elasticsearch-logging-data", "retry"}},
	{files: []string{"regex-parser/*.yaml"}},
	{files: []string{"fluentd/fluentd-cluster-cfg-output-buffer-example.yaml"}},
	{files: []string{"fluentd/fluentd-cluster-cfg-output-es.yaml"}},
	{files: []string{"fluentd/fluentd-cluster-cfg-output-kafka.yaml"}},
	{files: []string{"fluentd/fluentd-mixed-cfgs-multi-tenant-output.yaml"}},
	{files: []string{"fluentd/fluentd-mixed-cfgs-output-es.yaml"}},
	{files: []string{"fluentd/fluentd-namespaced-cfg-output-es.yaml"}},
}

// TestUpstreamSamplesRun runs the operator's manifests with the image fields set to ours: the workloads become ready, outputs whose servers are absent retry and
// say so, and what is left out is told. With -v it prints what each came to.
func TestUpstreamSamplesRun(t *testing.T) {
	root := os.Getenv("UPSTREAM")
	if root == "" {
		t.Skip("UPSTREAM names no folder with a checkout fluent-operator; `make conformance UPSTREAM=DIR` does")
	}
	p := newPlace(t)
	p.ns = "fluent" // where the samples put theirs, and where the operator runs
	p.namespace(p.ns)
	runManager(t, p)
	p.until("the definitions", func() (bool, string) {
		out, err := p.Kubectl(t.Context(), "", "wait", "--for=condition=Established", "crd/fluentbits.fluentbit.fluent.io", "crd/fluentdconfigs.fluentd.fluent.io", "crd/collectors.fluentbit.fluent.io", "--timeout=20s")
		return err == nil, fmt.Sprint(out, err)
	})
	for _, s := range logSamples {
		t.Run(strings.Join(s.files, ","), func(t *testing.T) {
			p := p
			p.t = t
			p.runSample(s, filepath.Join(root, "fluent-operator", "manifests"))
		})
	}
}

func (p place) namespace(name string) {
	p.t.Helper()
	_, err := p.Clients.CoreV1().Namespaces().Create(p.t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		p.t.Fatal(err)
	}
}

func (p place) runSample(s logSample, manifests string) {
	t := p.t
	objects, text := p.sampleObjects(s, manifests)
	p.apply(text)
	t.Cleanup(func() {
		if t.Failed() {
			out, err := p.Kubectl(t.Context(), "", "-n", p.ns, "get", "pods,events", "-o", "wide")
			t.Log(out, err)
		}
	})
	refused, ready := map[string]string{}, 0
	for _, u := range objects {
		if id := u.GetKind() + " " + u.GetName(); u.GetKind() != "ConfigMap" {
			if reason := p.accepted(u); reason != "" {
				refused[id] = reason
			}
		}
		switch u.GetKind() {
		case "FluentBit":
			p.until("the agents of "+u.GetName(), func() (bool, string) {
				d, err := p.Clients.AppsV1().DaemonSets(u.GetNamespace()).Get(t.Context(), u.GetName(), metav1.GetOptions{})
				return err == nil && d.Status.DesiredNumberScheduled > 0 && d.Status.NumberReady == d.Status.DesiredNumberScheduled, fmt.Sprint(d.Status, err)
			})
			ready++
		case "Fluentd":
			p.until("the pods of "+u.GetName(), func() (bool, string) {
				set, err := p.Clients.AppsV1().StatefulSets(u.GetNamespace()).Get(t.Context(), u.GetName(), metav1.GetOptions{})
				return err == nil && set.Status.ReadyReplicas == *set.Spec.Replicas, fmt.Sprint(set.Status, err)
			})
			ready++
		}
	}
	if !maps.Equal(refused, s.refused) && len(refused)+len(s.refused) > 0 {
		t.Errorf("left out: %v, want %v", refused, s.refused)
	}
	for _, words := range s.said {
		p.until("a pod to say "+words, func() (bool, string) {
			said := p.kubectl("logs", "--all-containers", "--tail=-1", "-l", "app.kubernetes.io/name!=weft-manager", "--prefix")
			return strings.Contains(said, words), said
		})
	}
	t.Logf("%d documents, %d workloads ready, left out: %v", len(objects), ready, refused)
	slices.Reverse(objects)
	for _, u := range objects {
		args := []string{"delete", strings.ToLower(u.GetKind()) + "." + u.GroupVersionKind().Group, u.GetName(), "--ignore-not-found"}
		if u.GetKind() == "ConfigMap" {
			args[1] = "configmap"
		}
		p.kubectl(args...)
	}
	p.until("the workloads to be gone", func() (bool, string) {
		out := p.kubectl("get", "daemonsets,statefulsets", "-o", "name")
		return strings.TrimSpace(out) == "" || strings.Contains(out, "No resources"), out
	})
}

// sampleObjects reads a sample, with the image of logagent in place of upstream's.
func (p place) sampleObjects(s logSample, manifests string) (all []*unstructured.Unstructured, text string) {
	p.t.Helper()
	for _, pattern := range s.files {
		files, err := filepath.Glob(filepath.Join(manifests, pattern))
		if err != nil || len(files) == 0 {
			p.t.Fatal("no samples ", pattern, err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				p.t.Fatal(err)
			}
			for part := range strings.SplitSeq("\n"+string(data), "\n---") {
				var o map[string]any
				if err := yaml.Unmarshal([]byte(part), &o); err != nil {
					p.t.Fatalf("%s: %v", file, err)
				}
				u := &unstructured.Unstructured{Object: o}
				if o == nil || !strings.Contains(u.GetAPIVersion(), ".fluent.io/") && u.GetKind() != "ConfigMap" {
					continue
				}
				if slices.Contains([]string{"FluentBit", "Fluentd", "Collector"}, u.GetKind()) {
					if err := unstructured.SetNestedField(o, "weft.local/logagent:1", "spec", "image"); err != nil {
						p.t.Fatal(err)
					}
				}
				if u.GetNamespace() != "" {
					p.namespace(u.GetNamespace())
				}
				written, err := u.MarshalJSON()
				if err != nil {
					p.t.Fatalf("%s: %v", file, err)
				}
				all, text = append(all, u), text+string(written)+"\n---\n"
			}
		}
	}
	return all, text
}

// accepted waits until the status of a resource tells whether it is used, and gives the reason where it is not.
func (p place) accepted(u *unstructured.Unstructured) (reason string) {
	p.t.Helper()
	name := strings.ToLower(u.GetKind()) + "." + u.GroupVersionKind().Group
	p.until("the status of "+u.GetKind()+" "+u.GetName(), func() (bool, string) {
		out, err := p.Kubectl(p.t.Context(), "", "-n", p.ns, "get", name, u.GetName(), "-o", `jsonpath={range .status.conditions[?(@.type=="Accepted")]}{.status} {.reason} {.message}{end}`)
		status, why, _ := strings.Cut(out, " ")
		if reason = ""; status == "False" {
			reason, _, _ = strings.Cut(why, " ")
		}
		return err == nil && status != "", fmt.Sprint(out, err)
	})
	return reason
}
