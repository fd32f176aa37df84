package mod

import (
	"cmp"
	"strconv"
	"strings"
)

// Compare orders versions: numbers by value, so that 1.10 is after 1.9, and a
// version before its release (1.0-rc1) before it. Parts that are missing count
// as 0; a leading v counts nothing.
func Compare(a, b string) int {
	a, b = strings.TrimPrefix(a, "v"), strings.TrimPrefix(b, "v")
	a, _, _ = strings.Cut(a, "+")
	b, _, _ = strings.Cut(b, "+")
	a, preA, _ := strings.Cut(a, "-")
	b, preB, _ := strings.Cut(b, "-")
	if c := compareParts(a, b, "0"); c != 0 {
		return c
	}
	switch {
	case preA == preB:
		return 0
	case preA == "":
		return 1
	case preB == "":
		return -1
	}
	return compareParts(preA, preB, "")
}

func compareParts(a, b, missing string) int {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for i := range max(len(as), len(bs)) {
		x, y := missing, missing
		if i < len(as) {
			x = as[i]
		}
		if i < len(bs) {
			y = bs[i]
		}
		m, err1 := strconv.ParseUint(x, 10, 63)
		n, err2 := strconv.ParseUint(y, 10, 63)
		c := cmp.Compare(m, n)
		switch {
		case err1 != nil && err2 != nil:
			c = cmp.Compare(x, y)
		case err1 != nil: // a word is after a number, as in semantic versions
			c = 1
			if x == "" {
				c = -1
			}
		case err2 != nil:
			c = -1
			if y == "" {
				c = 1
			}
		}
		if c != 0 {
			return c
		}
	}
	return 0
}

// Latest is the greatest version among tags, preferring releases; "" if there
// is none.
func Latest(tags []string) string {
	best := ""
	for _, tag := range tags {
		digits := strings.TrimPrefix(tag, "v")
		if digits == "" || digits[0] < '0' || digits[0] > '9' {
			continue
		}
		release, bestRelease := !strings.Contains(tag, "-"), !strings.Contains(best, "-")
		if best == "" || release && !bestRelease || release == bestRelease && Compare(tag, best) > 0 {
			best = tag
		}
	}
	return best
}
