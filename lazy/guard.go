package lazy

import (
	"context"
	"os"

	"github.com/weft-dev/weft/lazy/cache"
)

// guard is how readers of an image are made to wait for what is missing.
type guard interface {
	mode() Mode
	// connected says whether a mount through FUSE, by its source, is answered.
	connected(source string) bool
	// asked is what the kernel asked for through FUSE.
	asked(im *Image) (reads, behind int64)
	// start begins to answer readers.
	start()
	// open gives what the memory knows of a device.
	open(key cache.Key) (memory, error)
	mount(ctx context.Context, im *Image, target string, flags int) error
	// expect makes readers of an image that will be mounted wait.
	expect(im *Image) error
	unmount(ctx context.Context, im *Image, target string) error
	// restore looks after an image that an earlier process had mounted.
	restore(ctx context.Context, im *Image) error
	// unwatch lets a complete device alone.
	unwatch(key cache.Key) error
	// forget lets go of devices that nothing has mounted.
	forget(keys ...cache.Key) error
	// secrets leaves credentials to the next process.
	secrets()
	close() error
}

// memory is what is known of an open device.
type memory struct {
	file *os.File // that it may be written through; nil to open it
	// maps gives the blocks that are present and those that were read.
	maps func(blocks int64) (present, read cache.Bits, err error)
}

// ownMemory is what only this process knows.
func ownMemory() memory {
	return memory{maps: func(blocks int64) (present, read cache.Bits, err error) {
		return cache.NewBits(blocks), cache.NewBits(blocks), nil
	}}
}
