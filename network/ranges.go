package network

import (
	"cmp"
	"net/netip"
	"slices"
)

// addressRange is first to last, inclusive, of one family.
type addressRange struct{ first, last netip.Addr }

// blockRanges returns the union of the blocks of one family as sorted ranges that neither overlap nor touch, as interval sets need.
func blockRanges(blocks []*block, v6 bool) []addressRange {
	var all []addressRange
	for _, b := range blocks {
		if b.prefix.Addr().Is6() != v6 {
			continue
		}
		rest := []addressRange{prefixRange(b.prefix)}
		for _, e := range b.except {
			rest = subtract(rest, prefixRange(e))
		}
		all = append(all, rest...)
	}
	return merge(all)
}

func prefixRange(p netip.Prefix) addressRange {
	last := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(last)*8; i++ {
		last[i/8] |= 1 << (7 - i%8)
	}
	end, _ := netip.AddrFromSlice(last)
	return addressRange{p.Masked().Addr(), end}
}

func subtract(from []addressRange, hole addressRange) []addressRange {
	var out []addressRange
	for _, r := range from {
		if hole.last.Less(r.first) || r.last.Less(hole.first) {
			out = append(out, r)
			continue
		}
		if r.first.Less(hole.first) {
			out = append(out, addressRange{r.first, hole.first.Prev()})
		}
		if hole.last.Less(r.last) {
			out = append(out, addressRange{hole.last.Next(), r.last})
		}
	}
	return out
}

func merge(list []addressRange) []addressRange {
	slices.SortFunc(list, func(a, b addressRange) int { return a.first.Compare(b.first) })
	var out []addressRange
	for _, r := range list {
		if n := len(out); n > 0 {
			// Next of the family's highest address is invalid; nothing can begin after it.
			if end := out[n-1].last; !end.Less(r.first) || end.Next() == r.first {
				if end.Less(r.last) {
					out[n-1].last = r.last
				}
				continue
			}
		}
		out = append(out, r)
	}
	return out
}

// portElements returns the numeric ports of a rule as elements that do not overlap.
func portElements(ports []portRange) []Element {
	sorted := slices.DeleteFunc(slices.Clone(ports), func(p portRange) bool { return p.name != "" })
	slices.SortFunc(sorted, func(a, b portRange) int {
		return cmp.Or(cmp.Compare(a.protocol, b.protocol), cmp.Compare(a.first, b.first))
	})
	var joined []portRange
	for _, p := range sorted {
		if n := len(joined); n > 0 && joined[n-1].protocol == p.protocol && int(p.first) <= int(joined[n-1].last)+1 {
			joined[n-1].last = max(joined[n-1].last, p.last)
			continue
		}
		joined = append(joined, p)
	}
	out := make([]Element, 0, len(joined))
	for _, p := range joined {
		out = append(out, Element{Key: portKey(p.protocol, p.first), End: portKey(p.protocol, p.last)})
	}
	return out
}
