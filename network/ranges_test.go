package network

import (
	"encoding/binary"
	"net/netip"
	"testing"
)

// The kernel refuses elements that overlap; together they must hold exactly the ports of the rule.
func TestPortElementsDoNotOverlap(t *testing.T) {
	for seed := range uint64(500) {
		g := newGenerator(seed)
		var ports []portRange
		want := map[[2]int]bool{}
		for range 1 + g.IntN(6) {
			p := portRange{protocol: pick(g, TCP, UDP), first: uint16(65500 + g.IntN(36))}
			p.last = min(p.first+uint16(g.IntN(6)), 65535)
			if p.last < p.first {
				p.last = 65535
			}
			ports = append(ports, p)
			for n := int(p.first); n <= int(p.last); n++ {
				want[[2]int{int(p.protocol), n}] = true
			}
		}
		got, last := map[[2]int]bool{}, [2]int{0, -2}
		for _, e := range portElements(ports) {
			protocol := int(e.Key[0])
			first, end := int(binary.BigEndian.Uint16([]byte(e.Key[4:]))), int(binary.BigEndian.Uint16([]byte(e.End[4:])))
			if protocol == last[0] && first <= last[1]+1 {
				t.Fatalf("seed %d: %v gives ranges that touch: %d after %d", seed, ports, first, last[1])
			}
			last = [2]int{protocol, end}
			for n := first; n <= end; n++ {
				got[[2]int{protocol, n}] = true
			}
		}
		if len(got) != len(want) {
			t.Fatalf("seed %d: %v gives %d ports, wanted %d", seed, ports, len(got), len(want))
		}
		for p := range want {
			if !got[p] {
				t.Fatalf("seed %d: %v lacks %v", seed, ports, p)
			}
		}
	}
}

// Ranges neither overlap nor touch and hold exactly the addresses of the blocks.
func TestBlockRanges(t *testing.T) {
	prefix := func(g generator, v6 bool, base netip.Addr, bits int) netip.Prefix {
		a := base.As16()
		a[15] = byte(g.IntN(256))
		if v6 {
			return netip.PrefixFrom(netip.AddrFrom16(a), bits).Masked()
		}
		return netip.PrefixFrom(netip.AddrFrom4([4]byte(append(base.AsSlice()[:3], a[15]))), bits).Masked()
	}
	for seed := range uint64(500) {
		g := newGenerator(seed)
		v6 := g.chance(50)
		base := pick(g, mustParse("10.1.2.0"), mustParse("255.255.255.0"), mustParse("0.0.0.0"))
		all := 32
		if v6 {
			base, all = pick(g, mustParse("fd00::"), mustParse("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ff00")), 128
		}
		var blocks []*block
		for range 1 + g.IntN(4) {
			b := &block{prefix: prefix(g, v6, base, all-g.IntN(9))}
			for range g.IntN(3) {
				b.except = append(b.except, prefix(g, v6, base, all-g.IntN(6)))
			}
			blocks = append(blocks, b)
		}
		ranges := blockRanges(blocks, v6)
		for i := 1; i < len(ranges); i++ {
			if !ranges[i-1].last.Next().Less(ranges[i].first) {
				t.Fatalf("seed %d: %v and %v touch", seed, ranges[i-1], ranges[i])
			}
		}
		for a, n := base, 0; n < 256; a, n = a.Next(), n+1 {
			want, got := false, false
			for _, b := range blocks {
				want = want || b.contains(a)
			}
			for _, r := range ranges {
				got = got || (!a.Less(r.first) && !r.last.Less(a))
			}
			if got != want {
				t.Fatalf("seed %d: %s: in the blocks %v, in the ranges %v", seed, a, want, got)
			}
		}
	}
}
