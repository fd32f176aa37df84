package regex

import (
	"slices"
	"strings"
	"unicode"
)

type runeRange struct{ low, high rune }

// runeSet is sorted, without overlaps, once it went through normal.
type runeSet []runeRange

var (
	digits  = runeSet{{'0', '9'}}
	words   = runeSet{{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}}
	spaces  = runeSet{{'\t', '\r'}, {' ', ' '}}
	hexes   = runeSet{{'0', '9'}, {'A', 'F'}, {'a', 'f'}}
	anyRune = runeSet{{0, unicode.MaxRune}}
)

func (s runeSet) normal() runeSet {
	sorted := slices.Clone(s)
	slices.SortFunc(sorted, func(a, b runeRange) int { return int(a.low) - int(b.low) })
	var out runeSet
	for _, r := range sorted {
		if n := len(out); n > 0 && r.low <= out[n-1].high+1 {
			out[n-1].high = max(out[n-1].high, r.high)
			continue
		}
		out = append(out, r)
	}
	return out
}

func (s runeSet) negated() runeSet {
	var out runeSet
	from := rune(0)
	for _, r := range s.normal() {
		if r.low > from {
			out = append(out, runeRange{from, r.low - 1})
		}
		from = r.high + 1
	}
	if from <= unicode.MaxRune {
		out = append(out, runeRange{from, unicode.MaxRune})
	}
	return out
}

func (s runeSet) intersection(other runeSet) runeSet {
	return append(s.negated(), other.negated()...).negated()
}

// folded adds the other cases of letters.
func (s runeSet) folded() runeSet {
	out := slices.Clone(s)
	count := 0
	for _, r := range s {
		if r.low == 0 && r.high >= unicode.MaxASCII || r.high-r.low > 2000 {
			continue
		}
		for c := r.low; c <= r.high && count < 10000; c++ {
			for f := unicode.SimpleFold(c); f != c; f = unicode.SimpleFold(f) {
				out = append(out, runeRange{f, f})
				count++
			}
		}
	}
	return out.normal()
}

func (s runeSet) has(r rune) bool {
	for _, x := range s {
		if r < x.low {
			return false
		}
		if r <= x.high {
			return true
		}
	}
	return false
}

func propertySet(name string) (runeSet, bool) {
	switch strings.ToLower(name) {
	case "alpha":
		return fromTables(unicode.L, unicode.M), true
	case "alnum":
		return fromTables(unicode.L, unicode.M, unicode.Nd), true
	case "digit":
		return fromTables(unicode.Nd), true
	case "upper":
		return fromTables(unicode.Lu), true
	case "lower":
		return fromTables(unicode.Ll), true
	case "punct":
		return append(fromTables(unicode.P), runeSet{{'$', '$'}, {'+', '+'}, {'<', '>'}, {'^', '^'}, {'`', '`'}, {'|', '|'}, {'~', '~'}}...).normal(), true
	case "space":
		return append(fromTables(unicode.White_Space), spaces...).normal(), true
	case "blank":
		return append(fromTables(unicode.Zs), runeRange{'\t', '\t'}).normal(), true
	case "cntrl":
		return fromTables(unicode.Cc), true
	case "xdigit":
		return hexes, true
	case "word":
		return append(fromTables(unicode.L, unicode.M, unicode.Nd), runeRange{'_', '_'}).normal(), true
	case "ascii":
		return runeSet{{0, 127}}, true
	case "any":
		return anyRune, true
	case "graph":
		return append(fromTables(unicode.White_Space, unicode.Cc), runeRange{0xd800, 0xdfff}).negated(), true
	case "print":
		return append(fromTables(unicode.Cc), runeRange{0xd800, 0xdfff}).negated(), true
	}
	for _, tables := range []map[string]*unicode.RangeTable{unicode.Categories, unicode.Scripts, unicode.Properties} {
		for n, t := range tables {
			if strings.EqualFold(n, name) {
				return fromTables(t), true
			}
		}
	}
	return nil, false
}

func fromTables(tables ...*unicode.RangeTable) runeSet {
	var s runeSet
	for _, t := range tables {
		for _, r := range t.R16 {
			s = appendStride(s, rune(r.Lo), rune(r.Hi), rune(r.Stride))
		}
		for _, r := range t.R32 {
			s = appendStride(s, rune(r.Lo), rune(r.Hi), rune(r.Stride))
		}
	}
	return s.normal()
}

func appendStride(s runeSet, low, high, stride rune) runeSet {
	if stride == 1 {
		return append(s, runeRange{low, high})
	}
	for r := low; r <= high; r += stride {
		s = append(s, runeRange{r, r})
	}
	return s
}
