//go:build linux

package egress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// The tests run on three network namespaces: this process stands for the host,
// one namespace holds the servers of an "internet" at the other end of a veth
// pair, and one is the node, whose only way out is the stack.
const (
	insideVariable = "WEFT_EGRESS_TEST_INSIDE"
	patience       = 30 * time.Second

	server4 = "198.51.100.10"
	server6 = "2001:db8:99::10"
	silent4 = "198.51.100.77" // on the link, nobody there
	closed4 = "203.0.113.1"   // the host's routes say unreachable
	denied4 = "198.51.100.20" // there, but denied by the configuration
	noRoute = "192.88.99.1"   // the host has no route
	gate4   = "192.0.0.1"
	gate6   = "fd77:6566:7400::1"
	allowed = 3128 // port of the host's loopback that is let through
	hidden  = 3129 // another one that is not
)

// world is the three namespaces with the stack running.
type world struct {
	tb       testing.TB
	internet netns.NsHandle
	node     netns.NsHandle
	resolv   string
	stop     context.CancelFunc
	ended    chan error
}

// inside runs the body as a process in a network namespace of its own.
func inside(tb testing.TB, body func(w *world)) {
	tb.Helper()
	if os.Getenv(insideVariable) == tb.Name() {
		body(newWorld(tb))
		return
	}
	if os.Getuid() != 0 {
		tb.Skip("needs root, for network namespaces")
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		tb.Skip("needs /dev/net/tun: ", err)
	}
	only := []string{"-test.run=^" + tb.Name() + "$"}
	if b, ok := tb.(*testing.B); ok {
		if b.N > 1 {
			return
		}
		only = []string{"-test.run=^$", "-test.bench=^" + tb.Name() + "$"}
	}
	cmd := exec.Command("/proc/self/exe", append(only, "-test.v", "-test.timeout=5m")...)
	cmd.Env = append(os.Environ(), insideVariable+"="+tb.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	tb.Logf("in the namespaces:\n%s", out)
	if err != nil {
		tb.Fatal(err)
	}
}

// newNamespace makes a network namespace with its loopback device up.
func newNamespace(tb testing.TB) netns.NsHandle {
	tb.Helper()
	var ns netns.NsHandle
	must(tb, onThread(func() (err error) {
		if ns, err = netns.New(); err != nil {
			return err
		}
		return up("lo")
	}))
	tb.Cleanup(func() { _ = ns.Close() })
	return ns
}

// onThread runs f on a thread that nobody uses afterwards.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		done <- f()
	}()
	return <-done
}

// in runs f in a namespace. Sockets made in f stay there.
func in(ns netns.NsHandle, f func() error) error {
	return onThread(func() error {
		if err := netns.Set(ns); err != nil {
			return err
		}
		return f()
	})
}

func up(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(link)
}

func newWorld(tb testing.TB) *world {
	w := &world{tb: tb, internet: newNamespace(tb), node: newNamespace(tb), resolv: filepath.Join(tb.TempDir(), "resolv.conf"), ended: make(chan error, 1)}
	must(tb, up("lo"))
	// An address of the link-local sort must not be confused with what the test
	// asks for, so duplicate detection is left out and neighbours are known at once.
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "uplink", MTU: 65520}, PeerName: "inet", PeerNamespace: netlink.NsFd(int(w.internet))}
	must(tb, netlink.LinkAdd(veth))
	must(tb, addresses("uplink", "198.51.100.1/24", "2001:db8:99::1/64"))
	must(tb, in(w.internet, func() error {
		return addresses("inet", server4+"/24", denied4+"/24", server6+"/64", "198.51.100.53/24", "198.51.100.54/24")
	}))
	_, closed, err := net.ParseCIDR(closed4 + "/32")
	must(tb, err)
	must(tb, netlink.RouteAdd(&netlink.Route{Dst: closed, Type: unix.RTN_UNREACHABLE}))
	w.names("198.51.100.53")
	w.start()
	return w
}

func addresses(name string, list ...string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	for _, text := range list {
		address, err := netlink.ParseAddr(text)
		if err != nil {
			return err
		}
		if address.IP.To4() == nil {
			address.Flags = unix.IFA_F_NODAD
		}
		if err := netlink.AddrAdd(link, address); err != nil {
			return fmt.Errorf("%s: %w", text, err)
		}
	}
	return netlink.LinkSetUp(link)
}

// start makes the device and runs the stack.
func (w *world) start() {
	w.tb.Helper()
	gateways := []netip.Addr{netip.MustParseAddr(gate4), netip.MustParseAddr(gate6)}
	device, err := Device{
		Namespace: fmt.Sprintf("/proc/self/fd/%d", int(w.node)), Name: "weft-out", MTU: 65520, Gateways: gateways,
		Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.0.2/29"), netip.MustParsePrefix("fd77:6566:7400::2/64")},
	}.Create()
	must(w.tb, err)
	ctx, stop := context.WithCancel(context.Background())
	w.stop = stop
	go func() {
		w.ended <- Run(ctx, device, Config{
			Gateways: gateways, MTU: 65520, Resolv: w.resolv, HostPorts: []int{allowed},
			Deny: []netip.Prefix{netip.MustParsePrefix(denied4 + "/32")},
		})
		_ = unix.Close(device)
	}()
	w.tb.Cleanup(func() {
		stop()
		select {
		case err := <-w.ended:
			if err != nil {
				w.tb.Errorf("the stack ended with %v", err)
			}
		case <-time.After(patience):
			w.tb.Error("the stack does not end")
		}
	})
}

// names writes the host's resolv.conf.
func (w *world) names(servers ...string) {
	w.tb.Helper()
	text := "options timeout:1 attempts:1\n"
	for _, server := range servers {
		text += "nameserver " + server + "\n"
	}
	must(w.tb, os.WriteFile(w.resolv+".new", []byte(text), 0o644))
	must(w.tb, os.Rename(w.resolv+".new", w.resolv))
}

// listen serves TCP in a namespace (none: the host) and gives the port.
func (w *world) listen(ns netns.NsHandle, address string, handle func(*net.TCPConn)) int {
	w.tb.Helper()
	var listener net.Listener
	open := func() (err error) {
		listener, err = net.Listen("tcp", address)
		return err
	}
	if ns == netns.None() {
		must(w.tb, open())
	} else {
		must(w.tb, in(ns, open))
	}
	w.tb.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				handle(conn.(*net.TCPConn))
			}()
		}
	}()
	return listener.Addr().(*net.TCPAddr).Port
}

// packets serves UDP in a namespace with a function from question to answer.
func (w *world) packets(ns netns.NsHandle, address string, answer func([]byte) []byte) int {
	w.tb.Helper()
	var conn net.PacketConn
	must(w.tb, in(ns, func() (err error) {
		conn, err = net.ListenPacket("udp", address)
		return err
	}))
	w.tb.Cleanup(func() { _ = conn.Close() })
	go func() {
		buffer := make([]byte, 65536)
		for {
			n, from, err := conn.ReadFrom(buffer)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				continue
			}
			if reply := answer(buffer[:n]); reply != nil {
				_, _ = conn.WriteTo(reply, from)
			}
		}
	}()
	return conn.LocalAddr().(*net.UDPAddr).Port
}

// dial connects from the node.
func (w *world) dial(network, host string, port int) (net.Conn, error) {
	var conn net.Conn
	err := in(w.node, func() (err error) {
		conn, err = net.DialTimeout(network, net.JoinHostPort(host, fmt.Sprint(port)), patience)
		return err
	})
	if err != nil {
		return nil, err
	}
	w.tb.Cleanup(func() { _ = conn.Close() })
	return conn, conn.SetDeadline(time.Now().Add(patience))
}

func (w *world) mustDial(network, host string, port int) net.Conn {
	w.tb.Helper()
	conn, err := w.dial(network, host, port)
	must(w.tb, err)
	return conn
}

// echoTCP sends back what comes and half-closes after the other side has.
func echoTCP(conn *net.TCPConn) {
	_, _ = io.Copy(conn, conn)
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
