package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/image"
	"github.com/weft-dev/weft/image/rafs"
)

func (a *app) nydusMergeCommand() *cobra.Command {
	var bootstrap, blobDir, parent, dict, policy, digests, originals, sizes, tocDigests, tocSizes, outputJSON string
	c := &cobra.Command{
		Use:     "merge SOURCE...",
		Short:   "Merge the bootstraps of layers, the lowest first, into one",
		Example: "  nydus-image merge -B image.boot layer1.boot layer2.boot",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := refuse(cmd.Flags(), map[string]string{"config": "blobs are not read to merge"}); err != nil {
				return err
			}
			m := nydusMerge{names: args, parent: parent, digests: digests, originals: originals, sizes: sizes, tocDigests: tocDigests, tocSizes: tocSizes}
			if bootstrap == "" && blobDir == "" {
				return output.Usagef("--bootstrap or --blob-dir is missing: where the bootstrap goes")
			}
			if dict != "" {
				if _, err := openDictionary(dict); err != nil { // its blobs are named by the layers themselves
					return err
				}
			}
			var prefetch []string
			if policy != "none" {
				var err error
				if prefetch, err = a.prefetchList("-"); err != nil {
					return err
				}
			}
			im, o, err := m.merge()
			if err != nil {
				return err
			}
			o.Prefetch = prefetch
			if bootstrap != "" {
				_, err = im.WriteFile(bootstrap, o)
			} else {
				bootstrap, err = bootstrapInFolder(blobDir, im, o)
			}
			if err != nil {
				return err
			}
			return newNydusOutput(bootstrap, im.Blobs, o.Codec).write(outputJSON, true)
		},
	}
	f := c.Flags()
	f.StringVarP(&bootstrap, "bootstrap", "B", "", "`file` for the bootstrap")
	f.StringVarP(&blobDir, "blob-dir", "D", "", "`folder` for the bootstrap, named by its digest")
	f.StringVar(&parent, "parent-bootstrap", "", "bootstrap `file` of the layers below")
	f.StringVar(&dict, "chunk-dict", "", "[bootstrap=]`file`: the chunk dictionary with which the layers were built")
	f.StringVar(&policy, "prefetch-policy", "none", "fs, blob or none; the list of paths is read from standard input")
	f.StringVar(&digests, "blob-digests", "", "digests of the layers' blobs, with commas")
	f.StringVar(&originals, "original-blob-ids", "", "names of the layers' blobs, with commas")
	f.StringVar(&sizes, "blob-sizes", "", "sizes of the layers' blobs, with commas")
	f.StringVar(&tocDigests, "blob-toc-digests", "", "digests of the layers' tables of contents, with commas")
	f.StringVar(&tocSizes, "blob-toc-sizes", "", "sizes of the layers' tables of contents, with commas")
	f.StringVarP(&outputJSON, "output-json", "J", "", "`file` for the result as JSON")
	f.StringP("config", "C", "", "not answered")
	return c
}

// nydusMerge is a merge of bootstraps, with what the caller knows about their blobs.
type nydusMerge struct {
	names                                                   []string
	parent, digests, originals, sizes, tocDigests, tocSizes string
}

// errInconsistent is the failure for which nydus-image ends with 2.
var errInconsistent = errors.New("the bootstraps do not go together")

func (m *nydusMerge) merge() (*image.Image, image.Options, error) {
	var o image.Options
	var layers []*image.Opened
	names := m.names
	if m.parent != "" {
		names = append([]string{m.parent}, names...)
	}
	for _, name := range names {
		l, err := image.OpenPath(name, nil)
		if err != nil {
			return nil, o, err
		}
		if l.Format != image.RAFS {
			return nil, o, fmt.Errorf("%s is %s: bootstraps of RAFS v6 were expected", name, l.Format)
		}
		layers = append(layers, l)
	}
	own := layers[len(names)-len(m.names):]
	lists := map[string]func(b *rafs.Blob, v string) error{
		m.originals: func(b *rafs.Blob, v string) error { b.ID = v; return nil },
		m.digests:   func(b *rafs.Blob, v string) error { b.ID = v; _, err := hex.DecodeString(v); return err },
		m.sizes:     func(b *rafs.Blob, v string) (err error) { b.Size, err = strconv.ParseUint(v, 10, 64); return },
		m.tocSizes: func(b *rafs.Blob, v string) error {
			n, err := strconv.ParseUint(v, 10, 32)
			b.TOCSize = uint32(n)
			return err
		},
		m.tocDigests: func(b *rafs.Blob, v string) error {
			raw, err := hex.DecodeString(v)
			if err == nil && len(raw) != 32 {
				err = fmt.Errorf("it has %d bytes", len(raw))
			}
			copy(b.TOCDigest[:], raw)
			return err
		},
	}
	for list, set := range lists {
		if list == "" {
			continue
		}
		values := strings.Split(list, ",")
		if len(values) != len(own) {
			return nil, o, output.Usagef("%d values for %d bootstraps: %s", len(values), len(own), list)
		}
		for i, v := range values {
			if err := own[i].SetBlob(strings.TrimSpace(v), set); err != nil {
				return nil, o, output.Usagef("%s: %w", v, err)
			}
		}
	}
	for i, l := range own {
		l.NameBlobAfter(m.names[i])
	}
	o = image.Options{Format: image.RAFS, ChunkSize: int(layers[0].Bootstrap.Super.ChunkSize), Codec: layers[0].Bootstrap.Super.Codec()}
	for _, l := range layers {
		if s := l.Bootstrap.Super; int(s.ChunkSize) != o.ChunkSize || s.Algorithm() != layers[0].Bootstrap.Super.Algorithm() {
			return nil, o, fmt.Errorf("%w: %s has chunks of %d bytes with %s, the others of %d with %s", errInconsistent, l.Name, s.ChunkSize, s.Algorithm(),
				o.ChunkSize, layers[0].Bootstrap.Super.Algorithm())
		}
	}
	im, err := image.Merge(m.parent == "" && len(layers) == 1, layers...)
	return im, o, err
}
