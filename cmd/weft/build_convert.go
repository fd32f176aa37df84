package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/image"
	"github.com/weft-dev/weft/image/chunk"
	"github.com/weft-dev/weft/registry"
)

// attached is a converted form that was put beside an image.
type attached struct {
	Format    image.Format `json:"format"`
	Digest    string       `json:"digest"`
	Bytes     int64        `json:"bytes,omitempty"` // of its blobs
	Unchanged bool         `json:"unchanged"`       // it was there
}

// attach puts the converted forms of an image in a registry beside it, as referrers, unless they are there.
func (a *app) attach(ctx context.Context, client *registry.Client, ref string, formats []image.Format, progress *output.Progress) ([]attached, error) {
	var list []attached
	for _, format := range formats {
		item := progress.Start("convert to " + string(format))
		one, err := attachOne(ctx, client, ref, format, chunk.Zstd)
		if err != nil {
			item.Fail("failed")
			return list, fmt.Errorf("the image is pushed, but not its %s form: %w", format, err)
		}
		if one.Unchanged {
			item.Done("is there")
		} else {
			item.Done(output.Bytes(one.Bytes))
		}
		list = append(list, one)
	}
	return list, nil
}

func attachOne(ctx context.Context, client *registry.Client, ref string, format image.Format, codec chunk.Codec) (attached, error) {
	one := attached{Format: format}
	place, err := image.OpenPlace(client, ref, "", false)
	if err != nil {
		return one, err
	}
	defer place.Close()
	desc, _, err := place.Manifest(ctx)
	if err != nil {
		return one, err
	}
	kind := image.ArtifactType
	if format == image.RAFS {
		kind = image.NydusArtifactType
	}
	there, err := place.Referrers(ctx, desc.Digest, kind)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return one, err
	}
	if len(there) > 0 {
		one.Digest, one.Unchanged = string(there[len(there)-1].Digest), true
		return one, nil
	}
	converted, err := image.Convert(ctx, place, place, image.ConvertOptions{
		Options:   image.Options{Format: format, Codec: codec},
		Platforms: []ocispec.Platform{{OS: "linux", Architecture: runtime.GOARCH}}, Referrer: true,
	})
	if err != nil {
		return one, err
	}
	one.Digest, one.Bytes = string(converted.Manifest.Digest), converted.TargetBytes
	return one, nil
}
