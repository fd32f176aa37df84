package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math/bits"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/image"
	"github.com/weft-dev/weft/image/chunk"
	"github.com/weft-dev/weft/image/tree"
)

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

	dict  map[chunk.Digest]*chunk.Chunk
	blobs image.Blobs
}

func (a *app) nydusStatCommand() *cobra.Command {
	var bootstrap, dir, target, digester, outputJSON string
	var backend nydusBackend
	c := &cobra.Command{
		Use:     "stat",
		Short:   "Count what RAFS file systems consist of",
		Example: "  nydus-image stat -B image.boot\n  nydus-image stat -D bootstraps -T next.boot -J stat.json",
		Args:    cobra.NoArgs,
	}
	options := nydusOptions{
		bootstrapOption(&bootstrap, "bootstrap `file`"), blobDirOption(&dir, "`folder` whose bootstraps are all counted"),
		{name: "target", short: "T", to: &target, usage: "bootstrap `file` to compare with the others"},
		digesterOption(&digester, "changes nothing: a bootstrap says which digest it has"), outputJSONOption(&outputJSON), backend.configOption(),
	}
	return a.nydusVerb(c, options, func(cmd *cobra.Command, _ []string) error {
		blobs, err := backend.blobs(cmd.Context(), a, "", "")
		if err != nil {
			return err
		}
		s := &nydusStat{dict: map[chunk.Digest]*chunk.Chunk{}, blobs: blobs}
		s.Base.FileSizes, s.Target.FileSizes = make([]uint64, 45), make([]uint64, 45)
		if err := s.read(bootstrap, dir, target); err != nil {
			return err
		}
		if outputJSON == "" {
			s.print(a.out)
			return nil
		}
		b, err := json.Marshal(s)
		if err != nil {
			return err
		}
		return os.WriteFile(outputJSON, b, 0o644)
	})
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
	o, err := openBootstrap(name, nil, s.blobs)
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
