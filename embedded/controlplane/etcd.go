package controlplane

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"go.etcd.io/etcd/server/v3/embed"
)

// startEtcd starts the store on sockets in the current folder. It returns when the store answers.
func startEtcd(ctx context.Context, cfg Config) (*embed.Etcd, error) {
	ec := embed.NewConfig()
	ec.Name = "weft"
	ec.Dir = cfg.Data
	ec.UnsafeNoFsync = !cfg.Fsync
	ec.LogLevel = "warn"
	ec.ListenClientUrls = []url.URL{{Scheme: "unix", Host: etcdSocket}}
	ec.AdvertiseClientUrls = ec.ListenClientUrls
	ec.ListenPeerUrls = []url.URL{{Scheme: "unix", Host: etcdPeerSocket}}
	ec.AdvertisePeerUrls = ec.ListenPeerUrls
	ec.InitialCluster = ec.InitialClusterFromName(ec.Name)
	// One member elects itself, so waiting for others only delays the start.
	ec.TickMs, ec.ElectionMs = 10, 100
	// The history that watches may still need is five minutes, as with upstream's compaction by the API server.
	ec.QuotaBackendBytes = 8 << 30
	ec.SnapshotCount = 10000
	etcd, err := embed.StartEtcd(ec)
	if err != nil {
		return nil, fmt.Errorf("starting the store in %s: %w", cfg.Data, err)
	}
	select {
	case <-etcd.Server.ReadyNotify():
		return etcd, nil
	case err := <-etcd.Err():
		etcd.Close()
		return nil, fmt.Errorf("starting the store in %s: %w", cfg.Data, err)
	case <-etcd.Server.StopNotify():
		etcd.Close()
		return nil, errors.New("the store stopped while starting")
	case <-ctx.Done():
		etcd.Close()
		return nil, ctx.Err()
	}
}
