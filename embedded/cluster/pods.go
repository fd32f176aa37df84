package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	criapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// podGraceAnnotation is where the kubelet tells the container runtime how long a pod may take to end, in seconds.
const podGraceAnnotation = "io.kubernetes.pod.terminationGracePeriod"

// stopPods ends every container within its pod's own grace period, at most within grace, and then the pods' sandboxes.
// The API still holds the pods: the next start runs them again.
func (c *cluster) stopPods(ctx context.Context, grace time.Duration) error {
	if c.group.StopNamed(ctx, "kubelet") == nil {
		return nil // never started, so neither were pods
	}
	dir, err := os.Open(c.state.Run())
	if err != nil {
		return err
	}
	defer dir.Close()
	conn, err := grpc.NewClient(fmt.Sprintf("unix:///proc/self/fd/%d/%s", dir.Fd(), filepath.Base(containerdSocket)),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	client := criapi.NewRuntimeServiceClient(conn)
	containers, err := client.ListContainers(ctx, &criapi.ListContainersRequest{
		Filter: &criapi.ContainerFilter{State: &criapi.ContainerStateValue{State: criapi.ContainerState_CONTAINER_RUNNING}},
	})
	if err != nil {
		return fmt.Errorf("listing containers to stop them: %w", err)
	}
	err = each(containers.Containers, func(container *criapi.Container) error {
		_, err := client.StopContainer(ctx, &criapi.StopContainerRequest{ContainerId: container.Id, Timeout: stopSeconds(container, grace)})
		return err
	})
	sandboxes, listErr := client.ListPodSandbox(ctx, &criapi.ListPodSandboxRequest{
		Filter: &criapi.PodSandboxFilter{State: &criapi.PodSandboxStateValue{State: criapi.PodSandboxState_SANDBOX_READY}},
	})
	if listErr != nil {
		return errors.Join(err, fmt.Errorf("listing pods to stop them: %w", listErr))
	}
	return errors.Join(err, each(sandboxes.Items, func(sandbox *criapi.PodSandbox) error {
		_, err := client.StopPodSandbox(ctx, &criapi.StopPodSandboxRequest{PodSandboxId: sandbox.Id})
		return err
	}))
}

// stopSeconds is the time that a container gets between SIGTERM and SIGKILL, in whole seconds as the runtime takes them.
func stopSeconds(container *criapi.Container, limit time.Duration) int64 {
	seconds := int64((limit + time.Second - 1) / time.Second)
	own, err := strconv.ParseInt(container.Annotations[podGraceAnnotation], 10, 64)
	if err == nil && own < seconds {
		return own
	}
	return seconds
}

// each calls f for all items at the same time and joins the errors.
func each[T any](items []T, f func(T) error) error {
	errs := make([]error, len(items))
	var wg sync.WaitGroup
	for i, item := range items {
		wg.Go(func() { errs[i] = f(item) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
