package levels

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
	"github.com/weft-dev/weft/test/graded"
	"github.com/weft-dev/weft/test/kube"
)

func podOf(name, cpu string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": name}}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i",
		Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}}}}}}
}

// ceilings has many pods come at once into the namespaces of a workspace, by users and by controllers: never do more pass than its ceiling lets.
func (h *house) ceilings() {
	h.t.Helper()
	h.Apply("workspaces", `{apiVersion: level.weft.dev/v1alpha1, kind: Workspace, metadata: {name: shops}, spec: {ceiling: {cpu: "1", pods: "5"}}}`)
	spaces := []string{"shop-a", "shop-b"}
	for _, name := range spaces {
		n := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{api.WorkspaceLabel: "shops"}}}
		if _, err := h.As("").CoreV1().Namespaces().Create(h.t.Context(), n, metav1.CreateOptions{}); err != nil {
			h.t.Fatal(err)
		}
		h.Eventually("the account of "+name, func() string {
			return outcome(second(h.As("").CoreV1().ServiceAccounts(name).Get(h.t.Context(), "default", metav1.GetOptions{})))
		}, "ok")
	}
	h.Eventually("the ceiling is known", func() string {
		_, err := h.As("alice").CoreV1().Pods("shop-a").Create(h.t.Context(), podOf("large", "1500m"), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if err != nil && strings.Contains(err.Error(), "the workspace shops would request 1500m of CPU; its ceiling is 1") {
			return "told"
		}
		return fmt.Sprint(err)
	}, "told")

	var made atomic.Int64
	var held [2]atomic.Bool // the namespaces that got pods: any may win
	var all sync.WaitGroup
	for i := range 24 {
		all.Go(func() {
			_, err := h.As([]string{"alice", ""}[i%2]).CoreV1().Pods(spaces[i/2%2]).Create(h.t.Context(), podOf(fmt.Sprint("p", i), "100m"), metav1.CreateOptions{})
			switch got := outcome(err); {
			case got == "ok":
				made.Add(1)
				held[i/2%2].Store(true)
			case got != "levels" || !strings.Contains(err.Error(), "its ceiling is 5"):
				h.t.Error(err)
			}
		})
	}
	all.Wait()
	if made.Load() != 5 {
		h.t.Errorf("of 24 pods at once %d were let through, the ceiling is 5", made.Load())
	}
	namespaces := 1
	if held[0].Load() && held[1].Load() {
		namespaces = 2
	}
	h.Eventually("the status", func() string { return h.used("shops") }, fmt.Sprint(namespaces, " namespaces, 500m CPU, 5 pods"))
	if code, said := h.weft("level", "status"); code != 0 || !strings.Contains(said, "500m of 1") || !strings.Contains(said, "5 of 5") {
		h.t.Errorf("weft level status, exit code %d: %s", code, said)
	}

	// A controller comes after two have gone: two of its eight pass.
	now, gone := int64(0), 0
	for _, space := range spaces {
		pods, err := h.As("").CoreV1().Pods(space).List(h.t.Context(), metav1.ListOptions{})
		if err != nil {
			h.t.Fatal(err)
		}
		for _, p := range pods.Items[:min(len(pods.Items), 2-gone)] {
			if err := h.As("").CoreV1().Pods(space).Delete(h.t.Context(), p.Name, metav1.DeleteOptions{GracePeriodSeconds: &now}); err != nil {
				h.t.Fatal(err)
			}
			gone++
		}
	}
	eight, template := int32(8), podOf("web", "100m")
	d := &appsv1.Deployment{ObjectMeta: template.ObjectMeta, Spec: appsv1.DeploymentSpec{Replicas: &eight, Selector: &metav1.LabelSelector{MatchLabels: template.Labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: template.Labels}, Spec: template.Spec}}}
	if _, err := h.As("alice").AppsV1().Deployments("shop-b").Create(h.t.Context(), d, metav1.CreateOptions{}); err != nil {
		h.t.Fatal(err)
	}
	web := func() string {
		l, err := h.As("").CoreV1().Pods("shop-b").List(h.t.Context(), metav1.ListOptions{LabelSelector: "app=web"})
		if err != nil {
			return err.Error()
		}
		return fmt.Sprint(len(l.Items))
	}
	h.Eventually("the controller's pods", web, "2")
	h.Eventually("and why there are no more", func() string {
		sets, err := h.As("").AppsV1().ReplicaSets("shop-b").List(h.t.Context(), metav1.ListOptions{})
		if err != nil {
			return err.Error()
		}
		for _, s := range sets.Items {
			for _, c := range s.Status.Conditions {
				if strings.Contains(c.Message, "its ceiling is 5") {
					return "told"
				}
			}
		}
		return "not told"
	}, "told")
	// A server that begins anew knows what there is before it lets anything through.
	if err := kube.KillServer(filepath.Join(h.dir, "cluster")); err != nil {
		h.t.Fatal(err)
	}
	h.Eventually("after a kill", func() string {
		ctx, stop := context.WithTimeout(h.t.Context(), 5*time.Second)
		defer stop()
		_, err := h.As("alice").CoreV1().Pods("shop-a").Create(ctx, podOf("late", "100m"), metav1.CreateOptions{})
		return outcome(err)
	}, "levels")
	if got := web(); got != "2" {
		h.t.Errorf("after a kill %s pods", got)
	}
	h.Apply("workspaces", `{apiVersion: level.weft.dev/v1alpha1, kind: Workspace, metadata: {name: shops}, spec: {ceiling: {cpu: "1", pods: "10"}}}`)
	h.Eventually("a higher ceiling, up to the CPU that there is", web, "7") // 3 others, and 10 times 100m are 1
}

// used is what the status of a workspace says.
func (h *house) used(workspace string) string {
	u, err := h.Objects.Resource(graded.Resource("workspaces")).Get(h.t.Context(), workspace, metav1.GetOptions{})
	if err != nil {
		return err.Error()
	}
	text := func(path ...string) any { v, _, _ := unstructured.NestedFieldNoCopy(u.Object, path...); return v }
	return fmt.Sprintf("%v namespaces, %v CPU, %v pods", text("status", "namespaces"), text("status", "used", "cpu"), text("status", "used", "pods"))
}
