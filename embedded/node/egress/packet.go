//go:build linux

package egress

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"syscall"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// reason is why something cannot be reached.
type reason int

const (
	netUnreachable reason = iota
	hostUnreachable
	portUnreachable
	prohibited
)

// codes are the ICMPv4 (RFC 792, RFC 1812) and ICMPv6 (RFC 4443) codes of
// "destination unreachable".
var codes = map[reason]struct{ four, six byte }{
	netUnreachable:  {0, 0},
	hostUnreachable: {1, 3},
	portUnreachable: {3, 4},
	prohibited:      {13, 1},
}

// unreachableFor tells which ICMP error fits an error of a socket; false when
// none does.
func unreachableFor(err error) (reason, bool) {
	switch {
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EAFNOSUPPORT):
		return netUnreachable, true
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.EHOSTDOWN):
		return hostUnreachable, true
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return prohibited, true
	}
	return 0, false
}

// gatewayFor is the gateway of a client's family, from which errors come.
func (e *Egress) gatewayFor(client tcpip.Address) netip.Addr {
	for _, gateway := range e.config.Gateways {
		if gateway.Is4() == (client.Len() == header.IPv4AddressSize) {
			return gateway
		}
	}
	return addrPort(client, 0).Addr() // no gateway of this family: rather an odd sender than none
}

// tcpUnreachable is the ICMP error for a connection being opened: it quotes
// the ports and the sequence number (RFC 5927, section 4).
func tcpUnreachable(from netip.Addr, id stack.TransportEndpointID, seq uint32, why reason) []byte {
	quoted := make([]byte, header.TCPMinimumSize)
	binary.BigEndian.PutUint16(quoted[0:], id.RemotePort)
	binary.BigEndian.PutUint16(quoted[2:], id.LocalPort)
	binary.BigEndian.PutUint32(quoted[4:], seq)
	quoted[12] = header.TCPMinimumSize / 4 << 4
	quoted[13] = byte(header.TCPFlagSyn)
	return unreachable(from, id, header.TCPProtocolNumber, quoted, why)
}

// udpUnreachable is the ICMP error for a datagram.
func udpUnreachable(from netip.Addr, id stack.TransportEndpointID, why reason) []byte {
	quoted := make([]byte, header.UDPMinimumSize)
	binary.BigEndian.PutUint16(quoted[0:], id.RemotePort)
	binary.BigEndian.PutUint16(quoted[2:], id.LocalPort)
	binary.BigEndian.PutUint16(quoted[4:], header.UDPMinimumSize)
	return unreachable(from, id, header.UDPProtocolNumber, quoted, why)
}

// unreachable builds the packet "destination unreachable" for a packet of the
// flow that began with the quoted transport header.
func unreachable(from netip.Addr, id stack.TransportEndpointID, transport tcpip.TransportProtocolNumber, quoted []byte, why reason) []byte {
	client, server := addrPort(id.RemoteAddress, 0).Addr(), addrPort(id.LocalAddress, 0).Addr()
	quote := ipPacket(client, server, transport, quoted)
	body := make([]byte, 8, 8+len(quote))
	if client.Is4() {
		body[0], body[1] = byte(header.ICMPv4DstUnreachable), codes[why].four
	} else {
		body[0], body[1] = byte(header.ICMPv6DstUnreachable), codes[why].six
	}
	return icmpPacket(from, client, append(body, quote...))
}

// icmpPacket fills in the checksum of an ICMP message and puts it in a packet.
func icmpPacket(from, to netip.Addr, body []byte) []byte {
	body[2], body[3] = 0, 0
	if to.Is4() {
		binary.BigEndian.PutUint16(body[2:], ^checksum.Checksum(body, 0))
		return ipPacket(from, to, header.ICMPv4ProtocolNumber, body)
	}
	pseudo := header.PseudoHeaderChecksum(header.ICMPv6ProtocolNumber, stackAddress(from), stackAddress(to), uint16(len(body)))
	binary.BigEndian.PutUint16(body[2:], ^checksum.Checksum(body, pseudo))
	return ipPacket(from, to, header.ICMPv6ProtocolNumber, body)
}

// ipPacket puts a payload behind an IP header of the addresses' family.
func ipPacket(from, to netip.Addr, transport tcpip.TransportProtocolNumber, payload []byte) []byte {
	if to.Is4() {
		packet := make([]byte, header.IPv4MinimumSize, header.IPv4MinimumSize+len(payload))
		h := header.IPv4(packet)
		h.Encode(&header.IPv4Fields{
			TotalLength: uint16(header.IPv4MinimumSize + len(payload)),
			TTL:         64,
			Protocol:    uint8(transport),
			SrcAddr:     stackAddress(from),
			DstAddr:     stackAddress(to),
		})
		h.SetChecksum(^h.CalculateChecksum())
		return append(packet, payload...)
	}
	packet := make([]byte, header.IPv6MinimumSize, header.IPv6MinimumSize+len(payload))
	header.IPv6(packet).Encode(&header.IPv6Fields{
		PayloadLength:     uint16(len(payload)),
		TransportProtocol: transport,
		HopLimit:          64,
		SrcAddr:           stackAddress(from),
		DstAddr:           stackAddress(to),
	})
	return append(packet, payload...)
}
