package lazy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weft-dev/weft/image"
	"github.com/weft-dev/weft/lazy/trace"
)

// maxInManifest is how large a trace may be, in bytes, to stand in its manifest, too (image-spec, "descriptor", data): then a start need not ask for it once more.
const maxInManifest = 64 << 10

// shareTrace pushes what a start reads as a referrer of the image.
func (s *Service) shareTrace(ctx context.Context, im *Image, t *trace.Trace) error {
	im.mu.Lock()
	subject := im.record.Subject
	im.mu.Unlock()
	if subject == nil {
		return errors.New("the image is in no registry")
	}
	place, err := s.place(im.Name())
	if err != nil {
		return err
	}
	body := t.Encode()
	layer := ocispec.Descriptor{MediaType: trace.MediaType, Digest: digest.FromBytes(body), Size: int64(len(body))}
	for d, b := range map[*ocispec.Descriptor][]byte{&layer: body, &ocispec.DescriptorEmptyJSON: ocispec.DescriptorEmptyJSON.Data} {
		open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }
		if err := place.PutBlob(ctx, *d, open); err != nil {
			return err
		}
	}
	if len(body) <= maxInManifest {
		layer.Data = body
	}
	manifest, err := json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: trace.MediaType,
		Config: ocispec.DescriptorEmptyJSON, Layers: []ocispec.Descriptor{layer}, Subject: subject,
	})
	if err != nil {
		return err
	}
	_, err = place.PutManifest(ctx, ocispec.MediaTypeImageManifest, manifest, false)
	return err
}

// lookForTrace begins to look for what others have pushed beside an image, while its metadata is read. The result waits for it: nil if there is nothing.
func lookForTrace(ctx context.Context, place image.Place, subject digest.Digest) func() ([]byte, error) {
	type answer struct {
		body []byte
		err  error
	}
	c := make(chan answer, 1)
	go func() { // ends with the requests
		b, err := findTrace(ctx, place, subject)
		c <- answer{b, err}
	}()
	return func() ([]byte, error) {
		a := <-c
		return a.body, a.err
	}
}

func findTrace(ctx context.Context, place image.Place, subject digest.Digest) ([]byte, error) {
	list, err := place.Referrers(ctx, subject, trace.MediaType)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	body, err := place.Child(ctx, list[len(list)-1])
	if err != nil {
		return nil, err
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(body, &m); err != nil {
		return nil, fmt.Errorf("the manifest of the record of a start: %w", err)
	}
	if len(m.Layers) != 1 || m.Layers[0].Size > trace.MaxSize {
		return nil, fmt.Errorf("%w: its manifest has %d layers, one of at most %d bytes was expected", trace.ErrTrace, len(m.Layers), trace.MaxSize)
	}
	if l := m.Layers[0]; int64(len(l.Data)) == l.Size && l.Digest.Validate() == nil && l.Digest.Algorithm().FromBytes(l.Data) == l.Digest {
		return l.Data, nil
	}
	r, err := place.Blob(ctx, m.Layers[0])
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(r, trace.MaxSize+1))
	return b, errors.Join(err, r.Close())
}

// keepTrace keeps what was found, unless something is known.
func (s *Service) keepTrace(im *Image, found func() ([]byte, error)) error {
	if _, err := os.Stat(s.traceFile(im.id)); err == nil {
		return nil
	}
	b, err := found()
	if err != nil || b == nil {
		return err
	}
	t, err := trace.Decode(b, im.id)
	if err != nil {
		return err
	}
	return s.writeTrace(t)
}
