package kube

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/weft-dev/weft/kube/status"
)

// beKubelet stands in for a node: it writes the given status to every pod of the namespace until the test ends.
func (b *bench) beKubelet(status string) {
	ctx, cancel := context.WithCancel(b.Context())
	b.Cleanup(cancel)
	go func() {
		_ = b.follow(ctx, podResource, b.place.Namespace, metav1.ListOptions{}, func(u *unstructured.Unstructured, gone bool) {
			if phase, _, _ := unstructured.NestedString(u.Object, "status", "phase"); gone || phase != "Pending" || u.GetDeletionTimestamp() != nil {
				return
			}
			_, _ = b.on(podResource, b.place.Namespace).Patch(ctx, u.GetName(), "application/merge-patch+json", []byte(`{"status":`+status+`}`),
				metav1.PatchOptions{FieldManager: "kubelet"}, "status")
		})
	}()
}

const running = `{"phase":"Running","conditions":[{"type":"Ready","status":"True"},{"type":"PodScheduled","status":"True"}],"containerStatuses":[{"name":"app","ready":true,"image":"x","imageID":"x","restartCount":0,"state":{"running":{}}}]}`

func TestWaitUntilReady(t *testing.T) {
	b := newBench(t)
	b.beKubelet(running)
	set := b.set(web + `---
apiVersion: v1
kind: ResourceQuota
metadata: {name: quota}
spec: {hard: {configmaps: "100"}}
---
apiVersion: batch/v1
kind: Job
metadata: {name: paused}
spec: {suspend: true, template: {spec: {restartPolicy: Never, containers: [{name: app, image: x}]}}}
`)
	set.Wait = true
	var told []string
	set.Progress = func(e Event) {
		told = append(told, fmt.Sprintf("%s %s %s %d/%d", e.Phase, e.Object.Kind, e.State, e.Done, e.Total))
	}
	b.apply(set)
	if len(told) == 0 || !slices.Contains(told, "wait Deployment ready 3/3") && !slices.Contains(told, "wait Deployment ready 2/3") && !slices.Contains(told, "wait Deployment ready 1/3") {
		t.Errorf("progress %q", told)
	}
	available, _, _ := unstructured.NestedInt64(b.live("apps/v1 Deployment", "web").Object, "status", "availableReplicas")
	if available != 2 {
		t.Errorf("came back with %d pods available", available)
	}
	b.taken("")
	if r := b.apply(set); r.Changed() {
		t.Error("not at rest")
	}
	if requests := b.taken(""); len(requests) != 6 {
		t.Errorf("waiting for what is ready asks again:\n%s", strings.Join(requests, "\n"))
	}
}

func TestWaitGivesUpWithTheReason(t *testing.T) {
	b := newBench(t)
	b.beKubelet(`{"phase":"Pending","conditions":[{"type":"PodScheduled","status":"True"}],"containerStatuses":[{"name":"app","ready":false,"image":"x","imageID":"","restartCount":0,"state":{"waiting":{"reason":"InvalidImageName","message":"couldn't parse it"}}}]}`)
	set := b.set(strings.Replace(web, "replicas: 2", "replicas: 1\n  progressDeadlineSeconds: 3", 1))
	set.Wait = true
	_, err := b.Apply(b.Context(), set)
	var failure *WaitError
	if !errors.As(err, &failure) || !failure.Failed {
		t.Fatalf("error %v", err)
	}
	b.wantError(err.Error(), "app.yaml:11:1: Deployment "+b.place.Namespace+"/web: it got no further for 3 s: pod web-", "container app: InvalidImageName: couldn't parse it")
	set.Objects = set.Objects[:2]
	set.Wait = false
	b.apply(set)
	if b.live("apps/v1 Deployment", "web") != nil {
		t.Error("an apply that failed to become ready was not recorded, so it cannot be pruned")
	}
}

func TestWaitEndsInTime(t *testing.T) {
	b := newBench(t)
	set := b.set(web)
	set.Wait, set.Timeout = true, 2*time.Second
	_, err := b.Apply(b.Context(), set)
	if err == nil {
		t.Fatal("no error although no node runs pods")
	}
	b.wantError(err.Error(), "/web: not ready in time: 0 of 2 pods available: pod web-", "no nodes available to schedule pods")
	ctx, cancel := context.WithCancel(b.Context())
	set.Timeout = time.Minute
	set.Progress = func(Event) { cancel() }
	if _, err := b.Apply(ctx, set); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// ofConditions are the built-in kinds whose readiness the conditions tell that controllers of all kinds write, or which have none.
var ofConditions = []string{"CertificateSigningRequest", "FlowSchema", "PriorityLevelConfiguration", "ServiceCIDR", "IPAddress", "Node", "Binding", "Event", "VolumeAttachment", "CSINode",
	"CSIStorageCapacity", "VolumeAttributesClass", "ResourceClaim", "ResourceClaimTemplate", "ResourceSlice", "DeviceClass", "DeviceTaintRule", "MutatingAdmissionPolicy",
	"MutatingAdmissionPolicyBinding", "ClusterTrustBundle", "PodCertificateRequest", "StorageVersion", "StorageVersionMigration", "LeaseCandidate", "Workload", "PodGroup"}

// TestEveryServedKindIsDecidedAbout lists what the server serves itself; a kind that is new in a version of Kubernetes has to be looked at.
func TestEveryServedKindIsDecidedAbout(t *testing.T) {
	b := newBench(t)
	if _, err := b.kinds.find(b.Context(), schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}); err != nil {
		t.Fatal(err)
	}
	for gvk := range b.kinds.served {
		gk := gvk.GroupKind()
		own := gk.Group == "" || !strings.Contains(gk.Group, ".") || strings.HasSuffix(gk.Group, ".k8s.io") && gk.Group != "metrics.k8s.io"
		asked := strings.HasSuffix(gk.Kind, "Review") || strings.HasSuffix(gk.Kind, "Status") // answers, which are not kept
		if own && !asked && !status.Immediate(gk) && !status.Ruled(gk) && !slices.Contains(ofConditions, gk.Kind) {
			t.Errorf("%s has no rule and is not among those whose conditions are read", gk)
		}
	}
}
