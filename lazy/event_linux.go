package lazy

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/weft-dev/weft/lazy/filler"
	"github.com/weft-dev/weft/lazy/keeper"
)

// handle fills what a reader waits for and answers.
func (w *watch) handle(e *keeper.Event) {
	s := w.service
	began := time.Now()
	err := w.fill(e)
	if s.ctx.Err() != nil {
		return // the next worker does it
	}
	if s.log.Enabled(s.ctx, slog.LevelDebug) {
		s.log.Debug("a reader waited", "process", e.PID, "device", e.Key, "offset", e.Offset, "bytes", e.Count, "fill", time.Since(began))
	}
	if err != nil {
		s.log.Error("a read fails", "device", e.Key, "offset", e.Offset, "bytes", e.Count, "error", err)
		e.Deny()
		return
	}
	e.Allow()
}

func (w *watch) fill(e *keeper.Event) error {
	s := w.service
	key := e.Key
	if !e.Known {
		w.mu.Lock()
		known := false
		key, known = w.files[[2]uint64{e.Device, e.Inode}]
		w.mu.Unlock()
		if !known {
			return fmt.Errorf("the file %d of file system %d is no device", e.Inode, e.Device)
		}
		e.Key = key
	}
	d, err := s.device(key)
	if err != nil {
		return err
	}
	offset, count := e.Offset, e.Count
	if count < 0 {
		offset, count = 0, d.filler.Device().Space()
	}
	s.asked(d, offset, count)
	if err := d.filler.Ensure(s.ctx, offset, count, filler.Demand); err != nil {
		d.reads.failed.Add(1)
		return err
	}
	return nil
}
