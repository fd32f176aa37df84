//go:build linux

package egress

import (
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/nested"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// link stands between device and stack and takes out echo requests: the stack
// would answer them itself for every address.
type link struct {
	nested.Endpoint
	echo func(packet []byte, four bool) (taken bool)
}

var _ stack.LinkEndpoint = (*link)(nil)

func newLink(device stack.LinkEndpoint, echo func([]byte, bool) bool) *link {
	l := &link{echo: echo}
	l.Init(device, l)
	return l
}

// DeliverNetworkPacket implements stack.NetworkDispatcher.
func (l *link) DeliverNetworkPacket(protocol tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) {
	if isICMP(protocol, pkt) && l.echo(pkt.Data().AsRange().ToSlice(), protocol == header.IPv4ProtocolNumber) {
		return
	}
	l.Endpoint.DeliverNetworkPacket(protocol, pkt)
}

func isICMP(protocol tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) bool {
	switch protocol {
	case header.IPv4ProtocolNumber:
		h, ok := pkt.Data().PullUp(header.IPv4MinimumSize)
		return ok && header.IPv4(h).Protocol() == uint8(header.ICMPv4ProtocolNumber)
	case header.IPv6ProtocolNumber:
		h, ok := pkt.Data().PullUp(header.IPv6MinimumSize)
		return ok && header.IPv6(h).NextHeader() == uint8(header.ICMPv6ProtocolNumber)
	}
	return false
}
