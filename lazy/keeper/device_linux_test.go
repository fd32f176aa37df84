package keeper

import (
	"bytes"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weft-dev/weft/lazy/cache"
	"github.com/weft-dev/weft/lazy/fanotify"
)

// TestOlderKeeper gives devices to a keeper that takes one at a time, as earlier versions do: a worker of this version goes on with it.
func TestOlderKeeper(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer // the kinds of requests that were served
	served := make(chan struct{})
	go func() {
		defer close(served)
		sizes := map[byte]int{'D': 1 + contentSize, 'M': 1 + 8, 'X': 1 + 4}
		for {
			var p [256]byte
			n, _, _, _, err := unix.Recvmsg(pair[1], p[:], nil, 0)
			if err != nil || n == 0 {
				return
			}
			if n != sizes[p[0]] {
				reply(pair[1], unix.EINVAL, nil)
				continue
			}
			got.WriteByte(p[0])
			reply(pair[1], 0, []byte{byte(got.Len()), 0, 0, 0})
		}
	}()
	c := &Client{conn: pair[0], replies: make(chan answer, 1)}
	c.held.Store(&held{group: fanotify.Group(-1)})
	c.running.Go(func() {
		for {
			a, _, err := receive(c.conn)
			if err != nil {
				return
			}
			c.replies <- a
		}
	})
	null, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	kept, err := c.Keep(Content{cache.Key{1}, 8, int(null.Fd()), ""}, Content{cache.Key{2}, 8, int(null.Fd()), ""}, Content{cache.Key{3}, 8, int(null.Fd()), ""})
	if err != nil || len(kept) != 3 || kept[2] != (Device{Slot: 3, Key: cache.Key{3}, Blocks: 8}) {
		t.Errorf("%+v %v", kept, err)
	}
	if err := c.setMarked(kept, 0); err != nil {
		t.Error(err)
	}
	if err := unix.Shutdown(pair[0], unix.SHUT_RDWR); err != nil {
		t.Error(err)
	}
	<-served
	c.running.Wait()
	if got.String() != "DDDMMM" {
		t.Errorf("requests %q were served, expected three D and three M", got.String())
	}
	_, _ = unix.Close(pair[0]), unix.Close(pair[1])
}
