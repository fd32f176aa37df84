package manager

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// RunElected serves while this process holds the Lease weft-manager in the namespace, so that of several only one writes. It ends when the context
// ends, and with an error when the Lease is lost.
func (m *Manager) RunElected(ctx context.Context, namespace string) error {
	clients, err := kubernetes.NewForConfig(m.Config)
	if err != nil {
		return fmt.Errorf("connecting to the cluster: %w", err)
	}
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	campaign, stop := context.WithCancel(ctx)
	defer stop()
	led := make(chan error, 1) // what serving ended with
	var started atomic.Bool
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta: metav1.ObjectMeta{Namespace: namespace, Name: "weft-manager"}, Client: clients.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: host + "_" + rand.String(8)},
		},
		LeaseDuration: 15 * time.Second, RenewDeadline: 10 * time.Second, RetryPeriod: 2 * time.Second, ReleaseOnCancel: true,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(lease context.Context) {
				started.Store(true)
				err := m.Run(lease)
				stop() // when serving failed another should take over
				led <- err
			},
			OnStoppedLeading: func() {},
		},
	})
	if err != nil {
		return err
	}
	elector.Run(campaign)
	select {
	case err := <-led:
		if err == nil && ctx.Err() == nil {
			err = errors.New("the lease was lost to another manager")
		}
		return err
	default:
	}
	if !started.Load() {
		return nil // it never led
	}
	return <-led
}
