package manager

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"
)

// Every document of the operator's samples and manifests is taken by the API server as it is, gets a status, and each FluentBit and Fluentd becomes a
// workload. In manifests unknown fields are forbidden; several samples have an example's field foo.
func TestUpstreamApplied(t *testing.T) {
	root := os.Getenv("UPSTREAM")
	if root == "" {
		t.Skip("UPSTREAM names no folder with a checkout fluent-operator; `make conformance UPSTREAM=DIR` does")
	}
	refused := map[string]string{ // with what is said; the operator's definitions refuse them as well
		"manifests/kubeedge ClusterOutput prometheus-remote-write-edge": "Invalid value",                         // a text that is to be replaced by hand
		"config/samples Input input-sample":                             "could not find the requested resource", // there has never been such a kind in this group
	}
	left := map[string]string{ // out of the configuration
		"config/samples FluentBit fluentbit-sample":         "ConfigNotFound",  // it names the configuration of another sample
		"config/samples ClusterFilter clusterfilter-sample": "NoPlugin",        // these say nothing but foo
		"manifests/fluentd ClusterOutput fluentd-output":    "DuplicateBuffer", // the files of this folder are not meant to be used together
		"config/samples Fluentd fluentd-sample":             "MissingField",
		"config/samples ClusterOutput clusteroutput-sample": "NoPlugin",
	}
	c := serve(t, false, func(l *Logging) { l.planner.Namespace = "fluent" }) // as the operator's own Deployment says
	for _, gvr := range NewLogging("").Resources() {
		c.eventually("the definition of "+gvr.Resource, func() error {
			_, err := c.objects.Resource(gvr).List(t.Context(), metav1.ListOptions{})
			return err
		})
	}
	documents := 0
	for _, pattern := range []string{"config/samples", "manifests/*", "manifests/logging-stack/*"} {
		folders, err := filepath.Glob(filepath.Join(root, "fluent-operator", pattern))
		if err != nil || len(folders) == 0 {
			t.Fatal("no samples", err)
		}
		for _, folder := range folders {
			name, _ := filepath.Rel(filepath.Join(root, "fluent-operator"), folder)
			documents += c.sample(t, name, samples(t, folder), refused, left)
		}
	}
	if t.Logf("%d documents", documents); documents < 60 {
		t.Errorf("only %d documents were found", documents)
	}
}

// samples are the operator's resources in a folder.
func samples(t *testing.T, folder string) []*unstructured.Unstructured {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var all []*unstructured.Unstructured
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for part := range strings.SplitSeq("\n"+string(data), "\n---") {
			var o map[string]any
			if err := yaml.Unmarshal([]byte(part), &o); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			if u := (&unstructured.Unstructured{Object: o}); o != nil && (strings.Contains(u.GetAPIVersion(), ".fluent.io/") || u.GetKind() == "ConfigMap") {
				all = append(all, u)
			}
		}
	}
	return all
}

// sample creates the resources of a folder, waits until each is told about, and removes them.
func (c *cluster) sample(t *testing.T, folder string, all []*unstructured.Unstructured, refused, left map[string]string) int {
	var made []*unstructured.Unstructured
	validation, documents := "Strict", 0
	if folder == "config/samples" {
		validation = "Warn"
	}
	for _, u := range all {
		gvr := gvrOf(u)
		if gvr != configMaps {
			documents++
		}
		namespace := u.GetNamespace()
		if strings.HasPrefix(u.GetKind(), "Cluster") {
			namespace = ""
		} else if namespace == "" {
			namespace = c.Namespace
		}
		if namespace != "" {
			_, err := c.Clients.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{})
			if err != nil && !apierrors.IsAlreadyExists(err) {
				t.Fatal(err)
			}
		}
		id := folder + " " + u.GetKind() + " " + u.GetName()
		created, err := c.objects.Resource(gvr).Namespace(namespace).Create(t.Context(), u, metav1.CreateOptions{FieldValidation: validation})
		switch why := refused[id]; {
		case apierrors.IsAlreadyExists(err): // two files of a folder hold it
		case why != "" && (err == nil || !strings.Contains(err.Error(), why)):
			t.Errorf("%s: %v, want %q", id, err, why)
		case why != "":
		case err != nil:
			t.Errorf("%s: %v", id, err)
		default:
			made = append(made, created)
		}
	}
	for _, u := range made {
		if gvrOf(u) != configMaps {
			c.told(t, folder, u, left)
		}
	}
	for _, u := range made {
		if err := c.objects.Resource(gvrOf(u)).Namespace(u.GetNamespace()).Delete(t.Context(), u.GetName(), metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	}
	return documents
}

func gvrOf(u *unstructured.Unstructured) schema.GroupVersionResource {
	if u.GetKind() == "ConfigMap" {
		return configMaps
	}
	return loggingResource(u.GroupVersionKind().Group, u.GetKind())
}

// told waits for a resource's status and workload.
func (c *cluster) told(t *testing.T, folder string, u *unstructured.Unstructured, left map[string]string) {
	t.Helper()
	group, kind := u.GroupVersionKind().Group, u.GetKind()
	id := folder + " " + kind + " " + u.GetName()
	c.eventually(id, func() error {
		status, reason := c.condition(group, kind, u.GetNamespace(), u.GetName())
		switch {
		case status == "":
			return errors.New(reason)
		case status == "False" && left[id] != reason:
			return fmt.Errorf("left out: %s", reason)
		}
		return nil
	})
	if left[id] == "MissingField" || !slices.Contains([]string{"FluentBit", "Collector", "Fluentd"}, kind) {
		return
	}
	c.eventually("the workload of "+id, func() error {
		_, err := c.Clients.AppsV1().DaemonSets(u.GetNamespace()).Get(t.Context(), u.GetName(), metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			_, err = c.Clients.AppsV1().StatefulSets(u.GetNamespace()).Get(t.Context(), u.GetName(), metav1.GetOptions{})
		}
		return err
	})
}
