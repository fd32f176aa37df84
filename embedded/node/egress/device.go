//go:build linux

package egress

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Device describes the device to be made in a network namespace.
type Device struct {
	Namespace string         // path, for example /proc/PID/ns/net
	Name      string         // at most 15 characters
	MTU       int            // bytes
	Addresses []netip.Prefix // of the namespace's end
	Gateways  []netip.Addr   // default routes lead there
}

// Create makes the device with its addresses and default routes and gives its
// file descriptor, which is the caller's. The device lives as long as the
// descriptor.
func (d Device) Create() (int, error) {
	if d.Name == "" || len(d.Name) >= unix.IFNAMSIZ {
		return -1, fmt.Errorf("device name %q has to have 1 to %d characters", d.Name, unix.IFNAMSIZ-1)
	}
	namespace, err := netns.GetFromPath(d.Namespace)
	if err != nil {
		return -1, fmt.Errorf("network namespace %s: %w", d.Namespace, err)
	}
	defer namespace.Close()

	// A thread that has changed its namespace is not used again: the locked
	// goroutine ends, and the thread with it.
	type result struct {
		fd  int
		err error
	}
	done := make(chan result, 1)
	go func() {
		runtime.LockOSThread()
		fd, err := openTun(namespace, d.Name)
		done <- result{fd, err}
	}()
	r := <-done
	if r.err != nil {
		return -1, fmt.Errorf("make the device %s: %w", d.Name, r.err)
	}
	if err := d.configure(namespace); err != nil {
		_ = unix.Close(r.fd)
		return -1, fmt.Errorf("configure the device %s: %w", d.Name, err)
	}
	return r.fd, nil
}

// openTun makes a device of IP packets in the namespace, on the current thread.
func openTun(namespace netns.NsHandle, name string) (int, error) {
	if err := netns.Set(namespace); err != nil {
		return -1, fmt.Errorf("enter the namespace: %w", err)
	}
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: "/dev/net/tun", Err: err}
	}
	request, err := unix.NewIfreq(name)
	if err == nil {
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		_ = unix.Close(fd)
		if errors.Is(err, unix.EBUSY) {
			return -1, errors.New("it is there already; is another weft-egress running?")
		}
		return -1, err
	}
	return fd, nil
}

func (d Device) configure(namespace netns.NsHandle) error {
	// Only this protocol: by itself the library opens all, and a kernel without one of them then refuses.
	handle, err := netlink.NewHandleAt(namespace, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer handle.Close()
	link, err := handle.LinkByName(d.Name)
	if err != nil {
		return err
	}
	if err := handle.LinkSetMTU(link, d.MTU); err != nil {
		return fmt.Errorf("MTU %d: %w", d.MTU, err)
	}
	// More packets in the device's queue: it is read by one process that may
	// have to wait for a processor.
	if err := handle.LinkSetTxQLen(link, 4096); err != nil {
		return err
	}
	for _, prefix := range d.Addresses {
		address := &netlink.Addr{IPNet: ipNet(prefix)}
		if prefix.Addr().Is6() {
			address.Flags = unix.IFA_F_NODAD
		}
		if err := handle.AddrAdd(link, address); err != nil {
			return fmt.Errorf("address %s: %w", prefix, err)
		}
	}
	if err := handle.LinkSetUp(link); err != nil {
		return err
	}
	for _, gateway := range d.Gateways {
		everywhere := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if gateway.Is6() {
			everywhere = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(everywhere), Gw: gateway.AsSlice()}
		if err := handle.RouteReplace(route); err != nil {
			return fmt.Errorf("default route to %s: %w", gateway, err)
		}
	}
	return nil
}

func ipNet(prefix netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: prefix.Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen())}
}

// HostHasIPv6 tells whether this process's namespace has an IPv6 way out.
func HostHasIPv6() bool {
	routes, err := netlink.RouteGet(net.ParseIP("2001:4860::1"))
	if err != nil {
		return false
	}
	for _, route := range routes {
		if route.Type == unix.RTN_UNICAST {
			return true
		}
	}
	return false
}
