package lazy

import (
	"errors"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

// dropPages lets the kernel forget what it has read of a mount's files. It counts those that it may not forget because they are mapped.
func dropPages(target string) (busy int, err error) {
	root, err := os.OpenRoot(target)
	if err != nil {
		return 0, err
	}
	defer root.Close()
	err = walkFiles(root, ".", func(f *os.File) error {
		if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
			return err
		}
		in, err := resident(f)
		if in {
			busy++
		}
		return err
	})
	return busy, err
}

// walkFiles opens every regular file below a folder.
func walkFiles(root *os.Root, dir string, visit func(*os.File) error) error {
	d, err := root.Open(dir)
	if err != nil {
		return err
	}
	entries, err := d.ReadDir(-1)
	if err := errors.Join(err, d.Close()); err != nil {
		return err
	}
	for _, e := range entries {
		name := filepath.Join(dir, e.Name())
		if e.IsDir() {
			err = walkFiles(root, name, visit)
		} else if e.Type().IsRegular() {
			var f *os.File
			if f, err = root.Open(name); err == nil {
				err = errors.Join(visit(f), f.Close())
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// mincore is mincore(2).
func mincore(m, pages []byte) error {
	_, _, e := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&m[0])), uintptr(len(m)), uintptr(unsafe.Pointer(&pages[0]))) //nolint:gosec // as the system call wants it
	if e != 0 {
		return e
	}
	return nil
}

// resident says whether any page of a file is in memory.
func resident(f *os.File) (bool, error) {
	st, err := f.Stat()
	if err != nil || st.Size() == 0 {
		return false, err
	}
	m, err := unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return false, err
	}
	pages := make([]byte, (len(m)+os.Getpagesize()-1)/os.Getpagesize())
	err = mincore(m, pages)
	if err := errors.Join(err, unix.Munmap(m)); err != nil {
		return false, err
	}
	for _, p := range pages {
		if p&1 != 0 {
			return true, nil
		}
	}
	return false, nil
}
