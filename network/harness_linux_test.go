package network

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// netns is a network namespace that lives as long as the test.
type netns struct {
	file *os.File
	link *netlink.Handle
}

func (n *netns) fd() int { return int(n.file.Fd()) }

// newNetns makes a namespace with loopback up. The test is skipped where that is not allowed.
func newNetns(t testing.TB) *netns {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: makes network namespaces")
	}
	n := &netns{}
	errs := make(chan error, 1)
	go func() {
		// The thread is thrown away with its namespace: the goroutine ends without unlocking it.
		runtime.LockOSThread()
		errs <- func() (err error) {
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				return err
			}
			n.file, err = os.Open("/proc/thread-self/ns/net")
			return err
		}()
	}()
	if err := <-errs; err != nil {
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSPC) {
			t.Skipf("cannot make network namespaces: %v", err)
		}
		t.Fatal(err)
	}
	t.Cleanup(func() { n.file.Close() })
	n.do(t, func() error {
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		n.link = h
		lo, err := h.LinkByName("lo")
		if err != nil {
			return err
		}
		return h.LinkSetUp(lo)
	})
	t.Cleanup(n.link.Close)
	return n
}

// do runs f on a thread inside the namespace.
func (n *netns) do(t testing.TB, f func() error) {
	t.Helper()
	if err := n.run(f); err != nil {
		t.Fatal(err)
	}
}

func (n *netns) run(f func() error) error {
	errs := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := unix.Setns(n.fd(), unix.CLONE_NEWNET); err != nil {
			errs <- err
			return
		}
		errs <- f()
	}()
	return <-errs
}

// nft runs the nft program in the namespace, with input on its standard input.
func (n *netns) nft(t testing.TB, input string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("needs the nft program to compare with")
	}
	var out []byte
	n.do(t, func() error {
		cmd := exec.Command("nft", args...)
		cmd.Stdin = strings.NewReader(input)
		var err error
		out, err = cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("nft %v: %w\n%s\n%s", args, err, out, input)
		}
		return nil
	})
	return string(out)
}

func (n *netns) sysctl(t testing.TB, name, value string) {
	t.Helper()
	n.do(t, func() error { return os.WriteFile("/proc/sys/net/"+name, []byte(value), 0o644) })
}

func mustAddr(s string) netip.Addr { return netip.MustParseAddr(s) }
