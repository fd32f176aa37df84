package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
	var backend nydusBackend
	c := &cobra.Command{
		Use:     "inspect [BOOTSTRAP]",
		Short:   "Look at a bootstrap: with --request one answer as JSON, else commands from standard input",
		Example: "  nydus-image inspect image.boot --request blobs\n  echo ls | nydus-image inspect image.boot",
		Args:    cobra.MaximumNArgs(1),
	}
	options := nydusOptions{
		bootstrapOption(&bootstrap, "bootstrap `file`, instead of the argument"), blobDirOption(&blobDir, "`folder` of the blobs"),
		{name: "request", short: "R", to: &request, usage: "stats, blobs, prefetch, ls, cd DIR, stat FILE, chunk OFFSET, icheck INODE or exit; the first three answer as JSON"},
		backend.configOption(),
	}
	return a.nydusVerb(c, options, func(cmd *cobra.Command, args []string) error {
		blobs, err := backend.blobs(cmd.Context(), a, blobDir, "blob-dir")
		if err != nil {
			return err
		}
		o, err := openBootstrap(bootstrap, args, blobs)
		if err != nil {
			return err
		}
		i := &inspector{o: o, out: a.out, request: request != ""}
		if request == "" {
			return i.prompt(a.in)
		}
		v, err := i.execute(request)
		if err != nil {
			return err
		}
		return json.NewEncoder(a.out).Encode(v)
	})
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
Compressed Data Size:   %d
Uncompressed Data Size: %d
Mapped Block Address:   %d
Features:               %s
Compressor:             %s
Digester:               %s
Cipher:                 none
Chunk Size:             0x%x
Chunk Count:            %d
Prefetch Table Offset:  0
Prefetch Table Size:    0
Meta Compressor:        %s
Meta Offset:            %d
Meta Compressed Size:   %d
Meta Uncompressed Size: %d
ToC Digest:             %x
ToC Size:               %d
RAFS Blob Digest:       %x
RAFS Blob Size:         %d
`, n, b.ID, b.ID, b.Size, i.stored(n), b.Space, i.o.Meta.Slots[n].Mapped, b.Features, b.Codec, i.o.Table.Algorithm, b.ChunkSize, b.ChunkCount, b.MetaCodec, b.MetaOffset,
			b.MetaStored, b.MetaSize, b.TOCDigest, b.TOCSize, b.MetaDigest, b.MetaBlobSize)
	}
	if i.request {
		return list
	}
	return nil
}

// stored is how many bytes of a blob the chunks take.
func (i *inspector) stored(n int) int64 {
	end := int64(0)
	for _, c := range i.o.Table.Devices[n].Chunks {
		end = max(end, c.At+int64(c.Stored))
	}
	return end
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

// inodeAt finds a file by its path.
func (i *inspector) inodeAt(path string) (*erofs.Inode, error) {
	in, err := i.o.Meta.Root()
	for part := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
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
	in, err := i.inodeAt(i.at)
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
			return i.describe(p, in)
		}
		return nil
	})
	if err == nil && !found {
		err = fmt.Errorf("%s: %w", p, os.ErrNotExist)
	}
	return err
}

func (i *inspector) describe(p string, in *erofs.Inode) error {
	parent, err := i.inodeAt(filepath.Dir(p))
	if err != nil {
		return err
	}
	fmt.Fprintf(i.out, `
Inode Number:       %d
Name:               %q
Size:               %d
Parent:             %d
Mode:               0x%X
Permissions:        %o
Nlink:              %d
UID:                %d
GID:                %d
Mtime:              %d
MtimeNsec:          %d
Blocks:             %d
`, in.NID, filepath.Base(p), in.Size, parent.NID, in.Mode, in.Mode, in.Nlink, in.UID, in.GID, in.Mtime, in.MtimeNsec, (in.Size+511)/512)
	n, ok := i.o.Root.Lookup(p)
	if !ok || n.Type() != tree.Regular {
		return nil
	}
	fmt.Fprintln(i.out, "  Chunk list:")
	for k, r := range n.Chunks {
		c, err := i.o.Table.Chunk(r)
		if err != nil {
			continue
		}
		i.describeChunk(k, int64(k)*int64(n.ChunkSize), r, c)
	}
	return nil
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
		for _, r := range n.Chunks {
			c, err := i.o.Table.Chunk(r)
			if err != nil || c.At != at {
				continue
			}
			fmt.Fprintf(i.out, `
File: %-32s Parent Path: %-32s
Compressed Offset: %d, Compressed Size: %d
Decompressed Offset: %d, Decompressed Size: %d
Chunk ID: %-50s,
Blob ID: %s
`, filepath.Base(p), filepath.Dir("/"+p), c.At, c.Stored, c.Offset, c.Size, c.Digest, i.o.Blobs[r.Device-1].ID)
		}
	}
	return nil
}

func (i *inspector) inode(number uint64) error {
	return i.o.Meta.Inodes(func(p string, in *erofs.Inode) error {
		if in.NID == number {
			fmt.Fprintln(i.out, p)
			return i.describe(p, in)
		}
		return nil
	})
}
