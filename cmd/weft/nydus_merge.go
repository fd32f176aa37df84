package main

import (
	"context"
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

// nydusMerge is a merge of bootstraps, with what the caller knows about their blobs.
type nydusMerge struct {
	names                                                []string
	bootstrap, blobDir, parent, dict, policy, outputJSON string
	digests, originals, sizes, tocDigests, tocSizes      string
	backend                                              nydusBackend
}

func (m *nydusMerge) options() nydusOptions {
	list := func(name, what string, to *string) nydusOption {
		return nydusOption{name: name, to: to, usage: what + " of the layers' own blobs, in their order, with commas"}
	}
	return nydusOptions{
		bootstrapOption(&m.bootstrap, "`file` for the bootstrap"), blobDirOption(&m.blobDir, "`folder` for the bootstrap, named by its digest"), parentOption(&m.parent),
		{name: "chunk-dict", to: &m.dict, usage: "[bootstrap=]`file`: the dictionary with which the layers were built; its blobs are none of their own"},
		prefetchPolicyOption(&m.policy), outputJSONOption(&m.outputJSON),
		list("original-blob-ids", "names", &m.originals), list("blob-digests", "digests, which go before names,", &m.digests), list("blob-sizes", "sizes", &m.sizes),
		list("blob-toc-digests", "digests of the tables of contents", &m.tocDigests), list("blob-toc-sizes", "sizes of the tables of contents", &m.tocSizes),
		m.backend.configOption(),
	}
}

func (a *app) nydusMergeCommand() *cobra.Command {
	var m nydusMerge
	c := &cobra.Command{
		Use:     "merge SOURCE...",
		Short:   "Merge the bootstraps of layers, the lowest first, into one",
		Example: "  nydus-image merge -B image.boot layer1.boot layer2.boot",
		Args:    cobra.MinimumNArgs(1),
	}
	return a.nydusVerb(c, m.options(), func(cmd *cobra.Command, args []string) error {
		m.names = args
		return a.nydusMerge(cmd.Context(), &m)
	})
}

func (a *app) nydusMerge(ctx context.Context, m *nydusMerge) error {
	if m.bootstrap == "" && m.blobDir == "" {
		return output.Usagef("--bootstrap or --blob-dir is missing: where the bootstrap goes")
	}
	var prefetch []string
	var err error
	if m.policy != "none" {
		if prefetch, err = a.prefetchList("-"); err != nil {
			return err
		}
	}
	blobs, err := m.backend.blobs(ctx, a, "", "")
	if err != nil {
		return err
	}
	im, o, err := m.merge(blobs)
	if err != nil {
		return err
	}
	o.Prefetch = prefetch
	name := m.bootstrap
	if name != "" {
		_, err = im.WriteFile(name, o)
	} else {
		name, err = bootstrapInFolder(m.blobDir, im, o)
	}
	if err != nil {
		return err
	}
	return newNydusOutput(name, im.Blobs, o.Codec).write(m.outputJSON, true)
}

func (m *nydusMerge) merge(blobs image.Blobs) (*image.Image, image.Options, error) {
	var o image.Options
	var layers []*image.Opened
	names := m.names
	if m.parent != "" {
		names = append([]string{m.parent}, names...)
	}
	for _, name := range names {
		l, err := image.OpenPath(name, blobs)
		if err != nil {
			return nil, o, err
		}
		if l.Format != image.RAFS {
			return nil, o, fmt.Errorf("%s is %s: bootstraps of RAFS v6 were expected", name, l.Format)
		}
		layers = append(layers, l)
	}
	if err := m.describe(blobs, layers[len(names)-len(m.names):]); err != nil {
		return nil, o, err
	}
	o = image.Options{Format: image.RAFS, ChunkSize: int(layers[0].Bootstrap.Super.ChunkSize), Codec: layers[0].Bootstrap.Super.Codec()}
	for _, l := range layers {
		if s := l.Bootstrap.Super; int(s.ChunkSize) != o.ChunkSize || s.Algorithm() != layers[0].Bootstrap.Super.Algorithm() {
			return nil, o, errors.Join(fmt.Errorf("the bootstraps do not go together: %s has chunks of %d bytes with %s, the others of %d with %s", l.Name, s.ChunkSize,
				s.Algorithm(), o.ChunkSize, layers[0].Bootstrap.Super.Algorithm()), output.Exit{Code: 2}) // as nydus-image ends for this alone
		}
	}
	if len(layers) > 1 {
		for _, l := range layers {
			l.Root.TakeNames()
		}
	}
	im, err := image.Merge(m.parent == "" && len(layers) == 1, layers...)
	return im, o, err
}

// describe gives the layers' own blobs what the caller knows about them.
func (m *nydusMerge) describe(blobs image.Blobs, layers []*image.Opened) error {
	if m.dict != "" {
		dict, err := openDictionary(m.dict, blobs)
		if err != nil {
			return err
		}
		for _, l := range layers {
			l.NotOwn(dict.Blobs)
		}
	}
	for _, list := range []struct {
		option, values string
		set            func(b *rafs.Blob, v string) error
	}{
		{"original-blob-ids", m.originals, func(b *rafs.Blob, v string) error { b.ID = v; return nil }},
		{"blob-digests", m.digests, func(b *rafs.Blob, v string) error { b.ID = v; _, err := sha256Of(v); return err }},
		{"blob-sizes", m.sizes, func(b *rafs.Blob, v string) (err error) { b.Size, err = strconv.ParseUint(v, 10, 64); return }},
		{"blob-toc-digests", m.tocDigests, func(b *rafs.Blob, v string) (err error) { b.TOCDigest, err = sha256Of(v); return }},
		{"blob-toc-sizes", m.tocSizes, func(b *rafs.Blob, v string) error {
			n, err := strconv.ParseUint(v, 10, 32)
			b.TOCSize = uint32(n)
			return err
		}},
	} {
		if list.values == "" {
			continue
		}
		values := strings.Split(list.values, ",")
		if len(values) != len(layers) {
			return output.Usagef("--%s has %d values for %d bootstraps", list.option, len(values), len(layers))
		}
		for i, v := range values {
			if err := layers[i].SetBlob(strings.TrimSpace(v), list.set); err != nil {
				return output.Usagef("--%s: %q for %s: %w", list.option, v, m.names[i], err)
			}
		}
	}
	for i, l := range layers {
		l.NameBlobAfter(m.names[i])
	}
	return nil
}

// sha256Of reads a digest in hexadecimal.
func sha256Of(text string) (digest [32]byte, err error) {
	raw, err := hex.DecodeString(text)
	if err == nil && len(raw) != len(digest) {
		err = fmt.Errorf("it has %d bytes instead of %d", len(raw), len(digest))
	}
	if err == nil {
		digest = [32]byte(raw)
	}
	return digest, err
}
