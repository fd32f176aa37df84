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
)

// nydusCreate are the options of create.
type nydusCreate struct {
	kind, bootstrap, blobDir, blob, blobID                string
	compressor, digester, version, features, dict, parent string
	whiteouts, prefetchPolicy, outputJSON                 string
	chunkSize, batchSize                                  size
	inline, repeatable, alignedChunk, disableCheck        bool
}

func (a *app) nydusCreateCommand() *cobra.Command {
	var n nydusCreate
	c := &cobra.Command{
		Use:     "create SOURCE",
		Short:   "Create a RAFS v6 file system from a folder or tar file",
		Example: "  nydus-image create -B image.boot -D blobs rootfs/\n  nydus-image create --type targz-rafs --blob-inline-meta --blob layer.nydus layer.tar.gz",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			err := refuse(cmd.Flags(), map[string]string{
				"encrypt": "images are not encrypted yet", "external-blob": "external blobs are not written", "attributes": "external blobs are not written",
				"blob-cache-dir": "caches are filled by the snapshotter", "blob-offset": "blobs begin at 0", "blob-data-size": "it belongs to estargztoc-ref",
				"config": "backends are not needed to build",
			})
			if err != nil {
				return err
			}
			return a.nydusCreate(cmd.Context(), &n, args[0])
		},
	}
	f := c.Flags()
	f.StringVarP(&n.kind, "type", "t", "dir-rafs", "`conversion`: dir-rafs (directory), tar-rafs, targz-rafs, estargz-rafs")
	f.StringVar(&n.kind, "source-type", "dir-rafs", "the same as --type")
	f.StringVarP(&n.bootstrap, "bootstrap", "B", "", "`file` for the bootstrap")
	f.StringVarP(&n.blobDir, "blob-dir", "D", "", "`folder` for bootstrap and blob, named by their digests")
	f.StringVarP(&n.blob, "blob", "b", "", "`file` for the blob; it may be a named pipe")
	f.BoolVar(&n.inline, "blob-inline-meta", false, "put the bootstrap into the blob")
	f.BoolVar(&n.inline, "inline-bootstrap", false, "the same as --blob-inline-meta")
	f.StringVar(&n.blobID, "blob-id", "", "`name` of the blob instead of its digest")
	f.Var(&n.chunkSize, "chunk-size", "`size` of chunks, a power of two from 0x1000 to 0x1000000 (default 0x100000)")
	f.Var(&n.batchSize, "batch-size", "`size` to which small chunks are put together; 0 for never")
	f.StringVar(&n.compressor, "compressor", "zstd", "none, lz4_block or zstd")
	f.StringVar(&n.digester, "digester", "blake3", "blake3 or sha256")
	f.StringVarP(&n.version, "fs-version", "v", "6", "`version` of RAFS: 6")
	f.StringVar(&n.features, "features", "", "blob-toc: digests and a table of contents in the blob")
	f.StringVar(&n.dict, "chunk-dict", "", "[bootstrap=]`file`: a bootstrap whose chunks are not stored again")
	f.StringVar(&n.parent, "parent-bootstrap", "", "bootstrap `file` of the layers below")
	f.BoolVar(&n.alignedChunk, "aligned-chunk", false, "accepted: chunks always begin on blocks")
	f.BoolVar(&n.repeatable, "repeatable", false, "leave out owners")
	f.BoolVar(&n.disableCheck, "disable-check", false, "accepted: what was written is not read again")
	f.StringVar(&n.whiteouts, "whiteout-spec", "oci", "oci, overlayfs or none")
	f.StringVar(&n.prefetchPolicy, "prefetch-policy", "none", "fs, blob or none; the list of paths is read from standard input")
	f.StringVarP(&n.outputJSON, "output-json", "J", "", "`file` for the result as JSON")
	f.BoolP("encrypt", "E", false, "not answered")
	for _, name := range []string{"external-blob", "attributes", "blob-cache-dir", "blob-offset", "blob-data-size"} {
		f.String(name, "", "not answered")
	}
	f.StringP("config", "C", "", "not answered")
	return c
}

func (n *nydusCreate) check() error {
	switch n.kind {
	case "dir-rafs", "directory", "tar-rafs", "targz-rafs", "estargz-rafs":
	case "estargz-ref", "estargztoc-ref", "tar-tarfs", "targz-ref", "stargz_index":
		return output.Usagef("--type %s: indexes over other formats are not made here; expected dir-rafs, tar-rafs, targz-rafs or estargz-rafs", n.kind)
	default:
		return output.Usagef("--type %s: expected dir-rafs, tar-rafs, targz-rafs or estargz-rafs", n.kind)
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
	case n.features != "" && n.features != "blob-toc":
		return output.Usagef("--features %s: expected blob-toc", n.features)
	case n.prefetchPolicy != "none" && n.prefetchPolicy != "fs" && n.prefetchPolicy != "blob":
		return output.Usagef("--prefetch-policy %s: expected fs, blob or none", n.prefetchPolicy)
	case n.batchSize > 0 && n.chunkSize > 0 && n.batchSize > n.chunkSize:
		return output.Usagef("--batch-size %d is larger than --chunk-size %d", n.batchSize, n.chunkSize)
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
		d, err := openDictionary(n.dict)
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
	if st.IsDir() {
		from = image.Folder(source)
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
			if im, err = onParent(n.parent, packed); err != nil {
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
func onParent(name string, packed *image.Packed) (*image.Image, error) {
	parent, err := image.OpenPath(name, nil)
	if err != nil {
		return nil, fmt.Errorf("the parent: %w", err)
	}
	return image.Merge(false, parent, &image.Opened{Image: packed.Image, Name: "the new layer", Bootstrap: parent.Bootstrap})
}

func openDictionary(arg string) (*image.Opened, error) {
	kind, name, ok := strings.Cut(arg, "=")
	if !ok {
		kind, name = "bootstrap", arg
	}
	if kind != "bootstrap" {
		return nil, output.Usagef("--chunk-dict %s: expected bootstrap=FILE", arg)
	}
	d, err := image.OpenPath(name, nil)
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
