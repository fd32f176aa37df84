package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/image"
	"github.com/weft-dev/weft/image/chunk"
	"github.com/weft-dev/weft/image/erofs"
	"github.com/weft-dev/weft/image/tree"
)

func (a *app) nydusInspectCommand() *cobra.Command {
	var bootstrap, blobDir, request string
	c := &cobra.Command{
		Use:     "inspect [BOOTSTRAP]",
		Short:   "Look at a bootstrap: with --request one answer as JSON, else commands from standard input",
		Example: "  nydus-image inspect image.boot --request blobs\n  echo ls | nydus-image inspect image.boot",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := refuse(cmd.Flags(), map[string]string{"config": "blobs are not read to inspect"}); err != nil {
				return err
			}
			o, err := openBootstrap(bootstrap, args, blobDir)
			if err != nil {
				return err
			}
			i := &inspector{o: o, out: a.out, request: request != ""}
			if request != "" {
				v, err := i.execute(request)
				if err != nil {
					return err
				}
				return json.NewEncoder(a.out).Encode(v)
			}
			return i.prompt(a.in)
		},
	}
	f := c.Flags()
	f.StringVarP(&bootstrap, "bootstrap", "B", "", "bootstrap `file`")
	f.StringVarP(&blobDir, "blob-dir", "D", "", "`folder` of the blobs")
	f.StringVarP(&request, "request", "R", "", "stats, blobs, prefetch, ls, stat FILE, chunk OFFSET or icheck INODE")
	f.StringP("config", "C", "", "not answered")
	return c
}

// inspector answers nydus-image's inspect commands (src/bin/nydus-image/inspect.rs).
type inspector struct {
	o       *image.Opened
	out     io.Writer
	request bool
	at      string // current folder
}

const inspectUsage = `
    stats:              Display RAFS filesystesm metadata
    ls:                 Show files in current directory
    cd DIR:             Change current directory
    stat FILE_NAME:     Show particular information of RAFS file
    blobs:              Show blob table
    prefetch:           Show prefetch table
    chunk OFFSET:       List basic info of a single chunk together with a list of files that share it
    icheck INODE:       Show path of the inode and basic information
    exit:               Exit`

var errInspectorEnds = errors.New("exit")

// prompt answers lines until there are no more.
func (i *inspector) prompt(in io.Reader) error {
	for lines := bufio.NewScanner(in); ; {
		fmt.Fprint(i.out, "Inspecting RAFS :> ")
		if !lines.Scan() {
			fmt.Fprintln(i.out)
			return lines.Err()
		}
		_, err := i.execute(lines.Text())
		if errors.Is(err, errInspectorEnds) {
			return nil
		}
		if err != nil {
			fmt.Fprintln(i.out, err)
		}
	}
}

func (i *inspector) execute(line string) (any, error) {
	words := strings.Fields(line)
	if len(words) == 0 {
		return nil, nil
	}
	argument := ""
	if len(words) > 1 {
		argument = words[1]
	}
	switch words[0] {
	case "help":
		if i.request {
			return nil, output.Usagef("help is not supported in inspect request mode")
		}
		fmt.Fprintln(i.out, inspectUsage)
		return nil, nil
	case "exit", "q":
		if i.request {
			return nil, nil
		}
		return nil, errInspectorEnds
	case "stats":
		return i.stats(), nil
	case "ls":
		return nil, i.list()
	case "cd":
		return nil, i.change(argument)
	case "stat":
		return nil, i.stat(argument)
	case "blobs":
		return i.blobs(), nil
	case "prefetch":
		return i.prefetch()
	case "chunk":
		offset, err := strconv.ParseInt(argument, 10, 64)
		if err != nil {
			return nil, output.Usagef("Wrong OFFSET is specified. Is it a valid u64 value?")
		}
		return nil, i.chunk(offset)
	case "icheck":
		ino, err := strconv.ParseUint(argument, 10, 64)
		if err != nil {
			return nil, output.Usagef("Wrong INODE is specified. Is it a inode number?")
		}
		return nil, i.inode(ino)
	}
	return nil, output.Usagef("unsupported inspect request `%s`", line)
}

func (i *inspector) stats() any {
	s, e := i.o.Bootstrap.Super, i.o.Meta.Super
	if i.request {
		return map[string]any{"inodes_count": e.Inodes}
	}
	fmt.Fprintf(i.out, `
    Version:                6
    Inodes Count:           %d
    Chunk Size:             %dKB
    Root Inode:             %d
    Flags:                  %#x
    Blob table offset:      %#x
    Blob table size:        %#x
    Prefetch table offset:  %#x
    Prefetch table entries: %#x
    Chunk table offset:     %#x
    Chunk table size:       %#x

`, e.Inodes, s.ChunkSize/1024, e.RootNID, s.Flags, s.BlobTable, s.BlobTableSize, s.Prefetch, s.PrefetchSize/4, s.ChunkTable, s.ChunkTableSize)
	return nil
}

func (i *inspector) blobs() any {
	list := []map[string]any{}
	for n := range i.o.Blobs {
		b := &i.o.Blobs[n]
		if i.request {
			list = append(list, map[string]any{
				"blob_id": b.ID, "readahead_offset": 0, "readahead_size": 0, "decompressed_size": b.Space, "compressed_size": b.Size,
			})
			continue
		}
		fmt.Fprintf(i.out, `
Blob Index:             %d
Blob ID:                %s
Raw Blob ID:            %s
Blob Size:              %d
Uncompressed Data Size: %d
Mapped Block Address:   %d
Features:               %s
Compressor:             %s
Digester:               %s
Chunk Size:             0x%x
Chunk Count:            %d
Meta Compressor:        %s
Meta Offset:            %d
Meta Compressed Size:   %d
Meta Uncompressed Size: %d
ToC Digest:             %x
ToC Size:               %d
RAFS Blob Digest:       %x
RAFS Blob Size:         %d
`, n, b.ID, b.ID, b.Size, b.Space, i.o.Meta.Slots[n].Mapped, b.Features, b.Codec, i.o.Table.Algorithm, b.ChunkSize, b.ChunkCount, b.MetaCodec, b.MetaOffset,
			b.MetaStored, b.MetaSize, b.TOCDigest, b.TOCSize, b.MetaDigest, b.MetaBlobSize)
	}
	if i.request {
		return list
	}
	return nil
}

func (i *inspector) prefetch() (any, error) {
	paths := map[uint64][]string{}
	err := i.o.Meta.Inodes(func(p string, in *erofs.Inode) error {
		paths[in.NID] = append(paths[in.NID], p)
		return nil
	})
	list := []map[string]any{}
	if !i.request {
		fmt.Fprintf(i.out, "Total Prefetching Files: %d\n", len(i.o.Bootstrap.Prefetch))
	}
	for _, n := range i.o.Bootstrap.Prefetch {
		if i.request {
			list = append(list, map[string]any{"inode": n, "path": paths[uint64(n)]})
		} else {
			fmt.Fprintf(i.out, "Inode Number:%10d | Path: %q \n", n, strings.Join(paths[uint64(n)], " "))
		}
	}
	if i.request {
		return list, err
	}
	return nil, err
}

func (i *inspector) here() (*erofs.Inode, error) {
	in, err := i.o.Meta.Root()
	for part := range strings.SplitSeq(strings.Trim(i.at, "/"), "/") {
		if err != nil || part == "" {
			break
		}
		var ok bool
		if in, ok, err = in.Lookup(part); err == nil && !ok {
			err = os.ErrNotExist
		}
	}
	return in, err
}

func (i *inspector) list() error {
	in, err := i.here()
	if err != nil {
		return err
	}
	entries, err := in.Entries()
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name == "." || e.Name == ".." {
			continue
		}
		sign := map[byte]string{1: "-", 2: "d", 7: "l"}[e.Type]
		if sign == "" {
			sign = " "
		}
		fmt.Fprintf(i.out, "%s    %-8d %q\n", sign, e.NID, e.Name)
	}
	return nil
}

func (i *inspector) change(dir string) error {
	if dir == "" {
		return output.Usagef("cd needs a folder")
	}
	to := filepath.Join("/", i.at, dir)
	n, ok := i.o.Root.Lookup(to)
	if !ok || !n.IsDir() {
		return fmt.Errorf("%s is not a directory", dir)
	}
	i.at = to
	return nil
}

func (i *inspector) stat(name string) error {
	if name == "" {
		return output.Usagef("stat needs a file")
	}
	p := filepath.Join("/", i.at, name)
	found := false
	err := i.o.Meta.Inodes(func(at string, in *erofs.Inode) error {
		if at == p {
			found = true
			i.describe(p, in)
		}
		return nil
	})
	if err == nil && !found {
		err = fmt.Errorf("%s: %w", p, os.ErrNotExist)
	}
	return err
}

func (i *inspector) describe(p string, in *erofs.Inode) {
	fmt.Fprintf(i.out, `
Inode Number:       %d
Name:               %q
Size:               %d
Mode:               0x%X
Permissions:        %o
Nlink:              %d
UID:                %d
GID:                %d
Mtime:              %d
MtimeNsec:          %d
`, in.NID, filepath.Base(p), in.Size, in.Mode, in.Mode, in.Nlink, in.UID, in.GID, in.Mtime, in.MtimeNsec)
	n, ok := i.o.Root.Lookup(p)
	if !ok || n.Type() != tree.Regular {
		return
	}
	fmt.Fprintln(i.out, "  Chunk list:")
	for k, r := range n.Chunks {
		c, err := i.o.Table.Chunk(r)
		if err != nil {
			continue
		}
		i.describeChunk(k, int64(k)*int64(n.ChunkSize), r, c)
	}
}

func (i *inspector) describeChunk(k int, offset int64, r chunk.Ref, c *chunk.Chunk) {
	fmt.Fprintf(i.out, `        %d ->
        file offset: %d, chunk index: %d
        compressed size: %d, decompressed size: %d
        compressed offset: %d, decompressed offset: %d
        blob id: %s
        chunk id: %s
`, k, offset, c.Number, c.Stored, c.Size, c.At, c.Offset, i.o.Blobs[r.Device-1].ID, c.Digest)
}

func (i *inspector) chunk(at int64) error {
	for p, n := range i.o.Root.All() {
		for k, r := range n.Chunks {
			if c, err := i.o.Table.Chunk(r); err == nil && c.At == at {
				fmt.Fprintf(i.out, "\nFile: %s\n", "/"+p)
				i.describeChunk(k, int64(k)*int64(n.ChunkSize), r, c)
			}
		}
	}
	return nil
}

func (i *inspector) inode(number uint64) error {
	return i.o.Meta.Inodes(func(p string, in *erofs.Inode) error {
		if in.NID == number {
			fmt.Fprintln(i.out, p)
			i.describe(p, in)
		}
		return nil
	})
}

// nydusInfo is the ImageInfo of nydus-image's stat (src/bin/nydus-image/stat.rs).
type nydusInfo struct {
	Dirs            uint32    `json:"dirs"`
	Files           uint32    `json:"files"`
	Symlinks        uint32    `json:"symlinks"`
	Chunks          uint32    `json:"chunks"`
	FileSize        uint64    `json:"file_size"`
	CompSize        uint64    `json:"comp_size"`
	UncompSize      uint64    `json:"uncomp_size"`
	PaddingSize     uint64    `json:"padding_size"`
	ChunkSizes      [9]uint32 `json:"chunk_sizes"`
	FileSizes       []uint64  `json:"file_sizes"`
	DedupChunks     uint64    `json:"dedup_chunks"`
	DedupCompSize   uint64    `json:"dedup_comp_size"`
	DedupUncompSize uint64    `json:"dedup_uncomp_size"`
	OwnChunks       uint64    `json:"own_chunks"`
	OwnCompSize     uint64    `json:"own_comp_size"`
	OwnUncompSize   uint64    `json:"own_uncomp_size"`
	RefChunks       uint64    `json:"ref_chunks"`
	RefCompSize     uint64    `json:"ref_comp_size"`
	RefUncompSize   uint64    `json:"ref_uncomp_size"`
}

type nydusStat struct {
	DedupEnabled  bool      `json:"dedup_enabled"`
	TargetEnabled bool      `json:"target_enabled"`
	Base          nydusInfo `json:"base_image"`
	Target        nydusInfo `json:"target_image"`

	dict map[chunk.Digest]*chunk.Chunk
}

func (a *app) nydusStatCommand() *cobra.Command {
	var bootstrap, dir, target, digester, outputJSON string
	c := &cobra.Command{
		Use:     "stat",
		Short:   "Count what RAFS file systems consist of",
		Example: "  nydus-image stat -B image.boot\n  nydus-image stat -D bootstraps -T next.boot -J stat.json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := refuse(cmd.Flags(), map[string]string{"config": "blobs are not read to count"}); err != nil {
				return err
			}
			s := &nydusStat{dict: map[chunk.Digest]*chunk.Chunk{}}
			s.Base.FileSizes, s.Target.FileSizes = make([]uint64, 45), make([]uint64, 45)
			if err := s.read(bootstrap, dir, target); err != nil {
				return err
			}
			if outputJSON != "" {
				b, err := json.Marshal(s)
				if err != nil {
					return err
				}
				return os.WriteFile(outputJSON, b, 0o644)
			}
			s.print(a.out)
			return nil
		},
	}
	f := c.Flags()
	f.StringVarP(&bootstrap, "bootstrap", "B", "", "bootstrap `file`")
	f.StringVarP(&dir, "blob-dir", "D", "", "`folder` whose bootstraps are all counted")
	f.StringVarP(&target, "target", "T", "", "bootstrap `file` to compare with the others")
	f.StringVar(&digester, "digester", "blake3", "accepted: bootstraps say which digest they have")
	f.StringVarP(&outputJSON, "output-json", "J", "", "`file` for the result as JSON")
	f.StringP("config", "C", "", "not answered")
	return c
}

func (s *nydusStat) read(bootstrap, dir, target string) error {
	switch {
	case bootstrap != "":
		if err := s.add(bootstrap, true); err != nil {
			return err
		}
	case dir != "":
		s.DedupEnabled = true
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			p := filepath.Join(dir, e.Name())
			if !e.Type().IsRegular() || p == target || filepath.Ext(p) != "" {
				continue
			}
			// What is no bootstrap does not count, as with upstream.
			_ = s.add(p, true)
		}
	default:
		return output.Usagef("one of `--bootstrap` and `--blob-dir` must be specified")
	}
	if target != "" {
		s.TargetEnabled = true
		if err := s.add(target, false); err != nil {
			return err
		}
	}
	s.Base.UncompSize += s.Base.PaddingSize
	if s.TargetEnabled {
		s.Target.UncompSize += s.Target.PaddingSize
	}
	if s.DedupEnabled {
		for _, c := range s.dict {
			s.Base.DedupChunks++
			s.Base.DedupCompSize += uint64(c.Stored)
			s.Base.DedupUncompSize += uint64(c.Size)
		}
	}
	return nil
}

func (s *nydusStat) add(name string, base bool) error {
	o, err := openBootstrap(name, nil, "")
	if err != nil {
		return err
	}
	i := &s.Target
	if base {
		i = &s.Base
	}
	seen, own := map[*tree.Node]bool{}, map[chunk.Digest]*chunk.Chunk{}
	for _, n := range o.Root.All() {
		switch n.Type() {
		case tree.Dir:
			i.Dirs++
		case tree.Symlink:
			i.Symlinks++
		case tree.Regular:
			i.Files++
			if seen[n] {
				continue
			}
			seen[n] = true
			i.file(n)
			for _, r := range n.Chunks {
				c, err := o.Table.Chunk(r)
				if err != nil {
					return err
				}
				i.CompSize += uint64(c.Stored)
				i.UncompSize += uint64(c.Size)
				own[c.Digest] = c
			}
		}
	}
	for d, c := range own {
		known := s.dict[d] != nil
		if base {
			s.dict[d] = c
		}
		if !base && known {
			i.RefChunks++
			i.RefCompSize += uint64(c.Stored)
			i.RefUncompSize += uint64(c.Size)
			continue
		}
		i.OwnChunks++
		i.OwnCompSize += uint64(c.Stored)
		i.OwnUncompSize += uint64(c.Size)
	}
	return nil
}

func (i *nydusInfo) file(n *tree.Node) {
	size := uint64(n.Size)
	i.FileSizes[min(bits.Len64(size), 44)]++
	i.FileSize += size
	i.PaddingSize += (size+4095)&^4095 - size
	i.Chunks += uint32(len(n.Chunks))
	for b := range i.ChunkSizes {
		unit := uint64(1) << (12 + b)
		i.ChunkSizes[b] += uint32((size + unit - 1) / unit)
	}
}

func (s *nydusStat) print(w io.Writer) {
	if s.TargetEnabled {
		fmt.Fprintln(w, "Target Image Statistics:")
		s.Target.print(w)
	}
	fmt.Fprintln(w, "\n\nBase Image Statistics:")
	s.Base.print(w)
}

func (i *nydusInfo) print(w io.Writer) {
	fmt.Fprintf(w, `
Directories:            %d
Files:                  %d
Symlinks:               %d
Chunks:                 %d
File Size:              %d
Padding Size:           %d
Uncompressed Size:      %d
Compressed Size:        %d
`, i.Dirs, i.Files, i.Symlinks, i.Chunks, i.FileSize, i.PaddingSize, i.UncompSize, i.CompSize)
	fmt.Fprintf(w, "\nFile Size Bits:\t\tFile Count:\n")
	for n, count := range i.FileSizes {
		fmt.Fprintf(w, "%d:\t\t\t%d\n", n, count)
	}
	fmt.Fprintf(w, "\nChunk Size Bits:\tChunk Count:\n")
	for n, count := range i.ChunkSizes {
		fmt.Fprintf(w, "%d:\t\t\t%d\n", n+12, count)
	}
	fmt.Fprintf(w, "\nRaw Content Size:\t%d\nComp Content Size:\t%d\nRaw Chunk Count:\t%d\nDedup Comp Size:\t%d\nDedup Uncomp Size:\t%d\nDedup Chunk Count:\t%d\n"+
		"Owned Comp Size:\t%d\nOwned Uncomp Size:\t%d\nOwned Chunk Count:\t%d\nReferenced Comp Size:\t%d\nReferenced Uncomp Size:\t%d\nReferenced Chunk Count:\t%d\n",
		i.FileSize, i.CompSize, i.Chunks, i.DedupCompSize, i.DedupUncompSize, i.DedupChunks, i.OwnCompSize, i.OwnUncompSize, i.OwnChunks, i.RefCompSize,
		i.RefUncompSize, i.RefChunks)
}
