package controlplane

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	cliflag "k8s.io/component-base/cli/flag"
	logsapi "k8s.io/component-base/logs/api/v1"
	"k8s.io/klog/v2"
	kcm "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	kcmoptions "k8s.io/kubernetes/cmd/kube-controller-manager/app/options"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	scheduleroptions "k8s.io/kubernetes/cmd/kube-scheduler/app/options"

	_ "k8s.io/component-base/metrics/prometheus/clientgo" // request metrics, as upstream's programs register them
)

// startGC is the garbage collector's target during the start, when the heap grows to its working size anyway.
const startGC = 400

// settled is how long after the start its garbage is given back to the system. The collector would keep the room for two minutes, and most of it for good.
const settled = 20 * time.Second

// parse reads args into the named flag sets.
func parse(name string, sets cliflag.NamedFlagSets, args []string) error {
	fs := pflag.NewFlagSet(name, pflag.ContinueOnError)
	fs.SetNormalizeFunc(cliflag.WordSepNormalizeFunc)
	for _, set := range sets.FlagSets {
		fs.AddFlagSet(set)
	}
	if err := fs.Parse(args); err != nil {
		return fmt.Errorf("flags of %s: %w", name, err)
	}
	return nil
}

// Run runs a control plane until ctx ends; ready is called once, when the API answers. It changes the process's working
// directory to cfg.Run.
func Run(ctx context.Context, cfg Config, ready func(loopback *rest.Config)) error {
	defer debug.SetGCPercent(debug.SetGCPercent(startGC))
	if err := os.Chdir(cfg.Run); err != nil {
		return err
	}
	// The components share one set of process-wide logging settings; the second to apply its own would fail.
	logsapi.ReapplyHandling = logsapi.ReapplyHandlingIgnoreUnchanged
	rest.SetDefaultWarningHandler(rest.NoWarnings{})

	s, err := newAPIServerOptions(cfg)
	if err != nil {
		return err
	}
	if err := s.GenericServerRunOptions.ComponentGlobalsRegistry.Set(); err != nil {
		return fmt.Errorf("feature gates: %w", err)
	}
	etcd, err := startEtcd(ctx, cfg)
	if err != nil {
		return err
	}
	defer etcd.Close()
	server, err := newAPIServer(ctx, cfg, s)
	if err != nil {
		return err
	}

	group, groupCtx := errgroup.WithContext(ctx)
	serverDone := make(chan struct{})
	// The API server outlives the components that speak to it, so that they can hand back what they hold.
	serverCtx, stopServer := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServer()
	group.Go(func() error {
		defer close(serverDone)
		if err := server.run(serverCtx); err != nil {
			return fmt.Errorf("API server: %w", err)
		}
		return nil
	})
	if server.guard != nil {
		group.Go(func() error {
			if err := server.guard(serverCtx); err != nil {
				return fmt.Errorf("levels: %w", err)
			}
			return nil
		})
	}
	group.Go(func() error {
		select {
		case err := <-etcd.Err():
			return fmt.Errorf("store: %w", err)
		case <-etcd.Server.StopNotify():
			return errors.New("the store stopped")
		case <-serverDone:
			return nil
		}
	})
	if err := waitReady(groupCtx, server.loopback); err != nil {
		stopServer()
		return errors.Join(err, group.Wait())
	}
	ready(server.loopback)
	debug.SetGCPercent(100)
	group.Go(func() error {
		select {
		case <-time.After(settled):
			debug.FreeOSMemory()
		case <-groupCtx.Done():
		}
		return nil
	})

	var components sync.WaitGroup
	for name, run := range map[string]func(context.Context, Config) error{
		"controller manager": runControllers,
		"scheduler":          runScheduler,
	} {
		components.Add(1)
		group.Go(func() error {
			defer components.Done()
			if err := run(groupCtx, cfg); err != nil && groupCtx.Err() == nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		})
	}
	group.Go(func() error {
		<-groupCtx.Done()
		waitAtMost(&components, 2*time.Second)
		stopServer()
		return nil
	})
	err = group.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// waitAtMost waits for wg but not longer than limit.
func waitAtMost(wg *sync.WaitGroup, limit time.Duration) {
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(limit):
	}
}

// waitReady asks the server for its readiness until it says yes.
func waitReady(ctx context.Context, config *rest.Config) error {
	client, err := rest.HTTPClientFor(rest.CopyConfig(config))
	if err != nil {
		return err
	}
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, config.Host+"/readyz", nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// runControllers runs the controller manager until ctx ends.
func runControllers(ctx context.Context, cfg Config) error {
	s, err := kcmoptions.NewKubeControllerManagerOptions()
	if err != nil {
		return err
	}
	kubeconfig := cfg.Components + "/controller-manager.kubeconfig"
	args := []string{
		"--kubeconfig=" + kubeconfig,
		"--authentication-kubeconfig=" + kubeconfig,
		"--authorization-kubeconfig=" + kubeconfig,
		"--secure-port=0",
		"--leader-elect=false",
		"--use-service-account-credentials=true",
		"--service-account-private-key-file=" + cfg.PKI.Key(serviceAccountKey),
		"--root-ca-file=" + cfg.PKI.Cert("ca"),
		"--cluster-signing-cert-file=" + cfg.PKI.Cert("ca"),
		"--cluster-signing-key-file=" + cfg.PKI.Key("ca"),
		"--flex-volume-plugin-dir=" + cfg.Plugins,
		// Each controller fetches a token of its own at the start; upstream's limit spreads that over five seconds.
		"--kube-api-qps=500",
		"--kube-api-burst=1000",
		// A new node is freed of its taint by the next round.
		"--node-monitor-period=1s",
		// One node needs no ranges of addresses per node.
		"--allocate-node-cidrs=false",
		"--horizontal-pod-autoscaler-sync-period=5s",
		"--horizontal-pod-autoscaler-initial-readiness-delay=10s",
		"--horizontal-pod-autoscaler-cpu-initialization-period=30s",
	}
	if err := parse("kube-controller-manager", s.Flags(kcm.KnownControllers(), kcm.ControllersDisabledByDefault(), kcm.ControllerAliases()), args); err != nil {
		return err
	}
	c, err := s.Config(ctx, kcm.KnownControllers(), kcm.ControllersDisabledByDefault(), kcm.ControllerAliases())
	if err != nil {
		return err
	}
	return kcm.Run(klog.NewContext(ctx, klog.Background().WithName("controllers")), c.Complete())
}

// runScheduler runs the scheduler until ctx ends.
func runScheduler(ctx context.Context, cfg Config) error {
	o := scheduleroptions.NewOptions()
	kubeconfig := cfg.Components + "/scheduler.kubeconfig"
	args := []string{
		"--kubeconfig=" + kubeconfig,
		"--authentication-kubeconfig=" + kubeconfig,
		"--authorization-kubeconfig=" + kubeconfig,
		"--secure-port=0",
		"--leader-elect=false",
		"--kube-api-qps=500",
		"--kube-api-burst=1000",
	}
	if err := parse("kube-scheduler", *o.Flags, args); err != nil {
		return err
	}
	var err error
	if o.InformerName == nil {
		if o.InformerName, err = cache.NewInformerName("kube-scheduler"); err != nil {
			return err
		}
	}
	cc, sched, err := scheduler.Setup(ctx, o)
	if err != nil {
		return err
	}
	err = scheduler.Run(klog.NewContext(ctx, klog.Background().WithName("scheduler")), cc, sched)
	if ctx.Err() != nil { // upstream reports its own end as an error
		return nil
	}
	return err
}
