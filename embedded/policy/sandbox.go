package policy

import (
	"context"
	"net/netip"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"
)

// sandbox is a pod as the container runtime knows it.
type sandbox struct {
	id    string
	uid   types.UID
	name  types.NamespacedName
	ips   []netip.Addr
	ready bool
}

// watchRuntime hands over every pod of the runtime and then its events, until ctx ends. synced is closed after the first complete list.
func (c *controller) watchRuntime(ctx context.Context, synced chan<- struct{}) {
	first := true
	for pause := 50 * time.Millisecond; ctx.Err() == nil; pause = min(2*pause, 5*time.Second) {
		began := time.Now()
		err := c.followRuntime(ctx, func() {
			if first {
				close(synced)
				first = false
			}
		})
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > time.Minute {
			pause = 50 * time.Millisecond
		}
		klog.V(2).ErrorS(err, "following the container runtime's pods", "again after", pause)
		sleep(ctx, pause)
	}
}

func (c *controller) followRuntime(ctx context.Context, listed func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conn, err := grpc.NewClient("unix://"+c.options.Runtime, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(16<<20)))
	if err != nil {
		return err
	}
	defer conn.Close()
	client := runtimeapi.NewRuntimeServiceClient(conn)
	// Subscribe first: what happens during the list comes as an event after it.
	events, err := client.GetContainerEvents(ctx, &runtimeapi.GetEventsRequest{})
	if err != nil {
		return err
	}
	list, err := client.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{})
	if err != nil {
		return err
	}
	var now []sandbox
	for _, item := range list.Items {
		if item.State != runtimeapi.PodSandboxState_SANDBOX_READY {
			continue
		}
		reply, err := client.PodSandboxStatus(ctx, &runtimeapi.PodSandboxStatusRequest{PodSandboxId: item.Id})
		if err != nil {
			continue // it ended meanwhile
		}
		if s, ok := readSandbox(reply.Status); ok {
			now = append(now, s)
		}
	}
	c.hand(func() { c.setSandboxes(now) })
	listed()
	for {
		event, err := events.Recv()
		if err != nil {
			return err
		}
		if s, ok := readSandbox(event.PodSandboxStatus); ok {
			c.hand(func() { c.setSandbox(s) })
		}
	}
}

// readSandbox returns false for a pod that has no addresses yet or has the host's.
func readSandbox(status *runtimeapi.PodSandboxStatus) (sandbox, bool) {
	if status.GetMetadata() == nil {
		return sandbox{}, false
	}
	s := sandbox{
		id:    status.Id,
		uid:   types.UID(status.Metadata.Uid),
		name:  types.NamespacedName{Namespace: status.Metadata.Namespace, Name: status.Metadata.Name},
		ready: status.State == runtimeapi.PodSandboxState_SANDBOX_READY,
	}
	texts := []string{status.GetNetwork().GetIp()}
	for _, ip := range status.GetNetwork().GetAdditionalIps() {
		texts = append(texts, ip.GetIp())
	}
	for _, text := range texts {
		if a, err := netip.ParseAddr(text); err == nil {
			s.ips = append(s.ips, a)
		}
	}
	return s, !s.ready || len(s.ips) > 0
}
