package kept

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"syscall"

	"github.com/weft-dev/weft/buildpack/layer"
	"github.com/weft-dev/weft/buildpack/lifecycle"
)

// take moves a layer out of the layers folder to the path to. Files that programs have not touched lie in the layer that was mounted
// below: they get another name there, which costs neither time nor room.
func take(folders lifecycle.Folders, key, to string) error {
	below := folders.Below[key]
	if below == "" {
		err := os.Rename(filepath.Join(folders.Layers.Host, filepath.FromSlash(key)), to)
		if !mustCopy(err) {
			return err
		}
	}
	files, done, err := folders.Files()
	if err != nil {
		return err
	}
	defer done()
	t := taker{files: files, upper: folders.Layers.Host, lower: below}
	return t.entry(key, to)
}

// mustCopy says that a file cannot have another name there: on another file system, or in a folder that its owner must not write.
func mustCopy(err error) bool {
	return errors.Is(err, syscall.EXDEV) || errors.Is(err, syscall.EMLINK) || errors.Is(err, fs.ErrPermission)
}

type taker struct {
	files        layer.Tree
	upper, lower string
}

func (t *taker) entry(name, to string) error {
	info, err := t.files.Lstat(name)
	if err != nil {
		return err
	}
	switch mode := info.Mode(); {
	case mode.IsDir():
		return t.folder(name, to, info)
	case mode&fs.ModeSymlink != 0:
		link, err := t.files.ReadLink(name)
		if err != nil {
			return err
		}
		return errors.Join(os.Symlink(link, to), sameOwner(to, info))
	case mode.IsRegular():
		return t.file(name, to, info)
	}
	return nil // pipes and sockets are no content of a layer
}

func (t *taker) folder(name, to string, info fs.FileInfo) error {
	if err := os.Mkdir(to, 0o700); err != nil {
		return err
	}
	entries, err := t.files.ReadDir(name)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := t.entry(path.Join(name, e.Name()), filepath.Join(to, e.Name())); err != nil {
			return err
		}
	}
	return errors.Join(sameOwner(to, info), os.Chmod(to, info.Mode()), os.Chtimes(to, info.ModTime(), info.ModTime()))
}

// file links a file that is one of the store's own, moves one that programs have made, and copies where neither can be done.
func (t *taker) file(name, to string, info fs.FileInfo) error {
	at := filepath.Join(t.upper, filepath.FromSlash(name))
	if now, err := os.Lstat(at); err == nil && os.SameFile(now, info) {
		if err = os.Rename(at, to); !mustCopy(err) {
			return err
		}
	} else if t.lower != "" {
		err := os.Link(filepath.Join(t.lower, filepath.FromSlash(name)), to)
		if !mustCopy(err) {
			return err
		}
	}
	in, err := t.files.Open(name)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Close()); err != nil {
		return fmt.Errorf("copy %s: %w", name, err)
	}
	return errors.Join(sameOwner(to, info), os.Chmod(to, info.Mode()), os.Chtimes(to, info.ModTime(), info.ModTime()))
}

func sameOwner(name string, info fs.FileInfo) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 {
		return nil
	}
	return os.Lchown(name, int(st.Uid), int(st.Gid))
}
