package keeper

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"github.com/weft-dev/weft/lazy/cache"
)

// Event is a reader that waits. One of Allow and Deny must be called, once.
type Event struct {
	Known  bool      // the keeper has the device
	Key    cache.Key // of the device
	Device uint64    // number of the file system and inode of the file
	Inode  uint64
	Offset int64
	Count  int64 // bytes; -1: to the end of the file
	PID    int32 // of the reader

	held   *held
	say    func(format string, args ...any)
	slot   int
	number uint64
	fd     int32
}

// events handles events until the client is closed.
func (c *Client) events() {
	var p [8]byte
	for {
		h := c.held.Load()
		// Waited for by Go's poller: then the thread that sees the event goes on with filling it, and no other has to be woken.
		wake, err := pollable(h.wake)
		if err != nil {
			c.say("waiting for events: %v", err)
			return
		}
		tail := h.table.announced()
		c.scan()
		for c.held.Load() == h {
			if _, err := wake.Read(p[:]); err != nil {
				c.say("waiting for events: %v", err)
				_ = wake.Close()
				return
			}
			if c.closing() {
				_ = wake.Close()
				return
			}
			head := h.table.announced()
			if head-tail > ringSize {
				tail = head
				c.scan()
			}
			for ; tail < head; tail++ {
				c.begin(h.table.inRing(tail))
			}
		}
		_, _ = wake.Close(), unix.Close(h.wake)
	}
}

// pollable gives a copy of a descriptor that Go's poller waits for.
func pollable(fd int) (*os.File, error) {
	fd, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), "events"), nil
}

func (c *Client) closing() bool {
	fds := []unix.PollFd{{Fd: int32(c.stop), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n > 0
}

// scan handles all events in the table that nobody handles.
func (c *Client) scan() {
	for i := range eventSlots {
		c.begin(i)
	}
}

// begin handles the event in a slot, unless it is being handled.
func (c *Client) begin(slot int) {
	h := c.held.Load()
	e := h.table.event(slot)
	number, state := e.load()
	if state != pending {
		return
	}
	c.seen.Lock()
	if c.busy[slot] == number {
		c.seen.Unlock()
		return
	}
	c.busy[slot] = number
	c.seen.Unlock()
	p, err := e.parse()
	if err != nil {
		c.say("an event in the table is not readable: %v", err)
		return
	}
	v := &Event{Device: e.file().device, Inode: e.file().inode, Offset: p.Offset, Count: p.Count, PID: p.PID, held: h, say: c.say, slot: slot, number: number, fd: p.FD}
	if d := e.deviceSlot(); d >= 0 && d < deviceSlots && h.table.device(d).used() {
		v.Known, v.Key = true, h.table.device(d).key()
	}
	c.handled.Go(func() { c.options.Handle(v) })
}

// Allow lets the reader go on: what it wants to read is there.
func (e *Event) Allow() { e.answer(e.held.group.Allow) }

// Deny lets the read fail with EIO.
func (e *Event) Deny() { e.answer(e.held.group.Deny) }

func (e *Event) answer(how func(int32) error) {
	slot := e.held.table.event(e.slot)
	if !slot.move(e.number, pending, answering) {
		return // someone else has answered
	}
	if err := how(e.fd); err != nil && !errors.Is(err, unix.ENOENT) {
		e.say("an event cannot be answered: %v", err)
	}
	if !slot.move(e.number, answering, answered) {
		slot.move(e.number, pending, answered) // a new keeper took this worker for ended
	}
}
