package lazy

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"golang.org/x/sys/unix"

	"github.com/weft-dev/weft/image"
	"github.com/weft-dev/weft/image/chunk"
	"github.com/weft-dev/weft/registry"
	"github.com/weft-dev/weft/registry/registrytest"
)

// readAll reads all files of a mount and tells which could not be read. A wrong byte is an error of the test.
func readAll(t *testing.T, want map[string][]byte, target string) (failed []string) {
	t.Helper()
	for name, b := range want {
		got, err := os.ReadFile(filepath.Join(target, name))
		switch {
		case errors.Is(err, unix.EIO):
			failed = append(failed, name)
		case err != nil:
			t.Errorf("%s: %v, expected EIO", name, err)
		case !bytes.Equal(got, b):
			t.Errorf("%s has other content", name)
		}
	}
	return failed
}

func TestFaults(t *testing.T) { inBothModes(t, testFaults) }

func testFaults(t *testing.T, mode Mode) {
	for name, c := range map[string]struct {
		config registrytest.Config
		fault  registrytest.Fault
		fails  bool // reads do, as long as the fault is there
		o      image.Options
	}{
		"ranges ignored":        {fault: registrytest.Fault{Range: registrytest.RangeIgnored}},
		"ranges ignored, zstd":  {fault: registrytest.Fault{Range: registrytest.RangeIgnored}, o: image.Options{Codec: chunk.Zstd, Batch: 1 << 20}},
		"another range":         {fault: registrytest.Fault{Range: registrytest.RangeShifted}, fails: true},
		"another range once":    {fault: registrytest.Fault{Range: registrytest.RangeShifted, Times: 1}},
		"range of another size": {fault: registrytest.Fault{Range: registrytest.RangeOtherSize}, fails: true},
		"short range":           {fault: registrytest.Fault{Range: registrytest.RangeShort, Times: 1}},
		"range unsaid":          {fault: registrytest.Fault{Range: registrytest.RangeUnsaid}, fails: true},
		"stalls":                {fault: registrytest.Fault{Delay: time.Hour}, fails: true},
		"stalls once":           {fault: registrytest.Fault{Delay: 50 * time.Millisecond, Times: 1}},
		"busy":                  {fault: registrytest.Fault{Status: 503}, fails: true},
		"busy once":             {fault: registrytest.Fault{Status: 503, Times: 1}},
		"blob missing":          {fault: registrytest.Fault{Status: 404}, fails: true},
		"cut before the answer": {fault: registrytest.Fault{CutOut: -1}, fails: true},
		"cut within the answer": {fault: registrytest.Fault{CutOut: 1000, Times: 1}},
		"redirect":              {config: registrytest.Config{RedirectBlobs: true}},
		"redirect, cut":         {config: registrytest.Config{RedirectBlobs: true}, fault: registrytest.Fault{CutOut: 1000, Times: 1}},
		"tokens that end":       {config: registrytest.Config{Token: &registrytest.Token{User: "u", Password: "p", Hidden: true}}},
	} {
		t.Run(name, func(t *testing.T) {
			r := registrytest.New(t, c.config)
			dir := content(t, 5, 10, 200<<10)
			want := filesOf(t, dir)
			ref := r.Host + "/team/app:v1"
			auth := authn.AuthConfig{Username: "u", Password: "p"}
			keychain := registry.Explicit(map[string]authn.AuthConfig{r.Host: auth})
			pushWith(t, keychain, ref, dir, c.o)
			s := openService(t, Options{Root: stateDir(t), Mode: mode, Deadline: 200 * time.Millisecond, Learn: -1, Registry: registry.Options{
				Retry: registry.Retry{Attempts: 3, Min: time.Millisecond, Max: 5 * time.Millisecond},
			}})
			defer s.Close()
			im, err := s.Prepare(t.Context(), Request{Reference: ref, Credentials: &auth})
			if err != nil {
				t.Fatal(err)
			}
			target := mountImage(t, im)
			if c.config.Token != nil {
				r.Expire()
			}
			if c.fault != (registrytest.Fault{}) {
				c.fault.Method, c.fault.Path = "GET", "/blobs/"
				r.Fail(c.fault)
			}
			if failed := readAll(t, want, target); (len(failed) > 0) != c.fails {
				t.Errorf("%d of %d files could not be read", len(failed), len(want))
			}
			// Nothing that failed is remembered as failed. The deadline is so short that a busy machine may need several attempts.
			r.Heal()
			failed := readAll(t, want, target)
			for try := 0; len(failed) > 0 && try < 50; try++ {
				failed = readAll(t, want, target)
			}
			if len(failed) > 0 {
				t.Errorf("%v could not be read when all was well again", failed)
			}
			if st := im.Stats(); c.fails && st.Failed == 0 {
				t.Errorf("%d failed reads are counted", st.Failed)
			}
			if err := im.Unmount(t.Context(), target); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestDamagedChunk changes a byte of a blob: reads of the chunk fail, all others do not, and when the blob is mended, so does nothing.
func TestDamagedChunk(t *testing.T) { inBothModes(t, testDamagedChunk) }

func testDamagedChunk(t *testing.T, mode Mode) {
	for name, o := range map[string]image.Options{"plain": {}, "zstd": {Codec: chunk.Zstd, Batch: 64 << 10}} {
		t.Run(name, func(t *testing.T) {
			dir, to := content(t, 6, 24, 200<<10), filepath.Join(t.TempDir(), "image")
			want := filesOf(t, dir)
			built, err := image.Build(t.Context(), to, o, image.Folder(dir))
			if err != nil {
				t.Fatal(err)
			}
			blob := filepath.Join(to, built.Blobs[0].Digest[len("sha256:"):])
			good, err := os.ReadFile(blob)
			if err != nil {
				t.Fatal(err)
			}
			bad := bytes.Clone(good)
			bad[len(bad)/2] ^= 1
			if err := os.WriteFile(blob, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			s := openService(t, Options{Root: stateDir(t), Mode: mode, Learn: -1})
			defer s.Close()
			im, err := s.Prepare(t.Context(), Request{Reference: to})
			if err != nil {
				t.Fatal(err)
			}
			target := mountImage(t, im)
			failed := readAll(t, want, target)
			if len(failed) != 1 && name == "plain" || len(failed) == 0 || len(failed) > len(want)/2 {
				t.Errorf("%v could not be read", failed)
			}
			if err := os.WriteFile(blob, good, 0o600); err != nil {
				t.Fatal(err)
			}
			if failed := readAll(t, want, target); len(failed) > 0 {
				t.Errorf("%v could not be read when the blob was mended", failed)
			}
			if err := im.Unmount(t.Context(), target); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestFullDisk fills the file system of the state: reads that need room fail, nothing is wrong, and with room again they work.
func TestFullDisk(t *testing.T) { inBothModes(t, testFullDisk) }

func testFullDisk(t *testing.T, mode Mode) {
	root := filepath.Join(t.TempDir(), "disk")
	disk := filepath.Join(stateDir(t), "disk.ext4")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][]string{
		{"truncate", "-s", "24M", disk}, {"mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal", disk}, {"mount", "-o", "loop", disk, root},
	} {
		if out, err := exec.Command(c[0], c[1:]...).CombinedOutput(); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatalf("%v: %v %s", c, err, out)
			}
			t.Skipf("%v: %v %s", c, err, out)
		}
	}
	t.Cleanup(func() { _ = unix.Unmount(root, unix.MNT_DETACH) })
	dir, to := content(t, 8, 60, 500<<10), filepath.Join(t.TempDir(), "image")
	want := filesOf(t, dir)
	if _, err := image.Build(t.Context(), to, image.Options{}, image.Folder(dir)); err != nil {
		t.Fatal(err)
	}
	ballast := filepath.Join(root, "ballast")
	s := openService(t, Options{Root: filepath.Join(root, "state"), Mode: mode, Learn: -1})
	defer s.Close()
	im, err := s.Prepare(t.Context(), Request{Reference: to})
	if err != nil {
		t.Fatal(err)
	}
	target := mountImage(t, im)
	f, err := os.Create(ballast)
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; err == nil && n < 64; n++ {
		_, err = f.Write(make([]byte, 1<<20))
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	f.Close()
	if failed := readAll(t, want, target); len(failed) == 0 {
		t.Error("everything could be read with a full disk")
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if failed := readAll(t, want, target); len(failed) > 0 {
		t.Errorf("%v could not be read when there was room again", failed)
	}
	if err := im.Unmount(t.Context(), target); err != nil {
		t.Error(err)
	}
	if err := s.Remove(t.Context(), im.ID()); err != nil {
		t.Error(err)
	}
}
