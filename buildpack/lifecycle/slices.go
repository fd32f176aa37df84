package lifecycle

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/weft-dev/weft/buildpack/layer"
	"github.com/weft-dev/weft/buildpack/spec"
)

// sliced divides an application folder into layers: one for each slice with the files that its patterns match and no earlier slice
// has, and one with the rest. Folders above a file are in every layer that has the file.
func sliced(app layer.Tree, list []spec.Slice) ([][]string, error) {
	var all []string
	isDir := map[string]bool{}
	children := map[string][]string{}
	err := fs.WalkDir(app, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		all = append(all, name)
		isDir[name] = e.IsDir()
		if name != "." {
			parent := path.Dir(name)
			children[parent] = append(children[parent], name)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	taken := map[string]bool{}
	var out [][]string
	for i, s := range list {
		files, err := oneSlice(all, isDir, children, taken, s)
		if err != nil {
			return nil, fmt.Errorf("slice %d: %w", i+1, err)
		}
		out = append(out, files)
	}
	var rest []string
	for _, name := range all {
		if !taken[name] {
			rest = append(rest, name)
		}
	}
	slices.Sort(rest) // by path as a string, not folder by folder: upstream's order
	return append(out, rest), nil
}

func oneSlice(all []string, isDir map[string]bool, children map[string][]string, taken map[string]bool, s spec.Slice) ([]string, error) {
	in := map[string]bool{}
	var take func(name string)
	take = func(name string) {
		if taken[name] {
			return
		}
		for _, c := range children[name] {
			take(c)
		}
		in[name], taken[name] = true, true
	}
	for _, pattern := range s.Paths {
		pattern = path.Clean(pattern)
		for _, name := range all {
			if name == "." {
				continue
			}
			ok, err := path.Match(pattern, name)
			if err != nil {
				return nil, fmt.Errorf("the pattern %q: %w", pattern, err)
			}
			if ok {
				take(name)
			}
		}
	}
	addParents(in, children, taken)
	var files []string
	for name := range in {
		files = append(files, name)
	}
	slices.Sort(files)
	return files, nil
}

// addParents adds the folders above what is in a slice. A folder of which everything is taken is taken itself.
func addParents(in map[string]bool, children map[string][]string, taken map[string]bool) {
	var parents []string
	seen := map[string]bool{}
	for name := range in {
		for p := name; p != "."; {
			p = path.Dir(p)
			if !in[p] && !seen[p] {
				seen[p] = true
				parents = append(parents, p)
			}
		}
	}
	depth := func(p string) int {
		if p == "." {
			return 0
		}
		return strings.Count(p, "/") + 1
	}
	slices.SortFunc(parents, func(a, b string) int { return depth(b) - depth(a) })
	for _, p := range parents {
		in[p] = true
		taken[p] = !slices.ContainsFunc(children[p], func(c string) bool { return !taken[c] })
	}
}
