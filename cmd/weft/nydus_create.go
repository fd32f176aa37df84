package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/image"
	"github.com/weft-dev/weft/image/chunk"
	"github.com/weft-dev/weft/image/rafs"
)

// nydusCreate are the options of create.
type nydusCreate struct {
	kind, bootstrap, blobDir, blob, blobID                string
	compressor, digester, version, features, dict, parent string
	whiteouts, prefetchPolicy, outputJSON                 string
	chunkSize, batchSize                                  size
	inline, repeatable                                    bool
	backend                                               nydusBackend
	blobs                                                 image.Blobs // of dictionary and parent
}

func (n *nydusCreate) options() nydusOptions {
	n.kind, n.whiteouts = "dir-rafs", "oci"
	const noExternal = "content that lies in files of others is not referred to: build with all of it"
	return nydusOptions{
		{
			name: "type", short: "t", aliases: []string{"source-type"}, to: &n.kind,
			oneOf: []string{"directory", "dir-rafs", "estargz-rafs", "estargz-ref", "estargztoc-ref", "tar-rafs", "tar-tarfs", "targz-rafs", "targz-ref", "stargz_index"},
			usage: "dir-rafs (directory), tar-rafs, targz-rafs or estargz-rafs; a tar file may be plain, gzip or zstd with each. *-ref, tar-tarfs and stargz_index are refused",
		},
		bootstrapOption(&n.bootstrap, "`file` for the bootstrap"), blobDirOption(&n.blobDir, "`folder` for bootstrap and blob, named by their digests"),
		{name: "blob", short: "b", to: &n.blob, usage: "`file` for the blob; it may be a named pipe"},
		{name: "blob-inline-meta", aliases: []string{"inline-bootstrap"}, to: &n.inline, usage: "put the bootstrap into the blob"},
		{name: "blob-id", to: &n.blobID, usage: "`name` of the blob instead of its digest, at most 64 characters"},
		chunkSizeOption("chunk-size", &n.chunkSize), batchSizeOption(&n.batchSize), compressorOption(&n.compressor),
		digesterOption(&n.digester, "blake3 or sha256"), versionOption("v", &n.version),
		{name: "features", to: &n.features, oneOf: []string{"blob-toc"}, usage: "blob-toc: digests and a table of contents in the blob"},
		{name: "chunk-dict", to: &n.dict, usage: "[bootstrap=]`file`: a bootstrap whose chunks are not stored again"},
		parentOption(&n.parent),
		{name: "repeatable", to: &n.repeatable, usage: "leave out owners; all else is the same each time anyhow"},
		{name: "whiteout-spec", to: &n.whiteouts, oneOf: []string{"oci", "overlayfs", "none"}, usage: "oci, overlayfs or none"},
		prefetchPolicyOption(&n.prefetchPolicy), outputJSONOption(&n.outputJSON),
		{name: "aligned-chunk", bare: true, accepted: "chunks of RAFS v6 always begin on blocks"},
		{name: "disable-check", bare: true, accepted: "what was written is not read again"},
		{name: "encrypt", short: "E", bare: true, refused: "images are not encrypted: keep them in a registry that asks for credentials"},
		{name: "external-blob", refused: noExternal}, {name: "attributes", refused: noExternal},
		{name: "blob-cache-dir", refused: "caches are filled by \"weft image mount\" and by the snapshotter"},
		{name: "blob-offset", initial: "0", refused: "a blob begins at the start of its file"},
		{name: "blob-data-size", refused: "it belongs to --type stargz_index, which is not made"},
		n.backend.configOption(),
	}
}

func (a *app) nydusCreateCommand() *cobra.Command {
	var n nydusCreate
	c := &cobra.Command{
		Use:     "create SOURCE",
		Short:   "Create a RAFS v6 file system from a folder or tar file",
		Example: "  nydus-image create -B image.boot -D blobs rootfs/\n  nydus-image create --type targz-rafs --blob-inline-meta --blob layer.nydus layer.tar.gz",
		Args:    cobra.ExactArgs(1),
	}
	return a.nydusVerb(c, n.options(), func(cmd *cobra.Command, args []string) error { return a.nydusCreate(cmd.Context(), &n, args[0]) })
}

func (n *nydusCreate) check() error {
	switch n.kind {
	case "dir-rafs", "directory", "tar-rafs", "targz-rafs", "estargz-rafs":
	default:
		return output.Usagef("--type %s: indexes over other formats are not made here; expected dir-rafs, tar-rafs, targz-rafs or estargz-rafs", n.kind)
	}
	switch {
	case n.version != "6":
		return output.Usagef("--fs-version %s: only 6 is written here", n.version)
	case n.inline && n.bootstrap != "":
		return output.Usagef("--bootstrap and --blob-inline-meta exclude each other")
	case n.inline && n.blobID != "":
		return output.Usagef("--blob-id and --blob-inline-meta exclude each other")
	case !n.inline && n.bootstrap == "" && n.blobDir == "":
		return output.Usagef("--bootstrap or --blob-dir is missing: where the bootstrap goes")
	case n.blob == "" && n.blobDir == "":
		return output.Usagef("--blob or --blob-dir is missing: where the blob goes")
	case len(n.blobID) > 64:
		return output.Usagef("--blob-id %s: at most 64 characters fit", n.blobID)
	}
	return checkBatch(n.batchSize, n.chunkSize)
}

// checkBatch looks at the size of batches, beside that of chunks (0: the default).
func checkBatch(batch, size size) error {
	if size == 0 {
		size = rafs.DefaultChunkSize
	}
	switch {
	case batch == 0:
	case batch < chunk.MinSize || batch&(batch-1) != 0:
		return output.Usagef("--batch-size %d: expected 0 or a power of two from 0x1000 on", batch)
	case batch > size:
		return output.Usagef("--batch-size %d is larger than chunks, which have %d bytes", batch, size)
	}
	return nil
}

func (a *app) nydusCreate(ctx context.Context, n *nydusCreate, source string) error {
	began := time.Now()
	if err := n.check(); err != nil {
		return err
	}
	f := imageFlags{format: "nydus", compressor: n.compressor, digester: n.digester, whiteouts: n.whiteouts, chunkSize: n.chunkSize, batch: n.batchSize}
	o, err := f.options(ctx, a)
	if err != nil {
		return err
	}
	if n.blobs, err = n.backend.blobs(ctx, a, "", ""); err != nil {
		return err
	}
	o.NoOwners, o.TOC, o.InBlob = n.repeatable, n.features == "blob-toc", n.inline
	if n.compressor == "none" && o.Batch > 0 {
		o.Batch = 0 // nothing is won by it
	}
	if n.prefetchPolicy != "none" {
		if o.Prefetch, err = a.prefetchList("-"); err != nil {
			return err
		}
	}
	if n.dict != "" {
		d, err := openDictionary(n.dict, n.blobs)
		if err != nil {
			return err
		}
		o.Dicts = append(o.Dicts, d)
	}
	st, err := os.Stat(source)
	if err != nil {
		return err
	}
	if isDir := n.kind == "dir-rafs" || n.kind == "directory"; isDir != st.IsDir() {
		return output.Usagef("%s: for --type %s a %s was expected", source, n.kind, map[bool]string{true: "folder", false: "tar file"}[isDir])
	}
	from := image.Source(image.TarFile(source))
	switch {
	case st.IsDir():
		from = image.Folder(source)
	case !st.Mode().IsRegular():
		from = image.Stream(image.TarFile(source)) // a pipe
	}
	made, err := n.build(ctx, o, from)
	if err != nil {
		return fmt.Errorf("build failed: %w", err)
	}
	made.Trace["consumed_time"] = map[string]float64{"total_build": time.Since(began).Seconds()}
	a.print().Remark("successfully built RAFS filesystem: \nmeta blob path: %s\ndata blobs: %q", made.Bootstrap, made.Blobs)
	return made.write(n.outputJSON, true)
}

func (n *nydusCreate) build(ctx context.Context, o image.Options, from image.Source) (*nydusOutput, error) {
	out := chunk.Output(chunk.Folder(n.blobDir))
	if n.blob != "" {
		out = blobFile{n.blob, n.blobID}
	}
	packed, err := image.Pack(ctx, out, o, from)
	if err != nil {
		return nil, err
	}
	if n.blobID != "" {
		for i := range packed.Own {
			packed.Blobs[packed.Own[i]].ID = n.blobID
		}
	}
	bootstrap := ""
	if !n.inline {
		im := &packed.Image
		if n.parent != "" {
			if im, err = onParent(n.parent, packed, n.blobs); err != nil {
				return nil, err
			}
		}
		if bootstrap, err = n.writeBootstrap(im, o); err != nil {
			return nil, err
		}
		packed.Image = *im
	}
	made := newNydusOutput(bootstrap, packed.Blobs, o.Codec)
	s := packed.Stats
	made.Trace["registered_events"] = map[string]string{
		"blob_uncompressed_size": fmt.Sprint(s.Decoded), "dedup_chunks": fmt.Sprint(s.AgainChunks + s.KnownChunks), "dedup_uncompressed_size": fmt.Sprint(s.AgainBytes + s.KnownBytes),
		"euid": fmt.Sprint(os.Geteuid()), "egid": fmt.Sprint(os.Getegid()),
	}
	return made, nil
}

// writeBootstrap writes the bootstrap to its file, or into the folder under its digest.
func (n *nydusCreate) writeBootstrap(im *image.Image, o image.Options) (string, error) {
	if n.bootstrap != "" {
		_, err := im.WriteFile(n.bootstrap, o)
		return n.bootstrap, err
	}
	return bootstrapInFolder(n.blobDir, im, o)
}

func bootstrapInFolder(dir string, im *image.Image, o image.Options) (string, error) {
	tmp := filepath.Join(dir, ".bootstrap")
	if _, err := im.WriteFile(tmp, o); err != nil {
		return "", err
	}
	f, err := os.Open(tmp)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	name := filepath.Join(dir, hex.EncodeToString(h.Sum(nil)))
	return name, os.Rename(tmp, name)
}

// onParent puts a layer on the layers of a bootstrap.
func onParent(name string, packed *image.Packed, blobs image.Blobs) (*image.Image, error) {
	parent, err := image.OpenPath(name, blobs)
	if err != nil {
		return nil, fmt.Errorf("the parent: %w", err)
	}
	return image.Merge(false, parent, &image.Opened{Image: packed.Image, Name: "the new layer", Bootstrap: parent.Bootstrap})
}

func openDictionary(arg string, blobs image.Blobs) (*image.Opened, error) {
	kind, name, ok := strings.Cut(arg, "=")
	if !ok {
		kind, name = "bootstrap", arg
	}
	if kind != "bootstrap" {
		return nil, output.Usagef("--chunk-dict %s: expected bootstrap=FILE", arg)
	}
	d, err := image.OpenPath(name, blobs)
	if err != nil {
		return nil, fmt.Errorf("the chunk dictionary: %w", err)
	}
	return d, nil
}

// blobFile writes the only blob to a file, which may be a named pipe.
type blobFile struct{ name, id string }

// Create begins the blob.
func (b blobFile) Create() (chunk.Blob, error) {
	f, err := os.OpenFile(b.name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return nil, err
	}
	return &openBlobFile{chunk.NewHashed(f), f}, nil
}

type openBlobFile struct {
	*chunk.Hashed
	file *os.File
}

// Commit ends it.
func (b *openBlobFile) Commit(d *chunk.Device) error {
	d.Blob, d.Size = b.Sum(), b.N
	return b.file.Close()
}

// Abort leaves what was written: it may be a pipe.
func (b *openBlobFile) Abort() { b.file.Close() }
