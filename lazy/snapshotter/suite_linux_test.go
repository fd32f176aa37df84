package snapshotter

import (
	"context"
	"flag"
	"net"
	"os"
	"path/filepath"
	"testing"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/core/snapshots/proxy"
	"github.com/containerd/containerd/v2/core/snapshots/testsuite"
	"github.com/containerd/containerd/v2/pkg/testutil"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/weft-dev/weft/lazy/keeper"
	"github.com/weft-dev/weft/test/mounts"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "keeper" { // this program guards readers, too
		if err := keeper.Run(keeper.Options{Dir: os.Args[2]}); err != nil {
			os.Exit(1)
		}
		return
	}
	flag.Parse()
	// containerd's suite asks this flag of its own.
	if os.Getuid() == 0 {
		_ = flag.Set("test.root", "true")
	}
	mounts.Private(m)
}

var _ = testutil.RequiresRoot

// TestContainerdsSuite runs containerd's own tests of snapshotters, directly and over the socket, as a proxy plugin is used.
func TestContainerdsSuite(t *testing.T) {
	needRoot(t)
	if testing.Short() {
		t.Skip("it mounts and unmounts a lot")
	}
	for name, o := range map[string]Options{"synchronous": {}, "asynchronous": {AsyncRemove: true}} {
		o.Images = noImages{}
		t.Run(name, func(t *testing.T) {
			testsuite.SnapshotterSuite(t, "overlayfs", func(_ context.Context, root string) (snapshots.Snapshotter, func() error, error) {
				own := o // its cases run side by side
				own.Root = root
				s, err := New(own)
				if err != nil {
					return nil, nil, err
				}
				return s, s.Close, nil
			})
		})
	}
	t.Run("socket", func(t *testing.T) {
		testsuite.SnapshotterSuite(t, "overlayfs", func(_ context.Context, root string) (snapshots.Snapshotter, func() error, error) {
			s, err := New(Options{Root: root, Images: noImages{}})
			if err != nil {
				return nil, nil, err
			}
			remote, stop, err := dial(t, s)
			if err != nil {
				return nil, nil, err
			}
			return remote, func() error { stop(); return s.Close() }, nil
		})
	})
}

// dial serves a snapshotter on a socket and is its client, containerd's own.
func dial(t testing.TB, s snapshots.Snapshotter) (snapshots.Snapshotter, func(), error) {
	ctx, cancel := context.WithCancel(t.Context())
	dir, err := os.MkdirTemp("", "weft-s-") // the path of a socket must be short
	if err != nil {
		cancel()
		return nil, nil, err
	}
	path := filepath.Join(dir, "s")
	l, err := Listen(ctx, path)
	if err != nil {
		cancel()
		return nil, nil, err
	}
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, s) }()
	conn, err := grpc.NewClient("passthrough:s", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		}))
	if err != nil {
		cancel()
		return nil, nil, err
	}
	return proxy.NewSnapshotter(snapshotsapi.NewSnapshotsClient(conn), "weft"), func() {
		_ = conn.Close()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serving ended with %v", err)
		}
		os.RemoveAll(dir)
	}, nil
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Getuid() == 0 {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatal("mounting needs root, and CI must have it")
	}
	t.Skip("mounting needs root")
}

// disk is a folder that is not on tmpfs or overlayfs: the kernel watches no files there.
func disk(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err == nil && st.Type != unix.TMPFS_MAGIC && st.Type != unix.OVERLAYFS_SUPER_MAGIC {
		return dir
	}
	dir, err := os.MkdirTemp("/var/tmp", "weft-snapshotter-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
