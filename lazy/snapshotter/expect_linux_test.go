package snapshotter

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/weft-dev/weft/image"
	"github.com/weft-dev/weft/lazy"
	"github.com/weft-dev/weft/registry"
	"github.com/weft-dev/weft/registry/registrytest"
)

// kubelet pulls an image through the image service of a machine; pull is what containerd does then, and has is whether it has the image.
func kubelet(t *testing.T, m *machine, r *cri.PullImageRequest, has bool, pull func()) {
	t.Helper()
	asked, pulled := make(chan struct{}), make(chan struct{})
	containerd := &puller{has: has, pull: func(context.Context) error {
		close(asked)
		<-pulled
		return nil
	}}
	mounted := m.images.(*LazyImages)
	images, err := NewImageService(serve(t, func(s *grpc.Server) { cri.RegisterImageServiceServer(s, containerd) }), NewPodCredentials(nil), mounted)
	if err != nil {
		t.Fatal(err)
	}
	defer images.Close()
	conn, err := grpc.NewClient("unix://"+serve(t, images.Register), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	answer := make(chan error, 1)
	go func() {
		_, err := cri.NewImageServiceClient(conn).PullImage(t.Context(), r)
		answer <- err
	}()
	select {
	case <-asked:
	case err := <-answer:
		t.Fatalf("containerd was not asked: %v", err)
	}
	func() {
		defer close(pulled)
		pull()
	}()
	if err := <-answer; err != nil {
		t.Fatal(err)
	}
	mounted.mu.Lock()
	defer mounted.mu.Unlock()
	if n := len(mounted.expected); n != 0 {
		t.Errorf("%d images are expected still", n)
	}
}

// await waits until a registry has answered a request.
func await(t *testing.T, reg *registrytest.Registry, path string) {
	t.Helper()
	for end := time.Now().Add(time.Minute); reg.Count("GET", path) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Errorf("nothing was looked for before containerd asked: no request for %s", path)
			return
		}
	}
}

// TestExpected pulls images: what is looked for before containerd asks for their layers is used, and asked for once.
func TestExpected(t *testing.T) {
	needRoot(t)
	for _, format := range []image.Format{image.EROFS, image.RAFS, ""} {
		reg := registrytest.New(t, registrytest.Config{})
		p := push(t, reg.Host+"/app:1", format, base()...)
		m := start(t, disk(t))
		reg.Forget()
		kubelet(t, m, &cri.PullImageRequest{Image: &cri.ImageSpec{Image: p.name.Reference}}, false, func() {
			await(t, reg, "manifests/1$")
			if _, err := m.decide(t.Context(), p.name); err != nil {
				t.Error(err)
			}
		})
		seen := map[string]int{}
		for _, r := range reg.Requests() {
			if seen[r.Path]++; seen[r.Path] == 2 && r.Range == "" {
				t.Errorf("%q: %s was asked for again", format, r.Path)
			}
		}
		if n := reg.Count("GET", "manifests/"+string(p.name.Manifest)); n != 0 {
			t.Errorf("%q: the manifest was asked for again by its digest", format)
		}
		if prepared := len(m.service.Images()) == 1; prepared != (format != "") {
			t.Errorf("%q: prepared is %v", format, prepared)
		}
		m.stop(t)
	}
}

// TestExpectedInVain lets what is looked for early fail, or be another image: what containerd asks for is mounted all the same.
func TestExpectedInVain(t *testing.T) {
	needRoot(t)
	for path, first := range map[string]string{"manifests/1$": "manifests/1$", "referrers": "referrers", "": "manifests/1$"} {
		reg := registrytest.New(t, registrytest.Config{})
		p := push(t, reg.Host+"/app:1", image.EROFS, base()...)
		if path == "" { // the tag is moved while containerd pulls
			push(t, p.name.Reference, image.EROFS, []file{{"other", "other"}})
		} else {
			reg.Fail(registrytest.Fault{Path: path, Status: http.StatusForbidden, Times: 1})
		}
		m := start(t, disk(t))
		reg.Forget()
		kubelet(t, m, &cri.PullImageRequest{Image: &cri.ImageSpec{Image: p.name.Reference}}, false, func() {
			await(t, reg, first)
			top, unpacked := m.pull(t, p, true)
			if unpacked != 0 {
				t.Errorf("after %q %d layers were unpacked", path, unpacked)
			}
			want(t, m.run(t, "c", top), "etc/a", "first", "etc/b", "second", "big", big)
		})
		removeKeys(t, m, "c")
		removeAll(t, m)
		m.stop(t)
	}
}

// TestNothingExpected looks for nothing if containerd has the image, if it may be for another snapshotter, and if its name says nothing.
func TestNothingExpected(t *testing.T) {
	needRoot(t)
	reg := registrytest.New(t, registrytest.Config{})
	p := push(t, reg.Host+"/app:1", image.EROFS, base()...)
	m := start(t, disk(t))
	defer m.stop(t)
	reg.Forget()
	name := &cri.ImageSpec{Image: p.name.Reference}
	kubelet(t, m, &cri.PullImageRequest{Image: name}, true, func() {
		if k := m.images.(*LazyImages).takeEarly(t.Context(), p.name); k != nil { // waits for its end
			t.Error("an image that is there was looked for")
		}
	})
	kubelet(t, m, &cri.PullImageRequest{Image: &cri.ImageSpec{Image: p.name.Reference, RuntimeHandler: "kata"}}, false, func() {})
	kubelet(t, m, &cri.PullImageRequest{Image: &cri.ImageSpec{Image: "no name!"}}, false, func() {})
	if n := len(reg.Requests()); n != 0 {
		t.Errorf("the registry was asked: %v", reg.Requests())
	}
}

// together lets requests of a group go on when all of them have come.
type together struct {
	mu     sync.Mutex
	groups []*group
}

type group struct {
	missing []string // parts of paths
	all     chan struct{}
}

func (g *together) RoundTrip(r *http.Request) (*http.Response, error) {
	wait, err := g.come(r.URL.Path)
	if err == nil && wait != nil {
		select {
		case <-wait:
		case <-time.After(20 * time.Second):
			err = errors.New("those that should come beside " + r.URL.Path + " do not")
		}
	}
	if err != nil {
		return nil, err
	}
	return http.DefaultTransport.RoundTrip(r)
}

func (g *together) come(path string) (<-chan struct{}, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, one := range g.groups {
		for j, part := range one.missing {
			if !strings.HasSuffix(path, part) {
				continue
			}
			if i > 0 && len(g.groups[i-1].missing) > 0 {
				return nil, errors.New(path + " comes too early")
			}
			if one.missing = append(one.missing[:j:j], one.missing[j+1:]...); len(one.missing) == 0 {
				close(one.all)
			}
			return one.all, nil
		}
	}
	return nil, nil
}

// TestAskedTogether holds that requests of which none needs the answer of another are made at the same time, in three steps, and nothing twice.
func TestAskedTogether(t *testing.T) {
	needRoot(t)
	reg := registrytest.New(t, registrytest.Config{})
	p := push(t, reg.Host+"/app:1", image.EROFS, base()...)
	client := registry.New(registry.Options{})
	defer client.Close()
	place, err := image.OpenPlace(client, p.name.Reference, t.TempDir(), false)
	if err != nil {
		t.Fatal(err)
	}
	found, err := image.OpenImage(t.Context(), place, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	ordinary, err := readManifest(t.Context(), client, registry.Repository{Host: reg.Host, Name: "app"}, p.name.Manifest, nil)
	if err != nil {
		t.Fatal(err)
	}
	g := &together{}
	for _, parts := range [][]string{
		{"manifests/" + string(p.name.Manifest), "referrers/" + string(p.name.Manifest)},
		{"manifests/" + string(found.Desc.Digest), "referrers/" + string(found.Desc.Digest), "blobs/" + string(ordinary.Config.Digest)},
		{"blobs/" + string(found.Manifest.Config.Digest), "blobs/" + metadataOf(t, found)},
	} {
		g.groups = append(g.groups, &group{parts, make(chan struct{})})
	}
	o := registry.Options{Transport: g, Retry: registry.Retry{Attempts: 1}}
	service, err := lazy.Open(t.Context(), lazy.Options{Root: filepath.Join(disk(t), "lazy"), Mode: lazy.Eager, Registry: o})
	if err != nil {
		t.Fatal(err)
	}
	defer service.Close()
	through := registry.New(o)
	defer through.Close()
	reg.Forget()
	layers, err := NewLazyImages(service, through, nil).Prepare(t.Context(), p.name)
	if err != nil || len(layers.List) != 2 {
		t.Fatalf("%+v, %v", layers, err)
	}
	if n := len(reg.Requests()); n != 7 {
		t.Errorf("%d requests and not 7", n)
	}
}

func metadataOf(t *testing.T, f *image.Found) string {
	t.Helper()
	for _, l := range f.Manifest.Layers {
		if l.MediaType == image.MediaTypeMetadata {
			return string(l.Digest)
		}
	}
	t.Fatal("there is no metadata")
	return ""
}
