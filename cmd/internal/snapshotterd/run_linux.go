package snapshotterd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"google.golang.org/grpc"

	"github.com/weft-dev/weft/cmd/internal/lazytool"
	"github.com/weft-dev/weft/lazy"
	"github.com/weft-dev/weft/lazy/keeper"
	"github.com/weft-dev/weft/lazy/snapshotter"
	"github.com/weft-dev/weft/registry"
	"github.com/weft-dev/weft/store"
)

// run serves until the context ends.
func run(ctx context.Context, f flags, out io.Writer) (err error) {
	o, log, err := f.options(out)
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("mounting needs root: run it with sudo")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	o.Retire = cancel
	cluster, err := f.openCluster(log)
	if err != nil {
		return err
	}
	defer cluster.end(cancel)
	o.Unguarded = cluster.unguarded
	pods := snapshotter.NewPodCredentials(cluster.followSecrets(ctx, f.pullSecrets, o.Registry.Keychain))
	o.Registry.Keychain = pods
	service, err := open(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, service.Close()) }()
	client := registry.New(o.Registry)
	defer client.Close()
	mounted := snapshotter.NewLazyImages(service, client, pods)
	metrics := snapshotter.NewMetrics()
	metrics.Serve(service)
	s, err := snapshotter.New(snapshotter.Options{
		Root: f.root, AsyncRemove: f.asyncRemove, SlowChown: f.slowChown, Volatile: f.volatile, MountOptions: f.mountOptions,
		Images: mounted, Log: log, Metrics: metrics,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	cluster.tellPods(ctx, s)
	if err := service.Restore(ctx); err != nil {
		log.Warn("not every image that was mounted before is mounted again", "error", err)
	}
	if err := s.Restore(ctx); err != nil {
		return err
	}
	stop, err := serveMetrics(ctx, f.metrics, metrics.Handler(), log)
	if err != nil {
		return err
	}
	defer stop()
	listener, err := snapshotter.Listen(ctx, f.address) // who can connect is answered
	if err != nil {
		return err
	}
	defer listener.Close()
	var more []func(*grpc.Server)
	if f.imageService != "" {
		images, err := snapshotter.NewImageService(f.imageService, pods, mounted)
		if err != nil {
			return fmt.Errorf("--image-service: %w", err)
		}
		defer images.Close()
		more = append(more, images.Register)
	}
	log.Info("serving snapshots", "address", f.address, "root", f.root, "mode", string(service.Mode()), "reason", service.Reason())
	return snapshotter.Serve(ctx, listener, s, more...)
}

// open opens the service. Where neither fanotify nor FUSE works, auto is eager: what cannot be mounted in that way either is pulled as usual.
func open(ctx context.Context, o lazy.Options) (*lazy.Service, error) {
	service, err := lazy.Open(ctx, o)
	if o.Mode != lazy.Auto || !errors.Is(err, lazy.ErrCannot) {
		return service, err
	}
	o.Logger.Warn("images are fetched before they are mounted", "reason", err)
	o.Mode, o.StandBy, o.Environment = lazy.Eager, nil, nil
	return lazy.Open(ctx, o)
}

// options makes of the flags those of the service.
func (f flags) options(out io.Writer) (lazy.Options, *slog.Logger, error) {
	var o lazy.Options
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.level)); err != nil {
		return o, nil, usage("--log-level: %q is none of debug, info, warn, error", f.level)
	}
	log := slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: level}))
	mode := lazy.Mode(f.mode)
	if f.mode == "auto" {
		mode = lazy.Auto
	} else if !slices.Contains([]lazy.Mode{lazy.Fanotify, lazy.FUSE, lazy.Eager}, mode) {
		return o, nil, usage("--mode: %q is none of auto, fanotify, fuse, eager", f.mode)
	}
	if f.limit < 0 {
		return o, nil, usage("--limit: %d is less than 0", f.limit)
	}
	if err := f.checkCluster(); err != nil {
		return o, nil, err
	}
	for flag, path := range map[string]string{"--root": f.root, "--address": f.address, "--image-service": f.imageService} {
		if !filepath.IsAbs(path) && (flag != "--image-service" || path != "") {
			return o, nil, usage("%s: %q is no absolute path", flag, path)
		}
	}
	guard, err := f.keeperProgram()
	if err != nil {
		return o, nil, err
	}
	var follower, environment []string
	if f.standsBy && mode != lazy.Eager {
		if follower, environment, err = f.standBy(guard); err != nil {
			return o, nil, err
		}
	}
	o = lazy.Options{
		Root: filepath.Join(f.root, "lazy"), Mode: mode, Limit: f.limit, Background: f.background, Share: f.share, Logger: log,
		Keeper: guard, StandBy: follower, Environment: environment, Registry: registry.Options{Keychain: registry.DockerCredentials(""), Logger: log},
	}
	o.ReadAhead, o.Registry.Retry.Attempts, o.Registry.Stall = f.readAhead, f.attempts, f.timeout
	if f.hosts != "" {
		o.Registry.Mirrors = registry.HostsFolders{f.hosts}
	}
	if f.store != "" {
		if o.Store, err = store.Open(f.store); err != nil {
			return o, nil, fmt.Errorf("--store: %w", err)
		}
	}
	return o, log, nil
}

// keeperProgram is the program that guards readers, with its arguments.
func (f flags) keeperProgram() ([]string, error) {
	if len(f.guard) > 0 {
		return f.guard, nil
	}
	program, err := lazytool.KeeperProgram(f.keeper...)
	if err != nil {
		return nil, err
	}
	if f.keeperMounts != "" {
		if !filepath.IsAbs(f.keeperMounts) {
			return nil, usage("--keeper-mounts: %q is no absolute path", f.keeperMounts)
		}
		if program[0], err = keeper.Install(program[0], f.programs(), "keeper-"); err != nil {
			return nil, fmt.Errorf("--keeper-mounts: %w", err)
		}
		program = append(program, "--mounts", f.keeperMounts)
	}
	if f.keeperGroup != "" {
		program = append(program, "--cgroup", f.keeperGroup)
	}
	return program, nil
}

// serveMetrics answers Prometheus until stop is called.
func serveMetrics(ctx context.Context, address string, handler http.Handler, log *slog.Logger) (stop func(), err error) {
	if address == "" {
		return func() {}, nil
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("--metrics: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", handler)
	mux.Handle("GET /v1/metrics", handler) // where Nydus's snapshotter has them
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("metrics are served no longer", "error", err)
		}
	}()
	return func() { _ = server.Close() }, nil
}
