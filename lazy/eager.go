package lazy

import (
	"context"

	"github.com/weft-dev/weft/lazy/cache"
	"github.com/weft-dev/weft/lazy/filler"
)

// eager fetches all of an image before it is mounted.
type eager struct{ service *Service }

func (e *eager) start() {}

func (e *eager) mode() Mode { return Eager }

func (e *eager) open(cache.Key) (memory, error) { return ownMemory(), nil }

func (e *eager) mount(ctx context.Context, im *Image, target string, flags int) error {
	if err := e.service.mountable(); err != nil { // before anything is fetched in vain
		return err
	}
	if err := im.fetch(ctx, filler.Demand); err != nil {
		return err
	}
	return e.service.kernelMount(im, target, flags)
}

func (e *eager) expect(*Image) error { return nil }

func (e *eager) unmount(_ context.Context, _ *Image, target string) error { return unmount(target) }

func (e *eager) restore(ctx context.Context, im *Image) error { return e.service.mountAgain(ctx, im) }

func (e *eager) connected(string) bool { return false }

func (e *eager) asked(*Image) (reads, behind int64) { return 0, 0 }

func (e *eager) unwatch(cache.Key) error   { return nil }
func (e *eager) forget(...cache.Key) error { return nil }
func (e *eager) secrets()                  {}
func (e *eager) close() error              { return nil }
