package kcltool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/weft-dev/weft/kcl"
	"github.com/weft-dev/weft/kcl/diskcache"
)

// cachePath names the folder of checked packages, as upstream's variable does.
const cachePath = "KCL_CACHE_PATH"

// cacheDir is the folder of checked packages: $KCL_CACHE_PATH/kcl, else
// $XDG_CACHE_HOME/kcl, else ~/.cache/kcl. It is "" when there is none, or the
// variable is "off".
func (t *Tool) cacheDir() string {
	if dir, _ := t.Getenv(cachePath); dir == "off" {
		return ""
	} else if dir != "" {
		if !filepath.IsAbs(dir) {
			dir = filepath.Join(t.Dir, dir)
		}
		return filepath.Join(dir, "kcl")
	}
	if dir, _ := t.Getenv("XDG_CACHE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "kcl")
	}
	if home, _ := t.Getenv("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".cache", "kcl")
	}
	return ""
}

// packageCache is the cache of the runs of this process.
func (t *Tool) packageCache() *kcl.Cache {
	dir := t.cacheDir()
	if dir == "" {
		return &kcl.Cache{}
	}
	return &kcl.Cache{Build: t.build(), Store: &cacheFolder{path: dir, warn: func(err error) {
		fmt.Fprintf(t.Err, "Warning: packages are checked anew each time: %v\n", err)
	}}}
}

// build tells this program from others that may judge packages differently.
func (t *Tool) build() string {
	text := t.Version
	if name, err := os.Executable(); err == nil {
		if info, err := os.Stat(name); err == nil {
			text += fmt.Sprintf(" %d %d", info.Size(), info.ModTime().UnixNano())
		}
	}
	return text
}

// cacheFolder opens a folder when the first package is asked for, since most
// programs import none.
type cacheFolder struct {
	path string
	warn func(error)
	once sync.Once
	dir  *diskcache.Dir
}

func (c *cacheFolder) open() *diskcache.Dir {
	c.once.Do(func() {
		dir, err := diskcache.Open(c.path, 0)
		if errors.Is(err, diskcache.ErrUnsafe) {
			c.warn(err) // any other, such as a home that cannot be written, is no fault of anybody
		}
		c.dir = dir
	})
	return c.dir
}

// Get implements load.Store.
func (c *cacheFolder) Get(key [32]byte) ([]byte, bool) {
	if d := c.open(); d != nil {
		return d.Get(key)
	}
	return nil, false
}

// Put implements load.Store.
func (c *cacheFolder) Put(key [32]byte, entry []byte) {
	if d := c.open(); d != nil {
		d.Put(key, entry)
	}
}
