//go:build linux

package snapshotter

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/google/go-containerregistry/pkg/authn"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/weft-dev/weft/registry"
)

// PodCredentials are those with which pods' images were pulled, by repository, the latest of each. They are kept in memory only. As a keychain it
// asks others for repositories that nothing was pulled from.
//
// That another pod's credentials are used for an image tells nobody anything: containerd reads the manifest with the pod's own before a snapshotter is
// asked, and what was looked for before that is not used otherwise.
type PodCredentials struct {
	next authn.Keychain

	mu    sync.Mutex
	known map[string]authn.AuthConfig
}

// NewPodCredentials knows nothing yet, and asks next (nil: nobody) for what it does not know.
func NewPodCredentials(next authn.Keychain) *PodCredentials {
	return &PodCredentials{next: next, known: map[string]authn.AuthConfig{}}
}

// maxPodCredentials bounds how many repositories are remembered. When there are more all are forgotten: images that are mounted have theirs already.
const maxPodCredentials = 10000

// Resolve implements authn.Keychain.
func (p *PodCredentials) Resolve(r authn.Resource) (authn.Authenticator, error) {
	if c, ok := p.of(r.String()); ok {
		return authn.FromConfig(c), nil
	}
	if p.next == nil {
		return authn.Anonymous, nil
	}
	return p.next.Resolve(r)
}

func (p *PodCredentials) of(repository string) (authn.AuthConfig, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c, ok := p.known[repository]
	return c, ok
}

// learn remembers with what an image is pulled. A name that cannot be read is left to containerd to refuse.
func (p *PodCredentials) learn(image string, a *cri.AuthConfig) {
	c := authn.AuthConfig{Username: a.GetUsername(), Password: a.GetPassword(), Auth: a.GetAuth(), IdentityToken: a.GetIdentityToken(), RegistryToken: a.GetRegistryToken()}
	if c == (authn.AuthConfig{}) {
		return
	}
	ref, err := registry.ParseReference(image)
	if err != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.known) >= maxPodCredentials {
		clear(p.known)
	}
	p.known[ref.Repository.String()] = c
}

// ImageService stands between the kubelet and containerd's image service: it passes everything on, lets PodCredentials learn from pulls, and has images looked
// for while containerd begins to pull them. The kubelet's imageServiceEndpoint has to be its socket.
type ImageService struct {
	cri.UnsafeImageServiceServer
	containerd  cri.ImageServiceClient
	credentials *PodCredentials
	images      *LazyImages
	conn        *grpc.ClientConn
}

// maxMessage is how large a list of images may be, in bytes: what containerd allows.
const maxMessage = 16 << 20

// NewImageService passes on to containerd's socket, which needs not be there yet.
func NewImageService(socket string, credentials *PodCredentials, images *LazyImages) (*ImageService, error) {
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)))
	if err != nil {
		return nil, err
	}
	return &ImageService{containerd: cri.NewImageServiceClient(conn), credentials: credentials, images: images, conn: conn}, nil
}

// Register adds it to a server, see Serve.
func (s *ImageService) Register(server *grpc.Server) { cri.RegisterImageServiceServer(server, s) }

// Close ends the connection.
func (s *ImageService) Close() error { return s.conn.Close() }

// PullImage learns the credentials and passes the request on; until it is answered the image is expected. One for a runtime that is named may be unpacked by
// another snapshotter, and an image that containerd has needs nothing.
func (s *ImageService) PullImage(ctx context.Context, r *cri.PullImageRequest) (*cri.PullImageResponse, error) {
	if r.GetAuth() != nil {
		s.credentials.learn(r.GetImage().GetImage(), r.GetAuth())
	}
	if r.GetImage().GetRuntimeHandler() == "" {
		defer s.images.Expect(ctx, r.GetImage().GetImage(), func(ctx context.Context) bool {
			status, err := s.containerd.ImageStatus(ctx, &cri.ImageStatusRequest{Image: r.GetImage()})
			return err != nil || status.GetImage() != nil
		})()
	}
	return s.containerd.PullImage(ctx, r)
}

// ListImages passes on.
func (s *ImageService) ListImages(ctx context.Context, r *cri.ListImagesRequest) (*cri.ListImagesResponse, error) {
	return s.containerd.ListImages(ctx, r)
}

// StreamImages passes on.
func (s *ImageService) StreamImages(r *cri.StreamImagesRequest, to grpc.ServerStreamingServer[cri.StreamImagesResponse]) error {
	from, err := s.containerd.StreamImages(to.Context(), r)
	if err != nil {
		return err
	}
	for {
		m, err := from.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := to.Send(m); err != nil {
			return err
		}
	}
}

// ImageStatus passes on.
func (s *ImageService) ImageStatus(ctx context.Context, r *cri.ImageStatusRequest) (*cri.ImageStatusResponse, error) {
	return s.containerd.ImageStatus(ctx, r)
}

// RemoveImage passes on.
func (s *ImageService) RemoveImage(ctx context.Context, r *cri.RemoveImageRequest) (*cri.RemoveImageResponse, error) {
	return s.containerd.RemoveImage(ctx, r)
}

// ImageFsInfo passes on.
func (s *ImageService) ImageFsInfo(ctx context.Context, r *cri.ImageFsInfoRequest) (*cri.ImageFsInfoResponse, error) {
	return s.containerd.ImageFsInfo(ctx, r)
}
