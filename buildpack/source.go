package buildpack

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// walkSource visits what of a folder is source, folders before what they have. A nil project takes all.
func walkSource(root string, p *project, visit func(rel, name string, info fs.FileInfo) error) error {
	return filepath.WalkDir(root, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		if p != nil && rel != "." && p.ignore(rel) {
			switch {
			case !e.IsDir():
				return nil
			case rel == ".git" || !p.includes():
				return fs.SkipDir
			}
			return nil // something below may be included
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		return visit(rel, name, info)
	})
}

// copyTree copies files, links and folders. What is neither is left out: sockets and pipes are no source.
func copyTree(from, to string, p *project) error {
	return walkSource(from, p, func(rel, name string, info fs.FileInfo) error {
		target := filepath.Join(to, rel)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		switch {
		case info.IsDir():
			if err := os.MkdirAll(target, 0o755); err != nil {
				return err
			}
			return os.Chmod(target, info.Mode().Perm()|0o700)
		case info.Mode()&fs.ModeSymlink != 0:
			link, err := os.Readlink(name)
			if err != nil {
				return err
			}
			return os.Symlink(link, target)
		case info.Mode().IsRegular():
			return copyFile(name, target, info.Mode().Perm())
		}
		return nil
	})
}

func copyFile(from, to string, mode fs.FileMode) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Chmod(mode), out.Close())
}
