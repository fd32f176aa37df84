package lazy

import (
	"context"

	"github.com/weft-dev/weft/lazy/cache"
	"github.com/weft-dev/weft/lazy/keeper"
)

// restore guards an image again that is still mounted, and mounts it where it is not mounted any more.
func (w *watch) restore(ctx context.Context, im *Image) error {
	s := w.service
	var live, dead []string
	for _, m := range im.mounts() {
		on, err := mountOn(m.Target)
		switch {
		case err != nil:
			return err
		case s.isErofs(im, on):
			live = append(live, m.Target)
		case s.isDead(on):
			dead = append(dead, m.Target)
		}
	}
	if len(dead) > 0 {
		s.log.Error("mounts were cut off, since every process that held them had ended: reads of them failed; restart what uses them", "mounts", dead, "image", im.Name())
		im.mu.Lock()
		im.unguarded = append(im.unguarded, dead...)
		im.mu.Unlock()
	}
	if len(live) > 0 {
		if err := w.guardAgain(im, live); err != nil {
			return err
		}
	}
	return s.mountAgain(ctx, im)
}

// guardAgain marks the devices of a mounted image that nobody has watched for a while. What the kernel has read meanwhile may be zeros: it is
// dropped, and the mounts are named.
func (w *watch) guardAgain(im *Image, live []string) error {
	unguarded, err := w.mark(im)
	if err != nil || !unguarded {
		return err
	}
	for _, target := range live {
		busy, err := dropPages(target)
		w.service.log.Error("nobody guarded a mount for a while: what was read from it may have been zeros; restart what uses it", "mount", target, "image", im.Name(),
			"filesInUse", busy, "error", err)
	}
	im.mu.Lock()
	im.unguarded = append(im.unguarded, live...)
	im.mu.Unlock()
	if tell := w.service.options.Unguarded; tell != nil {
		tell(im.Name(), live)
	}
	return nil
}

// lost is called when keeper and holder have ended while this process lives: everything is given to the new keeper.
func (w *watch) lost() {
	s := w.service
	w.mu.Lock()
	w.kept = map[cache.Key]keeper.Device{}
	w.mu.Unlock()
	for _, d := range s.opened() {
		s.mu.Lock()
		delete(s.devices, d.key)
		s.mu.Unlock()
		d.filler.Close()
		if err := d.filler.Device().Close(); err != nil {
			s.log.Error("a device cannot be saved", "device", d.key, "error", err)
		}
	}
	w.keepAgain()
	w.secrets()
	if err := s.Restore(s.ctx); err != nil {
		s.log.Error("mounts cannot be guarded again", "error", err)
	}
}
