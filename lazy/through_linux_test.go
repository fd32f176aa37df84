package lazy

import (
	"os"
	"testing"

	"github.com/weft-dev/weft/image"
	"github.com/weft-dev/weft/image/chunk"
	"github.com/weft-dev/weft/lazy/fuse"
	"github.com/weft-dev/weft/registry/registrytest"
)

// needMode skips a test where a mode does not work.
func needMode(t testing.TB, mode Mode) {
	t.Helper()
	if mode == Fanotify {
		needWatch(t)
		return
	}
	needMounts(t)
	err := fuse.Check()
	if err == nil {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatal(err)
	}
	t.Skip(err)
}

func TestFUSE(t *testing.T) {
	needMode(t, FUSE)
	for name, o := range map[string]image.Options{
		"plain": {}, "zstd": {Codec: chunk.Zstd, Batch: 64 << 10}, "nydus": {Format: image.RAFS, Codec: chunk.LZ4},
	} {
		t.Run(name, func(t *testing.T) {
			r := registrytest.New(t, registrytest.Config{})
			dir := content(t, 1, 40, 300<<10)
			ref := r.Host + "/app:v1"
			push(t, ref, dir, o)
			s := openService(t, Options{Root: stateDir(t), Mode: FUSE, Logger: logger(t)})
			defer s.Close()
			im, err := s.Prepare(t.Context(), Request{Reference: ref})
			if err != nil {
				t.Fatal(err)
			}
			target := mountImage(t, im)
			if st := im.Stats(); st.Fetched != 0 {
				t.Errorf("mounting has fetched content: %+v", st)
			}
			equal(t, dir, target)
			st := im.Stats()
			if st.Events == 0 || st.Failed != 0 || st.Fetched == 0 {
				t.Errorf("after all was read: %+v", st)
			}
			if err := im.Fetch(t.Context()); err != nil {
				t.Fatal(err)
			}
			if st := im.Stats(); st.Complete != st.Devices {
				t.Errorf("after all was fetched: %+v", st)
			}
			if err := im.Unmount(t.Context(), target); err != nil {
				t.Fatal(err)
			}
			if err := s.Remove(t.Context(), im.ID()); err != nil {
				t.Fatal(err)
			}
		})
	}
}
