//go:build linux

// Package egress is the way out of a network namespace without forwarding in
// the host's kernel: a device in the namespace leads to a network stack in
// this process, which ends every TCP connection, UDP flow and echo request
// and opens each again as an ordinary socket of the host. So the namespace
// reaches what the host reaches, with two exceptions: the host's loopback,
// and what the configuration denies.
//
// At the gateway's address it answers DNS by asking the host's name servers,
// and lets explicitly allowed ports through to the host's loopback.
//
// The package knows nothing of Kubernetes. What it cannot carry: multicast,
// broadcast, fragmented echo requests, IP protocols other than TCP, UDP and
// ICMP echo, and the time to live of packets (so traceroute shows one hop).
package egress

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/fdbased"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

// Config says what goes through.
type Config struct {
	// Gateways are the stack's own addresses, at most one of each family.
	Gateways []netip.Addr
	// MTU of the device, in bytes.
	MTU int
	// Resolv is the resolv.conf whose name servers answer at the gateways'
	// port 53; empty: no DNS there.
	Resolv string
	// HostPorts are TCP ports on the host's loopback that the gateways' same
	// ports lead to.
	HostPorts []int
	// Deny lists destinations that are refused.
	Deny []netip.Prefix
	Log  *slog.Logger
}

// Limits on what one namespace may keep open; beyond them new ones are
// refused.
const (
	maxConnections = 16384
	maxDialing     = 4096
	maxFlows       = 8192
	maxEchoes      = 256
)

// nic is the only interface of the stack.
const nic tcpip.NICID = 1

// Egress carries the traffic of one device.
type Egress struct {
	config  Config
	log     *slog.Logger
	device  int // file descriptor
	stack   *stack.Stack
	dns     *resolver
	syns    synTable
	echoes  echoTable
	tcpOpen counter
	udpOpen counter
	ctx     context.Context // ends every flow
	flows   flows
}

// flows are the goroutines of connections. Packets still come in while the
// stack is being ended, so none may start after wait has begun.
type flows struct {
	mu      sync.Mutex
	ended   bool
	running sync.WaitGroup
}

// start runs f unless it is too late.
func (f *flows) start(run func()) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended {
		return false
	}
	f.running.Go(run)
	return true
}

// wait lets none start any more and waits for the others.
func (f *flows) wait() {
	f.mu.Lock()
	f.ended = true
	f.mu.Unlock()
	f.running.Wait()
}

// Run carries the device's packets until the context ends or the device is
// gone. The device is a file descriptor that gives and takes one IP packet at
// a time without any header, as CreateDevice makes it; it stays the caller's.
func Run(ctx context.Context, device int, config Config) error {
	if err := config.check(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	e := &Egress{config: config, log: config.Log, device: device, ctx: ctx}
	e.syns.limit, e.echoes.limit = maxDialing, maxEchoes
	e.tcpOpen.limit, e.udpOpen.limit = maxConnections, maxFlows
	if config.Resolv != "" {
		e.dns = newResolver(config.Resolv, config.Log)
	}
	gone := make(chan error, 1)
	if err := e.start(func(err tcpip.Error) {
		select {
		case gone <- fmt.Errorf("the device is gone: %s", err):
		default:
		}
	}); err != nil {
		return err
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-gone:
	}
	cancel()
	if failure := e.stack.RemoveNIC(nic); failure != nil {
		e.log.Debug("the device was not given back", "error", failure)
	}
	e.stack.Close()
	e.flows.wait()
	return err
}

func (c *Config) check() error {
	if len(c.Gateways) == 0 {
		return errors.New("egress needs a gateway address")
	}
	if c.MTU < 1280 || c.MTU > 65520 {
		return fmt.Errorf("MTU %d, expected 1280 to 65520", c.MTU)
	}
	for _, port := range c.HostPorts {
		if port < 1 || port > 65535 || port == 53 && c.Resolv != "" {
			return fmt.Errorf("host port %d cannot be let through", port)
		}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

// start builds the stack on the device.
func (e *Egress) start(closed func(tcpip.Error)) error {
	device, err := fdbased.New(&fdbased.Options{
		FDs:                []int{e.device},
		MTU:                uint32(e.config.MTU),
		RXChecksumOffload:  true, // the packets come from this machine's kernel
		PacketDispatchMode: fdbased.Readv,
		ClosedFunc:         closed,
	})
	if err != nil {
		return fmt.Errorf("use the device: %w", err)
	}
	e.stack = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6},
	})
	if err := e.tune(); err != nil {
		return err
	}
	e.stack.SetTransportProtocolHandler(tcp.ProtocolNumber, e.tcpHandler())
	e.stack.SetTransportProtocolHandler(udp.ProtocolNumber, udp.NewForwarder(e.stack, e.udpFlow).HandlePacket)

	if err := e.stack.CreateNIC(nic, newLink(device, e.echo)); err != nil {
		return fmt.Errorf("attach the device: %s", err)
	}
	// Packets to every address are taken, and answered from that address.
	for _, set := range []func(tcpip.NICID, bool) tcpip.Error{e.stack.SetPromiscuousMode, e.stack.SetSpoofing} {
		if err := set(nic, true); err != nil {
			return fmt.Errorf("take all addresses: %s", err)
		}
	}
	for _, gateway := range e.config.Gateways {
		address := tcpip.ProtocolAddress{Protocol: protocolOf(gateway), AddressWithPrefix: stackAddress(gateway).WithPrefix()}
		if err := e.stack.AddProtocolAddress(nic, address, stack.AddressProperties{}); err != nil {
			return fmt.Errorf("take the address %s: %s", gateway, err)
		}
	}
	e.stack.SetRouteTable([]tcpip.Route{
		{Destination: header.IPv4EmptySubnet, NIC: nic},
		{Destination: header.IPv6EmptySubnet, NIC: nic},
	})
	return nil
}

// tune sets buffers that grow with a connection's speed, and switches off
// RACK: on a link without loss it only causes needless retransmissions.
func (e *Egress) tune() error {
	receive := tcpip.TCPReceiveBufferSizeRangeOption{Min: 4 << 10, Default: 256 << 10, Max: 6 << 20}
	send := tcpip.TCPSendBufferSizeRangeOption{Min: 4 << 10, Default: 256 << 10, Max: 6 << 20}
	moderate := tcpip.TCPModerateReceiveBufferOption(true)
	sack := tcpip.TCPSACKEnabled(true)
	recovery := tcpip.TCPRecovery(0)
	for _, option := range []tcpip.SettableTransportProtocolOption{&receive, &send, &moderate, &sack, &recovery} {
		if err := e.stack.SetTransportProtocolOption(tcp.ProtocolNumber, option); err != nil {
			return fmt.Errorf("set TCP option %T: %s", option, err)
		}
	}
	return nil
}

// destination says where a connection to an address of the namespace's view
// leads.
type destination struct {
	address netip.AddrPort // on the host; invalid when refused
	dns     bool
	refused string // why
}

// leads applies the rules: the gateway's own ports, the host's loopback, what
// is denied.
func (e *Egress) leads(to netip.AddrPort, isTCP bool) destination {
	ip := to.Addr().Unmap()
	if slices.Contains(e.config.Gateways, ip) {
		switch {
		case to.Port() == 53 && e.dns != nil:
			return destination{dns: true}
		case isTCP && slices.Contains(e.config.HostPorts, int(to.Port())):
			return destination{address: netip.AddrPortFrom(loopbackOf(ip), to.Port())}
		}
		return destination{refused: "the gateway has nothing on this port"}
	}
	// An unspecified address would lead to the host's loopback, too.
	if ip.IsLoopback() || ip.IsUnspecified() || ip.Is4() && ip.As4()[0] == 0 {
		return destination{refused: "the host's loopback"}
	}
	if ip.IsMulticast() || ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return destination{refused: "multicast and broadcast are not carried"}
	}
	for _, prefix := range e.config.Deny {
		if prefix.Contains(ip) {
			return destination{refused: "denied by " + prefix.String()}
		}
	}
	return destination{address: netip.AddrPortFrom(ip, to.Port())}
}

func loopbackOf(ip netip.Addr) netip.Addr {
	if ip.Is6() {
		return netip.IPv6Loopback()
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1})
}

func protocolOf(ip netip.Addr) tcpip.NetworkProtocolNumber {
	if ip.Is4() {
		return ipv4.ProtocolNumber
	}
	return ipv6.ProtocolNumber
}

func stackAddress(ip netip.Addr) tcpip.Address { return tcpip.AddrFromSlice(ip.AsSlice()) }

// addrPort converts the stack's form of an address.
func addrPort(address tcpip.Address, port uint16) netip.AddrPort {
	ip, _ := netip.AddrFromSlice(address.AsSlice())
	return netip.AddrPortFrom(ip, port)
}

// inject gives a whole IP packet to the namespace.
func (e *Egress) inject(packet []byte) {
	if _, err := unix.Write(e.device, packet); err != nil {
		e.log.Debug("packet not delivered", "error", err)
	}
}

// counter counts what is open, up to a limit. It warns at most once a minute.
type counter struct {
	mu     sync.Mutex
	limit  int
	open   int
	warned time.Time
}

// enter tells whether one more may be opened, and whether to warn.
func (c *counter) enter(now time.Time) (ok, warn bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open < c.limit {
		c.open++
		return true, false
	}
	warn = now.Sub(c.warned) > time.Minute
	if warn {
		c.warned = now
	}
	return false, warn
}

func (c *counter) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open--
}
