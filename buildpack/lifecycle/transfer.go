package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/weft-dev/weft/buildpack/layer"
	"github.com/weft-dev/weft/buildpack/target"
)

// runImageLayers gives the layers of the run image.
func (e *Exporter) runImageLayers() ([]target.Source, error) {
	layers, err := blobsInOrder(e.RunImage)
	if err != nil {
		return nil, fmt.Errorf("read the run image: %w", err)
	}
	var out []target.Source
	for _, l := range layers {
		out = append(out, target.Source{Name: "of the run image", Known: &l.blob, Existing: l.layer, From: e.RunImageRef})
	}
	return out, nil
}

// transfer brings the layers to the target, several at once.
func (e *Exporter) transfer(ctx context.Context, parts []*part, previous map[string]previousLayer) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(maxParallelLayers)
	run, err := e.runImageLayers()
	if err != nil {
		return err
	}
	for _, s := range run {
		g.Go(func() error {
			_, err := e.Target.Layer(ctx, s)
			return err
		})
	}
	for _, p := range parts {
		g.Go(func() error { return e.transferOne(ctx, p, previous) })
	}
	return g.Wait()
}

func (e *Exporter) transferOne(ctx context.Context, p *part, previous map[string]previousLayer) error {
	sha := p.reuse
	if sha == "" && slices.ContainsFunc(p.previous, func(s string) bool { return s != "" }) {
		// Likely the same as before: measuring is cheaper than compressing and uploading.
		diffID, err := layer.DiffID(p.content)
		if err != nil {
			return fmt.Errorf("layer '%s': %w", p.id, err)
		}
		if slices.Contains(p.previous, diffID.String()) {
			sha = diffID.String()
		}
	}
	source := target.Source{Name: p.id, Compression: e.Compression, Content: p.content}
	if old, ok := previous[sha]; ok {
		source.Known, source.Existing = &old.blob, old.layer
		p.reused = true
		e.Logger.Infof("Reusing layer '%s'", p.id)
	} else if p.content == nil {
		return fmt.Errorf("layer '%s' (%s) is not in the previous image", p.id, sha)
	} else {
		e.Logger.Infof("Adding layer '%s'", p.id)
	}
	blob, err := e.Target.Layer(ctx, source)
	if err != nil {
		return err
	}
	p.blob = blob
	e.Logger.Debugf("Layer '%s' SHA: %s", p.id, blob.DiffID)
	return nil
}

// previousLayer is a layer of an image that is there.
type previousLayer struct {
	blob  layer.Blob
	layer v1.Layer
}

// blobsOf gives the layers of an image by diffID.
func blobsOf(img v1.Image) (map[string]previousLayer, error) {
	out := map[string]previousLayer{}
	if img == nil {
		return out, nil
	}
	layers, err := blobsInOrder(img)
	for _, l := range layers {
		out[l.blob.DiffID.String()] = l
	}
	return out, err
}

// blobsInOrder gives the layers of an image, the lowest first.
func blobsInOrder(img v1.Image) ([]previousLayer, error) {
	manifest, err := img.Manifest()
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	if len(manifest.Layers) != len(config.RootFS.DiffIDs) {
		return nil, errors.New("manifest and configuration name different numbers of layers")
	}
	var out []previousLayer
	for i, d := range manifest.Layers {
		l, err := img.LayerByDigest(d.Digest)
		if err != nil {
			return nil, err
		}
		out = append(out, previousLayer{layer.Blob{DiffID: config.RootFS.DiffIDs[i], Digest: d.Digest, Size: d.Size}, l})
	}
	return out, nil
}
