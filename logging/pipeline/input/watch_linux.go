package input

import (
	"encoding/binary"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// watcher tells of changes of files by inotify.
type watcher struct {
	fd     int
	file   *os.File
	events chan watchEvent
	ended  chan struct{}
}

type watchEvent struct {
	watch    int32
	moved    bool
	folder   bool
	overflow bool
}

func newWatcher() (*watcher, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("inotify: %w", err)
	}
	w := &watcher{fd: fd, file: os.NewFile(uintptr(fd), "inotify"), events: make(chan watchEvent, 64), ended: make(chan struct{})}
	go w.read()
	return w, nil
}

func (w *watcher) addFile(name string) (int32, error) {
	n, err := unix.InotifyAddWatch(w.fd, name, unix.IN_MODIFY|unix.IN_ATTRIB|unix.IN_MOVE_SELF|unix.IN_DELETE_SELF)
	return int32(n), err
}

// addFolder watches for new names. Its events are told apart by their mask.
func (w *watcher) addFolder(name string) error {
	_, err := unix.InotifyAddWatch(w.fd, name, unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_ONLYDIR)
	return err
}

func (w *watcher) remove(watch int32) {
	// The watch goes by itself with its file: an error means that it has gone.
	_, _ = unix.InotifyRmWatch(w.fd, uint32(watch))
}

func (w *watcher) close() {
	w.file.Close()
	for {
		select {
		case <-w.events:
		case <-w.ended:
			return
		}
	}
}

func (w *watcher) read() {
	defer close(w.ended)
	buffer := make([]byte, 4096)
	for {
		n, err := w.file.Read(buffer)
		if err != nil {
			return // closed
		}
		for b := buffer[:n]; len(b) >= unix.SizeofInotifyEvent; {
			mask := binary.NativeEndian.Uint32(b[4:])
			size := binary.NativeEndian.Uint32(b[12:])
			e := watchEvent{watch: int32(binary.NativeEndian.Uint32(b)), moved: mask&(unix.IN_MOVE_SELF|unix.IN_DELETE_SELF|unix.IN_ATTRIB) != 0,
				folder: mask&(unix.IN_CREATE|unix.IN_MOVED_TO) != 0, overflow: mask&unix.IN_Q_OVERFLOW != 0}
			if mask&unix.IN_IGNORED == 0 {
				w.events <- e
			}
			b = b[unix.SizeofInotifyEvent+int(size):]
		}
	}
}
