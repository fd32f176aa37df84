package types

import (
	"sort"
	"strings"
)

// similar lists the names close to name, as "did you mean" offers them.
func similar(name string, names []string) []string {
	type candidate struct {
		score float64
		name  string
	}
	var found []candidate
	for _, n := range names {
		if s := jaroWinkler(name, n); s > 0.8 {
			found = append(found, candidate{s, n})
		}
	}
	sort.SliceStable(found, func(i, j int) bool { return found[i].score < found[j].score })
	out := make([]string, len(found))
	for i, f := range found {
		out[i] = f.name
	}
	return out
}

// meant is ", did you mean ...?" or "".
func meant(names []string) string {
	if len(names) == 0 {
		return ""
	}
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = `"` + n + `"`
	}
	return ", did you mean '[" + strings.Join(quoted, ", ") + "]'?"
}

// jaroWinkler is the Jaro-Winkler similarity of strsim 0.8: the prefix counts
// however long it is.
func jaroWinkler(a, b string) float64 {
	x, y := []rune(a), []rune(b)
	s := jaro(x, y)
	prefix := 0
	for prefix < min(len(x), len(y)) && x[prefix] == y[prefix] {
		prefix++
	}
	return min(s+0.1*float64(prefix)*(1-s), 1)
}

func jaro(x, y []rune) float64 {
	if len(x) == 0 || len(y) == 0 {
		if len(x) == len(y) {
			return 1
		}
		return 0
	}
	reach := max(max(len(x), len(y))/2-1, 0)
	used := make([]bool, len(y))
	matches, swaps, last := 0, 0, 0
	for i := range x {
		for j := max(0, i-reach); j <= min(len(y)-1, i+reach); j++ {
			if !used[j] && x[i] == y[j] {
				used[j] = true
				matches++
				if j < last {
					swaps++
				}
				last = j
				break
			}
		}
	}
	if matches == 0 {
		return 0
	}
	m := float64(matches)
	return (m/float64(len(x)) + m/float64(len(y)) + (m-float64(swaps))/m) / 3
}
