package status

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

func orOne(n *int32) int32 {
	if n == nil {
		return 1
	}
	return *n
}

// because appends what the pods say about a workload that is not ready yet.
func because(s Status, r Related) Status {
	if why := explainPods(r); why.Reason != "" {
		s.Reason += ": " + why.Reason
		s.Stuck = s.Stuck || why.Stuck
	} else if r.Warning != "" {
		s.Reason += ": " + r.Warning
	}
	return s
}

// deployment follows `kubectl rollout status`.
func deployment(d *appsv1.Deployment, r Related) Status {
	if d.Status.ObservedGeneration < d.Generation {
		return waiting("its controller has not seen the change yet")
	}
	want := orOne(d.Spec.Replicas)
	for _, c := range d.Status.Conditions {
		switch {
		case c.Type == appsv1.DeploymentProgressing && c.Reason == "ProgressDeadlineExceeded":
			return fail(because(waiting("it got no further for %d s", deadline(d)), r))
		case c.Type == appsv1.DeploymentReplicaFailure && c.Status == corev1.ConditionTrue:
			return stuck("pods cannot be made: %s", c.Message)
		}
	}
	if d.Spec.Paused {
		return ready("its rollout is paused")
	}
	st := d.Status
	switch {
	case st.UpdatedReplicas < want:
		return because(waiting("%d of %d new pods made", st.UpdatedReplicas, want), r)
	case st.Replicas > st.UpdatedReplicas:
		return because(waiting("%d old pods still there", st.Replicas-st.UpdatedReplicas), r)
	case st.AvailableReplicas < want:
		return because(waiting("%d of %d pods available", st.AvailableReplicas, want), r)
	}
	return ready(podsReady(want))
}

func fail(s Status) Status {
	s.State = Failed
	return s
}

func deadline(d *appsv1.Deployment) int32 {
	if d.Spec.ProgressDeadlineSeconds != nil {
		return *d.Spec.ProgressDeadlineSeconds
	}
	return 600
}

func podsReady(n int32) string {
	switch n {
	case 0:
		return "no pods wanted"
	case 1:
		return "1 pod available"
	}
	return fmt.Sprintf("%d pods available", n)
}

func statefulSet(s *appsv1.StatefulSet, r Related) Status {
	if s.Status.ObservedGeneration < s.Generation {
		return waiting("its controller has not seen the change yet")
	}
	want := orOne(s.Spec.Replicas)
	st := s.Status
	if st.Replicas > want {
		return waiting("%d pods to remove", st.Replicas-want)
	}
	if st.ReadyReplicas < want {
		return because(waiting("%d of %d pods ready", st.ReadyReplicas, want), r)
	}
	if s.Spec.UpdateStrategy.Type == appsv1.OnDeleteStatefulSetStrategyType {
		return ready(podsReady(want) + "; pods are renewed when they are deleted")
	}
	var partition int32
	if u := s.Spec.UpdateStrategy.RollingUpdate; u != nil && u.Partition != nil {
		partition = *u.Partition
	}
	if toUpdate := want - partition; toUpdate > 0 && st.UpdateRevision != st.CurrentRevision && st.UpdatedReplicas < toUpdate {
		return because(waiting("%d of %d pods renewed", st.UpdatedReplicas, toUpdate), r)
	}
	if partition == 0 && st.UpdateRevision != st.CurrentRevision && st.UpdatedReplicas < want {
		return because(waiting("%d of %d pods renewed", st.UpdatedReplicas, want), r)
	}
	if s.Spec.MinReadySeconds > 0 && st.AvailableReplicas < want {
		return because(waiting("%d of %d pods available", st.AvailableReplicas, want), r)
	}
	return ready(podsReady(want))
}

func daemonSet(d *appsv1.DaemonSet, r Related) Status {
	if d.Status.ObservedGeneration < d.Generation {
		return waiting("its controller has not seen the change yet")
	}
	st := d.Status
	want := st.DesiredNumberScheduled
	if d.Spec.UpdateStrategy.Type != appsv1.OnDeleteDaemonSetStrategyType && st.UpdatedNumberScheduled < want {
		return because(waiting("%d of %d new pods made", st.UpdatedNumberScheduled, want), r)
	}
	if st.NumberAvailable < want {
		return because(waiting("%d of %d pods available", st.NumberAvailable, want), r)
	}
	return ready(podsReady(want))
}

func replicaSet(s *appsv1.ReplicaSet, r Related) Status {
	if s.Status.ObservedGeneration < s.Generation {
		return waiting("its controller has not seen the change yet")
	}
	for _, c := range s.Status.Conditions {
		if c.Type == appsv1.ReplicaSetReplicaFailure && c.Status == corev1.ConditionTrue {
			return stuck("pods cannot be made: %s", c.Message)
		}
	}
	return replicas(orOne(s.Spec.Replicas), s.Status.Replicas, s.Status.AvailableReplicas, r)
}

func replicationController(c *corev1.ReplicationController, r Related) Status {
	if c.Status.ObservedGeneration < c.Generation {
		return waiting("its controller has not seen the change yet")
	}
	return replicas(orOne(c.Spec.Replicas), c.Status.Replicas, c.Status.AvailableReplicas, r)
}

func replicas(want, made, available int32, r Related) Status {
	switch {
	case made > want:
		return waiting("%d pods to remove", made-want)
	case available < want:
		return because(waiting("%d of %d pods available", available, want), r)
	}
	return ready(podsReady(want))
}

// job is ready when it is complete: what depends on a migration must not start before it.
func job(j *batchv1.Job, r Related) Status {
	for _, c := range j.Status.Conditions {
		if c.Status != corev1.ConditionTrue {
			continue
		}
		switch c.Type {
		case batchv1.JobComplete, batchv1.JobSuccessCriteriaMet:
			return ready("complete")
		case batchv1.JobFailed, batchv1.JobFailureTarget:
			s := failed("it failed: %s", c.Message)
			if why := explainPods(r); why.Reason != "" {
				s.Reason += ": " + why.Reason
			}
			return s
		case batchv1.JobSuspended:
			return ready("suspended")
		}
	}
	if j.Spec.Suspend != nil && *j.Spec.Suspend {
		return ready("suspended")
	}
	want := orOne(j.Spec.Completions)
	if j.Status.StartTime == nil {
		return waiting("not started yet")
	}
	s := waiting("%d of %d runs succeeded", j.Status.Succeeded, want)
	if j.Status.Failed > 0 {
		s.Reason += fmt.Sprintf(", %d failed", j.Status.Failed)
	}
	return because(s, r)
}
