package keeper

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestKeeperEndsBeforeItAnswers asks a keeper that ends: who asked is told at once, since readers wait for the lock that he has.
func TestKeeperEndsBeforeItAnswers(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = unix.Close(pair[0]), unix.Close(pair[1]) }()
	c := &Client{conn: pair[0], replies: make(chan answer, 1)}
	told := make(chan error, 1)
	go func() {
		_, err := c.ask([]byte("L"))
		told <- err
	}()
	var p [8]byte
	if n, err := unix.Read(pair[1], p[:]); err != nil || n != 1 {
		t.Fatalf("%d %v", n, err)
	}
	c.interrupt()
	c.mu.Unlock()
	if err := <-told; !errors.Is(err, ErrGone) || !strings.Contains(err.Error(), "before it answered") {
		t.Errorf("told %v, want that the keeper has ended before it answered", err)
	}
	if len(c.replies) != 0 {
		t.Error("an answer is left for the next request")
	}
}
