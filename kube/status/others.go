package status

import (
	"cmp"
	"fmt"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func byAge(a, b *unstructured.Unstructured) int {
	return b.GetCreationTimestamp().Compare(a.GetCreationTimestamp().Time)
}

func service(s *corev1.Service, r Related) Status {
	if s.Spec.Type != corev1.ServiceTypeLoadBalancer || len(s.Status.LoadBalancer.Ingress) > 0 {
		return ready("")
	}
	if r.Warning != "" {
		return waiting("it has no address yet: %s", r.Warning)
	}
	return waiting("it has no address yet")
}

func volume(v *corev1.PersistentVolume, _ Related) Status {
	switch v.Status.Phase {
	case corev1.VolumeAvailable, corev1.VolumeBound, corev1.VolumeReleased:
		return ready(string(v.Status.Phase))
	case corev1.VolumeFailed:
		return failed("%s", cmp.Or(v.Status.Message, v.Status.Reason, "it failed"))
	}
	return waiting("not available yet")
}

func claim(c *corev1.PersistentVolumeClaim, r Related) Status {
	switch {
	case c.Status.Phase == corev1.ClaimBound:
		return ready("bound")
	case c.Status.Phase == corev1.ClaimLost:
		return failed("its volume %s is lost", c.Spec.VolumeName)
	case r.BindsLate:
		return ready("gets its volume with the first pod that uses it")
	case r.Warning != "":
		return waiting("it has no volume yet: %s", r.Warning)
	}
	return waiting("it has no volume yet")
}

func namespace(n *corev1.Namespace, _ Related) Status {
	if n.Status.Phase == corev1.NamespaceActive {
		return ready("")
	}
	return waiting("not active yet")
}

// quota waits for the quota's controller: until it has counted, no pod is admitted.
func quota(q *corev1.ResourceQuota, _ Related) Status {
	for name := range q.Spec.Hard {
		if _, counted := q.Status.Hard[name]; !counted {
			return waiting("%s is not counted yet", name)
		}
	}
	return ready("")
}

// autoscaler does not wait for metrics, which take up to a minute and are missing while the target has no pods.
func autoscaler(a *autoscalingv2.HorizontalPodAutoscaler, _ Related) Status {
	for _, c := range a.Status.Conditions {
		if c.Type != autoscalingv2.AbleToScale {
			continue
		}
		if c.Status == corev1.ConditionTrue {
			return ready("")
		}
		return stuck("it cannot scale: %s", cmp.Or(c.Message, c.Reason))
	}
	return waiting("its controller has not looked at it yet")
}

func disruptionBudget(b *policyv1.PodDisruptionBudget, _ Related) Status {
	if b.Status.ObservedGeneration < b.Generation {
		return waiting("its controller has not seen the change yet")
	}
	if b.Status.CurrentHealthy < b.Status.DesiredHealthy {
		return waiting("%d of %d pods healthy", b.Status.CurrentHealthy, b.Status.DesiredHealthy)
	}
	return ready("")
}

// condition is one entry of status.conditions of any kind.
type condition struct{ status, reason, message string }

func (c condition) why() string {
	switch {
	case c.reason != "" && c.message != "":
		return c.reason + ": " + oneLine(c.message)
	case c.message != "":
		return oneLine(c.message)
	}
	return c.reason
}

// conditionsOf reads status.conditions; one that speaks of an older generation than the object's is told as unknown.
func conditionsOf(u *unstructured.Unstructured) map[string]condition {
	list, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	found := map[string]condition{}
	for _, item := range list {
		m, ok := item.(map[string]any)
		if !ok {
			continue
		}
		text := func(key string) string {
			s, _ := m[key].(string)
			return s
		}
		c := condition{text("status"), text("reason"), text("message")}
		if g, ok := m["observedGeneration"].(int64); ok && g < u.GetGeneration() {
			c = condition{"Unknown", "", "its controller has not seen the change yet"}
		}
		found[text("type")] = c
	}
	return found
}

func definition(u *unstructured.Unstructured, _ Related) Status {
	c := conditionsOf(u)
	if n, ok := c["NamesAccepted"]; ok && n.status == "False" {
		return failed("its names are taken: %s", n.why())
	}
	if c["Established"].status == "True" {
		return ready("served")
	}
	return waiting("not served yet")
}

func apiService(u *unstructured.Unstructured, _ Related) Status {
	a, told := conditionsOf(u)["Available"]
	switch {
	case a.status == "True":
		return ready("available")
	case told:
		return waiting("not available: %s", a.why())
	}
	return waiting("not available yet")
}

// generic reads the conditions that most controllers write: kstatus' Stalled and Reconciling, then the first of the
// usual positive ones. An object without any of them is ready.
func generic(u *unstructured.Unstructured) Status {
	conditions := conditionsOf(u)
	if c := conditions["Stalled"]; c.status == "True" {
		return failed("%s", cmp.Or(c.why(), "it is stalled"))
	}
	if c := conditions["Failed"]; c.status == "True" {
		return failed("%s", cmp.Or(c.why(), "it failed"))
	}
	if c := conditions["Reconciling"]; c.status == "True" {
		return waiting("%s", cmp.Or(c.why(), "its controller works on it"))
	}
	for _, name := range []string{"Ready", "Available", "Programmed", "Succeeded", "Complete", "Synced", "Accepted"} {
		c, ok := conditions[name]
		switch {
		case !ok:
			continue
		case c.status == "True":
			return ready(c.reason)
		}
		return waiting("%s", cmp.Or(c.why(), fmt.Sprintf("condition %s is %s", name, c.status)))
	}
	return ready("")
}
