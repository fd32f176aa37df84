package lazy

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/weft-dev/weft/image"
	"github.com/weft-dev/weft/image/erofs"
	"github.com/weft-dev/weft/lazy/cache"
	"github.com/weft-dev/weft/lazy/fanotify"
	"github.com/weft-dev/weft/lazy/mountinfo"
)

const (
	benchChunk = 64 << 10
	benchSize  = 48 << 20
)

// bench is a mounted image of one file, and the same file beside it on the disk.
type bench struct {
	image         *Image
	mounted, disk *os.File
	content       string
}

func newBench(b *testing.B, mode Mode) *bench {
	needMode(b, mode)
	dir := filepath.Join(stateDir(b), "content")
	if err := os.Mkdir(dir, 0o755); err != nil {
		b.Fatal(err)
	}
	data := make([]byte, benchSize)
	_, _ = rand.Read(data)
	if err := os.WriteFile(filepath.Join(dir, "file"), data, 0o600); err != nil {
		b.Fatal(err)
	}
	to := filepath.Join(stateDir(b), "image")
	if _, err := image.Build(b.Context(), to, image.Options{ChunkSize: benchChunk}, image.Folder(dir)); err != nil {
		b.Fatal(err)
	}
	s := openService(b, Options{Root: stateDir(b), Mode: mode, Learn: -1})
	b.Cleanup(func() { s.Close() })
	im, err := s.Prepare(b.Context(), Request{Reference: to})
	if err != nil {
		b.Fatal(err)
	}
	target := mountImage(b, im)
	x := &bench{image: im, mounted: openRandom(b, filepath.Join(target, "file")), disk: openRandom(b, filepath.Join(dir, "file")), content: dir}
	b.Cleanup(func() {
		x.mounted.Close()
		_ = im.Unmount(b.Context(), target)
	})
	return x
}

func openFile(b *testing.B, name string) *os.File {
	f, err := os.Open(name)
	if err != nil {
		b.Fatal(err)
	}
	return f
}

func openRandom(b *testing.B, name string) *os.File {
	f := openFile(b, name)
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_RANDOM); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { f.Close() })
	return f
}

// forget drops the pages of a file from memory.
func forget(b *testing.B, f *os.File) {
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		b.Fatal(err)
	}
}

// median reads 4 KiB at each offset and gives the median time.
func median(b *testing.B, f *os.File, offsets []int64) time.Duration {
	return middle(timed(b, f, offsets))
}

func middle(times []time.Duration) time.Duration {
	slices.Sort(times)
	return times[len(times)/2]
}

func timed(b *testing.B, f *os.File, offsets []int64) []time.Duration {
	times := make([]time.Duration, len(offsets))
	p := make([]byte, 4096)
	for i, o := range offsets {
		began := time.Now()
		if _, err := f.ReadAt(p, o); err != nil {
			b.Fatal(err)
		}
		times[i] = time.Since(began)
	}
	return times
}

// marked measures reads of what is in the cache but not in memory, and beside it the same reads with the least that can answer the kernel: what
// this machine needs for asking another process.
func marked(b *testing.B, x *bench) {
	device, err := os.ReadFile(x.image.service.cache.Path(parseKey(b, x.image.record.Devices[0])))
	if err != nil {
		b.Fatal(err)
	}
	dir := stateDir(b)
	copied, target := filepath.Join(dir, "device"), b.TempDir()
	if err := os.WriteFile(copied, device, 0o600); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "bare", copied)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	defer kill(b, cmd)
	if _, err := out.Read(make([]byte, 1)); err != nil {
		b.Fatal(err)
	}
	if err := erofs.Mount(x.image.service.imageFile(x.image.id, mountinfo.Metadata), []string{copied}, target, 0); err != nil {
		b.Fatal(err)
	}
	defer unmount(target)
	bare := openRandom(b, filepath.Join(target, "file"))
	defer bare.Close()
	forget(b, x.mounted)
	keeperPID, _ := processes(b, x.image.service.root)
	list := pages(3000)
	var ours, least []time.Duration
	oursRan, leastRan := ran(b, keeperPID), ran(b, cmd.Process.Pid)
	for some := range slices.Chunk(list, 250) {
		ours = append(ours, timed(b, x.mounted, some)...)
		least = append(least, timed(b, bare, some)...)
	}
	report(b, middle(ours), "marked-µs")
	report(b, middle(least), "bare-µs")
	report(b, (ran(b, keeperPID)-oursRan)/time.Duration(len(list)), "marked-cpu-µs")
	report(b, (ran(b, cmd.Process.Pid)-leastRan)/time.Duration(len(list)), "bare-cpu-µs")
}

// ran is how long the main thread of a process has run.
func ran(b *testing.B, pid int) time.Duration {
	var d time.Duration
	s, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", pid))
	if err == nil {
		_, err = fmt.Sscan(string(s), &d)
	}
	if err != nil {
		b.Fatal(err)
	}
	return d
}

// bareMain answers the kernel about a file, and does nothing else.
func bareMain(path string) error {
	runtime.LockOSThread()
	g, err := fanotify.New()
	if err == nil {
		err = errors.Join(g.Mark(path), unix.SetNonblock(int(g), false))
	}
	if err != nil {
		return err
	}
	fmt.Println("ready")
	var p [4096]byte
	for {
		n, _, e := unix.RawSyscall(unix.SYS_READ, uintptr(g), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
		if e == unix.EINTR {
			continue
		}
		if e != 0 {
			return e
		}
		for rest := p[:n]; len(rest) > 0; {
			event, err := fanotify.Parse(rest)
			if err != nil {
				return err
			}
			if err := errors.Join(g.Allow(event.FD), unix.Close(int(event.FD))); err != nil {
				return err
			}
			rest = rest[event.Size:]
		}
	}
}

func parseKey(t testing.TB, s string) cache.Key {
	key, err := cache.ParseKey(s)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// pages are distinct pages in random order, of all chunks but the last.
func pages(n int) []int64 {
	r := mathrand.New(mathrand.NewPCG(1, uint64(n)))
	list := r.Perm((benchSize - benchChunk) / 4096)
	out := make([]int64, n)
	for i := range out {
		out[i] = int64(list[i]) * 4096
	}
	return out
}

func report(b *testing.B, d time.Duration, name string) {
	b.ReportMetric(float64(d.Nanoseconds())/1000, name)
}

// BenchmarkReads measures random reads of 4 KiB in each state of a device, from a folder, chunks of 64 KiB, not compressed: medians in
// microseconds, and ratios to the same reads of the disk's own file system in the same run.
func BenchmarkReads(b *testing.B) {
	for b.Loop() {
		x := newBench(b, Fanotify)
		report(b, median(b, x.mounted, touches()), "first-µs")

		marked(b, x)

		x.complete(b)
		forget(b, x.mounted)
		warm(b, x) // the device, which is dropped from memory when it is complete
		forget(b, x.mounted)
		report(b, median(b, x.mounted, pages(3000)), "unmarked-µs")

		// As programs read: in large steps.
		forget(b, x.mounted)
		forget(b, x.disk)
		x.besideDisk(b, "warm")
		b.ReportMetric(0, "ns/op")
	}
}

// BenchmarkReadsByFUSE measures the same reads where the kernel asks through FUSE: of what is missing, of what is in the cache and not in memory, and of a
// file that was complete when it was opened, which the kernel reads itself.
func BenchmarkReadsByFUSE(b *testing.B) {
	for b.Loop() {
		x := newBench(b, FUSE)
		report(b, median(b, x.mounted, touches()), "fuse-first-µs")
		forget(b, x.mounted)
		report(b, median(b, x.mounted, pages(3000)), "fuse-cached-µs")
		x.complete(b)
		x.mounted.Close() // as long as it is open the server answers
		for end := time.Now().Add(time.Minute); x.image.Stats().Through == 0; {
			f := openFile(b, x.mounted.Name())
			whole(b, f)
			f.Close()
			if time.Now().After(end) {
				b.Fatal("the kernel does not read a complete file itself")
			}
		}
		x.besideDisk(b, "fuse-warm")
		b.ReportMetric(0, "ns/op")
	}
}

// touches is a page of each chunk but the last, in random order.
func touches() []int64 {
	var list []int64
	for i := range int64(benchSize/benchChunk - 1) {
		list = append(list, i*benchChunk+(i*7%16)*4096)
	}
	mathrand.New(mathrand.NewPCG(1, 1)).Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}

// complete fetches all of the image.
func (x *bench) complete(b *testing.B) {
	if err := x.image.Fetch(b.Context()); err != nil {
		b.Fatal(err)
	}
	if st := x.image.Stats(); st.Complete != st.Devices {
		b.Fatalf("the image is not complete: %+v", st)
	}
}

// besideDisk compares reads of what is in memory with those of the disk's own file, in pairs.
func (x *bench) besideDisk(b *testing.B, name string) {
	mounted, disk := openFile(b, x.mounted.Name()), openFile(b, x.disk.Name())
	defer mounted.Close()
	defer disk.Close()
	whole(b, mounted)
	whole(b, disk)
	var random, sequential []float64
	for i := range 9 {
		list := pages(4000 + i)
		random = append(random, ratio(median(b, mounted, list), median(b, disk, list)))
		sequential = append(sequential, ratio(whole(b, mounted), whole(b, disk)))
	}
	slices.Sort(random)
	slices.Sort(sequential)
	b.ReportMetric(random[4], name+"-random/disk")
	b.ReportMetric(sequential[4], name+"-sequential/disk")
}

func ratio(a, b time.Duration) float64 { return float64(a) / float64(b) }

// whole reads a file to its end, twice, and times the second.
func whole(b *testing.B, f *os.File) time.Duration {
	var d time.Duration
	for range 2 {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			b.Fatal(err)
		}
		began := time.Now()
		if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{f}, make([]byte, 128<<10)); err != nil {
			b.Fatal(err)
		}
		d = time.Since(began)
	}
	return d
}

func warm(b *testing.B, x *bench) {
	whole(b, x.mounted)
	whole(b, x.disk)
}

// BenchmarkMount measures how long the mounting of an image takes that is prepared, and that nothing is there of.
func BenchmarkMount(b *testing.B) {
	needWatch(b)
	dir := filepath.Join(stateDir(b), "content")
	if err := os.Mkdir(dir, 0o755); err != nil {
		b.Fatal(err)
	}
	f, err := os.Create(filepath.Join(dir, "file"))
	if err != nil {
		b.Fatal(err)
	}
	r := mathrand.NewChaCha8([32]byte{1})
	if _, err := io.CopyN(f, r, 256<<20); err != nil {
		b.Fatal(err)
	}
	f.Close()
	to := filepath.Join(stateDir(b), "image")
	if _, err := image.Build(b.Context(), to, image.Options{Stripe: 16 << 20}, image.Folder(dir)); err != nil {
		b.Fatal(err)
	}
	s := openService(b, Options{Root: stateDir(b), Mode: Fanotify, Learn: -1})
	defer s.Close()
	im, err := s.Prepare(b.Context(), Request{Reference: to})
	if err != nil {
		b.Fatal(err)
	}
	target := b.TempDir()
	for b.Loop() {
		if err := im.Mount(b.Context(), target, MountOptions{}); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := im.Unmount(b.Context(), target); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(im.Stats().Devices), "devices")
}
