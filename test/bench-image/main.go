//go:build linux

// Command bench-image measures how fast images are made and mounted, and beside it mkfs.erofs on the same tree in the same run.
//
//	go run ./test/bench-image [-weft bin/weft] [-tree FOLDER] [-rounds 5] [-large]
//
// The tree is made up unless one is given: 300 MiB in about 1,200 files, some of them equal. With -large also 4 GiB of tar are built and converted
// to see how much memory that takes.
package main

import (
	"archive/tar"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weft-dev/weft/image"
	"github.com/weft-dev/weft/image/erofs"
)

func main() {
	weft := flag.String("weft", "bin/weft", "the program")
	folder := flag.String("tree", "", "folder to make images of")
	rounds := flag.Int("rounds", 5, "runs of each, one after the other")
	large := flag.Bool("large", false, "also 4 GiB")
	flag.Parse()
	if err := run(*weft, *folder, *rounds, *large); err != nil {
		fmt.Fprintln(os.Stderr, "bench-image:", err)
		os.Exit(1)
	}
}

func run(weft, folder string, rounds int, large bool) error {
	dir, err := os.MkdirTemp("", "bench-image-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if folder == "" {
		folder = filepath.Join(dir, "tree")
		if err := makeTree(folder, 300<<20); err != nil {
			return err
		}
	}
	if err := builds(weft, folder, dir, rounds); err != nil {
		return err
	}
	if err := mounts(weft, dir); err != nil {
		return err
	}
	if large {
		return memory(weft, dir)
	}
	return nil
}

// makeTree fills a folder with files: half of their bytes like text, the rest like programs, one in ten equal to an earlier one.
func makeTree(folder string, total int) error {
	r := rand.New(rand.NewPCG(1, 2))
	for n := 0; total > 0; n++ {
		name := filepath.Join(folder, fmt.Sprint("d", n%37), fmt.Sprint("file-", n))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		size := 1 << (8 + r.IntN(13))
		size += r.IntN(size)
		if err := os.WriteFile(name, content(r, size, n%10 == 9), 0o644); err != nil {
			return err
		}
		total -= size
	}
	return nil
}

// content is what a file holds. Repeated content comes from a source of its own.
func content(r *rand.Rand, size int, again bool) []byte {
	if again {
		r = rand.New(rand.NewPCG(3, uint64(size>>14)))
	}
	b := make([]byte, size)
	text := r.IntN(2) == 0
	for i := 0; i+8 <= len(b); i += 8 {
		v := r.Uint64()
		if text {
			v = v&0x0707070707070707 | 0x6060606060606060
		}
		for j := range 8 {
			b[i+j] = byte(v >> (8 * j))
		}
	}
	return b
}

// measured is one run of a program.
type measured struct {
	wall, cpu time.Duration
	rss       int64 // KiB
}

func measure(in io.Reader, name string, args ...string) (measured, error) {
	cmd := exec.Command(name, args...)
	var out strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, &out, &out
	began := time.Now()
	if err := cmd.Run(); err != nil {
		return measured{}, fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out.String())
	}
	m := measured{wall: time.Since(began), cpu: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		m.rss = usage.Maxrss
	}
	return m, nil
}

func median(all []measured, of func(measured) time.Duration) time.Duration {
	slices.SortFunc(all, func(a, b measured) int { return int(of(a) - of(b)) })
	return of(all[len(all)/2])
}

func wall(m measured) time.Duration { return m.wall }
func cpu(m measured) time.Duration  { return m.cpu }

// builds compares with mkfs.erofs, both without compression, chunks of 64 KiB on a further device.
func builds(weft, folder, dir string, rounds int) error {
	mkfs, err := exec.LookPath("mkfs.erofs")
	if err != nil {
		return fmt.Errorf("the rival is missing: install erofs-utils: %w", err)
	}
	var ours, theirs []measured
	for range rounds {
		to := filepath.Join(dir, "ours")
		os.RemoveAll(to)
		m, err := measure(nil, weft, "image", "build", "--quiet", folder, "--to", to)
		if err != nil {
			return err
		}
		ours = append(ours, m)
		blob := filepath.Join(dir, "theirs.blob")
		if err := os.WriteFile(blob, nil, 0o644); err != nil {
			return err
		}
		m, err = measure(nil, mkfs, "--quiet", "--chunksize=65536", "--blobdev="+blob, filepath.Join(dir, "theirs"), folder)
		if err != nil {
			return err
		}
		theirs = append(theirs, m)
	}
	fmt.Printf("build of %s, medians of %d interleaved runs\n", folder, rounds)
	fmt.Printf("  %-32s %8s %8s %10s\n", "", "wall", "cpu", "peak RSS")
	for _, x := range []struct {
		name string
		runs []measured
	}{{"weft image build", ours}, {"mkfs.erofs --chunksize --blobdev", theirs}} {
		fmt.Printf("  %-32s %7.2fs %7.2fs %6d MiB\n", x.name, median(x.runs, wall).Seconds(), median(x.runs, cpu).Seconds(), x.runs[0].rss>>10)
	}
	fmt.Printf("  ratio: wall %.2f, cpu %.2f\n", ratio(ours, theirs, wall), ratio(ours, theirs, cpu))
	return nil
}

func ratio(a, b []measured, of func(measured) time.Duration) float64 {
	return float64(median(a, of)) / float64(median(b, of))
}

// mounts measures mounting an image of 1 GiB.
func mounts(weft, dir string) error {
	r, w := io.Pipe()
	go func() { w.CloseWithError(makeTar(w, 1<<30)) }()
	to := filepath.Join(dir, "one")
	if _, err := measure(r, weft, "image", "build", "--quiet", "-", "--to", to); err != nil {
		return err
	}
	o, err := image.OpenPath(to, nil)
	if err != nil {
		return err
	}
	var devices []string
	for i := range o.Table.Devices {
		devices = append(devices, filepath.Join(to, o.Table.Devices[i].Name()))
	}
	target := filepath.Join(dir, "mount")
	if err := os.Mkdir(target, 0o755); err != nil {
		return err
	}
	// In a mount namespace of this thread, which ends with it.
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
		return fmt.Errorf("mounting needs root: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	var all []measured
	for range 21 {
		began := time.Now()
		if err := erofs.Mount(filepath.Join(to, image.MetadataName), devices, target, 0); err != nil {
			return err
		}
		all = append(all, measured{wall: time.Since(began)})
		if err := unix.Unmount(target, 0); err != nil {
			return err
		}
	}
	fmt.Printf("mount of an image of 1 GiB on %d devices: %.2f ms (median of %d)\n", len(devices), float64(median(all, wall).Microseconds())/1000, len(all))
	return nil
}

// makeTar writes a tar stream of about total bytes.
func makeTar(w io.Writer, total int) error {
	t := tar.NewWriter(w)
	r := rand.New(rand.NewPCG(5, 6))
	for n := 0; total > 0; n++ {
		b := content(r, 1<<(10+r.IntN(13)), n%10 == 9)
		if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("d%d/f%d", n%61, n), Size: int64(len(b)), Mode: 0o644}); err != nil {
			return err
		}
		if _, err := t.Write(b); err != nil {
			return err
		}
		total -= len(b)
	}
	return t.Close()
}

// memory builds and converts 4 GiB.
func memory(weft, dir string) error {
	for _, args := range [][]string{{"--compressor", "none"}, {"--compressor", "zstd"}, {"--format", "nydus", "--compressor", "zstd"}} {
		r, w := io.Pipe()
		go func() { w.CloseWithError(makeTar(w, 4<<30)) }()
		to := filepath.Join(dir, "large")
		os.RemoveAll(to)
		m, err := measure(r, weft, append([]string{"image", "build", "--quiet", "-", "--to", to}, args...)...)
		if err != nil {
			return err
		}
		fmt.Printf("build of 4 GiB of tar, %s: peak RSS %d MiB, %.1f s of processor time, %.1f s\n", strings.Join(args, " "), m.rss>>10, m.cpu.Seconds(), m.wall.Seconds())
	}
	return nil
}
