package stdlib

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"
	"unicode/utf8"

	"github.com/weft-dev/weft/kcl/value"
)

var fileFunctions = map[string]function{
	"read": readFile, "glob": glob, "modpath": modpath, "workdir": workdir, "current": current, "exists": exists,
	"abs": absolute, "append": writeFile("append", true), "write": writeFile("write", false), "mkdir": mkdir,
	"delete": deleteFile, "cp": copyFile, "mv": move, "size": size, "read_env": readEnv, "load": readFile,
}

// readable is the file system that the run may read.
func readable(c *value.Call, fn string) (value.FileSystem, error) {
	if c.Host == nil || c.Host.Files == nil {
		return nil, fmt.Errorf("%s() needs the file system, which this run has not", fn)
	}
	return c.Host.Files, nil
}

func writable(c *value.Call, fn string) (value.WriteFileSystem, error) {
	if c.Host != nil {
		if files, ok := c.Host.Files.(value.WriteFileSystem); ok {
			return files, nil
		}
	}
	return nil, fmt.Errorf("%s() needs a file system to write to, which this run has not", fn)
}

// osError is the text of a file error, with the number of the system's error
// as upstream shows it.
func osError(err error) string {
	var no syscall.Errno
	if !errors.As(err, &no) {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			no = syscall.ENOENT
		case errors.Is(err, fs.ErrExist):
			no = syscall.EEXIST
		case errors.Is(err, fs.ErrPermission):
			no = syscall.EACCES
		default:
			return err.Error()
		}
	}
	text := no.Error()
	return fmt.Sprintf("%s%s (os error %d)", strings.ToUpper(text[:1]), text[1:], int(no))
}

// filePath is the required string argument 0 and the file system to read.
func filePath(c *value.Call, fn string) (string, value.FileSystem, error) {
	a := read(c)
	name := a.str(0, "filepath", one(fn))
	if a.err != nil {
		return "", nil, a.err
	}
	files, err := readable(c, fn)
	return name, files, err
}

func readFile(c *value.Call) (value.Value, error) {
	name, files, err := filePath(c, "read")
	if err != nil {
		return nil, err
	}
	data, err := files.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("failed to access the file '%s': %s", name, osError(err))
	}
	if !utf8.Valid(data) {
		return nil, fmt.Errorf("failed to access the file '%s': stream did not contain valid UTF-8", name)
	}
	return value.Str(data), grow(c, len(data))
}

func modpath(c *value.Call) (value.Value, error) {
	if c.Host == nil {
		return value.Str(""), nil
	}
	return value.Str(c.Host.Root), nil
}

func workdir(c *value.Call) (value.Value, error) {
	if c.Host == nil {
		return value.Str(""), nil
	}
	return value.Str(c.Host.WorkDir), nil
}

func current(c *value.Call) (value.Value, error) { return value.Str(c.File), nil }

func exists(c *value.Call) (value.Value, error) {
	name, files, err := filePath(c, "exists")
	if err != nil {
		return nil, err
	}
	_, err = files.Stat(name)
	return value.Bool(err == nil), nil
}

func absolute(c *value.Call) (value.Value, error) {
	name, files, err := filePath(c, "abs")
	if err != nil {
		return nil, err
	}
	if _, err := files.Stat(name); err != nil {
		return nil, fmt.Errorf("Could not get the absolute path of %s", name)
	}
	if !filepath.IsAbs(name) {
		name = filepath.Join(c.Host.WorkDir, name)
	}
	if r, ok := files.(interface{ RealPath(string) (string, error) }); ok {
		if name, err = r.RealPath(name); err != nil {
			return nil, fmt.Errorf("Could not get the absolute path of %s", name)
		}
	}
	return value.Str(filepath.Clean(name)), nil
}

func size(c *value.Call) (value.Value, error) {
	name, files, err := filePath(c, "size")
	if err != nil {
		return nil, err
	}
	info, err := files.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("failed to get size of '%s': %s", name, osError(err))
	}
	return value.Int(info.Size()), nil
}

func glob(c *value.Call) (value.Value, error) {
	a := read(c)
	pattern := a.str(0, "pattern", one("glob"))
	if a.err != nil {
		return nil, a.err
	}
	files, err := readable(c, "glob")
	if err != nil {
		return nil, err
	}
	g := globber{files: files, grow: func(n int) error { return grow(c, n) }}
	names, err := g.glob(pattern)
	if err != nil {
		return nil, fmt.Errorf("Failed to read glob pattern: %w", err)
	}
	return strList(names), nil
}

func mkdir(c *value.Call) (value.Value, error) {
	a := read(c)
	name := a.str(0, "directory", one("mkdir"))
	if a.err != nil {
		return nil, a.err
	}
	files, err := writable(c, "mkdir")
	if err != nil {
		return nil, err
	}
	if err := files.MkdirAll(name); err != nil && !(a.truth(1, "exists") && errors.Is(err, fs.ErrExist)) {
		return nil, fmt.Errorf("Failed to create directory '%s': %s", name, osError(err))
	}
	return value.None, nil
}

func deleteFile(c *value.Call) (value.Value, error) {
	a := read(c)
	name := a.str(0, "filepath", one("delete"))
	if a.err != nil {
		return nil, a.err
	}
	files, err := writable(c, "delete")
	if err != nil {
		return nil, err
	}
	if err := files.Remove(name); err != nil {
		return nil, fmt.Errorf("failed to delete '%s': %s", name, osError(err))
	}
	return value.None, nil
}

func writeFile(fn string, appending bool) function {
	return func(c *value.Call) (value.Value, error) {
		a := read(c)
		name := a.str(0, "filepath", fn+"() missing 'filepath' argument")
		content := a.str(1, "content", fn+"() missing 'content' argument")
		if a.err != nil {
			return nil, a.err
		}
		files, err := writable(c, fn)
		if err != nil {
			return nil, err
		}
		if err := files.WriteFile(name, []byte(content), appending); err != nil {
			verb := "create"
			if appending {
				verb = "open or create"
			}
			return nil, fmt.Errorf("Failed to %s file '%s': %s", verb, name, osError(err))
		}
		return value.None, nil
	}
}

// twoPaths reads src and dest.
func twoPaths(c *value.Call, fn string) (src, dest string, files value.WriteFileSystem, err error) {
	a := read(c)
	src = a.str(0, "src", fn+"() missing 'src_path' argument")
	dest = a.str(1, "dest", fn+"() missing 'dest_path' argument")
	if a.err != nil {
		return "", "", nil, a.err
	}
	files, err = writable(c, fn)
	return src, dest, files, err
}

func move(c *value.Call) (value.Value, error) {
	src, dest, files, err := twoPaths(c, "mv")
	if err != nil {
		return nil, err
	}
	if err := files.Rename(src, dest); err != nil {
		return nil, fmt.Errorf("Failed to move '%s' to '%s': %s", src, dest, osError(err))
	}
	return value.None, nil
}

func copyFile(c *value.Call) (value.Value, error) {
	src, dest, files, err := twoPaths(c, "cp")
	if err != nil {
		return nil, err
	}
	if err := copyTree(files, src, dest, 0); err != nil {
		return nil, fmt.Errorf("Failed to copy from '%s' to '%s': %s", src, dest, osError(err))
	}
	return value.None, nil
}

func copyTree(files value.WriteFileSystem, src, dest string, depth int) error {
	info, err := files.Stat(src)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		data, err := files.ReadFile(src)
		if err != nil {
			return err
		}
		return files.WriteFile(dest, data, false)
	}
	if depth > 64 {
		return errors.New("folders nest too deep")
	}
	if err := files.MkdirAll(dest); err != nil {
		return err
	}
	entries, err := files.ReadDir(src)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() && !e.Type().IsRegular() {
			continue
		}
		if err := copyTree(files, filepath.Join(src, e.Name()), filepath.Join(dest, e.Name()), depth+1); err != nil {
			return err
		}
	}
	return nil
}

func readEnv(c *value.Call) (value.Value, error) {
	a := read(c)
	key := a.str(0, "key", "read_env() requires 'key' argument")
	if a.err != nil {
		return nil, a.err
	}
	if c.Host == nil || c.Host.Getenv == nil {
		return nil, errors.New("read_env() needs the environment, which this run has not")
	}
	if v, ok := c.Host.Getenv(key); ok {
		return value.Str(v), nil
	}
	return value.Undefined, nil
}
