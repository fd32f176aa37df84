package network

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// bridgeSwitches decide, per network namespace, whether packets between two ports of a bridge pass the hooks of IPv4 and
// IPv6 (kernel Documentation/networking/ip-sysctl.rst, bridge-nf-call-*).
var bridgeSwitches = []string{"bridge-nf-call-iptables", "bridge-nf-call-ip6tables"}

// BridgeFiltered returns nil if packets between two ports of a bridge in the network namespace pass the forward hook, where the
// table judges them; otherwise why they do not. Then pods must not share a bridge: give each a routed veth (the CNI plugin ptp),
// whose packets always pass. Conntrack for family bridge, without which replies cannot be told from requests, is
// rarer still than br_netfilter, so a table of that family is no way out.
func BridgeFiltered(netns int) error {
	return inNetns(netns, func() error {
		for _, name := range bridgeSwitches {
			b, err := os.ReadFile("/proc/sys/net/bridge/" + name)
			if errors.Is(err, fs.ErrNotExist) {
				return errors.New("the kernel has no br_netfilter, or the module is not loaded (modprobe br_netfilter): use routed veths")
			}
			if err != nil {
				return err
			}
			if strings.TrimSpace(string(b)) == "0" {
				return fmt.Errorf("net.bridge.%s is 0 in this network namespace: set it to 1 or use routed veths", name)
			}
		}
		return nil
	})
}

// FilterBridges switches the passing on for the namespace, where the kernel can.
func FilterBridges(netns int) error {
	err := inNetns(netns, func() error {
		for _, name := range bridgeSwitches {
			if err := os.WriteFile("/proc/sys/net/bridge/"+name, []byte("1"), 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return BridgeFiltered(netns)
}

// inNetns runs f on a thread of the namespace; 0 is the caller's own.
func inNetns(netns int, f func() error) error {
	if netns == 0 {
		return f()
	}
	result := make(chan error, 1)
	go func() {
		// The thread is not unlocked: it ends with the goroutine, and no other runs in the wrong namespace.
		runtime.LockOSThread()
		if err := unix.Setns(netns, unix.CLONE_NEWNET); err != nil {
			result <- fmt.Errorf("entering the network namespace: %w", err)
			return
		}
		result <- f()
	}()
	return <-result
}
