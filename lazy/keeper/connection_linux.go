package keeper

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Connection is a connection to the kernel's FUSE that the keeper has. As long as it has it, readers wait for a worker.
type Connection struct {
	Slot int
	Name [32]byte
}

// KeepConnection gives a connection to the keeper: its descriptor, and the memory that belongs to it.
func (c *Client) KeepConnection(name [32]byte, device, memory *os.File) (Connection, error) {
	a, err := c.ask(append([]byte("F"), name[:]...), int(device.Fd()), int(memory.Fd()))
	if errors.Is(err, unix.EINVAL) {
		err = fmt.Errorf("%w: the keeper that runs is of an older version; unmount everything, so that it ends", err)
	}
	if err == nil && len(a.body) != 4 {
		err = ErrGone
	}
	if err != nil {
		return Connection{}, fmt.Errorf("giving a connection to the keeper: %w", err)
	}
	return Connection{int(binary.NativeEndian.Uint32(a.body)), name}, nil
}

// Connections lists those that the keeper has.
func (c *Client) Connections() []Connection {
	var list []Connection
	for i := range deviceSlots {
		if d := c.held.Load().table.device(i); d.kind() == slotConnection {
			list = append(list, Connection{i, d.key()})
		}
	}
	return list
}

// OpenConnection gives what KeepConnection was given.
func (c *Client) OpenConnection(k Connection) (device, memory *os.File, err error) {
	a, err := c.ask(binary.NativeEndian.AppendUint32([]byte("G"), uint32(k.Slot)))
	if err == nil && len(a.fds) != 2 {
		err = fmt.Errorf("the keeper gave %d descriptors, 2 were expected", len(a.fds))
	}
	if err != nil {
		return nil, nil, err
	}
	return os.NewFile(uintptr(a.fds[0]), "/dev/fuse"), os.NewFile(uintptr(a.fds[1]), "weft-fuse"), nil
}

// ForgetConnection lets the keeper close a connection.
func (c *Client) ForgetConnection(k Connection) error {
	_, err := c.ask(binary.NativeEndian.AppendUint32([]byte("X"), uint32(k.Slot)))
	return err
}
