package stdlib

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"strconv"
	"strings"

	"github.com/weft-dev/weft/kcl/value"
)

var netFunctions = map[string]function{
	"split_host_port": splitHostPort, "join_host_port": joinHostPort, "fqdn": fqdn,
	"parse_IP": ipString, "IP_string": ipString, "to_IP4": toIP4, "to_IP6": toIP6,
	"is_IPv4": isIP("is_IPv4", netip.Addr.Is4),
	"is_IPv6": isIP("is_IPv6", netip.Addr.Is6),
	"is_IP":   isIP("is_IP", func(netip.Addr) bool { return true }),
	"is_loopback_IP": isIP("is_loopback_IP", func(a netip.Addr) bool {
		return !a.Is4In6() && a.IsLoopback()
	}),
	"is_multicast_IP": isIP("is_multicast_IP", func(a netip.Addr) bool { return !a.Is4In6() && a.IsMulticast() }),
	"is_interface_local_multicast_IP": isIP("is_interface_local_multicast_IP", func(a netip.Addr) bool {
		return a.Is6() && scope(a) == 1
	}),
	"is_link_local_multicast_IP": isIP("is_link_local_multicast_IP", func(a netip.Addr) bool {
		b := a.AsSlice()
		return a.Is4() && b[0] == 224 && b[1] == 0 && b[2] == 0 || a.Is6() && scope(a) == 2
	}),
	"is_link_local_unicast_IP": isIP("is_link_local_unicast_IP", func(a netip.Addr) bool {
		return !a.Is4In6() && a.IsLinkLocalUnicast()
	}),
	"is_global_unicast_IP": isIP("is_global_unicast_IP", isGlobal),
	"is_unspecified_IP":    isIP("is_unspecified_IP", netip.Addr.IsUnspecified),
	"parse_CIDR":           parseCIDR, "is_IP_in_CIDR": isInCIDR, "CIDR_subnet": subnet, "CIDR_subnets": subnets,
	"CIDR_host": cidrHost, "CIDR_netmask": netmask,
}

// scope is the scope of an IPv6 multicast address, or 0.
func scope(a netip.Addr) byte {
	b := a.As16()
	if b[0] != 0xff {
		return 0
	}
	return b[1] & 0x0f
}

func parseIP(s string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(s)
	return a, err == nil && a.Zone() == ""
}

func isIP(fn string, is func(netip.Addr) bool) function {
	return func(c *value.Call) (value.Value, error) {
		a := read(c)
		ip, ok := parseIP(a.str(0, "ip", missing(fn, "ip")))
		return value.Bool(ok && is(ip)), a.err
	}
}

var reserved = prefixes("0.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8", "169.254.0.0/16",
	"192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "100.64.0.0/10", "192.0.0.0/24", "240.0.0.0/4", "198.18.0.0/15",
	"224.0.0.0/4")

func prefixes(texts ...string) []netip.Prefix {
	list := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		list[i] = netip.MustParsePrefix(text)
	}
	return list
}

func isGlobal(a netip.Addr) bool {
	if a.Is4() {
		if n := a.As4(); n == [4]byte{192, 0, 0, 9} || n == [4]byte{192, 0, 0, 10} {
			return true
		}
		for _, p := range reserved {
			if p.Contains(a) {
				return false
			}
		}
		return true
	}
	b := a.As16()
	if b[0]&0xe0 == 0x20 {
		docs := netip.MustParsePrefix("2001:db8::/32").Contains(a)
		bench := netip.MustParsePrefix("2001:2::/48").Contains(a)
		return !docs && !bench
	}
	if netip.MustParsePrefix("64:ff9b::/96").Contains(a) {
		return isGlobal(netip.AddrFrom4([4]byte(b[12:])))
	}
	return false
}

func splitHostPort(c *value.Call) (value.Value, error) {
	a := read(c)
	s := a.str(0, "ip_end_point", missing("split_host_port", "ip_end_point"))
	if a.err != nil {
		return nil, a.err
	}
	refuse := func(why string) (value.Value, error) {
		return nil, fmt.Errorf("ip_end_point %s %s", strconv.QuoteToASCII(s), why)
	}
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return refuse("missing port")
	}
	host, port := s[:i], s[i+1:]
	if !strings.HasPrefix(host, "[") {
		switch {
		case strings.Contains(host, ":"):
			return refuse("too many colons")
		case strings.Contains(s[1:], "["):
			return refuse("unexpected '['")
		case strings.Contains(s, "]"):
			return refuse("unexpected ']'")
		}
		return value.NewList(value.Str(host), value.Str(port)), nil
	}
	end := strings.IndexByte(s, ']')
	switch {
	case end < 0:
		return refuse("missing ']'")
	case end > len(host) || !strings.HasPrefix(s[end+1:], ":"):
		return refuse("missing port")
	case end < len(host)-1:
		return refuse("too many colons")
	case strings.Contains(s[1:], "["):
		return refuse("unexpected '['")
	case strings.Contains(port, "]"):
		return refuse("unexpected ']'")
	}
	return value.NewList(value.Str(host[1:end]), value.Str(port)), nil
}

func joinHostPort(c *value.Call) (value.Value, error) {
	a := read(c)
	host, port := a.get(0, "host"), a.get(1, "port")
	if host == nil || port == nil {
		return nil, errors.New(missing("join_host_port", "host", "port"))
	}
	h := value.Text(host)
	if strings.Contains(h, ":") {
		h = "[" + h + "]"
	}
	return value.Str(h + ":" + value.Text(port)), nil
}

// fqdn falls back to the name itself, as upstream does.
func fqdn(c *value.Call) (value.Value, error) {
	name, _ := read(c).optional(0, "name")
	if c.Host == nil || c.Host.FQDN == nil {
		return nil, errors.New("fqdn() needs the network, which this run has not")
	}
	ctx := c.Host.Context
	if ctx == nil {
		ctx = context.Background()
	}
	if full, err := c.Host.FQDN(ctx, name); err == nil {
		name = full
	}
	return value.Str(name), nil
}

// ipText writes addresses as Rust does: ::ffff:1.2.3.4 and lower-case digits.
func ipText(a netip.Addr) value.Value { return value.Str(a.String()) }

func ipString(c *value.Call) (value.Value, error) {
	a := read(c)
	ip, ok := parseIP(a.str(0, "ip", missing("IP_string", "ip")))
	if !ok {
		return value.Str(""), a.err
	}
	return ipText(ip), nil
}

func toIP4(c *value.Call) (value.Value, error) {
	a := read(c)
	s := a.str(0, "ip", missing("IP_string", "ip"))
	if a.err != nil {
		return nil, a.err
	}
	ip, ok := parseIP(s)
	switch {
	case !ok:
		return value.Str(fmt.Sprintf("can not both parse %s to ipv6 and ipv4,err:invalid IPv6 address syntax", s)), nil
	case ip.Is4() || ip.Is4In6():
		return ipText(ip.Unmap()), nil
	}
	// The IPv4-compatible form ::1.2.3.4 counts, too.
	if b := ip.As16(); [12]byte(b[:12]) == [12]byte{} {
		return ipText(netip.AddrFrom4([4]byte(b[12:]))), nil
	}
	return value.Str(fmt.Sprintf("can not parse %s ipv6 to ipv4!", s)), nil
}

func toIP6(c *value.Call) (value.Value, error) {
	a := read(c)
	s := a.str(0, "ip", missing("IP_string", "ip"))
	if a.err != nil {
		return nil, a.err
	}
	ip, ok := parseIP(s)
	if !ok {
		return value.Str(fmt.Sprintf("can not both parse %s to ipv6 and ipv4,err:invalid IPv4 address syntax", s)), nil
	}
	return ipText(netip.AddrFrom16(ip.As16())), nil
}

var errCIDR = errors.New("couldn't parse address in network: invalid IP address syntax")

// cidr reads address/length or a bare address; the host part must be zero.
func cidr(s string) (netip.Prefix, error) {
	if !strings.Contains(s, "/") {
		a, ok := parseIP(s)
		if !ok {
			return netip.Prefix{}, errCIDR
		}
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, errCIDR
	}
	if p != p.Masked() {
		return p, errors.New("host part of address was not zero")
	}
	return p, nil
}

func parseCIDR(c *value.Call) (value.Value, error) {
	a := read(c)
	s := a.str(0, "cidr", missing("parse_CIDR", "cidr"))
	d := value.NewDict(2)
	if p, err := cidr(s); err == nil {
		d.Set("ip", ipText(p.Addr()))
		d.Set("mask", value.Int(p.Bits()))
	}
	return d, a.err
}

func isInCIDR(c *value.Call) (value.Value, error) {
	a := read(c)
	s := a.str(0, "ip", missing("is_IP_in_CIDR", "ip", "cidr"))
	network := a.str(1, "cidr", missing("is_IP_in_CIDR", "ip", "cidr"))
	if a.err != nil {
		return nil, a.err
	}
	ip, ok := parseIP(s)
	if !ok {
		return nil, errors.New("is_IP_in_CIDR() invalid ip: invalid IP address syntax")
	}
	p, err := cidr(network)
	if err != nil {
		return nil, fmt.Errorf("is_IP_in_CIDR() invalid cidr: %w", err)
	}
	if p.Addr().Is6() {
		ip = netip.AddrFrom16(ip.As16())
		b, n := ip.As16(), p.Addr().As16()
		return value.Bool(sameBits(b[:], n[:], p.Bits())), nil
	}
	return value.Bool(p.Contains(ip)), nil
}

func sameBits(a, b []byte, n int) bool {
	for i := range n {
		if (a[i/8]^b[i/8])&(0x80>>(i%8)) != 0 {
			return false
		}
	}
	return true
}

// number is an address as an integer, and back.
func addrNumber(a netip.Addr) *big.Int { return new(big.Int).SetBytes(a.AsSlice()) }

func numberAddr(n *big.Int, bits int) (netip.Addr, bool) {
	if n.Sign() < 0 || n.BitLen() > bits {
		return netip.Addr{}, false
	}
	return netip.AddrFromSlice(n.FillBytes(make([]byte, bits/8)))
}

// allocate is subnet number num of p with more bits of prefix.
func allocate(p netip.Prefix, more, num int64) (value.Value, error) {
	bits := p.Addr().BitLen()
	length := int64(p.Bits()) + more
	family := "IPv4"
	if bits == 128 {
		family = "IPv6"
	}
	if length > int64(bits) {
		return nil, fmt.Errorf("invalid additional_bits: would extend network length to %d bits, which is too long for %s", length, family)
	}
	if more < 63 && num >= 1<<more {
		return nil, fmt.Errorf("additional_bits of %d does not accommodate a net_num of %d", more, num)
	}
	n := new(big.Int).Lsh(big.NewInt(num), uint(int64(bits)-length))
	a, ok := numberAddr(n.Add(n, addrNumber(p.Addr())), bits)
	if !ok {
		return nil, fmt.Errorf("additional_bits of %d does not accommodate a net_num of %d", more, num)
	}
	return value.Str(fmt.Sprintf("%s/%d", a, length)), nil
}

// network reads the argument cidr of the functions CIDR_*.
func network(a *args, fn, missing string) (netip.Prefix, error) {
	s := a.str(0, "cidr", missing)
	if a.err != nil {
		return netip.Prefix{}, a.err
	}
	p, err := cidr(s)
	if err != nil {
		return p, fmt.Errorf("%s() invalid cidr: %w", fn, err)
	}
	return p, nil
}

func subnet(c *value.Call) (value.Value, error) {
	a := read(c)
	text := missing("CIDR_subnet", "cidr", "additional_bits", "net_num")
	p, err := network(a, "CIDR_subnet", text)
	if err != nil {
		return nil, err
	}
	a.need(1, "additional_bits", text)
	a.need(2, "net_num", text)
	more, num := a.integer(1, "additional_bits", 0), a.integer(2, "net_num", 0)
	switch {
	case a.err != nil:
		return nil, a.err
	case more < 0:
		return nil, errors.New("CIDR_subnet() invalid additional_bits: cannot be negative")
	case num < 0:
		return nil, errors.New("CIDR_subnet() invalid net_num: cannot be negative")
	}
	v, err := allocate(p, more, num)
	if err != nil {
		return nil, fmt.Errorf("CIDR_subnet() %w", err)
	}
	return v, nil
}

func subnets(c *value.Call) (value.Value, error) {
	a := read(c)
	text := missing("CIDR_subnets", "cidr", "additional_bits")
	p, err := network(a, "CIDR_subnets", text)
	if err != nil {
		return nil, err
	}
	list, ok := a.need(1, "additional_bits", text).(*value.List)
	if a.err != nil || !ok {
		a.fail(errors.New("invalid list value: additional_bits must be a list of int"))
		return nil, a.err
	}
	result := value.NewList()
	bits := int64(p.Addr().BitLen())
	// next is the first free address, counted from the start of the network.
	next := new(big.Int)
	for _, item := range list.Items {
		more, ok := item.(value.Int)
		length := int64(p.Bits()) + int64(more)
		switch {
		case !ok:
			return nil, errors.New("invalid int value")
		case more < 0:
			return nil, errors.New("CIDR_subnets() invalid additional_bits: cannot be negative")
		case bits == 128 && more > 63:
			return nil, errors.New("CIDR_subnets() invalid additional_bits: cannot extend more than 63 bits")
		case length > bits:
			return nil, fmt.Errorf("CIDR_subnets() invalid additional_bits: would extend network length to %d bits, which is too long for IPv%d", length, map[int64]int{32: 4, 128: 6}[bits])
		}
		num := firstFree(result.Items, p, int64(more))
		if num.Cmp(new(big.Int).Lsh(big.NewInt(1), uint(more))) >= 0 {
			last := value.Value(value.Str(p.String()))
			if n := len(result.Items); n > 0 {
				last = result.Items[n-1]
			}
			return nil, fmt.Errorf("CIDR_subnets() not enough remaining address space for a subnet with a prefix of %d bits after %s", length, value.Text(last))
		}
		at := new(big.Int).Lsh(num, uint(bits-length))
		next.Add(at, addrNumber(p.Addr()))
		addr, _ := numberAddr(next, int(bits))
		result.Append(value.Str(fmt.Sprintf("%s/%d", addr, length)))
	}
	return result, nil
}

// firstFree is the number of the first subnet of p with more bits that
// overlaps none of those taken.
func firstFree(taken []value.Value, p netip.Prefix, more int64) *big.Int {
	bits := p.Addr().BitLen()
	size := uint(int64(bits) - int64(p.Bits()) - more)
	num := new(big.Int)
	for again := true; again; {
		again = false
		for _, t := range taken {
			other := netip.MustParsePrefix(value.Text(t))
			base := addrNumber(other.Addr())
			base.Sub(base, addrNumber(p.Addr()))
			start := new(big.Int).Rsh(base, size)
			end := base.Add(base, new(big.Int).Lsh(big.NewInt(1), uint(bits-other.Bits())))
			end.Sub(end, big.NewInt(1)).Rsh(end, size)
			if num.Cmp(start) >= 0 && num.Cmp(end) <= 0 {
				num.Add(end, big.NewInt(1))
				again = true
			}
		}
	}
	return num
}

func cidrHost(c *value.Call) (value.Value, error) {
	a := read(c)
	text := missing("CIDR_host", "cidr", "host_num")
	p, err := network(a, "CIDR_host", text)
	if err != nil {
		return nil, err
	}
	a.need(1, "host_num", text)
	num := big.NewInt(a.integer(1, "host_num", 0))
	if a.err != nil {
		return nil, a.err
	}
	bits := p.Addr().BitLen()
	size := new(big.Int).Lsh(big.NewInt(1), uint(bits-p.Bits()))
	at := new(big.Int).Set(num)
	if num.Sign() < 0 {
		at.Add(at, size)
	}
	if at.Sign() < 0 || at.Cmp(size) >= 0 {
		return nil, fmt.Errorf("CIDR_host() prefix of %d does not accommodate a host numbered %d", p.Bits(), num)
	}
	addr, _ := numberAddr(at.Add(at, addrNumber(p.Addr())), bits)
	return ipText(addr), nil
}

func netmask(c *value.Call) (value.Value, error) {
	a := read(c)
	p, err := network(a, "CIDR_netmask", missing("CIDR_netmask", "cidr"))
	if err != nil {
		return nil, err
	}
	if p.Addr().Is6() {
		return nil, errors.New("CIDR_netmask() IPv6 addresses cannot have a netmask")
	}
	bits := ^uint32(0)
	if p.Bits() < 32 {
		bits <<= 32 - p.Bits()
	}
	return ipText(netip.AddrFrom4([4]byte{byte(bits >> 24), byte(bits >> 16), byte(bits >> 8), byte(bits)})), nil
}
