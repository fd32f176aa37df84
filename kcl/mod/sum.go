package mod

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// ignored are the parts of a path that keep a file out of checksums and
// packages, as in kcl-lang/kpm pkg/utils.
func ignored(rel string) bool { return strings.Contains(rel, ".git") || strings.Contains(rel, ".tar") }

// Sum is the checksum of a package's folder: base64 of the SHA-256 of the
// content of all its files, in the lexical order of a walk.
func Sum(dir string) (string, error) {
	h := sha256.New()
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil || ignored(filepath.ToSlash(rel)) {
			return err
		}
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(h, f)
		return err
	})
	if err != nil {
		return "", err
	}
	return base64.StdEncoding.EncodeToString(h.Sum(nil)), nil
}

// Pack writes the package in dir as a tar archive: all its files, or those
// that include names, without those that exclude names. Times, owners and
// modes are fixed, so that equal content gives equal archives.
func Pack(w io.Writer, dir string, p Package) error {
	tw := tar.NewWriter(w)
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || name == dir {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		switch {
		case ignored(rel):
			if e.IsDir() {
				return fs.SkipDir
			}
			return nil
		case e.IsDir():
			return nil
		case !e.Type().IsRegular():
			return fmt.Errorf("%s: only regular files can be packed", rel)
		case matches(p.Exclude, rel) || len(p.Include) > 0 && !matches(p.Include, rel) && rel != FileName:
			return nil
		}
		return packFile(tw, name, rel)
	})
	if err != nil {
		return err
	}
	return tw.Close()
}

func packFile(tw *tar.Writer, name, rel string) error {
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	if err := tw.WriteHeader(&tar.Header{Name: rel, Mode: 0o644, Size: int64(len(data)), Format: tar.FormatPAX}); err != nil {
		return err
	}
	_, err = tw.Write(data)
	return err
}

func matches(patterns []string, rel string) bool {
	for _, p := range patterns {
		if ok, _ := path.Match(path.Clean(p), rel); ok {
			return true
		}
	}
	return false
}

// Limits on what an archive may hold.
const (
	maxArchive = 1 << 30
	maxEntries = 200_000
)

// Unpack reads a tar archive into dir. Names that lead out of it, links and
// devices are errors.
func Unpack(r io.Reader, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	tr := tar.NewReader(r)
	var total int64
	for n := 0; ; n++ {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("the archive is damaged: %w", err)
		}
		if total += h.Size; total > maxArchive || n > maxEntries {
			return fmt.Errorf("the archive holds more than %d bytes or %d files", maxArchive, maxEntries)
		}
		name := path.Clean(strings.TrimPrefix(h.Name, "./"))
		if !filepath.IsLocal(filepath.FromSlash(name)) {
			return fmt.Errorf("the archive names %q, which lies outside of the package", h.Name)
		}
		switch h.Typeflag {
		case tar.TypeDir:
			err = root.MkdirAll(name, 0o755)
		case tar.TypeReg:
			err = unpackFile(root, name, tr)
		case tar.TypeXGlobalHeader:
		default:
			err = fmt.Errorf("the archive holds %q, which is no file or folder", h.Name)
		}
		if err != nil {
			return err
		}
	}
}

func unpackFile(root *os.Root, name string, r io.Reader) error {
	if dir := path.Dir(name); dir != "." {
		if err := root.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	f, err := root.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}
