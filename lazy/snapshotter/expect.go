//go:build linux

package snapshotter

import (
	"context"
	"encoding/json"
	"errors"
	"runtime"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weft-dev/weft/image"
	"github.com/weft-dev/weft/registry"
)

// expected is an image that is being pulled and that was looked for beside containerd, which asks for layers only when it has read the image's manifest
// and configuration itself.
type expected struct {
	resolved chan struct{} // closed when the manifest is known; never if it does not come to that
	manifest digest.Digest
	done     chan struct{} // closed at the end
	look     *look         // nil: nothing was looked for
}

const (
	// maxExpected bounds what is looked for early, of which metadata is held in memory: of further images nothing is.
	maxExpected = 16
	// maxLate is how long a layer waits for the digest of what was looked for early. containerd has it by then, so that it comes at once or something is wrong.
	maxLate = 5 * time.Second
)

// Expect begins to look for the converted form of an image that containerd is told to pull, unless that is there. What is found is used once, when containerd
// asks for the image's layers, and dropped when the context ends or the result is called, which has to be. A look that fails changes nothing: it is made
// again when containerd asks.
func (l *LazyImages) Expect(ctx context.Context, name string, there func(context.Context) bool) (drop func()) {
	ref, err := registry.ParseReference(name)
	if err != nil {
		return func() {} // containerd says so in its own words
	}
	key := pulledAs(ref)
	e := &expected{resolved: make(chan struct{}), done: make(chan struct{})}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.expected[key] != nil || len(l.expected) >= maxExpected {
		return func() {}
	}
	l.expected[key] = e
	ctx, cancel := context.WithTimeout(ctx, lookup)
	go func() {
		defer close(e.done)
		if !there(ctx) {
			l.lookEarly(ctx, ref, e)
		}
	}()
	return func() {
		cancel()
		<-e.done
		l.forget(key, e)
	}
}

// pulledAs is the name by which containerd asks for layers of an image: it leaves a tag away where there is a digest.
func pulledAs(ref registry.Reference) string {
	if ref.Digest != "" {
		ref.Tag = ""
	}
	return ref.String()
}

func (l *LazyImages) forget(key string, e *expected) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.expected[key] == e {
		delete(l.expected, key)
	}
}

// lookEarly finds out which manifest a name leads to, as containerd does, and looks for it.
func (l *LazyImages) lookEarly(ctx context.Context, ref registry.Reference, e *expected) {
	l.authorize(ref.Repository.String())
	desc, body, err := l.client.Manifest(ctx, ref)
	if err != nil {
		return
	}
	w := wanted{layers: true, manifest: body, named: true}
	if registry.IsIndex(desc.MediaType) {
		w.index = body
		child, ok := ordinaryIn(body)
		if !ok {
			return
		}
		if desc, w.manifest, err = l.client.Manifest(ctx, ref.WithDigest(child)); err != nil {
			return
		}
	}
	e.manifest = desc.Digest
	close(e.resolved)
	n := Name{Reference: ref.String(), Manifest: desc.Digest}
	if m, err := parseManifest(n.Manifest, w.manifest); err == nil {
		n.Converted = image.Converts(m)
	}
	if l.prepared(n.Manifest, ref.WithDigest(n.Manifest).String()) == nil {
		e.look = l.look(ctx, n, w)
	}
}

// ordinaryIn finds the ordinary image for this machine in an index. If containerd chooses another one that is noticed by its digest.
func ordinaryIn(index []byte) (digest.Digest, bool) {
	var parsed ocispec.Index
	if json.Unmarshal(index, &parsed) != nil {
		return "", false
	}
	for _, d := range parsed.Manifests {
		if p := d.Platform; p != nil && p.OS == "linux" && p.Architecture == runtime.GOARCH && len(p.OSFeatures) == 0 {
			return d.Digest, d.Digest.Validate() == nil
		}
	}
	return "", false
}

// takeEarly is what was looked for early of an image; nil if nothing of use was.
func (l *LazyImages) takeEarly(ctx context.Context, n Name) *look {
	ref, err := registry.ParseReference(n.Reference)
	if err != nil {
		return nil
	}
	l.mu.Lock()
	e := l.expected[pulledAs(ref)]
	l.mu.Unlock()
	if e == nil {
		return nil
	}
	late := time.NewTimer(maxLate)
	defer late.Stop()
	select {
	case <-e.resolved:
	case <-e.done:
	case <-late.C:
		return nil
	case <-ctx.Done():
		return nil
	}
	if e.manifest != n.Manifest {
		return nil
	}
	select {
	case <-e.done:
	case <-ctx.Done():
		return nil
	}
	l.forget(pulledAs(ref), e)
	if e.look == nil || e.look.err != nil && !errors.Is(e.look.err, image.ErrOrdinary) {
		return nil
	}
	return e.look
}
