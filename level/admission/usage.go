package admission

import (
	"cmp"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
	"github.com/weft-dev/weft/level"
	"github.com/weft-dev/weft/level/reference"
)

// Usage knows what the pods of each namespace request. Whoever watches pods tells it; a pod that was let through counts at once, and is forgotten if
// it does not appear. Until Replace was called nothing is known, and no pod may be made where there is a ceiling. It is safe for several goroutines.
// Each process has its own: two of them that judge at the same moment may together let through what only one of them may.
type Usage struct {
	// Clock is time.Now if it is nil.
	Clock func() time.Time

	mu         sync.Mutex
	known      bool
	lost       bool
	pods       map[podName]podUse
	namespaces map[string]amount
	gone       map[types.UID]time.Time // pods that ended a moment ago: others may still tell that they let them through
}

type podName struct{ namespace, name string }

// podUse is what there is under a name: the pod that was seen, and one that was let through and not seen yet. There is never more than one of them
// in the cluster, so the greater of both counts.
type podUse struct {
	seen     amount
	seenID   types.UID
	reserved amount
	until    time.Time // of what is reserved; zero if nothing is
	whose    types.UID // whom it is reserved for
}

func (p podUse) counts() amount { return p.seen.most(p.reserved) }

// amount is in thousandths of a processor, bytes, and pods.
type amount struct{ cpu, memory, pods int64 }

func (a amount) plus(b amount, sign int64) amount {
	return amount{a.cpu + sign*b.cpu, a.memory + sign*b.memory, a.pods + sign*b.pods}
}

func (a amount) most(b amount) amount {
	return amount{max(a.cpu, b.cpu), max(a.memory, b.memory), max(a.pods, b.pods)}
}

// reserved is how long a pod that was let through counts without being seen.
const reserved = 30 * time.Second

func (u *Usage) now() time.Time {
	if u.Clock != nil {
		return u.Clock()
	}
	return time.Now()
}

// Replace tells all pods that there are.
func (u *Usage) Replace(pods []*corev1.Pod) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.known = true
	there := make(map[podName]bool, len(pods))
	for _, p := range pods {
		there[podName{p.Namespace, p.Name}] = true
		u.see(p)
	}
	for name, p := range u.pods {
		if !there[name] {
			p.seen, p.seenID = amount{}, ""
			u.put(name, p)
		}
	}
}

// Known says whether all pods were told once.
func (u *Usage) Known() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.known
}

// See tells what a pod is now. One that has ended does not count.
func (u *Usage) See(pod *corev1.Pod) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.see(pod)
}

func (u *Usage) see(pod *corev1.Pod) {
	name := podName{pod.Namespace, pod.Name}
	p := u.pods[name]
	p.seen, p.seenID = requested(&pod.Spec), pod.UID
	ended := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
	if p.whose == pod.UID && (ended || p.seen == p.counts()) { // else it is about to grow, or the one before it was seen
		p.reserved, p.until, p.whose = amount{}, time.Time{}, ""
	}
	if ended {
		p.seen = amount{}
		u.went(pod.UID)
	}
	u.put(name, p)
}

// went notes that a pod does not count any more.
func (u *Usage) went(uid types.UID) {
	now := u.now()
	if u.gone == nil {
		u.gone = map[types.UID]time.Time{}
	}
	u.gone[uid] = now
	for other, at := range u.gone {
		if now.Sub(at) > 2*reserved {
			delete(u.gone, other)
		}
	}
}

// Hear tells what other processes have let through and this one may not have seen yet.
func (u *Usage) Hear(others []api.Reservation) {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := u.now()
	for _, r := range others {
		uid, name := types.UID(r.UID), podName{r.Namespace, r.Name}
		p := u.pods[name]
		if _, gone := u.gone[uid]; gone || now.After(r.Until.Time) {
			continue
		}
		a := amount{r.CPU, r.Memory, 1}
		if p.seenID == uid && p.seen.most(a) == p.seen {
			continue
		}
		p.reserved, p.until, p.whose = p.reserved.most(a), now.Add(reserved), uid
		u.put(name, p)
	}
}

// Forget tells that a pod is gone.
func (u *Usage) Forget(pod *corev1.Pod) {
	u.mu.Lock()
	defer u.mu.Unlock()
	name := podName{pod.Namespace, pod.Name}
	p := u.pods[name]
	if p.seenID == pod.UID {
		p.seen, p.seenID = amount{}, ""
	}
	u.went(pod.UID)
	u.put(name, p)
}

// Lost tells whether whoever watches pods has lost sight of them. While it has, nothing that was let through is forgotten.
func (u *Usage) Lost(lost bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.lost && !lost {
		for name, p := range u.pods {
			if !p.until.IsZero() {
				p.until = u.now().Add(reserved)
				u.pods[name] = p
			}
		}
	}
	u.lost = lost
}

func (u *Usage) put(name podName, now podUse) {
	if u.pods == nil {
		u.pods, u.namespaces = map[podName]podUse{}, map[string]amount{}
	}
	total := u.namespaces[name.namespace].plus(u.pods[name].counts(), -1).plus(now.counts(), 1)
	if total == (amount{}) {
		delete(u.namespaces, name.namespace)
	} else {
		u.namespaces[name.namespace] = total
	}
	if now.counts() == (amount{}) {
		delete(u.pods, name)
	} else {
		u.pods[name] = now
	}
}

// expire drops what is reserved for pods that never came.
func (u *Usage) expire() {
	if u.lost {
		return
	}
	now := u.now()
	for name, p := range u.pods {
		if !p.until.IsZero() && now.After(p.until) {
			p.reserved, p.until, p.whose = amount{}, time.Time{}, ""
			u.put(name, p)
		}
	}
}

// Of is what the pods of a workspace request, and how many namespaces it has that hold pods.
func (u *Usage) Of(s *level.Snapshot, workspace string) (used api.Amount, namespaces int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.expire()
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

// resizes says whether an update may change what a pod requests; new pods and these are all that can.
func resizes(o *reference.Object) bool {
	return o.Operation == reference.Update && o.Subresource == "resize"
}

// capped is the workspace with a ceiling whose pods a write may add to; nil if it is none.
func capped(s *level.Snapshot, o *reference.Object) *level.Workspace {
	if o.Resource != podKind || o.New == nil || !creates(o) && !resizes(o) {
		return nil
	}
	if w := s.WorkspaceOf(o.Namespace); w != nil && w.Ceiling != (api.Amount{}) {
		return w
	}
	return nil
}

func creates(o *reference.Object) bool { return o.Operation == reference.Create && o.Subresource == "" }

// admit says whether a new or resized pod would exceed the ceiling of its workspace, and counts it if not.
func (u *Usage) admit(s *level.Snapshot, w *level.Workspace, o *reference.Object, dry bool) (finding reference.Finding, over bool, counted *api.Reservation) {
	created := creates(o)
	var pod corev1.Pod
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.New, &pod); err != nil {
		return reference.Finding{Field: "spec", Use: Ceiling, Cause: level.LevelTooLow, Message: "levels: the pod cannot be read", Reason: err.Error()}, true, nil
	}
	name, a := podName{o.Namespace, cmp.Or(pod.Name, o.Name, string(pod.UID))}, requested(&pod.Spec)
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.known {
		reason := "what the pods of the workspace " + w.Name + " request is not known yet, try again"
		return reference.Finding{Field: "spec", Use: Ceiling, Cause: Unknown, Message: "levels: " + reason, Reason: reason}, true, nil
	}
	u.expire()
	p := u.pods[name]
	before := p.counts()
	total, _ := u.total(s, w.Name)
	p.reserved, p.until, p.whose = a, u.now().Add(reserved), pod.UID
	after := total.plus(before, -1).plus(p.counts(), 1)
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
		return reference.Finding{Field: "spec", Use: Ceiling, Cause: CeilingReached, Message: "levels: " + reason, Reason: reason}, true, nil
	}
	if !dry {
		u.put(name, p)
	}
	return reference.Finding{}, false, &api.Reservation{Namespace: name.namespace, Name: name.name, UID: string(pod.UID), CPU: a.cpu, Memory: a.memory, Until: metav1.NewTime(p.until)}
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
