package admission

import (
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
	"github.com/weft-dev/weft/level"
	"github.com/weft-dev/weft/level/reference"
)

// Usage knows what the pods of each namespace request. Whoever watches pods tells it; a pod that was let through counts at once, and is forgotten if
// it does not appear. It is safe for several goroutines. Each process has its own: two of them that judge at the same moment may together let
// through what only one of them may.
type Usage struct {
	// Clock is time.Now if it is nil.
	Clock func() time.Time

	mu         sync.Mutex
	pods       map[podName]podUse
	namespaces map[string]amount
}

type podName struct{ namespace, name string }

type podUse struct {
	amount
	until time.Time // of a pod that was let through and not seen yet
}

// amount is in thousandths of a processor, bytes, and pods.
type amount struct{ cpu, memory, pods int64 }

func (a amount) plus(b amount, sign int64) amount {
	return amount{a.cpu + sign*b.cpu, a.memory + sign*b.memory, a.pods + sign*b.pods}
}

// reserved is how long a pod that was let through counts without being seen.
const reserved = 30 * time.Second

// See tells what a pod is now. One that has ended does not count.
func (u *Usage) See(pod *corev1.Pod) {
	a := requested(&pod.Spec)
	if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		a = amount{}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.put(podName{pod.Namespace, pod.Name}, podUse{amount: a})
}

// Forget tells that a pod is gone.
func (u *Usage) Forget(namespace, name string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.put(podName{namespace, name}, podUse{})
}

func (u *Usage) put(name podName, now podUse) {
	if u.pods == nil {
		u.pods, u.namespaces = map[podName]podUse{}, map[string]amount{}
	}
	total := u.namespaces[name.namespace].plus(u.pods[name].amount, -1).plus(now.amount, 1)
	if total == (amount{}) {
		delete(u.namespaces, name.namespace)
	} else {
		u.namespaces[name.namespace] = total
	}
	if now.amount == (amount{}) {
		delete(u.pods, name)
	} else {
		u.pods[name] = now
	}
}

// expire drops pods that were let through and never came.
func (u *Usage) expire(now time.Time) {
	for name, p := range u.pods {
		if !p.until.IsZero() && now.After(p.until) {
			u.put(name, podUse{})
		}
	}
}

// Of is what the pods of a workspace request, and how many namespaces it has that hold pods.
func (u *Usage) Of(s *level.Snapshot, workspace string) (used api.Amount, namespaces int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	total, n := u.total(s, workspace)
	return api.Amount{CPU: resource.NewMilliQuantity(total.cpu, resource.DecimalSI), Memory: resource.NewQuantity(total.memory, resource.BinarySI),
		Pods: resource.NewQuantity(total.pods, resource.DecimalSI)}, n
}

func (u *Usage) total(s *level.Snapshot, workspace string) (total amount, namespaces int) {
	for name, a := range u.namespaces {
		if w := s.WorkspaceOf(name); w != nil && w.Name == workspace {
			total = total.plus(a, 1)
			namespaces++
		}
	}
	return total, namespaces
}

var podKind = level.Kind{Resource: "pods"}

// admit says whether a new or resized pod would exceed the ceiling of its workspace, and counts it if not.
func (u *Usage) admit(s *level.Snapshot, o *reference.Object, dry bool) (reference.Finding, bool) {
	if o.Resource != podKind || o.New == nil || o.Operation == reference.Create && o.Subresource != "" || o.Operation != reference.Create && o.Operation != reference.Update {
		return reference.Finding{}, false
	}
	w := s.WorkspaceOf(o.Namespace)
	if w == nil || w.Ceiling == (api.Amount{}) {
		return reference.Finding{}, false
	}
	now := time.Now
	if u.Clock != nil {
		now = u.Clock
	}
	var pod corev1.Pod
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.New, &pod); err != nil {
		return reference.Finding{Field: "spec", Use: Ceiling, Cause: level.LevelTooLow, Message: "levels: the pod cannot be read", Reason: err.Error()}, true
	}
	name, a := podName{o.Namespace, pod.Name}, requested(&pod.Spec)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.expire(now())
	before := u.pods[name].amount
	total, _ := u.total(s, w.Name)
	after := total.plus(before, -1).plus(a, 1)
	created := o.Operation == reference.Create
	for _, one := range []struct {
		what  string
		limit *resource.Quantity
		now   int64
		grows bool
		unit  func(int64, resource.Format) *resource.Quantity
		value func(*resource.Quantity) int64
	}{
		{"CPU", w.Ceiling.CPU, after.cpu, created || a.cpu > before.cpu, resource.NewMilliQuantity, (*resource.Quantity).MilliValue},
		{"memory", w.Ceiling.Memory, after.memory, created || a.memory > before.memory, resource.NewQuantity, (*resource.Quantity).Value},
		{"pods", w.Ceiling.Pods, after.pods, created, resource.NewQuantity, (*resource.Quantity).Value},
	} {
		if one.limit == nil || !one.grows || one.now <= one.value(one.limit) {
			continue
		}
		reason := fmt.Sprintf("with this pod the workspace %s would request %s of %s; its ceiling is %s", w.Name, one.unit(one.now, one.limit.Format), one.what, one.limit)
		return reference.Finding{Field: "spec", Use: Ceiling, Cause: CeilingReached, Message: "levels: " + reason, Reason: reason}, true
	}
	if !dry {
		u.put(name, podUse{a, now().Add(reserved)})
	}
	return reference.Finding{}, false
}

// Ceiling is the use of findings about the ceiling of a workspace, CeilingReached their cause.
const (
	Ceiling        reference.Use = "Ceiling"
	CeilingReached level.Cause   = "CeilingReached"
)

// requested is what the scheduler sets aside for a pod: all containers and sidecars together, or what an init container needs beside the
// sidecars before it, if that is more; or what the pod says itself (k8s.io/component-helpers resource PodRequests).
func requested(spec *corev1.PodSpec) amount {
	of := func(list corev1.ResourceList) amount {
		return amount{list.Cpu().MilliValue(), list.Memory().Value(), 0}
	}
	var sum, sidecars, most amount
	for i := range spec.Containers {
		sum = sum.plus(of(spec.Containers[i].Resources.Requests), 1)
	}
	for i := range spec.InitContainers {
		c := &spec.InitContainers[i]
		a := of(c.Resources.Requests)
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			sidecars = sidecars.plus(a, 1)
			a = amount{}
		}
		a = a.plus(sidecars, 1)
		most = amount{max(most.cpu, a.cpu), max(most.memory, a.memory), 0}
	}
	sum = sum.plus(sidecars, 1)
	sum = amount{max(sum.cpu, most.cpu), max(sum.memory, most.memory), 0}
	if spec.Resources != nil {
		if q, ok := spec.Resources.Requests[corev1.ResourceCPU]; ok {
			sum.cpu = q.MilliValue()
		}
		if q, ok := spec.Resources.Requests[corev1.ResourceMemory]; ok {
			sum.memory = q.Value()
		}
	}
	sum = sum.plus(of(spec.Overhead), 1)
	sum.pods = 1
	return sum
}
