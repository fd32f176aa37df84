package lazy

import (
	"context"
	"slices"

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
		case on == nil: // what used it has ended with it
			im.forgive(m.Target)
		case s.isErofs(im, on):
			live = append(live, m.Target)
		case s.isDead(on):
			dead = append(dead, m.Target)
		}
	}
	if len(dead) > 0 {
		s.log.Error("mounts were cut off, since every process that held them had ended: reads of them failed; restart what uses them", "mounts", dead, "image", im.Name())
		im.mu.Lock()
		im.unguarded = union(im.unguarded, dead)
		im.mu.Unlock()
	}
	if len(live) > 0 {
		if err := w.guardAgain(im, live); err != nil {
			return err
		}
	}
	w.tell(im)
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
	im.unguarded = union(im.unguarded, live)
	im.untold = union(im.untold, live)
	im.mu.Unlock()
	if err := w.service.saveCounts(); err != nil {
		w.service.log.Warn("the next process does not learn which mounts were unguarded", "error", err)
	}
	return nil
}

// tell names mounts that were unguarded to whoever uses the folder. Those of a process that has no such user are left to the next one.
func (w *watch) tell(im *Image) {
	tell := w.service.options.Unguarded
	if tell == nil {
		return
	}
	im.mu.Lock()
	list := im.untold
	im.untold = nil
	im.mu.Unlock()
	if len(list) > 0 {
		tell(im.Name(), list)
	}
}

// union adds what is not there.
func union(list, more []string) []string {
	for _, m := range more {
		if !slices.Contains(list, m) {
			list = append(list, m)
		}
	}
	return list
}

// lost is called when keeper and holder have ended while this process lives: everything is given to the new keeper.
func (w *watch) lost() {
	s := w.service
	w.mu.Lock()
	w.kept = map[cache.Key]keeper.Device{}
	for _, d := range w.client.Devices() { // given to the new keeper by now; what was marked before that was in the group that is lost
		d.Marked = false
		w.kept[d.Key] = d
	}
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
