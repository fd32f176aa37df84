package load

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"sync"

	"github.com/weft-dev/weft/kcl/syntax"
)

type digest = [sha256.Size]byte

// Store keeps the entries of a Cache beyond the process, such as in a folder.
// It may lose entries at any time. It must not give an entry that somebody
// other than this user could have written, nor one that is damaged.
type Store interface {
	Get(key [32]byte) ([]byte, bool)
	Put(key [32]byte, entry []byte)
}

// Cache keeps across runs what was parsed, and which packages were found free
// of errors: such a package is not checked again, and of its files only those
// are parsed whose declarations are used. Keys are digests of all that matters:
// the texts of the package and of what it imports, and the build of the program.
//
// It is safe for concurrent use; the zero value is ready and keeps in memory.
type Cache struct {
	// Store keeps the packages beyond the process; it may be nil.
	Store Store
	// Build tells builds of the program apart that might judge differently. It
	// matters only with a Store.
	Build string

	mu       sync.Mutex
	files    map[fileKey]*syntax.File
	bytes    int
	packages map[digest]*index
}

type fileKey struct {
	name string
	sum  digest
}

const (
	// cacheLimit bounds the source bytes whose trees are kept.
	cacheLimit = 256 << 20
	// packageLimit bounds the packages kept in memory.
	packageLimit = 4096
	// entryVersion is the version of the entries of a Store.
	entryVersion = "kcl package 1"
)

// parse gives the tree of a text with this digest.
func (c *Cache) parse(name string, text []byte, sum digest) *syntax.File {
	if c == nil {
		return syntax.Parse(name, string(text))
	}
	key := fileKey{name, sum}
	c.mu.Lock()
	f := c.files[key]
	c.mu.Unlock()
	if f != nil {
		return f
	}
	f = syntax.Parse(name, string(text))
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.files == nil || c.bytes+len(text) > cacheLimit {
		c.files, c.bytes = map[fileKey]*syntax.File{}, 0
	}
	c.files[key] = f
	c.bytes += len(text)
	return f
}

// recall gives the index of a package, or nil.
func (c *Cache) recall(key digest) *index {
	c.mu.Lock()
	x := c.packages[key]
	c.mu.Unlock()
	if x != nil || c.Store == nil {
		return x
	}
	data, ok := c.Store.Get(key)
	if !ok {
		return nil
	}
	x, err := decodeIndex(data)
	if err != nil {
		return nil // it is written anew when the package was checked
	}
	c.keep(key, x)
	return x
}

func (c *Cache) keep(key digest, x *index) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.packages == nil || len(c.packages) >= packageLimit {
		c.packages = map[digest]*index{}
	}
	c.packages[key] = x
}

// Remember notes that all packages of p but the main one are free of errors
// and warnings.
func (c *Cache) Remember(p *Program) {
	if c == nil {
		return
	}
	closures := p.closures()
	for _, pkg := range p.Order {
		sum, ok := closures[pkg.Path]
		if pkg.Decls != nil || !ok {
			continue
		}
		x := indexOf(pkg)
		x.closure = sum
		c.keep(pkg.key, x)
		if c.Store != nil {
			c.Store.Put(pkg.key, x.encode())
		}
	}
}

// closures are the digests of packages with all that they import. Packages
// that are part of a cycle, or import what was not found, have none.
func (p *Program) closures() map[string]digest {
	out, open := map[string]digest{}, map[string]bool{}
	var visit func(path string) (digest, bool)
	visit = func(path string) (digest, bool) {
		if sum, ok := out[path]; ok {
			return sum, true
		}
		pkg := p.Packages[path]
		if pkg == nil || open[path] || path == Main {
			return digest{}, false
		}
		open[path] = true
		defer delete(open, path)
		h := newHash("closure")
		h.Write(pkg.key[:])
		for _, f := range pkg.Files {
			for _, im := range f.Imports {
				h.text(im.Path)
				h.num(int(im.Kind))
				switch {
				case im.Path == "":
					return digest{}, false
				case im.Kind == User:
					sum, ok := visit(im.Path)
					if !ok {
						return digest{}, false
					}
					h.Write(sum[:])
				}
			}
		}
		out[path] = h.sum()
		return out[path], true
	}
	for _, pkg := range p.Order {
		visit(pkg.Path)
	}
	return out
}

// hasher digests texts such that different lists of them give different digests.
type hasher struct{ hash.Hash }

func newHash(texts ...string) hasher {
	h := hasher{sha256.New()}
	h.text(entryVersion)
	for _, t := range texts {
		h.text(t)
	}
	return h
}

func (h hasher) num(n int) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(n))
	h.Write(b[:])
}

func (h hasher) text(s string) {
	h.num(len(s))
	h.Write([]byte(s))
}

func (h hasher) sum() (d digest) {
	h.Sum(d[:0])
	return d
}
