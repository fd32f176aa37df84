package load

import (
	"crypto/sha256"
	"sync"

	"github.com/weft-dev/weft/kcl/syntax"
)

// Cache keeps parsed files by name and content across runs. It is safe for
// concurrent use; the zero value is ready.
type Cache struct {
	mu    sync.Mutex
	files map[cacheKey]*syntax.File
	bytes int
}

type cacheKey struct {
	name string
	sum  [32]byte
}

// cacheLimit bounds the source bytes whose trees are kept.
const cacheLimit = 256 << 20

func (c *Cache) parse(name, text string) *syntax.File {
	if c == nil {
		return syntax.Parse(name, text)
	}
	key := cacheKey{name, sha256.Sum256([]byte(text))}
	c.mu.Lock()
	f := c.files[key]
	c.mu.Unlock()
	if f != nil {
		return f
	}
	f = syntax.Parse(name, text)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.files == nil || c.bytes+len(text) > cacheLimit {
		c.files, c.bytes = map[cacheKey]*syntax.File{}, 0
	}
	c.files[key] = f
	c.bytes += len(text)
	return f
}
