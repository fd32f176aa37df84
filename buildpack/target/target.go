// Package target is where images go: a registry or a folder in the OCI image layout. It moves blobs and manifests and knows nothing
// of how an image comes about.
package target

import (
	"context"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/weft-dev/weft/buildpack/layer"
)

// A Source gives the bytes of one layer. If Known is set, the compressed blob is known and Content is called only when the target
// lacks it; Existing then may give the compressed bytes instead.
type Source struct {
	Name        string // for messages
	Compression layer.Compression
	Content     layer.Content
	Known       *layer.Blob
	Existing    v1.Layer
}

// Target takes an image. Nothing can be seen under its name before Publish has returned.
type Target interface {
	// Layer makes sure that the target has the layer. It is called for several layers at once.
	Layer(ctx context.Context, s Source) (layer.Blob, error)
	// Publish writes the configuration and the manifest and then the names, one after the other.
	Publish(ctx context.Context, config, manifest []byte, mediaType types.MediaType, names []string) (v1.Hash, error)
	// Previous gives the image of a name, nil if there is none.
	Previous(ctx context.Context, name string) (v1.Image, error)
}

// piped gives what Stream writes as a reader; result receives the measure after the last byte.
func piped(ctx context.Context, c layer.Compression, content layer.Content, result func(layer.Blob)) io.ReadCloser {
	r, w := io.Pipe()
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		blob, err := layer.Stream(w, c, content)
		if err == nil {
			result(blob)
		}
		w.CloseWithError(err)
	}()
	stop := context.AfterFunc(ctx, func() { w.CloseWithError(ctx.Err()) })
	return &pipeEnd{PipeReader: r, finished: finished, stop: stop}
}

// pipeEnd waits for the writer when it is closed, so that no goroutine outlives the reading.
type pipeEnd struct {
	*io.PipeReader
	finished chan struct{}
	stop     func() bool
}

func (p *pipeEnd) Close() error {
	p.stop()
	err := p.PipeReader.Close()
	<-p.finished
	return err
}
