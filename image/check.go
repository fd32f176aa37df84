package image

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"runtime"
	"sync"

	"github.com/weft-dev/weft/image/chunk"
	"github.com/weft-dev/weft/image/rafs"
	"github.com/weft-dev/weft/image/tree"
)

// Report is what a check found.
type Report struct {
	Image    string            `json:"image"`
	Format   Format            `json:"format"`
	Files    int               `json:"files"`
	Blobs    int               `json:"blobs"`
	Chunks   int64             `json:"chunks"` // verified
	Bytes    int64             `json:"bytes"`  // decoded bytes of them
	Problems []Problem         `json:"problems"`
	Differs  []tree.Difference `json:"differences"` // from the source, at most 100
}

// Problem is something that is wrong with an image.
type Problem struct {
	Rule string `json:"rule"` // manifest, metadata, blob, chunk or filesystem
	What string `json:"what"`
}

// OK says that nothing was found.
func (r *Report) OK() bool { return len(r.Problems) == 0 && len(r.Differs) == 0 }

const maxProblems = 100

// CheckBlobs reads all blobs, compares them with their digests, and verifies every chunk. A problem in one does not stop it. The metadata was
// checked when the image was opened.
func (o *Opened) CheckBlobs(ctx context.Context) (*Report, error) {
	r := &Report{Image: o.Name, Format: o.Format, Blobs: len(o.Table.Devices), Problems: []Problem{}, Differs: []tree.Difference{}}
	for range o.Root.All() {
		r.Files++
	}
	var mutex sync.Mutex
	problem := func(rule, format string, args ...any) {
		mutex.Lock()
		defer mutex.Unlock()
		if len(r.Problems) < maxProblems {
			r.Problems = append(r.Problems, Problem{rule, fmt.Sprintf(format, args...)})
		}
	}
	devices := make(chan int)
	var group sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(o.Table.Devices)) {
		group.Go(func() {
			for i := range devices {
				chunks, bytes := o.checkDevice(ctx, i, problem)
				mutex.Lock()
				r.Chunks += chunks
				r.Bytes += bytes
				mutex.Unlock()
			}
		})
	}
	for i := range o.Table.Devices {
		devices <- i
	}
	close(devices)
	group.Wait()
	return r, ctx.Err()
}

// checkDevice verifies the blob of a device and the chunks in it.
func (o *Opened) checkDevice(ctx context.Context, i int, problem func(rule, format string, args ...any)) (chunks, bytes int64) {
	d := &o.Table.Devices[i]
	c := o.Content()
	defer c.Close()
	b, err := c.reader(uint32(i+1), d)
	if err != nil {
		problem("blob", "%v", err)
		return 0, 0
	}
	if d.Blob != [32]byte{} {
		limit := d.Size
		if o.goesOn(i) {
			limit = maxBlob
		}
		hash := sha256.New()
		n, err := io.Copy(hash, io.NewSectionReader(b.blob, 0, limit+1))
		switch {
		case err != nil:
			problem("blob", "reading blob %s: %v", d.Name(), err)
		case n < d.Size || n > limit:
			problem("blob", "blob %s has %d bytes instead of %d", d.Name(), n, d.Size)
		case [32]byte(hash.Sum(nil)) != d.Blob && !o.namedOtherwise(i, b.blob, n):
			problem("blob", "blob %s does not match its digest", d.Name())
		}
	}
	for _, index := range order(d) {
		if ctx.Err() != nil {
			return chunks, bytes
		}
		p, err := c.Chunk(chunk.Ref{Device: uint32(i + 1), Index: index})
		if err != nil {
			problem("chunk", "%v", err)
			continue
		}
		chunks++
		bytes += int64(len(p))
	}
	return chunks, bytes
}

// goesOn says whether a blob may be longer than the bootstrap says. One that is written into its blob knows only what lies before it, and Nydus's converter for containerd
// merges such bootstraps without telling them more.
func (o *Opened) goesOn(i int) bool {
	return o.Format == RAFS && o.Blobs[i].Features&(rafs.InlinedMeta|rafs.HasTOC) != 0
}

// namedOtherwise says whether a blob is one of those that Nydus names by a digest that leaves out the digests of its chunks, and has the table of
// contents that the bootstrap expects. The blob has size bytes.
func (o *Opened) namedOtherwise(i int, b Blob, size int64) bool {
	if o.Format != RAFS || o.Blobs[i].Features&rafs.HasTOC == 0 || o.Blobs[i].TOCDigest == [32]byte{} {
		return false
	}
	_, digest, err := rafs.Contents(b, size)
	return err == nil && digest == o.Blobs[i].TOCDigest
}

// Against compares the image's files with those of the source that it was made of: layers, the lowest first. With keep true marks of deleted
// files count, as in the image of one layer.
func (o *Opened) Against(ctx context.Context, r *Report, whiteouts tree.Whiteouts, keep bool, sources ...Source) error {
	size := 0
	for _, n := range o.Root.All() {
		size = max(size, n.ChunkSize)
	}
	if size == 0 {
		size = 64 << 10
	}
	var want *tree.Node
	table := &chunk.Table{Algorithm: o.Table.Algorithm}
	for _, s := range sources {
		w, err := chunk.NewWriter(ctx, chunk.Discard{}, chunk.Options{ChunkSize: size, Algorithm: o.Table.Algorithm, KeepZeros: o.Format == RAFS, Known: table})
		if err != nil {
			return err
		}
		upper, err := s.Read(ctx, whiteouts, tree.Chunks{Writer: w, Inline: -1})
		if err != nil {
			w.Abort()
			return fmt.Errorf("the source: %w", err)
		}
		if table, _, err = w.Close(); err != nil {
			return err
		}
		want = tree.Merge(want, upper)
	}
	if want == nil {
		want = tree.NewDir(0o755)
	}
	if !keep {
		want.DropMarks()
	}
	o.Root.TakeOpaque()
	r.Differs = append(r.Differs, tree.Compare(tree.Side{Root: want, Table: table}, tree.Side{Root: o.Root, Table: o.Table}, maxProblems)...)
	return nil
}
