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

// jaroWinkler is the Jaro-Winkler similarity without a limit on the prefix.
func jaroWinkler(a, b string) float64 {
	x, y := []rune(a), []rune(b)
	s := jaro(x, y)
	if s <= 0.7 {
		return s
	}
	prefix := 0
	for prefix < min(len(x), len(y), 4) && x[prefix] == y[prefix] {
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
	usedX, usedY := make([]bool, len(x)), make([]bool, len(y))
	matches := 0
	for i := range x {
		for j := max(0, i-reach); j < min(len(y), i+reach+1); j++ {
			if !usedY[j] && x[i] == y[j] {
				usedX[i], usedY[j] = true, true
				matches++
				break
			}
		}
	}
	if matches == 0 {
		return 0
	}
	swaps, j := 0, 0
	for i := range x {
		if !usedX[i] {
			continue
		}
		for !usedY[j] {
			j++
		}
		if x[i] != y[j] {
			swaps++
		}
		j++
	}
	m := float64(matches)
	return (m/float64(len(x)) + m/float64(len(y)) + (m-float64(swaps/2))/m) / 3
}
