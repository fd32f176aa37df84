package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/image"
	"github.com/weft-dev/weft/image/chunk"
	"github.com/weft-dev/weft/image/rafs"
)

// nydusImageCommand answers as nydus-image does (dragonflyoss/nydus, src/bin/nydus-image/main.rs).
func nydusImageCommand(a *app) *cobra.Command {
	root := &cobra.Command{
		Use: "nydus-image", Short: "Build, inspect and validate RAFS v6 file systems, answered by weft",
		Example:       "  nydus-image create -B image.boot -D blobs rootfs/\n  nydus-image check image.boot",
		SilenceErrors: true, SilenceUsage: true, PersistentPreRun: a.begin, Version: version,
	}
	group(root)
	flags := root.PersistentFlags()
	flags.StringP("log-level", "l", "info", "accepted; progress goes to standard error as weft's does")
	flags.StringP("log-file", "L", "", "accepted; there is no log file")
	flags.BoolVar(&a.options.Quiet, "quiet", false, "no progress and no remarks")
	root.AddCommand(a.nydusCreateCommand(), a.nydusMergeCommand(), a.nydusCheckCommand(), a.nydusInspectCommand(), a.nydusStatCommand(), a.nydusUnpackCommand(),
		a.nydusExportCommand())
	root.SetOut(a.out)
	return root
}

// nydusOutput is what nydus-image writes with --output-json.
type nydusOutput struct {
	Version           string         `json:"version"`
	Bootstrap         string         `json:"bootstrap"`
	Blobs             []string       `json:"blobs"`
	ExternalBootstrap string         `json:"external_bootstrap"`
	ExternalBlobs     []string       `json:"external_blobs"`
	Trace             map[string]any `json:"trace"`
	FSVersion         string         `json:"fs_version"`
	Compressor        string         `json:"compressor"`
}

func newNydusOutput(bootstrap string, blobs []rafs.Blob, codec chunk.Codec) *nydusOutput {
	o := &nydusOutput{
		Version: "weft-" + version, Bootstrap: bootstrap, Blobs: []string{}, ExternalBlobs: []string{}, Trace: map[string]any{}, FSVersion: "6", Compressor: codec.String(),
	}
	for i := range blobs {
		o.Blobs = append(o.Blobs, blobs[i].ID)
	}
	return o
}

func (o *nydusOutput) write(name string, pretty bool) error {
	if name == "" {
		return nil
	}
	b, err := json.Marshal(o)
	if pretty {
		b, err = json.MarshalIndent(o, "", "  ")
	}
	if err != nil {
		return err
	}
	return os.WriteFile(name, b, 0o644)
}

// refuse makes options that are known and not answered here errors, when they are used.
func refuse(flags *pflag.FlagSet, why map[string]string) error {
	for name, reason := range why {
		if flags.Changed(name) {
			return output.Usagef("--%s is not answered here: %s", name, reason)
		}
	}
	return nil
}

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

func (a *app) nydusCheckCommand() *cobra.Command {
	var bootstrap, blobDir, outputJSON string
	var verbose bool
	c := &cobra.Command{
		Use:     "check [BOOTSTRAP]",
		Short:   "Validate a bootstrap",
		Example: "  nydus-image check image.boot",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := refuse(cmd.Flags(), map[string]string{"config": "name the blobs' folder with --blob-dir"}); err != nil {
				return err
			}
			o, err := openBootstrap(bootstrap, args, blobDir)
			if err != nil {
				return fmt.Errorf("failed to check bootstrap: %w", err)
			}
			if verbose {
				for p, n := range o.Root.All() {
					fmt.Fprintf(a.out, "inode: /%s mode %o size %d uid %d gid %d chunks %d\n", p, n.Mode, n.Size, n.UID, n.GID, len(n.Chunks))
				}
			}
			fmt.Fprintln(a.out, "RAFS filesystem metadata is valid, referenced data blobs: ")
			for i := range o.Blobs {
				b := &o.Blobs[i]
				fmt.Fprintf(a.out, "\t %d: %s, compressed size %d, uncompressed size %d, chunk size: 0x%x, chunk count: %d, features: %s\n",
					i, b.ID, b.Size, b.Space, b.ChunkSize, b.ChunkCount, b.Features)
			}
			return newNydusOutput(o.Name, o.Blobs, o.Bootstrap.Super.Codec()).write(outputJSON, false)
		},
	}
	f := c.Flags()
	f.StringVarP(&bootstrap, "bootstrap", "B", "", "bootstrap `file`")
	f.StringVarP(&blobDir, "blob-dir", "D", "", "`folder` of the blobs")
	f.BoolVarP(&verbose, "verbose", "v", false, "list the files")
	f.StringVarP(&outputJSON, "output-json", "J", "", "`file` for the result as JSON")
	f.StringP("config", "C", "", "not answered")
	return c
}

// openBootstrap opens a bootstrap that is named by a flag or an argument.
func openBootstrap(flag string, args []string, blobDir string) (*image.Opened, error) {
	name := flag
	if name == "" && len(args) > 0 {
		name = args[0]
	}
	if name == "" || flag != "" && len(args) > 0 {
		return nil, output.Usagef("name one bootstrap")
	}
	var blobs image.Blobs
	if blobDir != "" {
		blobs = image.BlobFolder(blobDir)
	}
	o, err := image.OpenPath(name, blobs)
	if err != nil {
		return nil, err
	}
	if o.Format != image.RAFS {
		return nil, fmt.Errorf("%s is %s: a bootstrap of RAFS v6 was expected", name, o.Format)
	}
	o.Name = name
	return o, nil
}

func (a *app) nydusUnpackCommand() *cobra.Command {
	var bootstrap, blobDir, blob, to string
	c := &cobra.Command{
		Use:     "unpack [BOOTSTRAP] --output FILE",
		Short:   "Unpack a RAFS file system to a tar file",
		Example: "  nydus-image unpack image.boot --blob-dir blobs --output rootfs.tar",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			err := refuse(cmd.Flags(), map[string]string{"backend-type": "only files", "backend-config": "only files", "backend-config-file": "only files"})
			if err != nil {
				return err
			}
			if to == "" {
				return output.Usagef("--output is missing: the tar file")
			}
			name := bootstrap
			if name == "" && len(args) > 0 {
				name = args[0]
			}
			if name == "" {
				return output.Usagef("name one bootstrap")
			}
			var blobs image.Blobs
			if blob != "" {
				blobs = image.BlobFile(blob)
			} else if blobDir != "" {
				blobs = image.BlobFolder(blobDir)
			}
			o, err := image.OpenPath(name, blobs)
			if err != nil {
				return err
			}
			return a.unpackTo(cmd.Context(), o, to)
		},
	}
	f := c.Flags()
	f.StringVarP(&bootstrap, "bootstrap", "B", "", "bootstrap `file`")
	f.StringVarP(&blobDir, "blob-dir", "D", "", "`folder` of the blobs")
	f.StringVarP(&blob, "blob", "b", "", "`file` of the only blob")
	f.StringVar(&to, "output", "", "tar `file`")
	for _, name := range []string{"backend-type", "backend-config", "backend-config-file"} {
		f.String(name, "", "not answered")
	}
	return c
}

func (a *app) nydusExportCommand() *cobra.Command {
	var bootstrap, dir, to string
	var block bool
	c := &cobra.Command{
		Use:     "export --block -B BOOTSTRAP -D FOLDER",
		Short:   "Write a RAFS file system as one file that the kernel mounts",
		Example: "  nydus-image export --block -B image.boot -D blobs -O image.disk",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := refuse(cmd.Flags(), map[string]string{"verity": "dm-verity data is not made", "config": "name the blobs' folder with --localfs-dir"})
			if err != nil {
				return err
			}
			if !block || bootstrap == "" || dir == "" {
				return output.Usagef("--block, --bootstrap and --localfs-dir are needed")
			}
			o, err := openBootstrap(bootstrap, nil, dir)
			if err != nil {
				return err
			}
			if to == "" {
				to = filepath.Join(dir, strings.TrimSuffix(filepath.Base(bootstrap), filepath.Ext(bootstrap))+".disk")
			}
			return o.Export(cmd.Context(), to)
		},
	}
	f := c.Flags()
	f.BoolVar(&block, "block", false, "as a block device's content")
	f.StringVarP(&bootstrap, "bootstrap", "B", "", "bootstrap `file`")
	f.StringVarP(&dir, "localfs-dir", "D", "", "`folder` of the blobs")
	f.StringVarP(&to, "output", "O", "", "`file` to write")
	f.Int("threads", 4, "accepted")
	f.Bool("verity", false, "not answered")
	f.StringP("config", "C", "", "not answered")
	return c
}
