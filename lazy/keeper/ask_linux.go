package keeper

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long a request waits for a keeper's answer, or for a keeper in place of one that was killed.
const patience = 5 * time.Second

// errUnanswered says that the keeper was killed before it answered a request, or took it.
var errUnanswered = fmt.Errorf("%w before it answered", ErrGone)

// ask makes a request. If the keeper is killed meanwhile it is made again to the one that is started in its place: a reader waits for the answer.
func (c *Client) ask(request []byte, fds ...int) (answer, error) {
	for tries := 0; ; tries++ {
		held := c.held.Load()
		keeper, a, err := c.once(request, fds)
		if !errors.Is(err, errUnanswered) || bytes.IndexByte([]byte("DFGMPX"), request[0]) < 0 || tries == 3 || !c.replaced(keeper) {
			return a, err
		}
		switch gives, same := request[0] == 'D' || request[0] == 'F', c.held.Load() == held; {
		case same && gives:
			c.forgetTaken(request)
		case !same && ofLostTable(request):
			return a, err
		}
	}
}

// ofLostTable says whether a request means nothing to a keeper with another table and group: it names slots, or a device that was marked before.
func ofLostTable(request []byte) bool {
	return bytes.IndexByte([]byte("GMX"), request[0]) >= 0 || request[0] == 'D' && marks(request)
}

// marks says whether a device that is given to the keeper was marked before.
func marks(request []byte) bool {
	for at := contentSize; at < len(request); at += contentSize {
		if request[at] != 0 {
			return true
		}
	}
	return false
}

// once makes a request, and says to which of the keepers, counted from 0.
func (c *Client) once(request []byte, fds []int) (keeper int64, a answer, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	keeper = c.keepers.Load()
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	if err := unix.Sendmsg(c.conn, request, rights, nil, unix.MSG_NOSIGNAL); err != nil {
		return keeper, answer{}, fmt.Errorf("%w: %w", errUnanswered, err)
	}
	select {
	case a := <-c.replies:
		switch {
		case a.gone:
			return keeper, answer{}, errUnanswered
		case a.errno != 0:
			return keeper, a, a.errno
		}
		return keeper, a, nil
	case <-time.After(patience):
		return keeper, answer{}, fmt.Errorf("%w or hangs: no answer in %s", ErrGone, patience)
	}
}

// replaced waits until there is another keeper; false if there will be none.
func (c *Client) replaced(keeper int64) bool {
	for end := time.Now().Add(patience); c.keepers.Load() == keeper; time.Sleep(time.Millisecond) {
		if c.over.Load() || time.Now().After(end) {
			return false
		}
	}
	return true
}

// forgetTaken lets the keeper forget what it took from one before it that was killed when it should have answered: it is given once more.
func (c *Client) forgetTaken(request []byte) {
	keys, size := request[1:], 32
	if request[0] == 'D' {
		size = contentSize
	}
	for ; len(keys) >= 32; keys = keys[min(size, len(keys)):] {
		for i := range deviceSlots {
			d := c.held.Load().table.device(i)
			if key := d.key(); d.kind() != slotFree && bytes.Equal(key[:], keys[:32]) {
				_, _, _ = c.once(binary.NativeEndian.AppendUint32([]byte("X"), uint32(i)), nil) // at worst it is kept twice, which costs a slot
			}
		}
	}
}
