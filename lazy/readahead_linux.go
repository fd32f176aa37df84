package lazy

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// kernelReadAhead is how far the kernel reads ahead of a mount unless it is told, in KiB (VM_READAHEAD_PAGES in include/linux/mm.h).
const kernelReadAhead = "128"

// readAhead is how far the kernel reads ahead of mounts. What it chooses suits a mount of which much is missing, where each page read ahead may be
// one to fetch. Of a complete one it shall read as far ahead as of the disk below: more at once, and kept in larger pieces, which are found faster.
//
// The kernel has a folder for each mount's setting, but tells of no mount which one is its: it is the one that is new after the mounting. If there are
// several, since somebody else mounted too, the mount stays as it is.
type readAhead struct {
	disk string // the setting of the disk, in KiB; empty: there is nothing to change

	mu sync.Mutex
	of map[string]string // the file of a mount's setting, by the folder it is mounted on
}

// newReadAhead looks up the setting of the disk that a folder lies on.
func newReadAhead(dir string) *readAhead {
	r := &readAhead{of: map[string]string{}}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return r
	}
	b, err := os.ReadFile(fmt.Sprintf("/sys/class/bdi/%d:%d/read_ahead_kb", unix.Major(st.Dev), unix.Minor(st.Dev)))
	if disk := strings.TrimSpace(string(b)); err == nil && disk != kernelReadAhead {
		r.disk = disk
	}
	return r
}

// mount mounts something on a folder and remembers where its setting is.
func (r *readAhead) mount(target string, mount func() error) error {
	if r.disk == "" {
		return mount()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	before := map[string]bool{}
	for _, name := range settings() {
		before[name] = true
	}
	if err := mount(); err != nil {
		return err
	}
	var fresh []string
	for _, name := range settings() {
		if !before[name] {
			fresh = append(fresh, name)
		}
	}
	delete(r.of, target)
	if len(fresh) == 1 {
		r.of[target] = fresh[0]
	}
	return nil
}

// settings are the files of all mounts of images.
func settings() []string {
	list, _ := filepath.Glob("/sys/class/bdi/erofs-*/read_ahead_kb") // no error: the pattern is one
	return list
}

// widen lets the kernel read as far ahead of what is mounted on a folder as of the disk. Files that are open already stay as they are.
func (r *readAhead) widen(target string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	file, ok := r.of[target]
	if !ok {
		return nil
	}
	delete(r.of, target)
	if err := os.WriteFile(file, []byte(r.disk), 0); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("reading ahead of %s: %w", target, err)
	}
	return nil
}

// forget forgets what was mounted on a folder.
func (r *readAhead) forget(target string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.of, target)
}

// widen lets the kernel read far ahead of an image of which nothing is missing.
func (s *Service) widen(im *Image) {
	for i := range im.record.Devices {
		if im.record.Stored[i] == "" && !im.completeOnDisk(i) {
			return
		}
	}
	for _, m := range im.mounts() {
		if err := s.ahead.widen(m.Target); err != nil {
			s.log.Debug("the kernel reads no further ahead", "image", im.Name(), "error", err)
		}
	}
}
