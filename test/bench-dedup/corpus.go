package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/gzip"
)

// corpus is several versions of an image.
type corpus struct {
	versions [][]string // paths of the layers of each, as plain tar
	stored   []int64    // for each, the bytes of its layers as gzip that no earlier one has
	files    int64      // bytes of all files of all versions
}

// entry of a layer.
type entry struct {
	name    string
	content []byte
}

// makeVersions writes the layers of all versions.
func makeVersions(dir string, versions int) (*corpus, error) {
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return nil, fmt.Errorf("the files are those of the installed Go: %w", err)
	}
	root := strings.TrimSpace(string(out))
	base, err := read(filepath.Join(root, "src"), "crypto", "encoding", "runtime", "net", "math")
	if err != nil {
		return nil, err
	}
	libraries, err := read(filepath.Join(root, "src"), "cmd/compile", "cmd/internal", "cmd/link")
	if err != nil {
		return nil, err
	}
	program, err := os.ReadFile(filepath.Join(root, "bin", "go"))
	if err != nil {
		return nil, err
	}
	c := &corpus{}
	known := map[string]int64{}
	for v := range versions {
		if v == versions/2 { // an update of the base
			change(base, v, 50)
		}
		if v > 0 {
			change(libraries, v, 20)
			program = patch(program, v)
		}
		var layers []string
		var fresh int64
		for i, files := range [][]entry{base, libraries, {{"app/bin/go", program}}} {
			text, err := layer(files)
			if err != nil {
				return nil, err
			}
			name := filepath.Join(dir, fmt.Sprintf("layer-%d-%d.tar", v, i))
			if err := os.WriteFile(name, text, 0o644); err != nil {
				return nil, err
			}
			layers = append(layers, name)
			for _, f := range files {
				c.files += int64(len(f.content))
			}
			if _, ok := known[string(text)]; !ok {
				packed, err := packedSize(text)
				if err != nil {
					return nil, err
				}
				known[string(text)] = packed
				fresh += packed
			}
		}
		c.versions, c.stored = append(c.versions, layers), append(c.stored, fresh)
	}
	return c, nil
}

// read reads the regular files of some folders.
func read(root string, folders ...string) (list []entry, err error) {
	for _, folder := range folders {
		err = errors.Join(err, filepath.WalkDir(filepath.Join(root, folder), func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			name, err := filepath.Rel(root, path)
			list = append(list, entry{"usr/src/" + name, b})
			return err
		}))
	}
	return list, err
}

// change puts a line into one file of some.
func change(files []entry, version, oneOf int) {
	for i := range files {
		if i%oneOf == version%oneOf && len(files[i].content) > 0 {
			at := len(files[i].content) / 2
			line := fmt.Sprintf("\n// version %d\n", version)
			files[i].content = append(append(bytes.Clone(files[i].content[:at]), line...), files[i].content[at:]...)
		}
	}
}

// patch changes a program in fifty places; every other version also by an insertion at two thirds.
func patch(program []byte, version int) []byte {
	p := bytes.Clone(program)
	r := rand.New(rand.NewPCG(7, uint64(version)))
	for range 50 {
		at := r.IntN(len(p) - 64)
		for i := range 64 {
			p[at+i] = byte(r.Uint32())
		}
	}
	if version%2 == 0 {
		at := len(p) * 2 / 3
		p = append(append(bytes.Clone(p[:at]), make([]byte, 100)...), p[at:]...)
	}
	return p
}

func layer(files []entry) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: 0o644, Size: int64(len(f.content))}); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.content); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return b.Bytes(), err
}

// packedSize is what a layer takes as gzip.
func packedSize(text []byte) (int64, error) {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(text); err != nil {
		return 0, err
	}
	err := w.Close()
	return int64(b.Len()), err
}
