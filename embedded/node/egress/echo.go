//go:build linux

package egress

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// echoIdle ends a series of echo requests.
const echoIdle = 20 * time.Second

// series is one client's echo requests to one destination.
type series struct {
	client, server netip.Addr
	id             uint16 // the client's
}

// echoTable holds the series under way, each with its socket.
type echoTable struct {
	mu    sync.Mutex
	limit int
	open  map[series]*echoFlow
}

// echoFlow is a series on the host: a raw socket to the destination, on which
// replies are known by an identifier of our own.
type echoFlow struct {
	conn *net.IPConn
	id   uint16
}

// echo takes an ICMP packet that asks somebody else than the gateway for an
// echo. All other packets are the stack's.
func (e *Egress) echo(packet []byte, four bool) (taken bool) {
	s, message, fragment, ok := parseEcho(packet, four)
	if !ok || slices.Contains(e.config.Gateways, s.server) {
		return false
	}
	if fragment {
		return true // it cannot be sent on, and the stack must not answer it
	}
	flow, err := e.echoFlow(s)
	if err != nil {
		if why, ok := unreachableFor(err); ok {
			e.inject(e.echoUnreachable(s, message, why))
		}
		return true
	}
	if flow == nil {
		return true
	}
	request := slices.Clone(message)
	binary.BigEndian.PutUint16(request[4:], flow.id)
	if four { // for ICMPv6 the kernel fills in the checksum
		request[2], request[3] = 0, 0
		binary.BigEndian.PutUint16(request[2:], ^checksum.Checksum(request, 0))
	}
	if _, err := flow.conn.Write(request); err != nil {
		if why, ok := unreachableFor(err); ok {
			e.inject(e.echoUnreachable(s, message, why))
		}
	}
	return true
}

// parseEcho finds an echo request in a packet. A fragment is reported whatever
// it holds.
func parseEcho(packet []byte, four bool) (s series, message []byte, fragment, ok bool) {
	if four {
		h := header.IPv4(packet)
		if !h.IsValid(len(packet)) {
			return s, nil, false, false
		}
		s = series{client: addrPort(h.SourceAddress(), 0).Addr(), server: addrPort(h.DestinationAddress(), 0).Addr()}
		if h.More() || h.FragmentOffset() != 0 {
			return s, nil, true, true
		}
		message = h.Payload()
		if len(message) < 8 || message[0] != byte(header.ICMPv4Echo) {
			return s, nil, false, false
		}
	} else {
		h := header.IPv6(packet)
		if !h.IsValid(len(packet)) {
			return s, nil, false, false
		}
		s = series{client: addrPort(h.SourceAddress(), 0).Addr(), server: addrPort(h.DestinationAddress(), 0).Addr()}
		message = h.Payload()
		if len(message) < 8 || message[0] != byte(header.ICMPv6EchoRequest) {
			return s, nil, false, false
		}
	}
	s.id = binary.BigEndian.Uint16(message[4:])
	return s, message, false, true
}

// echoFlow finds or opens the series' socket; nil without an error when the
// destination is refused or too many are open.
func (e *Egress) echoFlow(s series) (*echoFlow, error) {
	e.echoes.mu.Lock()
	defer e.echoes.mu.Unlock()
	if flow := e.echoes.open[s]; flow != nil {
		return flow, nil
	}
	if e.leads(netip.AddrPortFrom(s.server, 0), false).refused != "" || len(e.echoes.open) >= e.echoes.limit {
		return nil, nil
	}
	network := "ip4:icmp"
	if s.server.Is6() {
		network = "ip6:ipv6-icmp"
	}
	conn, err := (&net.Dialer{Control: reportErrors}).DialContext(e.ctx, network, s.server.String())
	if err != nil {
		return nil, err
	}
	var id [2]byte
	if _, err := rand.Read(id[:]); err != nil {
		_ = conn.Close()
		return nil, err
	}
	flow := &echoFlow{conn: conn.(*net.IPConn), id: binary.BigEndian.Uint16(id[:])}
	started := e.flows.start(func() {
		e.echoReplies(s, flow)
		_ = flow.conn.Close()
		e.echoes.mu.Lock()
		defer e.echoes.mu.Unlock()
		delete(e.echoes.open, s)
	})
	if !started {
		_ = flow.conn.Close()
		return nil, nil
	}
	if e.echoes.open == nil {
		e.echoes.open = map[series]*echoFlow{}
	}
	e.echoes.open[s] = flow // the goroutine deletes it later: the table is locked
	return flow, nil
}

// reportErrors makes a raw socket return what ICMP errors say, also those
// that the kernel takes for passing.
func reportErrors(network, _ string, raw syscall.RawConn) error {
	level, option := unix.SOL_IP, unix.IP_RECVERR
	if strings.HasPrefix(network, "ip6") {
		level, option = unix.SOL_IPV6, unix.IPV6_RECVERR
	}
	var failure error
	err := raw.Control(func(fd uintptr) { failure = unix.SetsockoptInt(int(fd), level, option, 1) })
	return errors.Join(err, failure)
}

// echoReplies gives the namespace the replies of one series until it is idle.
func (e *Egress) echoReplies(s series, flow *echoFlow) {
	stop := context.AfterFunc(e.ctx, func() { _ = flow.conn.Close() })
	defer stop()
	wanted := byte(header.ICMPv4EchoReply)
	if s.server.Is6() {
		wanted = byte(header.ICMPv6EchoReply)
	}
	buffer := make([]byte, 65536)
	for last := time.Now(); ; {
		if err := flow.conn.SetReadDeadline(last.Add(echoIdle)); err != nil {
			return
		}
		n, _, err := flow.conn.ReadFromIP(buffer)
		if err != nil {
			why, ok := unreachableFor(err)
			if !ok {
				return
			}
			e.inject(e.echoUnreachable(s, nil, why))
			continue
		}
		message := buffer[:n]
		if n < 8 || message[0] != wanted || binary.BigEndian.Uint16(message[4:]) != flow.id {
			continue
		}
		last = time.Now()
		binary.BigEndian.PutUint16(message[4:], s.id)
		if n+header.IPv6MinimumSize <= e.config.MTU {
			e.inject(icmpPacket(s.server, s.client, message))
		}
	}
}

// echoUnreachable quotes the request, or what is known of it.
func (e *Egress) echoUnreachable(s series, message []byte, why reason) []byte {
	id := stack.TransportEndpointID{RemoteAddress: stackAddress(s.client), LocalAddress: stackAddress(s.server)}
	protocol := header.ICMPv4ProtocolNumber
	kind := byte(header.ICMPv4Echo)
	if s.server.Is6() {
		protocol, kind = header.ICMPv6ProtocolNumber, byte(header.ICMPv6EchoRequest)
	}
	quoted := make([]byte, 8)
	quoted[0] = kind
	binary.BigEndian.PutUint16(quoted[4:], s.id)
	if len(message) >= 8 {
		copy(quoted, message[:8])
	}
	return unreachable(e.gatewayFor(id.RemoteAddress), id, protocol, quoted, why)
}
