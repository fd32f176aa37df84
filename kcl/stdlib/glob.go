package stdlib

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/weft-dev/weft/kcl/value"
)

// globber finds the paths that match a pattern of *, ?, [...] and **, the
// latter standing alone as a part of the path for any number of folders.
type globber struct {
	files value.FileSystem
	grow  func(int) error
	found []string
}

func (g *globber) glob(pattern string) ([]string, error) {
	parts := strings.Split(pattern, "/")
	for _, part := range parts {
		if strings.Contains(part, "**") && part != "**" {
			return nil, fmt.Errorf("%q: ** must stand alone between slashes", pattern)
		}
		if _, err := path.Match(rustGlob(part), ""); err != nil {
			return nil, fmt.Errorf("%q: %w", pattern, err)
		}
	}
	base := ""
	if parts[0] == "" && len(parts) > 1 {
		base, parts = "/", parts[1:]
	}
	err := g.walk(base, parts, 0)
	slices.Sort(g.found)
	return slices.Compact(g.found), err
}

// rustGlob changes [!a] into [^a].
func rustGlob(part string) string { return strings.ReplaceAll(part, "[!", "[^") }

func (g *globber) walk(base string, parts []string, depth int) error {
	if depth > 64 {
		return nil
	}
	if len(parts) == 0 {
		g.found = append(g.found, base)
		return g.grow(len(base) + itemSize)
	}
	part := parts[0]
	if part == "**" {
		if err := g.walk(base, parts[1:], depth); err != nil {
			return err
		}
		for _, e := range g.entries(base) {
			if e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
				if err := g.walk(join2(base, e.Name()), parts, depth+1); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if !strings.ContainsAny(part, "*?[") {
		next := join2(base, part)
		if _, err := g.files.Stat(next); err != nil {
			return nil
		}
		return g.walk(next, parts[1:], depth+1)
	}
	for _, e := range g.entries(base) {
		if ok, _ := path.Match(rustGlob(part), e.Name()); ok {
			if err := g.walk(join2(base, e.Name()), parts[1:], depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

// entries lists a folder; one that cannot be read has none.
func (g *globber) entries(dir string) []fs.DirEntry {
	if dir == "" {
		dir = "."
	}
	entries, err := g.files.ReadDir(dir)
	if err != nil {
		return nil
	}
	return entries
}

func join2(base, name string) string {
	if base == "" || base == "/" {
		return base + name
	}
	return base + "/" + name
}
