// Command bench-dedup shows what is stored and fetched for several versions of an image: as gzip layers, of which equal ones are stored once, and as EROFS
// and RAFS images, without and with the earlier versions as a dictionary of chunks.
//
//	go run ./test/bench-dedup [-versions 5] [-o json]
//
// The files are those of the installed Go: sources as a base layer that one version updates, sources as libraries of which each version changes one in
// twenty, and a program that each version changes in places, every other one by an insertion, after which everything lies elsewhere.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/weft-dev/weft/image"
	"github.com/weft-dev/weft/image/chunk"
)

func main() {
	versions := flag.Int("versions", 5, "versions of the image, from 2")
	form := flag.String("o", "text", "text or json")
	flag.Parse()
	if *versions < 2 || *form != "text" && *form != "json" {
		fmt.Fprintln(os.Stderr, "bench-dedup: -versions is a number from 2, -o text or json; see -h")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *versions, *form)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-dedup:", err)
		os.Exit(1)
	}
}

// scheme is a way to store images.
type scheme struct {
	Name    string `json:"name"`
	options image.Options
	dict    bool
}

func schemes() []scheme {
	erofs := image.Options{Codec: chunk.Zstd}
	fine := image.Options{Codec: chunk.Zstd, ChunkSize: 16 << 10}
	rafs := image.Options{Format: image.RAFS, Codec: chunk.Zstd}
	small := image.Options{Format: image.RAFS, Codec: chunk.Zstd, ChunkSize: 64 << 10}
	return []scheme{
		{"EROFS, 64 KiB", erofs, false}, {"EROFS, 64 KiB, dictionary", erofs, true}, {"EROFS, 16 KiB, dictionary", fine, true},
		{"RAFS, 1 MiB", rafs, false}, {"RAFS, 1 MiB, dictionary", rafs, true}, {"RAFS, 64 KiB, dictionary", small, true},
	}
}

// figures of a scheme, in bytes.
type figures struct {
	scheme
	Chunks      int64   `json:"chunks"` // of all versions
	Unique      int64   `json:"uniqueChunks"`
	Within      int64   `json:"sharedWithinImages"`  // chunks that a layer or file of the same image has, too
	Between     int64   `json:"sharedBetweenImages"` // chunks that an earlier version has
	SharedBytes int64   `json:"sharedBytes"`         // decoded, of both
	First       int64   `json:"firstBytes"`          // stored for the first version
	Next        int64   `json:"nextBytes"`           // stored for a later one, on average: what a node that has the one before has to fetch at most
	Stored      int64   `json:"storedBytes"`         // for all
	OfLayers    float64 `json:"ofLayers"`            // part of what gzip layers take
}

func run(ctx context.Context, versions int, form string) error {
	dir, err := os.MkdirTemp("", "bench-dedup-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	made, err := makeVersions(dir, versions)
	if err != nil {
		return err
	}
	layers := figures{scheme: scheme{Name: "gzip layers"}, First: made.stored[0], Stored: sum(made.stored), OfLayers: 1}
	layers.Next = (layers.Stored - layers.First) / int64(versions-1)
	table := []figures{layers}
	for i, s := range schemes() {
		f, err := measure(ctx, filepath.Join(dir, fmt.Sprint("scheme-", i)), s, made)
		if err != nil {
			return fmt.Errorf("%s: %w", s.Name, err)
		}
		f.OfLayers = float64(f.Stored) / float64(layers.Stored)
		table = append(table, f)
	}
	if form == "json" {
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", "  ")
		return e.Encode(map[string]any{"versions": versions, "fileBytes": made.files, "schemes": table})
	}
	fmt.Printf("%d versions of three layers, %s of files each; zstd and blake3, metadata counted\n\n", versions, megabytes(made.files/int64(versions)))
	fmt.Printf("%-28s %10s %10s %10s %10s %12s %14s\n", "", "first", "each next", "all", "of layers", "shared", "chunks, unique")
	for _, f := range table {
		chunks, shared := "", ""
		if f.Chunks > 0 {
			chunks, shared = fmt.Sprintf("%d, %d", f.Chunks, f.Unique), megabytes(f.SharedBytes)
		}
		fmt.Printf("%-28s %10s %10s %10s %8.0f %% %12s %14s\n", f.Name, megabytes(f.First), megabytes(f.Next), megabytes(f.Stored), 100*f.OfLayers, shared, chunks)
	}
	return nil
}

func sum(list []int64) (n int64) {
	for _, v := range list {
		n += v
	}
	return n
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }

// measure makes all versions by a scheme. All blobs lie in one folder, each once.
func measure(ctx context.Context, dir string, s scheme, made *corpus) (figures, error) {
	f := figures{scheme: s}
	var all []*image.Opened
	defer func() { os.RemoveAll(dir) }()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return f, err
	}
	var before int64
	for i, layers := range made.versions {
		o := s.options
		if s.dict {
			o.Dicts = all
		}
		var sources []image.Source
		for _, l := range layers {
			sources = append(sources, image.TarFile(l))
		}
		metadata := filepath.Join(dir, fmt.Sprintf("metadata-%d", i))
		if _, err := image.BuildTo(ctx, chunk.Folder(dir), metadata, dir, o, sources...); err != nil {
			return f, err
		}
		opened, err := image.OpenPath(metadata, image.BlobFolder(dir))
		if err != nil {
			return f, err
		}
		all = append(all, opened)
		stored, err := folderBytes(dir)
		if err != nil {
			return f, err
		}
		if i == 0 {
			f.First = stored
		}
		before = stored
	}
	f.Stored = before
	f.Next = (f.Stored - f.First) / int64(len(made.versions)-1)
	count := image.Count(all...)
	for _, i := range count.Images {
		f.Chunks += i.Chunks
		f.Within += i.Chunks - i.UniqueChunks
	}
	f.Unique = count.Unique
	f.Between = f.Chunks - f.Within - f.Unique
	f.SharedBytes = count.ChunkBytes - count.UniqueBytes
	return f, nil
}

// folderBytes is what the files of a folder have together.
func folderBytes(dir string) (n int64, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		st, err := e.Info()
		if err != nil {
			return 0, err
		}
		if st.Mode().IsRegular() && !strings.HasPrefix(e.Name(), ".") {
			n += st.Size()
		}
	}
	return n, nil
}
