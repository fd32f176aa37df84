package snapshotter

import (
	"context"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/weft-dev/weft/image"
	"github.com/weft-dev/weft/lazy"
	"github.com/weft-dev/weft/registry"
	"github.com/weft-dev/weft/registry/registrytest"
)

// puller stands for containerd: on PullImage it asks the snapshotter for the image's layers.
type puller struct {
	cri.UnimplementedImageServiceServer
	pull func(ctx context.Context) error
	has  bool // the image
}

func (p *puller) ImageStatus(_ context.Context, r *cri.ImageStatusRequest) (*cri.ImageStatusResponse, error) {
	if !p.has {
		return &cri.ImageStatusResponse{}, nil
	}
	return &cri.ImageStatusResponse{Image: &cri.Image{Id: r.GetImage().GetImage()}}, nil
}

func (p *puller) PullImage(ctx context.Context, r *cri.PullImageRequest) (*cri.PullImageResponse, error) {
	return &cri.PullImageResponse{ImageRef: r.GetImage().GetImage()}, p.pull(ctx)
}

func (p *puller) StreamImages(_ *cri.StreamImagesRequest, to grpc.ServerStreamingServer[cri.StreamImagesResponse]) error {
	for _, id := range []string{"a", "b"} {
		if err := to.Send(&cri.StreamImagesResponse{Images: []*cri.Image{{Id: id}}}); err != nil {
			return err
		}
	}
	return nil
}

// serve serves at a socket and returns its path.
func serve(t *testing.T, register func(*grpc.Server)) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	register(server)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)
	return path
}

// TestCredentialsOfPods pulls an image of a registry that wants tokens, with what a pod's imagePullSecrets say, and reads it when the tokens have ended.
func TestCredentialsOfPods(t *testing.T) {
	needRoot(t)
	reg := registrytest.New(t, registrytest.Config{})
	p := push(t, reg.Host+"/team/app:1", image.EROFS, base()...)
	locked := registrytest.New(t, registrytest.Config{Storage: reg.Storage, Token: &registrytest.Token{User: "pod", Password: "secret"}})
	p.name.Reference = locked.Host + "/team/app:1"

	credentials := NewPodCredentials(nil)
	m := startWith(t, disk(t), lazy.Eager, credentials)
	defer m.stop(t)
	containerd := &puller{pull: func(ctx context.Context) error {
		for i := range p.layers.List {
			parent := ""
			if i > 0 {
				parent = string(p.layers.List[i-1].Chain)
			}
			if _, err := m.Prepare(ctx, "extract-"+string(p.layers.List[i].Chain), parent, snapshots.WithLabels(p.labels(i))); !errdefs.IsAlreadyExists(err) {
				t.Errorf("layer %d is not mounted: %v", i, err)
			}
		}
		return nil
	}}
	images, err := NewImageService(serve(t, func(s *grpc.Server) { cri.RegisterImageServiceServer(s, containerd) }), credentials, m.images.(*LazyImages))
	if err != nil {
		t.Fatal(err)
	}
	defer images.Close()
	conn, err := grpc.NewClient("unix://"+serve(t, images.Register), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	kubelet := cri.NewImageServiceClient(conn)
	answer, err := kubelet.PullImage(t.Context(), &cri.PullImageRequest{
		Image: &cri.ImageSpec{Image: p.name.Reference}, Auth: &cri.AuthConfig{Username: "pod", Password: "secret"},
	})
	if err != nil || answer.ImageRef != p.name.Reference {
		t.Fatalf("pulled %v, %v", answer, err)
	}
	if n := locked.Count("GET", "blobs"); n == 0 {
		t.Error("nothing was fetched from the registry that wants tokens")
	}
	locked.Expire()
	top := m.find(t, string(p.layers.List[1].Chain), string(p.layers.List[0].Chain)+"")
	want(t, m.run(t, "c", top), "etc/a", "first", "etc/b", "second", "big", big)
	if strings.Contains(m.log.String(), "secret") {
		t.Errorf("the log has a secret: %s", m.log)
	}

	// The rest of the service is containerd's.
	stream, err := kubelet.StreamImages(t.Context(), &cri.StreamImagesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var ids string
	for {
		i, err := stream.Recv()
		if err != nil {
			break
		}
		ids += i.GetImages()[0].GetId()
	}
	if ids != "ab" {
		t.Errorf("streamed %q", ids)
	}
	removeKeys(t, m, "c")
	removeAll(t, m)
}

// TestLatestCredentials holds that the latest pull counts, that others are asked for what nothing was pulled from, and that a pull without any changes
// nothing.
func TestLatestCredentials(t *testing.T) {
	next := NewPodCredentials(nil)
	next.learn("example.com/other:1", &cri.AuthConfig{Username: "docker"})
	p := NewPodCredentials(next)
	p.learn("example.com/app:1", &cri.AuthConfig{Username: "old"})
	p.learn("example.com/app@sha256:"+strings.Repeat("0", 64), &cri.AuthConfig{Username: "new"})
	p.learn("example.com/app:2", &cri.AuthConfig{})
	p.learn("not a name!", &cri.AuthConfig{Username: "x"})
	for name, want := range map[string]string{"example.com/app": "new", "example.com/other": "docker", "example.com/none": ""} {
		ref, err := registry.ParseReference(name)
		if err != nil {
			t.Fatal(err)
		}
		a, err := p.Resolve(ref.Repository)
		if err != nil {
			t.Fatal(err)
		}
		c, err := a.Authorization()
		if err != nil || c.Username != want {
			t.Errorf("%s: user %q, %v; expected %q", name, c.Username, err, want)
		}
	}
}
