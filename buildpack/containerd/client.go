// Package containerd is a running containerd as a place of images: what is built goes straight into its content store, without a
// registry between. It speaks containerd's gRPC services (github.com/containerd/containerd/api) and knows nothing of how an image
// comes about.
package containerd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	contentapi "github.com/containerd/containerd/api/services/content/v1"
	diffapi "github.com/containerd/containerd/api/services/diff/v1"
	imagesapi "github.com/containerd/containerd/api/services/images/v1"
	leasesapi "github.com/containerd/containerd/api/services/leases/v1"
	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	versionapi "github.com/containerd/containerd/api/services/version/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

// What holds where nothing is said, as with ctr, nerdctl and the kubelet.
const (
	DefaultAddress     = "/run/containerd/containerd.sock"
	KubernetesImages   = "k8s.io" // the namespace of images that the kubelet sees
	DefaultSnapshotter = "overlayfs"
)

// patience is how long containerd may take to say that it is there.
const patience = 5 * time.Second

// Headers of every call (pkg/namespaces and pkg/leases of github.com/containerd/containerd).
const (
	namespaceHeader = "containerd-namespace"
	leaseHeader     = "containerd-lease"
)

// Client is a connection to a containerd, for one of its namespaces.
type Client struct {
	address   string
	namespace string
	conn      *grpc.ClientConn

	content   contentapi.ContentClient
	diffs     diffapi.DiffClient
	images    imagesapi.ImagesClient
	leases    leasesapi.LeasesClient
	snapshots snapshotsapi.SnapshotsClient
}

// Connect finds the containerd that listens on the Unix socket at address (with or without unix://; "" is the usual place) and makes
// sure that it answers. The connection stays, also for a process that loses the right to the socket. Close ends it. The error is
// fs.ErrNotExist if nothing listens.
func Connect(ctx context.Context, address, namespace string) (*Client, error) {
	if address == "" {
		address = DefaultAddress
	}
	if namespace == "" {
		namespace = KubernetesImages
	}
	path := strings.TrimPrefix(address, "unix://")
	if !filepath.IsAbs(path) {
		return nil, fmt.Errorf("the address of containerd %q: expected the absolute path of its socket", address)
	}
	if err := checkNamespace(namespace); err != nil {
		return nil, err
	}
	// A first connection of our own has better errors than gRPC's.
	probe, err := dial(ctx, path)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, fmt.Errorf("no containerd answers at %s: %w (%w)", path, fs.ErrNotExist, err)
	case err != nil:
		return nil, fmt.Errorf("connect to containerd at %s: %w", path, err)
	}
	probe.Close()
	conn, err := grpc.NewClient("passthrough:///"+path, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(dial),
		grpc.WithIdleTimeout(0), grpc.WithAuthority("localhost"), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)))
	if err != nil {
		return nil, fmt.Errorf("connect to containerd at %s: %w", path, err)
	}
	c := &Client{address: path, namespace: namespace, conn: conn, content: contentapi.NewContentClient(conn), diffs: diffapi.NewDiffClient(conn),
		images: imagesapi.NewImagesClient(conn), leases: leasesapi.NewLeasesClient(conn), snapshots: snapshotsapi.NewSnapshotsClient(conn)}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if _, err := versionapi.NewVersionClient(conn).Version(ctx, &emptypb.Empty{}); err != nil {
		return nil, errors.Join(fmt.Errorf("what listens at %s does not answer as containerd: %w", path, said(err)), conn.Close())
	}
	return c, nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }

// String tells where it is.
func (c *Client) String() string { return c.address }

// Namespace is the one whose images are read and written.
func (c *Client) Namespace() string { return c.namespace }

// longestSocket is what the address of a Unix socket holds (sun_path of unix(7), without the zero at its end).
const longestSocket = 107

// dial connects to a Unix socket, also to one whose path is too long for an address.
func dial(ctx context.Context, path string) (net.Conn, error) {
	var d net.Dialer
	if len(path) <= longestSocket {
		return d.DialContext(ctx, "unix", path)
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return d.DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path)))
}

// checkNamespace holds a name to pkg/identifiers of github.com/containerd/containerd.
func checkNamespace(name string) error {
	ok := len(name) <= 76
	for i, r := range name {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		ok = ok && (letter || strings.ContainsRune("-_.", r) && i > 0 && i < len(name)-1)
	}
	if !ok {
		return fmt.Errorf("the containerd namespace %q must be letters and digits with -, _ and . between them, at most 76", name)
	}
	return nil
}

// in gives the context of a call; what it makes is held by lease if there is one.
func (c *Client) in(ctx context.Context, lease string) context.Context {
	pairs := []string{namespaceHeader, c.namespace}
	if lease != "" {
		pairs = append(pairs, leaseHeader, lease)
	}
	return metadata.AppendToOutgoingContext(ctx, pairs...)
}

// said gives the error of a call in containerd's own words; fs.ErrNotExist and fs.ErrExist where it says so.
func said(err error) error {
	s, ok := status.FromError(err)
	if err == nil || !ok {
		return err
	}
	switch s.Code() {
	case codes.NotFound:
		return fmt.Errorf("%s: %w", s.Message(), fs.ErrNotExist)
	case codes.AlreadyExists:
		return fmt.Errorf("%s: %w", s.Message(), fs.ErrExist)
	case codes.Canceled:
		return fmt.Errorf("%s: %w", s.Message(), context.Canceled)
	case codes.DeadlineExceeded:
		return fmt.Errorf("%s: %w", s.Message(), context.DeadlineExceeded)
	}
	return errors.New(s.Message())
}
