package keeper

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/weft-dev/weft/lazy/cache"
)

// Device is a device that the keeper has.
type Device struct {
	Slot   int
	Key    cache.Key
	Blocks int64
	Marked bool
}

// Devices lists what the keeper has.
func (c *Client) Devices() []Device {
	var list []Device
	for i := range deviceSlots {
		if d := c.held.Load().table.device(i); d.used() {
			list = append(list, Device{i, d.key(), d.blocks(), d.marked()})
		}
	}
	return list
}

// Maps are shared with the keeper.
type Maps struct {
	Present cache.Bits // blocks whose readers the keeper lets go on
	Read    cache.Bits // blocks that somebody read while the device was marked
}

// Open gives the maps of a device, and its content to be written.
func (c *Client) Open(d Device) (Maps, *os.File, error) {
	a, err := c.ask(binary.NativeEndian.AppendUint32([]byte("G"), uint32(d.Slot)))
	if err == nil && len(a.fds) != 2 {
		err = fmt.Errorf("the keeper gave %d descriptors, 2 were expected", len(a.fds))
	}
	if err != nil {
		return Maps{}, nil, err
	}
	m, err := mapped(a.fds[1], mapSize(d.Blocks))
	if err := errors.Join(err, unix.Close(a.fds[1])); err != nil {
		return Maps{}, nil, errors.Join(err, unix.Close(a.fds[0]))
	}
	present, read := split(m, d.Blocks)
	return Maps{present, read}, os.NewFile(uintptr(a.fds[0]), d.Key.String()), nil
}

// Content is a device to be kept.
type Content struct {
	Key    cache.Key
	Blocks int64
	File   int    // its descriptor, opened for writing before it was marked
	Path   string // to be marked as Mark does; "": not yet
}

// listed is how many devices one request names: the kernel passes at most 253 descriptors at once.
const listed = 64

// contentSize is what a request says of a device to be kept, in bytes.
const contentSize = 32 + 8 + 1

// Keep gives devices to the keeper. Its maps of them say that nothing is present.
func (c *Client) Keep(list ...Content) ([]Device, error) {
	devices := make([]Device, 0, len(list))
	for len(list) > 0 {
		n := min(len(list), listed)
		slots, err := c.keep(list[:n])
		if errors.Is(err, unix.EINVAL) && n > 1 { // an older keeper takes one at a time
			n = 1
			slots, err = c.keep(list[:n])
		}
		if err != nil {
			return devices, fmt.Errorf("giving a device to the keeper: %w", err)
		}
		for i, slot := range slots {
			devices = append(devices, Device{slot, list[i].Key, list[i].Blocks, list[i].Path != ""})
		}
		list = list[n:]
	}
	return devices, nil
}

// keep makes one request.
func (c *Client) keep(list []Content) (slots []int, err error) {
	request, fds := []byte("D"), make([]int, 0, 2*len(list))
	defer func() {
		for i := 1; i < len(fds); i += 2 {
			err = errors.Join(err, unix.Close(fds[i]))
		}
	}()
	for _, d := range list {
		marked := byte(0)
		if d.Path != "" {
			// Nobody reads it yet, so it may be marked before the keeper knows it.
			if err := c.held.Load().group.Mark(d.Path); err != nil {
				return nil, err
			}
			marked = 1
		}
		fd, err := memory("weft-present", mapSize(d.Blocks))
		if err != nil {
			return nil, err
		}
		fds = append(fds, d.File, fd)
		request = append(binary.NativeEndian.AppendUint64(append(request, d.Key[:]...), uint64(d.Blocks)), marked)
	}
	a, err := c.ask(request, fds...)
	if err == nil && len(a.body) != 4*len(list) {
		err = fmt.Errorf("%w: its answer has %d bytes, %d were expected", ErrGone, len(a.body), 4*len(list))
	}
	if err != nil {
		return nil, err
	}
	for i := range list {
		slots = append(slots, int(binary.NativeEndian.Uint32(a.body[4*i:])))
	}
	return slots, nil
}

// Mark lets readers of a device's file wait for events.
func (c *Client) Mark(d Device, path string) error {
	if err := c.held.Load().group.Mark(path); err != nil {
		return err
	}
	return c.setMarked([]Device{d}, 1)
}

// Release lets the keeper forget devices, and readers of their files go on by themselves; path gives the file of each.
func (c *Client) Release(list []Device, path func(cache.Key) string) error {
	// The table first: a worker that ends in between leaves a file marked that is said not to be, and the next one marks it again. The other way
	// round the next one would take readers to be guarded that are not.
	if err := c.setMarked(list, 0); err != nil {
		return err
	}
	for _, d := range list {
		err := c.held.Load().group.Unmark(path(d.Key))
		if errors.Is(err, unix.EINVAL) && !d.Marked { // a keeper without a group
			continue
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return c.each('X', list, func(request []byte, d Device) []byte {
		return binary.NativeEndian.AppendUint32(request, uint32(d.Slot))
	})
}

func (c *Client) setMarked(list []Device, n uint32) error {
	return c.each('M', list, func(request []byte, d Device) []byte {
		return binary.NativeEndian.AppendUint32(binary.NativeEndian.AppendUint32(request, uint32(d.Slot)), n)
	})
}

// each makes requests of a kind about devices.
func (c *Client) each(kind byte, list []Device, add func([]byte, Device) []byte) error {
	for len(list) > 0 {
		n := min(len(list), listed)
		err := c.about(kind, list[:n], add)
		if errors.Is(err, unix.EINVAL) && n > 1 { // an older keeper takes one at a time
			n = 1
			err = c.about(kind, list[:n], add)
		}
		if err != nil {
			return err
		}
		list = list[n:]
	}
	return nil
}

func (c *Client) about(kind byte, list []Device, add func([]byte, Device) []byte) error {
	request := []byte{kind}
	for _, d := range list {
		request = add(request, d)
	}
	_, err := c.ask(request)
	return err
}
