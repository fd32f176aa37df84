package lifecycle

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/weft-dev/weft/buildpack/layer"
)

// Below tells, for layers ("ID/NAME") that came back by mounting, the folder that takes the place of the layers folder below it:
// programs see what it has under ID/NAME, as long as they have not changed it. Their changes lie in the layers folder, in the form
// of an overlay's upper folder (Documentation/filesystems/overlayfs.rst). It is empty where layers are copied, and where this process
// sees the mounts itself.
type Below map[string]string

// Lower gives the folders to mount below the layers folder, each once, sorted.
func (b Below) Lower() []string {
	var out []string
	for _, dir := range b {
		out = append(out, dir)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// tree is the layers folder as programs see it: os.Root's files where nothing is mounted.
func (f Folders) tree(layers *os.Root) *overlaid {
	return &overlaid{upper: layers, files: layer.Root(layers), below: f.Below, roots: map[string]*os.Root{}, hidden: map[string]bool{}}
}

// Files opens the layers folder, with its files as programs see them; done closes it.
func (f Folders) Files() (files layer.Tree, done func(), err error) {
	root, err := os.OpenRoot(f.Layers.Host)
	if err != nil {
		return nil, nil, err
	}
	tree := f.tree(root)
	return tree, func() {
		tree.Close()
		root.Close()
	}, nil
}

// overlaid reads an upper folder over what is below it. It is used by one goroutine; Close it.
type overlaid struct {
	upper  *os.Root
	files  layer.Tree
	below  Below
	roots  map[string]*os.Root // opened folders of below
	hidden map[string]bool     // folders through which nothing below can be seen
}

// walk gives the files to walk through: where nothing is mounted those of the folder itself, which is faster.
func (o *overlaid) walk() layer.Tree {
	if len(o.below) == 0 {
		return o.files
	}
	return o
}

// Close closes the folders below.
func (o *overlaid) Close() {
	for _, r := range o.roots {
		r.Close()
	}
}

// key gives ID/NAME of a path in a mounted layer, "" for others.
func (o *overlaid) key(name string) string {
	parts := strings.SplitN(name, "/", 3)
	if len(parts) < 2 {
		return ""
	}
	key := parts[0] + "/" + parts[1]
	if o.below[key] == "" {
		return ""
	}
	return key
}

// lower gives the files below a path, nil if there are none or they cannot be seen through it.
func (o *overlaid) lower(name string) (layer.Tree, error) {
	key := o.key(name)
	if key == "" {
		return nil, nil
	}
	for at, rest := "", name; ; {
		first, after, more := strings.Cut(rest, "/")
		at, rest = path.Join(at, first), after
		if !more {
			break
		}
		hidden, known := o.hidden[at]
		if !known {
			info, err := o.upper.Lstat(at)
			switch {
			case errors.Is(err, fs.ErrNotExist):
			case err != nil:
				return nil, err
			case !info.IsDir():
				hidden = true
			default:
				if hidden, err = isOpaque(o.upper, at); err != nil {
					return nil, err
				}
			}
			o.hidden[at] = hidden
		}
		if hidden {
			return nil, nil
		}
	}
	dir := o.below[key]
	root := o.roots[dir]
	if root == nil {
		var err error
		if root, err = os.OpenRoot(dir); err != nil {
			return nil, err
		}
		o.roots[dir] = root
	}
	return root.FS().(layer.Tree), nil
}

// side gives the files that have a path: the upper ones, or those below.
func (o *overlaid) side(op, name string) (layer.Tree, fs.FileInfo, error) {
	info, err := o.upper.Lstat(name)
	if err == nil {
		if isWhiteout(info) {
			return nil, nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
		}
		return o.files, info, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	lower, lowerErr := o.lower(name)
	if lowerErr != nil || lower == nil {
		return nil, nil, cmp.Or(lowerErr, err)
	}
	info, err = lower.Lstat(name)
	return lower, info, err
}

// touched reports whether programs have changed anything of a mounted layer.
func (o *overlaid) touched(key string) (bool, error) {
	if _, err := o.upper.Lstat(key); !errors.Is(err, fs.ErrNotExist) {
		return true, err
	}
	lower, err := o.lower(key)
	return lower == nil, err
}

// Lstat implements fs.ReadLinkFS.
func (o *overlaid) Lstat(name string) (fs.FileInfo, error) {
	_, info, err := o.side("lstat", name)
	return info, err
}

// ReadLink implements fs.ReadLinkFS.
func (o *overlaid) ReadLink(name string) (string, error) {
	files, _, err := o.side("readlink", name)
	if err != nil {
		return "", err
	}
	return files.ReadLink(name)
}

// maxLinks is how many links a path may lead through.
const maxLinks = 40

// follow gives what a path leads to in the end. Links out of the layers folder are refused.
func (o *overlaid) follow(op, name string) (layer.Tree, fs.FileInfo, string, error) {
	for range maxLinks {
		files, info, err := o.side(op, name)
		if err != nil || info.Mode()&fs.ModeSymlink == 0 || o.key(name) == "" {
			return files, info, name, err
		}
		link, err := files.ReadLink(name)
		if err != nil {
			return nil, nil, "", err
		}
		to := path.Join(path.Dir(name), link)
		if path.IsAbs(link) || !fs.ValidPath(to) {
			return nil, nil, "", &fs.PathError{Op: op, Path: name, Err: errors.New("the link leads out of the layers folder")}
		}
		name = to
	}
	return nil, nil, "", &fs.PathError{Op: op, Path: name, Err: errors.New("too many links")}
}

// Open implements fs.FS.
func (o *overlaid) Open(name string) (fs.File, error) {
	files, _, name, err := o.follow("open", name)
	if err != nil {
		return nil, err
	}
	return files.Open(name)
}

// Stat implements fs.StatFS.
func (o *overlaid) Stat(name string) (fs.FileInfo, error) {
	files, info, name, err := o.follow("stat", name)
	if err != nil || info.Mode()&fs.ModeSymlink == 0 {
		return info, err
	}
	return fs.Stat(files, name)
}

// ReadDir implements fs.ReadDirFS.
func (o *overlaid) ReadDir(name string) ([]fs.DirEntry, error) {
	files, _, name, err := o.follow("readdir", name)
	if err != nil {
		return nil, err
	}
	entries, err := files.ReadDir(name)
	if err != nil || files != o.files || o.key(name) == "" {
		return entries, err
	}
	lower, err := o.lower(name + "/x") // an opaque folder hides what is in it
	if err != nil {
		return nil, err
	}
	var below []fs.DirEntry
	if lower != nil {
		if below, err = lower.ReadDir(name); errors.Is(err, fs.ErrNotExist) || isNotDir(err) {
			below = nil
		} else if err != nil {
			return nil, err
		}
	}
	above := map[string]bool{}
	out := entries[:0]
	for _, e := range entries {
		above[e.Name()] = true
		if e.Type()&fs.ModeCharDevice != 0 {
			if info, err := e.Info(); err != nil {
				return nil, err
			} else if isWhiteout(info) {
				continue
			}
		}
		out = append(out, e)
	}
	for _, e := range below {
		if !above[e.Name()] {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return out, nil
}
