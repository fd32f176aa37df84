package manager

import (
	"fmt"
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weft-dev/weft/logging/resource"
)

// A configuration reaches the agents only after the engine has read it. The test's API server has no nodes, so the test plays the kubelet.
func TestGate(t *testing.T) {
	c := serve(t, false)
	c.apply(strings.Replace(agents, "image: example.test/fluent-bit,", "image: example.test/fluent-bit, configCheck: {timeoutSeconds: 20},", 1))
	secret := c.Namespace + "-config"
	first := c.job("")
	if _, err := c.config(secret, "fluent-bit.conf"); !apierrors.IsNotFound(err) {
		t.Fatalf("the configuration is there before it was checked: %v", err)
	}
	pod := first.Spec.Template.Spec
	if got := strings.Join(pod.Containers[0].Command, " "); got != "/fluent-bit/bin/fluent-bit --dry-run -c /fluent-bit/config/fluent-bit.conf" || pod.Containers[0].Image != "example.test/fluent-bit" {
		t.Errorf("%s in %s", got, pod.Containers[0].Image)
	}
	if pod.AutomountServiceAccountToken == nil || *pod.AutomountServiceAccountToken || *first.Spec.BackoffLimit != 0 || *first.Spec.ActiveDeadlineSeconds != 20 {
		t.Errorf("%+v", first.Spec)
	}
	if text, err := c.config(pod.Volumes[0].Secret.SecretName, "fluent-bit.conf"); err != nil || !strings.Contains(text, "host    good") {
		t.Errorf("what is checked: %v\n%s", err, text)
	}
	c.end(first, corev1.PodSucceeded, "")
	c.eventually("the configuration", func() error {
		text, err := c.config(secret, "fluent-bit.conf")
		if err == nil && !strings.Contains(text, "host    good") {
			err = fmt.Errorf("%s", text)
		}
		return err
	})
	c.gone(first.Name)
	good, err := c.config(secret, "fluent-bit.conf")
	if err != nil {
		t.Fatal(err)
	}

	output := "apiVersion: fluentbit.fluent.io/v1alpha2\nkind: ClusterOutput\nmetadata: {name: NS-out, labels: {for: NS}}\nspec: {match: kube.*, http: {host: %s, httpPassword: {valueFrom: {secretKeyRef: {name: password, key: p}}}}}"
	t.Run("what the engine refuses is not rolled out", func(t *testing.T) {
		c.apply(fmt.Sprintf(output, "refused"))
		job := c.job(first.Name)
		c.eventually("the state while it is checked", func() error {
			if status, reason := c.condition(resource.FluentBitGroup, "ClusterFluentBitConfig", "", secret); status != "True" || reason != "Checking" {
				return fmt.Errorf("%s %s", status, reason)
			}
			return nil
		})
		c.end(job, corev1.PodFailed, "[error] property 'x' is unknown\nconfiguration test failed")
		c.eventually("the reason", func() error {
			events, err := c.Clients.CoreV1().Events("default").List(t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=" + secret})
			if err == nil && (len(events.Items) == 0 || events.Items[0].Reason != "RefusedByEngine" || !strings.Contains(events.Items[0].Message, "property 'x' is unknown | configuration test failed")) {
				err = fmt.Errorf("%v", events.Items)
			}
			return err
		})
		if status, reason := c.condition(resource.FluentBitGroup, "ClusterFluentBitConfig", "", secret); status != "False" || reason != "RefusedByEngine" {
			t.Errorf("%s %s", status, reason)
		}
		if text, err := c.config(secret, "fluent-bit.conf"); err != nil || text != good {
			t.Errorf("the last good configuration did not stay: %v\n%s", err, text)
		}
	})
	t.Run("a check that does not end", func(t *testing.T) {
		c.apply(fmt.Sprintf(output, "slow"))
		c.job(first.Name)
		c.eventually("the reason", func() error {
			if status, reason := c.condition(resource.FluentBitGroup, "ClusterFluentBitConfig", "", secret); status != "False" || reason != "CheckTimedOut" {
				return fmt.Errorf("%s %s", status, reason)
			}
			return nil
		})
		if text, err := c.config(secret, "fluent-bit.conf"); err != nil || text != good {
			t.Errorf("the last good configuration did not stay: %v\n%s", err, text)
		}
	})
	t.Run("back to what was good", func(t *testing.T) {
		c.apply(fmt.Sprintf(output, "good"))
		c.eventually("the state", func() error {
			if status, reason := c.condition(resource.FluentBitGroup, "ClusterFluentBitConfig", "", secret); status != "True" || reason != "Accepted" {
				return fmt.Errorf("%s %s", status, reason)
			}
			return nil
		})
		c.gone("")
	})
}

// job is the Job that checks, other than one that is known already, once there is one.
func (c *cluster) job(other string) *batchv1.Job {
	c.t.Helper()
	var job *batchv1.Job
	c.eventually("the check", func() error {
		list, err := c.Clients.BatchV1().Jobs(c.Namespace).List(c.t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		for i, j := range list.Items {
			if j.Name != other && j.DeletionTimestamp == nil && len(j.Status.Conditions) == 0 {
				job = &list.Items[i]
				return nil
			}
		}
		return fmt.Errorf("%d Jobs", len(list.Items))
	})
	return job
}

// end lets the Job's pod end, having written a message.
func (c *cluster) end(job *batchv1.Job, phase corev1.PodPhase, message string) {
	c.t.Helper()
	c.eventually("the end of the pod", func() error {
		pods, err := c.Clients.CoreV1().Pods(c.Namespace).List(c.t.Context(), metav1.ListOptions{LabelSelector: "batch.kubernetes.io/job-name=" + job.Name})
		if err != nil {
			return err
		}
		if len(pods.Items) != 1 {
			return fmt.Errorf("%d pods", len(pods.Items))
		}
		pod := &pods.Items[0]
		code := int32(0)
		if phase == corev1.PodFailed {
			code = 1
		}
		pod.Status.Phase = phase
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "check", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Message: message, FinishedAt: metav1.Now()}}}}
		_, err = c.Clients.CoreV1().Pods(c.Namespace).UpdateStatus(c.t.Context(), pod, metav1.UpdateOptions{})
		return err
	})
}

// gone waits until the Job of a name, or every Job, is removed, with the Secret of what it checked.
func (c *cluster) gone(name string) {
	c.t.Helper()
	c.eventually("the end of the check", func() error {
		list, err := c.Clients.BatchV1().Jobs(c.Namespace).List(c.t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, j := range list.Items {
			if name == "" || j.Name == name {
				return fmt.Errorf("Job %s is left", j.Name)
			}
		}
		candidates, err := c.Clients.CoreV1().Secrets(c.Namespace).List(c.t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=weft-config-check"})
		if err == nil && len(candidates.Items) > 0 {
			err = fmt.Errorf("Secret %s is left", candidates.Items[0].Name)
		}
		return err
	})
}
