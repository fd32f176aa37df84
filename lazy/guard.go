package lazy

import (
	"context"
	"os"

	"github.com/weft-dev/weft/lazy/cache"
)

// guard is how readers of an image are made to wait for what is missing.
type guard interface {
	mode() Mode
	// start begins to answer readers.
	start()
	// open gives what the memory knows of a device, and the file that it may be written through; nil to open it anew.
	open(key cache.Key) (present func(blocks int64) (cache.Bits, error), file *os.File, err error)
	mount(ctx context.Context, im *Image, target string, flags int) error
	unmount(ctx context.Context, im *Image, target string) error
	// restore looks after an image that an earlier process had mounted.
	restore(ctx context.Context, im *Image) error
	// unwatch lets a complete device alone.
	unwatch(key cache.Key) error
	// forget lets go of a device that nothing has mounted.
	forget(key cache.Key) error
	close() error
}

// ownBits are bits that only this process knows.
func ownBits(blocks int64) (cache.Bits, error) { return cache.NewBits(blocks), nil }
