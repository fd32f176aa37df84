package policy

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// cri is a container runtime that knows sandboxes only.
type cri struct {
	runtimeapi.UnimplementedRuntimeServiceServer
	events chan *runtimeapi.ContainerEventResponse
	list   []*runtimeapi.PodSandboxStatus
}

func (r *cri) GetContainerEvents(_ *runtimeapi.GetEventsRequest, s runtimeapi.RuntimeService_GetContainerEventsServer) error {
	for {
		select {
		case e := <-r.events:
			if e == nil {
				return errors.New("the runtime is restarted")
			}
			if err := s.Send(e); err != nil {
				return err
			}
		case <-s.Context().Done():
			return nil
		}
	}
}

func (r *cri) ListPodSandbox(context.Context, *runtimeapi.ListPodSandboxRequest) (*runtimeapi.ListPodSandboxResponse, error) {
	out := &runtimeapi.ListPodSandboxResponse{}
	for _, s := range r.list {
		out.Items = append(out.Items, &runtimeapi.PodSandbox{Id: s.Id, Metadata: s.Metadata, State: s.State})
	}
	return out, nil
}

func (r *cri) PodSandboxStatus(_ context.Context, q *runtimeapi.PodSandboxStatusRequest) (*runtimeapi.PodSandboxStatusResponse, error) {
	for _, s := range r.list {
		if s.Id == q.PodSandboxId {
			return &runtimeapi.PodSandboxStatusResponse{Status: s}, nil
		}
	}
	return nil, errors.New("not found")
}

func sandboxStatus(p *corev1.Pod, id string, state runtimeapi.PodSandboxState, ips ...string) *runtimeapi.PodSandboxStatus {
	out := &runtimeapi.PodSandboxStatus{Id: id, State: state,
		Metadata: &runtimeapi.PodSandboxMetadata{Name: p.Name, Namespace: p.Namespace, Uid: string(p.UID)}}
	if len(ips) > 0 {
		out.Network = &runtimeapi.PodSandboxNetworkStatus{Ip: ips[0]}
		for _, ip := range ips[1:] {
			out.Network.AdditionalIps = append(out.Network.AdditionalIps, &runtimeapi.PodIP{Ip: ip})
		}
	}
	return out
}

// The runtime's word comes before the API's: the pod is let in as soon as its sandbox stands.
func TestRuntimeTellsAddressesFirst(t *testing.T) {
	f := newFixture(t)
	early, old := f.pod("early", nil), f.pod("old", nil)
	r := &cri{events: make(chan *runtimeapi.ContainerEventResponse)}
	r.list = []*runtimeapi.PodSandboxStatus{sandboxStatus(old, "s0", runtimeapi.PodSandboxState_SANDBOX_READY, "10.42.7.1")}
	socket := filepath.Join(t.TempDir(), "cri.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	runtimeapi.RegisterRuntimeServiceServer(server, r)
	go func() { _ = server.Serve(listener) }() // ends with the test
	t.Cleanup(server.Stop)
	f.options.Runtime = socket
	f.run()
	wait := func(text string, there bool) {
		t.Helper()
		for range 400 {
			if f.listed(text) == there {
				return
			}
			time.Sleep(25 * time.Millisecond)
		}
		t.Fatalf("%s in the table: wanted %v\n%s", text, there, nft(t, f.options.NetNS, "list", "ruleset"))
	}
	send := func(s *runtimeapi.PodSandboxStatus) {
		r.events <- &runtimeapi.ContainerEventResponse{ContainerId: s.Id, PodSandboxStatus: s}
	}
	wait("10.42.7.1", true) // from the list
	send(sandboxStatus(early, "s1", runtimeapi.PodSandboxState_SANDBOX_READY))
	send(sandboxStatus(early, "s1", runtimeapi.PodSandboxState_SANDBOX_READY, "10.42.7.2", "fd00:42::7:2"))
	wait("10.42.7.2", true)
	wait("fd00:42::7:2", true)
	// A sandbox made anew has another address; the end of the first one must not take it away.
	send(sandboxStatus(early, "s2", runtimeapi.PodSandboxState_SANDBOX_READY, "10.42.7.3"))
	send(sandboxStatus(early, "s1", runtimeapi.PodSandboxState_SANDBOX_NOTREADY))
	wait("10.42.7.3", true)
	wait("10.42.7.2", false)
	send(sandboxStatus(early, "s2", runtimeapi.PodSandboxState_SANDBOX_NOTREADY))
	wait("10.42.7.3", false)
	// After the runtime's restart its list counts: what is not in it is gone.
	r.list = nil
	r.events <- nil
	wait("10.42.7.1", false)
}
