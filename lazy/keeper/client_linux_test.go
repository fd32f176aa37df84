package keeper

import (
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestKeeperEndsBeforeItAnswers asks a keeper that ends: who asked is told at once, since readers wait for the lock that he has.
func TestKeeperEndsBeforeItAnswers(t *testing.T) {
	pair := socketPair(t)
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

// TestAskedAgain asks a keeper that was killed before it took the request, and one that was killed before it answered: the one in its place answers.
func TestAskedAgain(t *testing.T) {
	for name, answered := range map[string]bool{"before it took it": false, "before it answered": true} {
		t.Run(name, func(t *testing.T) {
			pair, next := socketPair(t), socketPair(t)
			c := &Client{conn: pair[0], replies: make(chan answer, 1)}
			told := make(chan error, 1)
			if !answered {
				_ = unix.Shutdown(pair[1], unix.SHUT_RDWR)
			}
			go func() {
				_, err := c.ask([]byte("P"))
				told <- err
			}()
			var p [8]byte
			if answered {
				if n, err := unix.Read(pair[1], p[:]); err != nil || n != 1 {
					t.Fatalf("%d %v", n, err)
				}
				_ = unix.Shutdown(pair[1], unix.SHUT_RDWR)
			} else {
				time.Sleep(10 * time.Millisecond) // so that the request is made before there is another keeper; if it is late, it has nothing to repeat
			}
			c.interrupt()
			c.conn = next[0]
			c.keepers.Add(1)
			c.mu.Unlock()
			if n, err := unix.Read(next[1], p[:]); err != nil || n != 1 || p[0] != 'P' {
				t.Fatalf("the second keeper was asked %q, %v", p[:max(n, 0)], err)
			}
			c.replies <- answer{}
			if err := <-told; err != nil {
				t.Error(err)
			}
		})
	}
}

func socketPair(t *testing.T) [2]int {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.SetsockoptTimeval(pair[1], unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 60}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = unix.Close(pair[0]), unix.Close(pair[1]) })
	return pair
}
