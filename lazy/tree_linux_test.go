package lazy

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weft-dev/weft/image"
)

// everyKind makes a folder with all that an image may hold.
func everyKind(t testing.TB) string {
	t.Helper()
	dir := stateDir(t)
	must := func(errs ...error) {
		t.Helper()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	big := make([]byte, 700<<10)
	for i := range big {
		big[i] = byte(i * 7 >> 5)
	}
	must(os.Mkdir(at("d"), 0o1777), os.WriteFile(at("d/big"), big, 0o6755), os.WriteFile(at("empty"), nil, 0o600), os.WriteFile(at("small"), []byte("hello"), 0o644))
	must(os.Chmod(at("d"), fs.ModeSticky|0o777), os.Chmod(at("d/big"), fs.ModeSetuid|fs.ModeSetgid|0o755))
	must(os.Link(at("d/big"), at("linked")), os.Link(at("small"), at("d/small-too")))
	must(os.Symlink("d/big", at("link")), os.Symlink("/nowhere/"+strings.Repeat("x", 300), at("dangling")), os.Symlink("d", at("d/loop")))
	must(unix.Mknod(at("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))), unix.Mknod(at("disk"), unix.S_IFBLK|0o600, int(unix.Mkdev(259, 70000))),
		unix.Mknod(at("fifo"), unix.S_IFIFO|0o640, 0), unix.Mknod(at("socket"), unix.S_IFSOCK|0o600, 0), unix.Mknod(at("whiteout"), unix.S_IFCHR, 0))
	must(os.Chown(at("small"), 1234, 70000), os.Lchown(at("link"), 5, 6))
	must(os.Mkdir(at("many"), 0o755), os.Mkdir(at("nothing"), 0o700))
	for i := range 1200 {
		must(os.WriteFile(at(fmt.Sprintf("many/%s-%d", strings.Repeat("n", i%200), i)), []byte{byte(i)}, 0o644))
	}
	must(os.WriteFile(at("d/"+strings.Repeat("ü", 127)), []byte("a long name"), 0o644))
	holes, err := os.Create(at("holes"))
	must(err)
	_, err = holes.WriteAt(big[:100<<10], 1<<20)
	must(err, holes.Truncate(3<<20), holes.Close())
	must(unix.Setxattr(at("small"), "user.mime_type", []byte("text/plain"), 0), unix.Setxattr(at("small"), "trusted.secret", []byte("x\x00y"), 0),
		unix.Setxattr(at("d/big"), "user.big", bytes.Repeat([]byte("v"), 2000), 0), unix.Setxattr(at("d"), "user.folder", nil, 0))
	// cap_net_bind_service+ep, and an access list that gives user 1000 the right to read.
	must(unix.Setxattr(at("d/small-too"), "security.capability", []byte{1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 0))
	acl := []byte{2, 0, 0, 0, 1, 0, 6, 0, 0xff, 0xff, 0xff, 0xff, 2, 0, 4, 0, 0xe8, 3, 0, 0, 4, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x10, 0, 4, 0, 0xff, 0xff, 0xff, 0xff, 0x20, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}
	must(unix.Setxattr(at("empty"), "system.posix_acl_access", acl, 0), unix.Setxattr(at("d"), "system.posix_acl_default", acl, 0))
	must(os.Chtimes(at("empty"), time.Unix(1, 0), time.Unix(-5, 0)), os.Chtimes(at("nothing"), time.Unix(1, 0), time.Unix(2e9, 123456789)))
	return dir
}

// described is what is seen of every file below a folder.
func described(t testing.TB, root string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		text := fmt.Sprintf("type %s inode %d mode %o links %d owner %d:%d device %x size %d blocks %d*%d time %d.%09d", d.Type(), st.Ino, st.Mode, st.Nlink, st.Uid, st.Gid,
			st.Rdev, st.Size, st.Blocks, st.Blksize, st.Mtim.Sec, st.Mtim.Nsec)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFLNK:
			target, err := os.Readlink(path)
			text += fmt.Sprintf(" target %q %v", target, err)
		case unix.S_IFREG:
			b, err := os.ReadFile(path)
			text += fmt.Sprintf(" content %x %v holes %v", sha256.Sum256(b), err, holesOf(t, path))
		}
		text += attributes(t, path)
		rel, err := filepath.Rel(root, path)
		all[rel] = text
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// attributes are the extended ones, of links too.
func attributes(t testing.TB, path string) string {
	t.Helper()
	list := make([]byte, 4096)
	n, err := unix.Llistxattr(path, list)
	if err != nil {
		t.Fatal(path, err)
	}
	if size, err := unix.Llistxattr(path, nil); err != nil || size != n {
		t.Errorf("%s: the names of attributes have %d bytes, and %d are said (%v)", path, n, size, err)
	}
	names := strings.FieldsFunc(string(list[:n]), func(r rune) bool { return r == 0 })
	slices.Sort(names)
	text := ""
	for _, name := range names {
		value := make([]byte, 4096)
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			t.Fatal(path, name, err)
		}
		if size, err := unix.Lgetxattr(path, name, nil); err != nil || size != n {
			t.Errorf("%s: %s has %d bytes, and %d are said (%v)", path, name, n, size, err)
		}
		if _, err := unix.Lgetxattr(path, name, make([]byte, 1)); n > 1 && !errors.Is(err, unix.ERANGE) {
			t.Errorf("%s: %s into one byte: %v", path, name, err)
		}
		text += fmt.Sprintf(" %s=%x", name, value[:n])
	}
	return text
}

// holesOf lists where data and holes begin.
func holesOf(t testing.TB, path string) (list []int64) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for at, whence := int64(0), unix.SEEK_DATA; ; whence = unix.SEEK_DATA + unix.SEEK_HOLE - whence {
		if at, err = unix.Seek(int(f.Fd()), at, whence); err != nil {
			return list
		}
		list = append(list, at)
	}
}

// TestSameTree mounts trees through FUSE and by the kernel's EROFS: whatever is asked about any file, both answer the same.
func TestSameTree(t *testing.T) {
	needMode(t, FUSE)
	for name, make := range map[string]func(testing.TB) string{
		"every kind": everyKind, "random": func(t testing.TB) string { return randomTree(t, rand.New(rand.NewPCG(5, 6)), 400) },
	} {
		for format, o := range map[string]image.Options{"erofs": {ChunkSize: 64 << 10}, "rafs": {Format: image.RAFS}} {
			t.Run(name+" "+format, func(t *testing.T) {
				dir, to := make(t), filepath.Join(stateDir(t), "image")
				if _, err := image.Build(t.Context(), to, o, image.Folder(dir)); err != nil {
					t.Fatal(err)
				}
				var seen []map[string]string
				for _, mode := range []Mode{Eager, FUSE} {
					s := openService(t, Options{Root: stateDir(t), Mode: mode, Learn: -1, Logger: logger(t)})
					defer s.Close()
					im, err := s.Prepare(t.Context(), Request{Reference: to})
					if err != nil {
						t.Fatal(err)
					}
					target := mountImage(t, im)
					seen = append(seen, described(t, target))
					if _, ok := seen[0]["whiteout"]; ok {
						for uid, may := range map[uint32]bool{1000: true, 1001: false} {
							if err := readAs(t, uid, target, "empty"); (err == nil) != may {
								t.Errorf("%s: user %d reads what only user 1000 may: %v", mode, uid, err)
							}
						}
					}
					if err := im.Unmount(t.Context(), target); err != nil {
						t.Error(err)
					}
				}
				if len(seen[0]) < 100 || len(seen[0]) != len(seen[1]) {
					t.Errorf("the kernel has %d files, FUSE %d", len(seen[0]), len(seen[1]))
				}
				for path, want := range seen[0] {
					if got := seen[1][path]; got != want {
						t.Errorf("%s\n kernel: %s\n   FUSE: %s", path, want, got)
					}
				}
			})
		}
	}
}

// readAs reads a file as another user, who need not get to its folder.
func readAs(t testing.TB, uid uint32, dir, name string) error {
	t.Helper()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd := exec.Command("cat", "/proc/self/fd/3/"+name)
	cmd.ExtraFiles = []*os.File{f}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	return cmd.Run()
}

// randomTree makes a folder of files of random kinds, names and content.
func randomTree(t testing.TB, r *rand.Rand, n int) string {
	t.Helper()
	root := stateDir(t)
	dirs, files := []string{root}, []string{}
	for i := range n {
		name := filepath.Join(dirs[r.IntN(len(dirs))], fmt.Sprintf("%d-%s", i, strings.Repeat(string(rune('a'+r.IntN(26))), r.IntN(60))))
		var err error
		switch k := r.IntN(10); {
		case k == 0:
			err = os.Mkdir(name, 0o755)
			dirs = append(dirs, name)
		case k == 1:
			err = os.Symlink(strings.Repeat("../", r.IntN(5))+name, name)
		case k == 2 && len(files) > 0:
			err = os.Link(files[r.IntN(len(files))], name)
		case k == 3:
			err = unix.Mknod(name, []uint32{unix.S_IFCHR, unix.S_IFBLK, unix.S_IFIFO}[r.IntN(3)]|0o600, int(unix.Mkdev(uint32(r.IntN(4000)), r.Uint32N(1<<20))))
		default:
			b := make([]byte, r.IntN(1<<uint(r.IntN(19))))
			for j := range b {
				b[j] = byte(r.IntN(3))
			}
			err = os.WriteFile(name, b, os.FileMode(r.IntN(0o1000)))
			for range r.IntN(3) {
				err = errors.Join(err, unix.Setxattr(name, fmt.Sprintf("user.a%d", r.IntN(9)), b[:min(len(b), r.IntN(300))], 0))
			}
			err = errors.Join(err, os.Chown(name, r.IntN(1<<20), r.IntN(1<<20)))
			files = append(files, name)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}
