package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

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
