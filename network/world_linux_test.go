package network

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// world is a node with pods, made of network namespaces, and a host outside of it.
type world struct {
	node  *netns
	spots map[string]*spot // by name: pod keys, "node", "outside"
}

// spot is a place from which and to which packets go.
type spot struct {
	name string
	ns   *netns
	ips  [2]netip.Addr // IPv4, IPv6
}

var listenPorts = []uint16{80, 81, 5005, 8080}

// datapath is how the pods hang together: as ports of a bridge, where only br_netfilter shows their packets to the table, or each routed
// by the node.
type datapath bool

const (
	bridged datapath = true
	routed  datapath = false
)

func newWorld(t testing.TB, how datapath, pods []Pod) *world {
	w := &world{node: newNetns(t), spots: map[string]*spot{}}
	n := w.node
	n.sysctl(t, "ipv4/ip_forward", "1")
	n.sysctl(t, "ipv6/conf/all/forwarding", "1")
	n.sysctl(t, "ipv6/conf/default/accept_dad", "0")
	if how == bridged {
		if reason := BridgeFiltered(n.fd()); reason != nil {
			t.Skipf("packets between the ports of a bridge cannot be filtered here: %v", reason)
		}
		must(t, n.link.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}))
		br, err := n.link.LinkByName("br0")
		must(t, err)
		must(t, n.link.LinkSetUp(br))
		w.address(t, n, "br0", "10.244.0.254/24")
		w.address(t, n, "br0", "fd00:10:244::fe/64")
	}
	w.spots["node"] = &spot{name: "node", ns: n, ips: [2]netip.Addr{mustAddr("10.244.0.254"), mustAddr("fd00:10:244::fe")}}
	for i, p := range pods {
		s := &spot{name: p.Key(), ns: newNetns(t), ips: [2]netip.Addr{p.IPs[0], p.IPs[1]}}
		w.plug(t, s, fmt.Sprintf("veth%d", i), how)
		w.spots[s.name] = s
	}
	out := &spot{name: "outside", ns: newNetns(t), ips: [2]netip.Addr{mustAddr("192.0.2.10"), mustAddr("2001:db8::10")}}
	w.plug(t, out, "outside", routed)
	w.spots[out.name] = out
	for _, s := range w.spots {
		w.listen(t, s)
	}
	return w
}

// plug connects the spot to the node by a veth pair: into the bridge, or with routes of its own, the gateway's address being on every veth (as
// the CNI plugin ptp does it).
func (w *world) plug(t testing.TB, s *spot, name string, how datapath) {
	t.Helper()
	s.ns.sysctl(t, "ipv6/conf/default/accept_dad", "0")
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	must(t, w.node.link.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(s.ns.fd())}))
	outer, err := w.node.link.LinkByName(name)
	must(t, err)
	inner, err := s.ns.link.LinkByName("eth0")
	must(t, err)
	if how == bridged {
		br, err := w.node.link.LinkByName("br0")
		must(t, err)
		must(t, w.node.link.LinkSetMaster(outer, br))
	}
	must(t, w.node.link.LinkSetUp(outer))
	must(t, s.ns.link.LinkSetUp(inner))
	gateways := []string{"10.244.0.254", "fd00:10:244::fe"}
	for i, ip := range s.ips {
		bits := ip.BitLen()
		if how == bridged {
			bits = []int{24, 64}[i]
		}
		w.address(t, s.ns, "eth0", fmt.Sprintf("%s/%d", ip, bits))
		gw := net.ParseIP(gateways[i])
		if how == routed {
			all := []int{32, 128}[i]
			w.address(t, w.node, name, fmt.Sprintf("%s/%d", gw, all))
			must(t, w.node.link.RouteAdd(&netlink.Route{LinkIndex: outer.Attrs().Index, Dst: ipNet(ip.String(), all), Scope: netlink.SCOPE_LINK}))
			must(t, s.ns.link.RouteAdd(&netlink.Route{LinkIndex: inner.Attrs().Index, Dst: ipNet(gw.String(), all), Scope: netlink.SCOPE_LINK}))
		}
		must(t, s.ns.link.RouteAdd(&netlink.Route{LinkIndex: inner.Attrs().Index, Gw: gw}))
	}
}

func ipNet(ip string, bits int) *net.IPNet {
	_, n, err := net.ParseCIDR(fmt.Sprintf("%s/%d", ip, bits))
	if err != nil {
		panic(err)
	}
	return n
}

func (w *world) address(t testing.TB, n *netns, link, cidr string) {
	t.Helper()
	a, err := netlink.ParseAddr(cidr)
	must(t, err)
	if a.IP.To4() == nil {
		a.Flags = unix.IFA_F_NODAD
	}
	l, err := n.link.LinkByName(link)
	must(t, err)
	must(t, n.link.AddrAdd(l, a))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// listen answers on every port of the spot: TCP connections are accepted, UDP datagrams sent back, raw SCTP datagrams sent back.
func (w *world) listen(t testing.TB, s *spot) {
	s.ns.do(t, func() error {
		for _, port := range listenPorts {
			l, err := net.Listen("tcp", fmt.Sprintf("[::]:%d", port))
			if err != nil {
				return err
			}
			t.Cleanup(func() { l.Close() })
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					go echo(c)
				}
			}()
			u, err := net.ListenUDP("udp", &net.UDPAddr{Port: int(port)})
			if err != nil {
				return err
			}
			t.Cleanup(func() { u.Close() })
			go func() {
				buf := make([]byte, 64)
				for {
					n, from, err := u.ReadFromUDP(buf)
					if err != nil {
						return
					}
					_, _ = u.WriteToUDP(buf[:n], from) // an answer that is lost is what the test looks for
				}
			}()
		}
		return nil
	})
}

func echo(c net.Conn) {
	defer c.Close()
	buf := make([]byte, 64)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		if _, err := c.Write(buf[:n]); err != nil {
			return
		}
	}
}

// probe is one attempt to reach a port.
type probe struct {
	from, to string
	v6       bool
	protocol Protocol
	port     uint16
	want     bool

	fd   int
	done bool
}

func (p *probe) String() string {
	return fmt.Sprintf("%s -> %s %s %d (IPv6 %v)", p.from, p.to, p.protocol, p.port, p.v6)
}

// run sends all probes and waits for those that should come through (at most ten seconds for all), then for a datagram from the node to each
// place, which nothing stops and which stands behind all others in the queue. What has not come back then is lost.
func (w *world) run(t testing.TB, probes []*probe) {
	t.Helper()
	w.flushConntrack(t)
	w.send(t, probes)
	defer func() {
		for _, p := range probes {
			unix.Close(p.fd)
		}
	}()
	missing := func() bool {
		for _, p := range probes {
			if p.want && !p.done {
				return true
			}
		}
		return false
	}
	for end := time.Now().Add(10 * time.Second); missing() && time.Now().Before(end); {
		w.collect(t, probes, 100)
	}
	var last []*probe
	for name := range w.spots {
		for _, v6 := range []bool{false, true} {
			last = append(last, &probe{from: "node", to: name, v6: v6, protocol: UDP, port: 80})
		}
	}
	w.send(t, last)
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		w.collect(t, last, 100)
		if !anyOpen(last) {
			break
		}
	}
	for _, p := range last {
		unix.Close(p.fd)
	}
	if anyOpen(last) {
		t.Fatal("the node does not reach all pods")
	}
	for range 3 {
		w.collect(t, probes, 5)
	}
}

func anyOpen(probes []*probe) bool {
	for _, p := range probes {
		if !p.done {
			return true
		}
	}
	return false
}

func (w *world) send(t testing.TB, probes []*probe) {
	t.Helper()
	bySource := map[string][]*probe{}
	for _, p := range probes {
		bySource[p.from] = append(bySource[p.from], p)
	}
	for from, list := range bySource {
		w.spots[from].ns.do(t, func() error {
			for _, p := range list {
				if err := w.sendOne(p); err != nil {
					return fmt.Errorf("%s: %w", p, err)
				}
			}
			return nil
		})
	}
}

func (w *world) sendOne(p *probe) error {
	domain, kind := unix.AF_INET, unix.SOCK_STREAM
	to := w.spots[p.to].ips[0]
	var sa unix.Sockaddr
	if p.v6 {
		domain = unix.AF_INET6
		to = w.spots[p.to].ips[1]
		sa = &unix.SockaddrInet6{Addr: to.As16(), Port: int(p.port)}
	} else {
		sa = &unix.SockaddrInet4{Addr: to.As4(), Port: int(p.port)}
	}
	if p.protocol == UDP {
		kind = unix.SOCK_DGRAM
	}
	fd, err := unix.Socket(domain, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	p.fd = fd
	if p.protocol == TCP {
		if err := unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}); err != nil {
			return err
		}
	}
	if err := unix.Connect(fd, sa); err != nil && err != unix.EINPROGRESS {
		return err
	}
	if p.protocol == UDP {
		_, err = unix.Write(fd, []byte("?"))
	}
	return err
}

func (w *world) collect(t testing.TB, probes []*probe, milliseconds int) {
	t.Helper()
	var fds []unix.PollFd
	var open []*probe
	for _, p := range probes {
		if p.done {
			continue
		}
		events := int16(unix.POLLOUT)
		if p.protocol == UDP {
			events = unix.POLLIN
		}
		fds = append(fds, unix.PollFd{Fd: int32(p.fd), Events: events})
		open = append(open, p)
	}
	if len(fds) == 0 {
		return
	}
	if _, err := unix.Poll(fds, milliseconds); err != nil && err != unix.EINTR {
		t.Fatal(err)
	}
	for i, f := range fds {
		if f.Revents&f.Events == 0 {
			continue
		}
		if open[i].protocol == TCP {
			errno, err := unix.GetsockoptInt(int(f.Fd), unix.SOL_SOCKET, unix.SO_ERROR)
			if err != nil || errno != 0 {
				continue
			}
		}
		open[i].done = true
	}
}

func (w *world) flushConntrack(t testing.TB) {
	t.Helper()
	w.node.do(t, func() error {
		h, err := netlink.NewHandle(unix.NETLINK_NETFILTER)
		if err != nil {
			return err
		}
		defer h.Close()
		return h.ConntrackTableFlush(netlink.ConntrackTable)
	})
}

// reachable reports by a single probe whether the port answers.
func (w *world) reachable(t testing.TB, p probe) bool {
	t.Helper()
	w.run(t, []*probe{&p})
	return p.done
}

// sctpInit is a minimal SCTP packet with an INIT chunk (RFC 9260 section 3.3.2).
func sctpInit(port uint16) []byte {
	b := make([]byte, 32)
	binary.BigEndian.PutUint16(b[0:], 40000)
	binary.BigEndian.PutUint16(b[2:], port)
	b[12] = 1
	binary.BigEndian.PutUint16(b[14:], 20)
	binary.BigEndian.PutUint32(b[16:], 1)
	binary.BigEndian.PutUint32(b[20:], 65536)
	binary.BigEndian.PutUint16(b[24:], 1)
	binary.BigEndian.PutUint16(b[26:], 1)
	binary.LittleEndian.PutUint32(b[8:], crc32c(b))
	return b
}
