package status

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

func pod(p *corev1.Pod, r Related) Status {
	warning := r.Warning
	if warning == "" {
		warning = r.PodWarnings[p.Name]
	}
	switch p.Status.Phase {
	case corev1.PodSucceeded:
		return ready("complete")
	case corev1.PodFailed:
		return failed("it failed: %s", cmp.Or(firstFailure(p), p.Status.Message, p.Status.Reason, "no reason given"))
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
			return ready("running")
		}
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			if c.Reason == corev1.PodReasonSchedulingGated {
				return waiting("a scheduling gate holds it back")
			}
			return waiting("no node takes it: %s", cmp.Or(c.Message, c.Reason))
		}
	}
	if p.Spec.NodeName == "" && len(p.Status.ContainerStatuses)+len(p.Status.InitContainerStatuses) == 0 {
		return waiting("not scheduled to a node yet")
	}
	return containers(p, warning)
}

// stuckReasons are why a container waits that hardly end by themselves. hopelessReasons never do.
var (
	stuckReasons = []string{"ImagePullBackOff", "ErrImagePull", "RegistryUnavailable", "SignatureValidationFailed", "CrashLoopBackOff",
		"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "CreateContainerConfigError", "StartError"}
	hopelessReasons = []string{"InvalidImageName", "ErrImageNeverPull"}
)

// containers explains a pod on a node by the first container that is not ready.
func containers(p *corev1.Pod, warning string) Status {
	restartable := map[string]bool{}
	for _, c := range p.Spec.InitContainers {
		restartable[c.Name] = c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
	}
	for _, c := range p.Status.InitContainerStatuses {
		done := c.State.Terminated != nil && c.State.Terminated.ExitCode == 0 || restartable[c.Name] && c.Started != nil && *c.Started
		if !done {
			s := container("init container "+c.Name, c, warning)
			if c.State.Running != nil && !restartable[c.Name] {
				s.Reason = "init container " + c.Name + " runs"
			}
			return s
		}
	}
	for _, c := range p.Status.ContainerStatuses {
		if !c.Ready {
			return container("container "+c.Name, c, warning)
		}
	}
	for _, g := range p.Spec.ReadinessGates {
		if !conditionTrue(p, g.ConditionType) {
			return waiting("readiness gate %s is not open", g.ConditionType)
		}
	}
	return waiting("%s", cmp.Or(warning, "the node prepares it"))
}

func conditionTrue(p *corev1.Pod, t corev1.PodConditionType) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == t && c.Status == corev1.ConditionTrue
	})
}

func container(name string, c corev1.ContainerStatus, warning string) Status {
	switch {
	case c.State.Waiting != nil:
		w := c.State.Waiting
		why := w.Reason
		if w.Message != "" {
			why += ": " + oneLine(w.Message)
		}
		if w.Reason == "CrashLoopBackOff" {
			why = fmt.Sprintf("CrashLoopBackOff after %d restarts", c.RestartCount)
			if t := c.LastTerminationState.Terminated; t != nil {
				why += ": " + ended(t)
			}
		}
		switch {
		case slices.Contains(hopelessReasons, w.Reason):
			return failed("%s: %s", name, why)
		case slices.Contains(stuckReasons, w.Reason):
			return stuck("%s: %s", name, why)
		case warning != "":
			return waiting("%s: %s: %s", name, w.Reason, warning)
		}
		return waiting("%s: %s", name, cmp.Or(why, "waits"))
	case c.State.Terminated != nil:
		return waiting("%s: %s", name, ended(c.State.Terminated))
	case c.State.Running != nil:
		if warning != "" {
			return waiting("%s runs but is not ready: %s", name, warning)
		}
		return waiting("%s runs but is not ready", name)
	}
	return waiting("%s: not started yet", name)
}

func ended(t *corev1.ContainerStateTerminated) string {
	s := fmt.Sprintf("it ended with exit code %d", t.ExitCode)
	if t.Signal != 0 {
		s = fmt.Sprintf("it was ended by signal %d", t.Signal)
	}
	if t.Reason != "" && t.Reason != "Error" && t.Reason != "Completed" {
		s += " (" + t.Reason + ")"
	}
	if t.Message != "" {
		s += ": " + oneLine(t.Message)
	}
	return s
}

// firstFailure tells which container of a failed pod failed and how.
func firstFailure(p *corev1.Pod) string {
	for _, c := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		if t := c.State.Terminated; t != nil && t.ExitCode != 0 {
			return "container " + c.Name + ": " + ended(t)
		}
	}
	return ""
}

// oneLine shortens a text that may hold many lines (a container's last output) to one that can be shown.
func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	const limit = 300
	if runes := []rune(s); len(runes) > limit {
		return string(runes[:limit]) + "…"
	}
	return s
}

// explainPods picks the pod that tells most about why a workload is not ready: a failed one before a stuck one before
// one that merely waits, the newest of equals.
func explainPods(r Related) Status {
	var best Status
	var bestName string
	rank := func(s Status) int {
		switch {
		case s.State == Failed:
			return 3
		case s.Stuck:
			return 2
		case s.State == Waiting && s.Reason != "":
			return 1
		}
		return 0
	}
	pods := slices.Clone(r.Pods)
	slices.SortStableFunc(pods, byAge)
	for _, u := range pods {
		if u.GetDeletionTimestamp() != nil {
			continue
		}
		var p corev1.Pod
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &p); err != nil {
			continue
		}
		if s := pod(&p, Related{PodWarnings: r.PodWarnings}); rank(s) > rank(best) {
			best, bestName = s, p.Name
		}
	}
	if best.Reason != "" {
		best.Reason = "pod " + bestName + ": " + best.Reason
		best.Stuck = best.Stuck || best.State == Failed
	}
	return best
}
