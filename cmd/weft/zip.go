package main

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Limits on a source in a zip file.
const (
	maxZipFiles = 1_000_000
	maxZipSize  = 8 << 30 // bytes, unpacked
)

// unzip unpacks a zip or jar file into a new folder below the folder for temporary files. Nothing lands outside it.
func unzip(file string) (string, error) {
	z, err := zip.OpenReader(file)
	if err != nil {
		return "", fmt.Errorf("%s is neither a folder nor a zip file: %w", file, err)
	}
	defer z.Close()
	dir, err := os.MkdirTemp("", "weft-source-")
	if err != nil {
		return "", err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", err
	}
	defer root.Close()
	left := int64(maxZipSize)
	if len(z.File) > maxZipFiles {
		err = fmt.Errorf("%s has %d entries, at most %d are allowed", file, len(z.File), maxZipFiles)
	}
	for _, f := range z.File {
		if err == nil {
			err = unzipOne(root, f, &left)
		}
	}
	if err != nil {
		os.RemoveAll(dir)
		return "", fmt.Errorf("%s: %w", file, err)
	}
	return dir, nil
}

func unzipOne(root *os.Root, f *zip.File, left *int64) error {
	name := strings.TrimSuffix(filepath.FromSlash(f.Name), "/")
	if !filepath.IsLocal(name) {
		return fmt.Errorf("the entry %q leads out of the archive", f.Name)
	}
	if f.FileInfo().IsDir() {
		return root.MkdirAll(name, 0o755)
	}
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	in, err := f.Open()
	if err != nil {
		return fmt.Errorf("%s: %w", f.Name, err)
	}
	defer in.Close()
	if f.Mode()&fs.ModeSymlink != 0 {
		link, err := io.ReadAll(io.LimitReader(in, 4096))
		if err != nil {
			return err
		}
		return root.Symlink(string(link), name)
	}
	mode := fs.FileMode(0o644)
	if f.Mode()&0o111 != 0 {
		mode = 0o755
	}
	out, err := root.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	n, err := io.Copy(out, io.LimitReader(in, *left+1))
	if *left -= n; err == nil && *left < 0 {
		err = fmt.Errorf("it unpacks to more than %d bytes", int64(maxZipSize))
	}
	return errors.Join(err, out.Close())
}
