package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/image"
	"github.com/weft-dev/weft/image/chunk"
	"github.com/weft-dev/weft/image/rafs"
)

// nydusImageCommand answers as nydus-image does.
func nydusImageCommand(a *app) *cobra.Command {
	var log nydusLog
	options := log.options(false)
	root := &cobra.Command{
		Use: "nydus-image", Short: "Build, inspect and validate RAFS v6 file systems, answered by weft",
		Example:       "  nydus-image create -B image.boot -D blobs rootfs/\n  nydus-image check image.boot",
		SilenceErrors: true, SilenceUsage: true, PersistentPreRunE: log.begin(a, options), Version: version,
	}
	group(root)
	flags := root.PersistentFlags()
	options.add(flags)
	flags.BoolVar(&a.options.Quiet, "quiet", false, "no progress and no remarks")
	root.AddCommand(a.nydusCreateCommand(), a.nydusMergeCommand(), a.nydusCheckCommand(), a.nydusInspectCommand(), a.nydusStatCommand(), a.nydusUnpackCommand(),
		a.nydusExportCommand(),
		a.notAnswered("compact", "blobs are not written again to drop chunks that nobody needs", "nydus-image create --chunk-dict bootstrap=OLD.boot"),
		a.notAnswered("optimize", "no blob is made beside those of an image for what comes first", "nydus-image create --prefetch-policy fs"),
		a.notAnswered("chunkdict", "there is no database of chunks; any bootstrap serves as a dictionary", "nydus-image create --chunk-dict bootstrap=FILE"))
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

func (a *app) nydusCheckCommand() *cobra.Command {
	var bootstrap, blobDir, outputJSON string
	var verbose bool
	var backend nydusBackend
	c := &cobra.Command{
		Use:     "check [BOOTSTRAP]",
		Short:   "Validate a bootstrap",
		Example: "  nydus-image check image.boot",
		Args:    cobra.MaximumNArgs(1),
	}
	options := nydusOptions{
		bootstrapOption(&bootstrap, "bootstrap `file`, instead of the argument"), blobDirOption(&blobDir, "`folder` of the blobs"),
		{name: "verbose", short: "v", to: &verbose, usage: "list the files and their chunks"}, outputJSONOption(&outputJSON), backend.configOption(),
	}
	return a.nydusVerb(c, options, func(cmd *cobra.Command, args []string) error {
		blobs, err := backend.blobs(cmd.Context(), a, blobDir, "blob-dir")
		if err != nil {
			return err
		}
		o, err := openBootstrap(bootstrap, args, blobs)
		if err != nil {
			return fmt.Errorf("failed to check bootstrap: %w", err)
		}
		if verbose {
			if err := listInodes(a.out, o); err != nil {
				return err
			}
		}
		fmt.Fprintln(a.out, "RAFS filesystem metadata is valid, referenced data blobs: ")
		for i := range o.Blobs {
			b := &o.Blobs[i]
			fmt.Fprintf(a.out, "\t %d: %s, compressed size %d, uncompressed size %d, chunk size: %d, chunk count: %d, features: %s\n",
				i, b.ID, b.Size, b.Space, b.ChunkSize, b.ChunkCount, b.Features)
		}
		return newNydusOutput(o.Name, o.Blobs, o.Bootstrap.Super.Codec()).write(outputJSON, false)
	})
}

// listInodes is what check --verbose prints.
func listInodes(w io.Writer, o *image.Opened) error {
	for p, n := range o.Root.All() {
		fmt.Fprintf(w, "inode: /%s mode %o size %d uid %d gid %d chunks %d\n", p, n.Mode, n.Size, n.UID, n.GID, len(n.Chunks))
		for _, r := range n.Chunks {
			if r.Hole() {
				continue
			}
			c, err := o.Table.Chunk(r)
			if err != nil {
				return fmt.Errorf("/%s: %w", p, err)
			}
			fmt.Fprintf(w, "\t chunk: index %d blob_index %d compressed_offset %d compressed_size %d uncompressed_offset %d uncompressed_size %d id %s\n",
				c.Number, r.Device-1, c.At, c.Stored, c.Offset, c.Size, c.Digest)
		}
	}
	return nil
}

// openBootstrap opens a bootstrap that is named by a flag or an argument. Without blobs they lie beside it.
func openBootstrap(flag string, args []string, blobs image.Blobs) (*image.Opened, error) {
	name := flag
	if name == "" && len(args) > 0 {
		name = args[0]
	}
	if name == "" || flag != "" && len(args) > 0 {
		return nil, output.Usagef("name one bootstrap")
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
	var backend nydusBackend
	c := &cobra.Command{
		Use:     "unpack [BOOTSTRAP] --output FILE",
		Short:   "Unpack a RAFS file system to a tar file",
		Example: "  nydus-image unpack image.boot --blob-dir blobs --output rootfs.tar",
		Args:    cobra.MaximumNArgs(1),
	}
	options := append(nydusOptions{
		bootstrapOption(&bootstrap, "bootstrap `file`, instead of the argument"), blobDirOption(&blobDir, "`folder` of the blobs (default: that of the bootstrap)"),
		{name: "blob", short: "b", to: &blob, usage: "`file` of the only blob"}, {name: "output", to: &to, usage: "tar `file`; - is standard output"},
	}, backend.options()...)
	return a.nydusVerb(c, options, func(cmd *cobra.Command, args []string) error {
		switch {
		case to == "":
			return output.Usagef("--output is missing: the tar file")
		case blob != "" && (blobDir != "" || backend.kind != ""):
			return output.Usagef("--blob, --blob-dir and --backend-type exclude each other")
		}
		blobs, err := backend.blobs(cmd.Context(), a, blobDir, "blob-dir")
		if err != nil {
			return err
		}
		if blob != "" {
			blobs = image.BlobFile(blob)
		}
		o, err := openBootstrap(bootstrap, args, blobs)
		if err != nil {
			return err
		}
		return a.unpackTo(cmd.Context(), o, to)
	})
}

func (a *app) nydusExportCommand() *cobra.Command {
	var bootstrap, dir, to string
	var block bool
	var backend nydusBackend
	threads := 4
	c := &cobra.Command{
		Use:     "export --block -B BOOTSTRAP -D FOLDER",
		Short:   "Write a RAFS file system as one file that the kernel mounts",
		Example: "  nydus-image export --block -B image.boot -D blobs -O image.disk",
		Args:    cobra.NoArgs,
	}
	options := nydusOptions{
		{name: "block", to: &block, usage: "as a block device's content; needed"}, bootstrapOption(&bootstrap, "bootstrap `file`"),
		{name: "localfs-dir", short: "D", to: &dir, usage: "`folder` of the blobs"},
		{name: "output", short: "O", to: &to, usage: "`file` to write (default: the bootstrap's name with .disk, in the folder of the blobs)"},
		{name: "threads", to: &threads, usage: "from 1 to 32; one works, as fast as the disk"},
		{name: "verity", bare: true, refused: "data of dm-verity are not made: use veritysetup on the file"}, backend.configOption(),
	}
	return a.nydusVerb(c, options, func(cmd *cobra.Command, _ []string) error {
		switch {
		case !block || bootstrap == "" || dir == "" && backend.config == "":
			return output.Usagef("--block, --bootstrap and --localfs-dir or --config are needed")
		case to == "" && dir == "":
			return output.Usagef("--output is missing: the file to write")
		case threads < 1 || threads > 32:
			return output.Usagef("--threads %d: expected 1 to 32", threads)
		}
		blobs, err := backend.blobs(cmd.Context(), a, dir, "localfs-dir")
		if err != nil {
			return err
		}
		o, err := openBootstrap(bootstrap, nil, blobs)
		if err != nil {
			return err
		}
		if to == "" {
			to = filepath.Join(dir, strings.TrimSuffix(filepath.Base(bootstrap), filepath.Ext(bootstrap))+".disk")
		}
		return o.Export(cmd.Context(), to)
	})
}
