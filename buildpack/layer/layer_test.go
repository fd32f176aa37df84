package layer

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	stdgzip "compress/gzip"

	"github.com/klauspost/compress/zstd"
)

// noise gives bytes that compress somewhat.
func noise(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // a test
	out := make([]byte, 0, n+20)
	for len(out) < n {
		out = fmt.Appendf(out, "%x ", r.Uint64()>>r.IntN(60))
	}
	return out[:n]
}

// TestStream: what comes out is what went in, its sums are right, and neither processors nor the sizes of writes change a byte.
func TestStream(t *testing.T) {
	for _, size := range []int{0, 1, pieceSize - 1, pieceSize, pieceSize + 1, 3*pieceSize + 12345} {
		data := noise(size)
		for _, c := range []Compression{Gzip, Zstd} {
			var first []byte
			for run, processors := range []int{1, 4} {
				before := runtime.GOMAXPROCS(processors)
				var out bytes.Buffer
				blob, err := Stream(&out, c, func(w io.Writer) error {
					for rest := data; len(rest) > 0; {
						n := min(len(rest), 1+run*700_000)
						if run == 0 {
							n = min(len(rest), 1000)
						}
						if _, err := w.Write(rest[:n]); err != nil {
							return err
						}
						rest = rest[n:]
					}
					return nil
				})
				runtime.GOMAXPROCS(before)
				if err != nil {
					t.Fatal(err)
				}
				if blob.DiffID.Hex != fmt.Sprintf("%x", sha256.Sum256(data)) || blob.Digest.Hex != fmt.Sprintf("%x", sha256.Sum256(out.Bytes())) || blob.Size != int64(out.Len()) {
					t.Errorf("%s of %d bytes: the sums are wrong: %+v", c, size, blob)
				}
				if first == nil {
					first = out.Bytes()
				} else if c == Gzip && !bytes.Equal(first, out.Bytes()) {
					t.Errorf("%d bytes: %d processors make other bytes", size, processors)
				}
				var back []byte
				if c == Gzip {
					r, err := stdgzip.NewReader(&out) // another reader than our writer's library
					if err != nil {
						t.Fatal(err)
					}
					r.Multistream(false)
					back, err = io.ReadAll(r)
					if err != nil || out.Len() != 0 {
						t.Errorf("gzip of %d bytes: %v, %d bytes behind the end", size, err, out.Len())
					}
				} else {
					r, err := zstd.NewReader(&out)
					if err != nil {
						t.Fatal(err)
					}
					if back, err = io.ReadAll(r); err != nil {
						t.Error(err)
					}
					r.Close()
				}
				if !bytes.Equal(back, data) {
					t.Errorf("%s of %d bytes came back as others", c, size)
				}
			}
		}
		if h, err := DiffID(func(w io.Writer) error { _, err := w.Write(data); return err }); err != nil || h.Hex != fmt.Sprintf("%x", sha256.Sum256(data)) {
			t.Errorf("the diffID of %d bytes is %s (%v)", size, h, err)
		}
	}
}

// broken fails after some bytes.
type broken struct{ left int }

var errBroken = errors.New("the disk is full")

func (b *broken) Write(p []byte) (int, error) {
	if b.left -= len(p); b.left < 0 {
		return 0, errBroken
	}
	return len(p), nil
}

// TestStreamFails: an error of either side ends the stream, is told, and leaves no goroutine.
func TestStreamFails(t *testing.T) {
	data := noise(3 * pieceSize)
	before := runtime.NumGoroutine()
	for _, c := range []Compression{Gzip, Zstd} {
		for _, after := range []int{0, 5, pieceSize} {
			writes := 0
			_, err := Stream(&broken{after}, c, func(w io.Writer) error {
				for ; writes < 30; writes++ {
					if _, err := w.Write(data); err != nil {
						return err
					}
				}
				return nil
			})
			if writes == 30 {
				t.Errorf("%s: the content was read to its end though nobody took it after %d bytes", c, after)
			}
			if !errors.Is(err, errBroken) {
				t.Errorf("%s, a writer that fails after %d bytes gave %v", c, after, err)
			}
		}
		boom := errors.New("a file became shorter")
		if _, err := Stream(io.Discard, c, func(w io.Writer) error {
			_, err := w.Write(data)
			return errors.Join(err, boom)
		}); !errors.Is(err, boom) {
			t.Errorf("content that fails gave %v", err)
		}
	}
	if _, err := DiffID(func(io.Writer) error { return errBroken }); !errors.Is(err, errBroken) {
		t.Error("DiffID hides the error")
	}
	for deadline := time.Now().Add(time.Minute); runtime.NumGoroutine() > before && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	if n := runtime.NumGoroutine(); n > before {
		var stacks strings.Builder
		buffer := make([]byte, 1<<16)
		stacks.Write(buffer[:runtime.Stack(buffer, true)])
		t.Errorf("%d goroutines instead of %d are left\n%s", n, before, stacks.String())
	}
}
