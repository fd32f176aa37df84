package lifecycle

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
)

// Limits on layers that are unpacked.
const (
	maxEntries   = 5_000_000
	maxLayerSize = 64 << 30 // bytes
)

// ExtractLayer unpacks a layer tar below the layers folder, which the tar calls inside; "" unpacks all of it. Entries that would land
// elsewhere are an error, except the folders above. The tar is read to its end.
func ExtractLayer(r io.Reader, layers *os.Root, inside string) error {
	buffered := bufio.NewReaderSize(r, 256<<10)
	x := &extraction{root: layers, tar: tar.NewReader(buffered)}
	err := x.run(inside)
	x.close()
	if _, restErr := io.Copy(io.Discard, buffered); restErr != nil {
		return restErr // the whole is wrong, whatever has been made of its beginning
	}
	return err
}

// extraction unpacks one tar. The folder of the last entry stays open, since the next one is mostly in it, too.
type extraction struct {
	root  *os.Root
	tar   *tar.Reader
	name  string // of the open folder
	dir   *os.Root
	modes []folderMode
}

// folderMode is the mode that a folder gets when all is in it.
type folderMode struct {
	name string
	mode fs.FileMode
}

func (x *extraction) close() {
	if x.dir != nil {
		x.dir.Close()
		x.dir = nil
	}
}

func (x *extraction) run(inside string) error {
	var size int64
	for entries := 0; ; entries++ {
		h, err := x.tar.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if size += h.Size; entries > maxEntries || size > maxLayerSize {
			return fmt.Errorf("the layer has more than %d entries or %d bytes", maxEntries, int64(maxLayerSize))
		}
		name := path.Clean("/" + h.Name)
		if name == "/" || name == inside || strings.HasPrefix(inside, name+"/") {
			continue // a folder above
		}
		rel, ok := strings.CutPrefix(name, inside+"/")
		if !ok || slices.Contains(strings.Split(h.Name, "/"), "..") {
			return fmt.Errorf("the layer has %q, which is not below %s", h.Name, inside)
		}
		if err := x.entry(h, rel); err != nil {
			return fmt.Errorf("unpack %s: %w", h.Name, err)
		}
	}
	for _, m := range slices.Backward(x.modes) { // folders that cannot be written come last
		if err := x.root.Chmod(m.name, m.mode); err != nil {
			return err
		}
	}
	return nil
}

// folder opens the folder at rel, which is made if it is missing.
func (x *extraction) folder(rel string) (*os.Root, error) {
	if x.dir != nil && x.name == rel {
		return x.dir, nil
	}
	dir, err := x.root.OpenRoot(rel)
	if errors.Is(err, fs.ErrNotExist) {
		if err = x.root.MkdirAll(rel, 0o777); err == nil {
			dir, err = x.root.OpenRoot(rel)
		}
	}
	if err != nil {
		return nil, err
	}
	x.close()
	x.name, x.dir = rel, dir
	return dir, nil
}

func (x *extraction) entry(h *tar.Header, rel string) error {
	mode := h.FileInfo().Mode().Perm()
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	dir, err := x.folder(path.Dir(rel))
	if err != nil {
		return err
	}
	name := path.Base(rel)
	switch h.Typeflag {
	case tar.TypeDir:
		if err := dir.Mkdir(name, 0o777); err != nil {
			info, statErr := dir.Lstat(name)
			if statErr != nil || !info.IsDir() {
				return err
			}
		}
		if mode&0o700 != 0o700 {
			x.modes = append(x.modes, folderMode{rel, mode})
			mode |= 0o700
		}
		return dir.Chmod(name, mode)
	case tar.TypeReg:
		return x.file(h, dir, name, mode)
	case tar.TypeSymlink:
		err := dir.Symlink(h.Linkname, name)
		if errors.Is(err, fs.ErrExist) {
			if err = dir.Remove(name); err == nil {
				err = dir.Symlink(h.Linkname, name)
			}
		}
		return err
	}
	return fmt.Errorf("entries of type %q are not allowed", h.Typeflag)
}

func (x *extraction) file(h *tar.Header, dir *os.Root, name string, mode fs.FileMode) error {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return errors.New("files with holes are not allowed") // a few bytes could fill the disk
		}
	}
	const flags = os.O_CREATE | os.O_EXCL | os.O_WRONLY
	f, err := dir.OpenFile(name, flags, 0o600)
	if errors.Is(err, fs.ErrExist) {
		if err = dir.Remove(name); err == nil {
			f, err = dir.OpenFile(name, flags, 0o600)
		}
	}
	if err != nil {
		return err
	}
	_, err = io.Copy(f, x.tar)
	return errors.Join(err, f.Chmod(mode), f.Close())
}
