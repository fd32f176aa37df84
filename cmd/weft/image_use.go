package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/image"
	"github.com/weft-dev/weft/image/rafs"
	"github.com/weft-dev/weft/image/tree"
)

func (a *app) imageConvertCommand() *cobra.Command {
	var f imageFlags
	var merge, reverse bool
	var platform string
	c := &cobra.Command{
		Use:   "convert IMAGE [TARGET]",
		Short: "Convert an OCI image to EROFS or Nydus, or back",
		Long: `Convert an OCI image. Without a target the result becomes a referrer of the source, under whose name the ordinary image stays for every runtime; a
lazy snapshotter finds the converted one by the manifest's digest.

` + imageNames,
		Example: `  weft image convert registry.example.com/team/app:v1
  weft image convert registry.example.com/team/app:v1 registry.example.com/team/app:v1-nydus --format nydus
  weft image convert registry.example.com/team/app:v1-nydus oci:plain --reverse`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := f.options(cmd.Context(), a)
			if err != nil {
				return err
			}
			co := image.ConvertOptions{Options: o, Merge: merge}
			p, err := parsePlatform(platform)
			if err != nil {
				return err
			}
			if p != nil {
				co.Platforms = []ocispec.Platform{*p}
			}
			if len(args) == 1 {
				if reverse || merge {
					return output.Usagef("a TARGET is missing")
				}
				co.Referrer = true
				args = append(args, "")
			}
			converted, err := a.imageConvert(cmd.Context(), args[0], args[1], reverse, co)
			if err != nil {
				return err
			}
			return a.print().Result(converted, func(p *output.Page) { convertedPage(p, converted) })
		},
	}
	f.add(c.Flags(), "zstd")
	c.Flags().BoolVar(&merge, "merge", false, "make an index with both the ordinary and the converted images")
	c.Flags().BoolVar(&reverse, "reverse", false, "make an ordinary image of a converted one")
	c.Flags().StringVar(&platform, "platform", "", "convert only the image for this `OS/ARCH` (default: all of an index)")
	return c
}

func parsePlatform(text string) (*ocispec.Platform, error) {
	if text == "" {
		return nil, nil
	}
	parts := strings.Split(text, "/")
	if len(parts) < 2 || len(parts) > 3 {
		return nil, output.Usagef("--platform %s: expected OS/ARCH or OS/ARCH/VARIANT", text)
	}
	p := &ocispec.Platform{OS: parts[0], Architecture: parts[1]}
	if len(parts) == 3 {
		p.Variant = parts[2]
	}
	return p, nil
}

// imageConvert converts; an empty target means the source's own repository.
func (a *app) imageConvert(ctx context.Context, source, target string, reverse bool, o image.ConvertOptions) (*image.Converted, error) {
	from, err := a.imagePlace(source, false)
	if err != nil {
		return nil, err
	}
	defer from.Close()
	to := from
	if target != "" {
		if to, err = a.imagePlace(target, true); err != nil {
			return nil, err
		}
	}
	progress := a.print().Progress()
	defer progress.Close()
	item := progress.Start(source)
	o.Note = item.Note
	var converted *image.Converted
	if reverse {
		var found *image.Found
		var platform *ocispec.Platform
		if len(o.Platforms) > 0 {
			platform = &o.Platforms[0]
		}
		if found, err = image.OpenImage(ctx, from, source, platform); err == nil {
			converted, err = found.ToOCI(ctx, to, "", o.Skipped)
		}
	} else {
		converted, err = image.Convert(ctx, from, to, o)
	}
	if target != "" {
		err = errors.Join(err, to.Close())
	}
	if err != nil {
		item.Fail("")
		return nil, err
	}
	item.Done(fmt.Sprintf("%s, from %s", output.Bytes(converted.TargetBytes), output.Bytes(converted.SourceBytes)))
	return converted, nil
}

func convertedPage(p *output.Page, c *image.Converted) {
	for _, one := range c.Images {
		p.Line("%s  %s  of %s", one.Manifest.Digest, one.Platform, one.Source)
		var rows [][]output.Cell
		for i, s := range one.Layers {
			rows = append(rows, output.Row(fmt.Sprint("layer ", i+1), output.Bytes(s.Bytes+s.Holes), output.Bytes(s.KnownBytes+s.AgainBytes), output.Bytes(s.Decoded), output.Bytes(s.Stored)))
		}
		if len(rows) > 0 {
			p.Table([]string{"", "files", "shared", "new", "stored"}, rows)
		}
	}
	p.Line("%s: %s in the source's layers, %s converted", c.Manifest.Digest, output.Bytes(c.SourceBytes), output.Bytes(c.TargetBytes))
}

func (a *app) imageCheckCommand() *cobra.Command {
	var source string
	c := &cobra.Command{
		Use:   "check IMAGE",
		Short: "Check an image: manifest, metadata, every chunk, and its files against the source",
		Long: `Check an image: that manifest and configuration agree with the metadata, that the metadata is sound, so that the kernel may mount it, and that every blob
and every chunk has its digest. With --source also that the files are exactly those of a folder, tar file or image.

` + imageNames,
		Example: `  weft image check app.image
  weft image check registry.example.com/team/app:v1 --source registry.example.com/team/app:v1`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			report, err := a.imageCheck(cmd.Context(), args[0], source)
			if err != nil {
				return err
			}
			return a.reported(report)
		},
	}
	c.Flags().StringVar(&source, "source", "", "folder, tar file or `image` with the files that the image must have")
	return c
}

func (a *app) imageCheck(ctx context.Context, name, source string) (*image.Report, error) {
	found, err := a.openImage(ctx, name)
	if err != nil {
		return nil, err
	}
	report, err := found.CheckBlobs(ctx)
	if err != nil {
		return nil, err
	}
	report.Problems = append(found.Problems, report.Problems...)
	if report.Problems == nil {
		report.Problems = []image.Problem{}
	}
	if source == "" {
		return report, nil
	}
	sources, err := a.source(ctx, source)
	if err != nil {
		return nil, err
	}
	_, statErr := os.Stat(source)
	return report, found.Against(ctx, report, tree.OCI, statErr == nil, sources...)
}

// reported prints a report; an image with problems ends the program with 1.
func (a *app) reported(r *image.Report) error {
	if err := a.print().Result(r, func(p *output.Page) { reportPage(p, r) }); err != nil {
		return err
	}
	if !r.OK() {
		return output.Exit{Code: output.Failed}
	}
	return nil
}

func reportPage(p *output.Page, r *image.Report) {
	for _, problem := range r.Problems {
		p.Line("%s %s: %s", p.Paint(output.Red, "✗"), problem.Rule, problem.What)
	}
	for _, d := range r.Differs {
		p.Line("%s filesystem: %s", p.Paint(output.Red, "✗"), d)
	}
	if r.OK() {
		p.Line("%s %s (%s): %d files, %d blobs, %d chunks, %s: sound", p.Paint(output.Green, "✓"), r.Image, r.Format, r.Files, r.Blobs, r.Chunks, output.Bytes(r.Bytes))
	}
}

// inspection of an image.
type imageInspection struct {
	Image    string            `json:"image"`
	Format   image.Format      `json:"format"`
	Inodes   uint64            `json:"inodes"`
	Metadata int               `json:"metadataBytes"`
	Digester string            `json:"digester"`
	Blobs    []imageBlob       `json:"blobs"`
	Prefetch []uint32          `json:"prefetchInodes,omitempty"` // of RAFS
	Files    []imageFile       `json:"files,omitempty"`
	Manifest *ocispec.Manifest `json:"manifest,omitempty"`
}

type imageBlob struct {
	Digest     string `json:"digest"`
	Size       int64  `json:"bytes"`
	Decoded    int64  `json:"decodedBytes"`
	Chunks     int    `json:"chunks"`
	Compressor string `json:"compressor"`
	Direct     bool   `json:"direct"` // can be mounted as it is
	Features   string `json:"features,omitempty"`
}

type imageFile struct {
	Path   string    `json:"path"`
	Mode   string    `json:"mode"` // octal, with the type
	UID    uint32    `json:"uid"`
	GID    uint32    `json:"gid"`
	Time   time.Time `json:"time"`
	Size   int64     `json:"bytes"`
	Target string    `json:"target,omitempty"`
	Chunks []string  `json:"chunks,omitempty"` // digest, blob and offset of each
}

func (a *app) imageInspectCommand() *cobra.Command {
	var files bool
	var below string
	c := &cobra.Command{
		Use:     "inspect IMAGE",
		Short:   "Show what an image consists of: blobs, and with --files its files and where their chunks lie",
		Example: "  weft image inspect app.image\n  weft image inspect app.image --files --path /etc -o json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			found, err := a.openImage(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			i, err := inspectImage(found, files || below != "", below)
			if err != nil {
				return err
			}
			return a.print().Result(i, func(p *output.Page) { inspectionPage(p, i) })
		},
	}
	c.Flags().BoolVar(&files, "files", false, "list the files")
	c.Flags().StringVar(&below, "path", "", "list the files from this `path` on only")
	return c
}

func inspectImage(f *image.Found, files bool, below string) (*imageInspection, error) {
	i := &imageInspection{
		Image: f.Name, Format: f.Format, Inodes: f.Meta.Super.Inodes, Metadata: len(f.Metadata), Digester: f.Table.Algorithm.String(), Blobs: []imageBlob{},
	}
	if f.Bootstrap != nil {
		i.Prefetch = f.Bootstrap.Prefetch
	}
	if f.Desc.Digest != "" {
		i.Manifest = &f.Manifest
	}
	for n := range f.Table.Devices {
		d := &f.Table.Devices[n]
		b := imageBlob{Digest: "sha256:" + d.Name(), Size: d.Size, Decoded: d.Space, Chunks: len(d.Chunks), Compressor: d.Codec.String(), Direct: d.Direct()}
		if f.Format == image.RAFS {
			b.Features = f.Blobs[n].Features.String()
			if f.Blobs[n].ID == rafs.Itself {
				b.Digest = "itself"
			}
		}
		i.Blobs = append(i.Blobs, b)
	}
	if !files {
		return i, nil
	}
	top, ok := f.Root.Lookup(below)
	if !ok {
		return nil, fmt.Errorf("%s has no %s", f.Name, below)
	}
	for p, n := range top.All() {
		file := imageFile{
			Path: filepath.Join("/", below, p), Mode: fmt.Sprintf("%06o", n.Mode), UID: n.UID, GID: n.GID, Time: time.Unix(n.Mtime, int64(n.MtimeNsec)).UTC(),
			Size: n.Size, Target: n.Target,
		}
		for _, r := range n.Chunks {
			if r.Hole() {
				file.Chunks = append(file.Chunks, "hole")
				continue
			}
			c, err := f.Table.Chunk(r)
			if err != nil {
				return nil, err
			}
			file.Chunks = append(file.Chunks, fmt.Sprintf("%s in blob %d at %d", c.Digest, r.Device, c.Offset))
		}
		i.Files = append(i.Files, file)
	}
	return i, nil
}

func inspectionPage(p *output.Page, i *imageInspection) {
	p.Line("%s: %s, %d inodes, %s of metadata, chunk digests %s", i.Image, i.Format, i.Inodes, output.Bytes(int64(i.Metadata)), i.Digester)
	var rows [][]output.Cell
	for n, b := range i.Blobs {
		rows = append(rows, output.Row(fmt.Sprint(n+1), b.Digest, output.Bytes(b.Size), output.Bytes(b.Decoded), fmt.Sprint(b.Chunks), b.Compressor, b.Features))
	}
	if len(rows) > 0 {
		p.Table([]string{"", "blob", "stored", "decoded", "chunks", "compressor", ""}, rows)
	}
	rows = nil
	for _, f := range i.Files {
		name := f.Path
		if f.Target != "" {
			name += " -> " + f.Target
		}
		rows = append(rows, output.Row(f.Mode, fmt.Sprint(f.UID, ":", f.GID), f.Time.Format(time.RFC3339), fmt.Sprint(f.Size), fmt.Sprint(len(f.Chunks)), name))
	}
	if len(rows) > 0 {
		p.Table([]string{"mode", "owner", "time", "bytes", "chunks", "path"}, rows)
	}
}

func (a *app) imageStatCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "stat IMAGE...",
		Short:   "Count what images consist of, and what they share by content",
		Example: "  weft image stat app-v1.image app-v2.image",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var images []*image.Opened
			for _, name := range args {
				f, err := a.openImage(cmd.Context(), name)
				if err != nil {
					return err
				}
				images = append(images, f.Opened)
			}
			s := image.Count(images...)
			return a.print().Result(s, func(p *output.Page) { statPage(p, s) })
		},
	}
}

func statPage(p *output.Page, s *image.Stats) {
	var rows [][]output.Cell
	for _, i := range s.Images {
		rows = append(rows, output.Row(i.Image, string(i.Format), fmt.Sprint(i.Files), output.Bytes(i.FileBytes), output.Bytes(i.InlineBytes), output.Bytes(i.HoleBytes),
			fmt.Sprintf("%d of %d", i.UniqueChunks, i.Chunks), output.Bytes(i.UniqueBytes), output.Bytes(i.BlobBytes), output.Bytes(i.Metadata)))
	}
	p.Table([]string{"image", "form", "files", "size", "inline", "holes", "chunks", "each once", "blobs", "metadata"}, rows)
	p.Line("Together: %s in chunks, %s with each once (%d chunks), %s stored in blobs: %.1f %% need not be stored again.", output.Bytes(s.ChunkBytes),
		output.Bytes(s.UniqueBytes), s.Unique, output.Bytes(s.BlobBytes), 100*s.Saved())
}

func (a *app) imageUnpackCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "unpack IMAGE FILE",
		Short:   "Write an image's files as tar; - is standard output",
		Example: "  weft image unpack app.image rootfs.tar\n  weft image unpack app.image - | tar -tv",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			found, err := a.openImage(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.unpackTo(cmd.Context(), found.Opened, args[1])
		},
	}
}

func (a *app) unpackTo(ctx context.Context, o *image.Opened, to string) error {
	p := a.print()
	fill := func(w io.Writer) error {
		b := bufio.NewWriterSize(w, 1<<20)
		if err := o.Unpack(ctx, b, func(path, why string) { p.Warn("/%s: %s", path, why) }); err != nil {
			return err
		}
		return b.Flush()
	}
	if to == "-" {
		return fill(a.out)
	}
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	return errors.Join(fill(f), f.Close())
}

func (a *app) imageMountCommand() *cobra.Command {
	var cache, root, mode string
	var lazily, background bool
	c := &cobra.Command{
		Use:   "mount IMAGE FOLDER",
		Short: "Mount an image with the kernel, read-only",
		Long: `Mount an image on a folder. Everything is checked and fetched first; compressed blobs are decoded into the cache, where the next mount finds them. End it with
"umount FOLDER". It needs root and Linux 6.12 or newer; the cache must not lie on tmpfs or overlayfs.

With --lazy only the metadata is fetched first, and content when it is read: the command stays, fills what is read, and unmounts when it is ended. Readers
wait if it is killed, until it is started again with the same folder. Where the kernel cannot ask before it reads from files (fanotify: Linux 6.15, ext4, xfs
or btrfs) it asks for files through FUSE, which needs no EROFS either. See "weft lazy status".`,
		Example: `  weft image mount app.image /mnt
  weft image mount registry.example.com/team/app:v1 /mnt --cache /var/cache/images
  weft image mount registry.example.com/team/app:v1 /mnt --lazy`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if lazily {
				way, ok := lazyModes[mode]
				if !ok {
					return output.Usagef("--mode: %q is none of auto, fanotify, fuse, eager", mode)
				}
				return a.mountLazily(cmd.Context(), args[0], args[1], root, way, background)
			}
			if root != "" || mode != "" || background {
				return output.Usagef("--root, --mode and --background go with --lazy")
			}
			found, err := a.openImage(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if cache == "" {
				dir, err := os.UserCacheDir()
				if err != nil {
					return output.Advise(err, "Name a folder with --cache.")
				}
				cache = filepath.Join(dir, "weft", "images")
			}
			return found.Mount(cmd.Context(), cache, args[1], 0, a.print().Remark)
		},
	}
	c.Flags().StringVar(&cache, "cache", "", "`folder` for what has to be decoded (default ~/.cache/weft/images)")
	c.Flags().BoolVar(&lazily, "lazy", false, "fetch content when it is read")
	c.Flags().StringVar(&root, "root", "", rootUsage)
	c.Flags().StringVar(&mode, "mode", "", "`way` of filling: fanotify: the kernel makes readers wait; fuse: it asks for files; eager: all is fetched before; auto: fanotify, or fuse where that does not work (default auto)")
	c.Flags().BoolVar(&background, "background", false, "fetch the rest, too, when nobody waits")
	return c
}
