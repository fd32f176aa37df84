package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/image"
	"github.com/weft-dev/weft/image/chunk"
	"github.com/weft-dev/weft/image/tree"
	"github.com/weft-dev/weft/registry"
)

const imageNames = `An image is a folder or file on the disk, or a name: [HOST/]NAME[:TAG][@DIGEST] in a registry, oci:FOLDER[:TAG] (OCI image layout),
oci-archive:FILE[:TAG] (a tar file of one), docker-archive:FILE (what "docker save" writes).`

// imageCommand is the noun image.
func (a *app) imageCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "image",
		Short: "Make, convert, check and mount images that start before they are downloaded",
		Long: `Make, convert, check and mount images of EROFS, which the kernel mounts without a daemon, and of Nydus's RAFS v6.

` + imageNames,
		Example: `  weft image build rootfs/ --to app.image
  weft image convert registry.example.com/team/app:v1
  weft image check registry.example.com/team/app:v1 --source registry.example.com/team/app:v1`,
	}
	group(c)
	c.AddCommand(a.imageBuildCommand(), a.imageConvertCommand(), a.imageCheckCommand(), a.imageMergeCommand(), a.imageInspectCommand(), a.imageStatCommand(),
		a.imageUnpackCommand(), a.imageMountCommand())
	return c
}

// size is a flag of bytes: 65536, 0x10000, 64K, 64KiB.
type size int64

func (s *size) String() string { return strconv.FormatInt(int64(*s), 10) }
func (s *size) Type() string   { return "size" }

// Set reads a size.
func (s *size) Set(text string) error {
	t := strings.TrimSuffix(strings.TrimSuffix(strings.ToUpper(strings.TrimSpace(text)), "B"), "I")
	unit := int64(1)
	if !strings.HasPrefix(t, "0X") {
		for i, suffix := range []string{"K", "M", "G"} {
			if rest, ok := strings.CutSuffix(t, suffix); ok {
				t, unit = rest, 1<<(10*(i+1))
			}
		}
	}
	n, err := strconv.ParseInt(strings.ToLower(t), 0, 64)
	if err != nil || n < 0 || n > 1<<50/unit {
		return fmt.Errorf("%q is no size: expected bytes, such as 65536, 0x10000 or 64K", text)
	}
	*s = size(n * unit)
	return nil
}

// imageFlags are the flags of verbs that make images.
type imageFlags struct {
	format, compressor, digester, whiteouts, prefetch string
	chunkSize, batch, stripe, inline                  size
	level, jobs                                       int
	dicts                                             []string
}

func (f *imageFlags) add(flags *pflag.FlagSet, compressor string) {
	f.inline = 512
	flags.StringVar(&f.format, "format", "erofs", "`form` of the image: erofs, or nydus for RAFS v6")
	flags.StringVar(&f.compressor, "compressor", compressor, "how chunks are compressed: none, zstd or lz4_block")
	flags.IntVar(&f.level, "level", 0, "level of zstd, from 1 to 22 (default 3)")
	flags.StringVar(&f.digester, "digester", "blake3", "digest of chunks: blake3 or sha256")
	flags.Var(&f.chunkSize, "chunk-size", "`size` of chunks, a power of two from 4K to 16M (default 64K, for nydus 1M)")
	flags.Var(&f.batch, "batch-size", "compress small chunks together until they have this `size` (default: each alone)")
	flags.Var(&f.stripe, "stripe", "decoded `size` after which a new blob begins (default 64M, for nydus never)")
	flags.Var(&f.inline, "inline", "files up to this `size` lie in the metadata of EROFS")
	flags.StringVar(&f.prefetch, "prefetch", "", "`file` with paths, one in each line, whose content is to come first (- is standard input)")
	flags.StringArrayVar(&f.dicts, "chunk-dict", nil, "`image` whose chunks are not stored again; may be given several times")
	flags.IntVar(&f.jobs, "jobs", 0, "`number` of chunks to work on at a time (default: one for each processor)")
}

// options checks the flags.
func (f *imageFlags) options(ctx context.Context, a *app) (image.Options, error) {
	o := image.Options{ChunkSize: int(f.chunkSize), Batch: int(f.batch), Stripe: int64(f.stripe), Inline: int(f.inline), Level: f.level, Jobs: f.jobs}
	if f.inline == 0 {
		o.Inline = -1
	}
	switch f.format {
	case "erofs":
		o.Format = image.EROFS
	case "nydus", "rafs":
		o.Format = image.RAFS
	default:
		return o, output.Usagef("--format %s: expected erofs or nydus", f.format)
	}
	var ok bool
	if o.Codec, ok = chunk.Codecs[f.compressor]; !ok {
		return o, output.Usagef("--compressor %s: expected none, zstd or lz4_block", f.compressor)
	}
	if o.Algorithm, ok = chunk.Algorithms[f.digester]; !ok {
		return o, output.Usagef("--digester %s: expected blake3 or sha256", f.digester)
	}
	if f.level < 0 || f.level > 22 {
		return o, output.Usagef("--level %d: expected 1 to 22", f.level)
	}
	if n := f.chunkSize; n != 0 && (n < chunk.MinSize || n > chunk.MaxSize || n&(n-1) != 0) {
		return o, output.Usagef("--chunk-size %d: expected a power of two from 4096 to %d", n, chunk.MaxSize)
	}
	switch w := tree.Whiteouts(f.whiteouts); w {
	case "", tree.OCI, tree.Overlayfs, tree.Keep:
		o.Whiteouts = w
	default:
		return o, output.Usagef("--whiteouts %s: expected oci, overlayfs or none", f.whiteouts)
	}
	var err error
	if f.prefetch != "" {
		if o.Prefetch, err = a.prefetchList(f.prefetch); err != nil {
			return o, err
		}
	}
	for _, name := range f.dicts {
		d, err := a.openImage(ctx, name)
		if err != nil {
			return o, fmt.Errorf("the chunk dictionary: %w", err)
		}
		o.Dicts = append(o.Dicts, d.Opened)
	}
	p := a.print()
	o.Skipped = func(path, why string) { p.Warn("/%s: %s", path, why) }
	return o, nil
}

func (a *app) prefetchList(name string) ([]string, error) {
	in := a.in
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	paths, err := image.PrefetchList(in)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return paths, nil
}

// imageClient is the client for images in registries.
func (a *app) imageClient() *registry.Client {
	return registry.New(registry.Options{Keychain: registry.DockerCredentials(a.getenv("DOCKER_CONFIG"))})
}

// openImage opens an image on the disk or under a name.
func (a *app) openImage(ctx context.Context, name string) (*image.Found, error) {
	if _, err := os.Stat(name); err == nil {
		o, err := image.OpenPath(name, nil)
		return &image.Found{Opened: o}, err
	}
	place, err := a.imagePlace(name, false)
	if err != nil {
		return nil, err
	}
	return image.OpenImage(ctx, place, name, &ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH})
}

func (a *app) imagePlace(name string, fresh bool) (image.Place, error) {
	p, err := image.OpenPlace(a.imageClient(), name, "", fresh)
	var usage *output.UsageError
	if err != nil && !errors.As(err, &usage) && !strings.Contains(name, "archive:") {
		return nil, output.Usagef("%s is neither on the disk nor the name of an image: %w", name, err)
	}
	return p, err
}

// source is a folder, a tar file or an image as something to make or compare images with.
func (a *app) source(ctx context.Context, name string) ([]image.Source, error) {
	st, err := os.Stat(name)
	switch {
	case err == nil && st.IsDir():
		return []image.Source{image.Folder(name)}, nil
	case err == nil:
		return []image.Source{image.TarFile(name)}, nil
	case name == "-":
		return []image.Source{image.Tar(func() (io.ReadCloser, error) { return io.NopCloser(a.in), nil })}, nil
	}
	place, err := a.imagePlace(name, false)
	if err != nil {
		return nil, err
	}
	return image.Layers(ctx, place, &ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH})
}

func (a *app) imageBuildCommand() *cobra.Command {
	var f imageFlags
	var to string
	c := &cobra.Command{
		Use:   "build SOURCE... --to FOLDER",
		Short: "Make an image of a folder, of tar files or of an image's layers",
		Long: `Make an image of a folder or of layers, the lowest first: folders, tar files (as they are, gzip or zstd), - for tar on standard input, or images. The
target folder gets the metadata and, named by their digests, blobs of chunks, each chunk once.

The image of one layer keeps its whiteouts, so that it can be merged or mounted over others; of several layers they are applied.`,
		Example: `  weft image build rootfs/ --to app.image
  weft image build base.tar.gz app.tar --to app.image --compressor zstd
  weft image build rootfs/ --to next.image --chunk-dict app.image --prefetch startup.txt`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if to == "" {
				return output.Usagef("--to is missing: the folder that takes the image")
			}
			o, err := f.options(cmd.Context(), a)
			if err != nil {
				return err
			}
			var sources []image.Source
			for _, name := range args {
				s, err := a.source(cmd.Context(), name)
				if err != nil {
					return err
				}
				sources = append(sources, s...)
			}
			built, err := a.imageBuild(cmd.Context(), to, o, sources)
			if err != nil {
				return err
			}
			return a.print().Result(built, func(p *output.Page) { builtPage(p, built) })
		},
	}
	f.add(c.Flags(), "none")
	c.Flags().StringVar(&to, "to", "", "`folder` that takes the image")
	c.Flags().StringVar(&f.whiteouts, "whiteouts", "oci", "how layers mark what they delete: oci, overlayfs or none")
	return c
}

func (a *app) imageBuild(ctx context.Context, to string, o image.Options, sources []image.Source) (*image.Built, error) {
	progress := a.print().Progress()
	defer progress.Close()
	item := progress.Start("image")
	done := int64(0)
	o.Progress = func(n int64) {
		done += n
		item.Count(done, 0)
	}
	built, err := image.Build(ctx, to, o, sources...)
	if err != nil {
		item.Fail("")
		return nil, err
	}
	item.Done(output.Bytes(built.Stats.Bytes + built.Stats.Holes))
	return built, nil
}

func builtPage(p *output.Page, b *image.Built) {
	s := b.Stats
	p.Line("%s: %s of metadata, %d blobs", b.Metadata, output.Bytes(b.Size), len(b.Blobs))
	p.Table(nil, [][]output.Cell{
		output.Row("files", output.Bytes(s.Bytes+s.Holes), fmt.Sprintf("%d chunks", s.Chunks)),
		output.Row("holes", output.Bytes(s.Holes), ""),
		output.Row("in dictionaries", output.Bytes(s.KnownBytes), fmt.Sprintf("%d chunks", s.KnownChunks)),
		output.Row("there already", output.Bytes(s.AgainBytes), fmt.Sprintf("%d chunks", s.AgainChunks)),
		output.Row("written", output.Bytes(s.Decoded), fmt.Sprintf("%d chunks, %s as stored", s.Written, output.Bytes(s.Stored))),
	})
}

func (a *app) imageMergeCommand() *cobra.Command {
	var to string
	var keep bool
	c := &cobra.Command{
		Use:     "merge LAYER... --to FILE",
		Short:   "Make one image of images of layers, the lowest first, without touching blobs",
		Example: "  weft image merge base.image app.image --to merged.erofs",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if to == "" {
				return output.Usagef("--to is missing: the file that takes the metadata")
			}
			var layers []*image.Opened
			for _, name := range args {
				l, err := a.openImage(cmd.Context(), name)
				if err != nil {
					return err
				}
				layers = append(layers, l.Opened)
			}
			merged, err := a.mergeTo(to, keep, layers)
			if err != nil {
				return err
			}
			return a.print().Result(merged, func(p *output.Page) {
				p.Line("%s: %s of metadata, %d blobs", merged.Metadata, output.Bytes(merged.Size), len(merged.Blobs))
			})
		},
	}
	c.Flags().StringVar(&to, "to", "", "`file` that takes the metadata")
	c.Flags().BoolVar(&keep, "keep-whiteouts", false, "keep the marks of deleted files, for layers below these")
	return c
}

func (a *app) mergeTo(to string, keep bool, layers []*image.Opened) (*image.Built, error) {
	o := image.Options{Format: layers[0].Format}
	if b := layers[0].Bootstrap; b != nil {
		o.ChunkSize, o.Codec = int(b.Super.ChunkSize), b.Super.Codec()
	}
	if o.Format == image.RAFS && len(layers) > 1 {
		for _, l := range layers {
			l.Root.TakeNames()
		}
	}
	im, err := image.Merge(keep, layers...)
	if err != nil {
		return nil, err
	}
	return im.WriteFile(to, o)
}
