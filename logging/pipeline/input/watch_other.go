//go:build !linux

package input

import "errors"

// watcher is not there on this system: files are looked at at intervals.
type watcher struct{ events chan watchEvent }

type watchEvent struct {
	watch                   int32
	moved, folder, overflow bool
}

func newWatcher() (*watcher, error)              { return nil, errors.ErrUnsupported }
func (w *watcher) addFile(string) (int32, error) { return -1, errors.ErrUnsupported }
func (w *watcher) addFolder(string) error        { return errors.ErrUnsupported }
func (w *watcher) remove(int32)                  {}
func (w *watcher) close()                        {}
