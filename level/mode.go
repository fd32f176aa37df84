package level

import (
	api "github.com/weft-dev/weft/api/level/v1alpha1"
)

// Access is what a request does to its target, as far as levels are concerned.
type Access uint8

// The kinds of access. An update, a patch or a deletion shows the object in its answer, so it reads as well as it writes.
const (
	Read   Access = iota // get, list, watch
	Create               // create without a subresource: writes, and sees only what it wrote
	Change               // everything else
)

func (a Access) String() string { return [...]string{"read", "create", "change"}[a] }

// AccessOf is the access of a verb. Creating a subresource (exec, token, binding) acts on an object that is there: it is a change.
func AccessOf(verb, subresource string) Access {
	switch verb {
	case "get", "list", "watch":
		switch subresource {
		case "proxy", "exec", "attach", "portforward": // GET opens them too
			return Change
		}
		return Read
	case "create":
		if subresource == "" {
			return Create
		}
	}
	return Change
}

// demand is what a kind of access asks of a subject's label against the bounds of its target.
type demand struct {
	rankUp, rankDown bool       // the subject must not be lower, must not be higher
	up, down         Categories // of these the subject must have what the target has, must not have what the target has not
}

// fault is the part of a demand that is not met.
type fault uint8

const (
	none fault = iota
	rankTooLow
	categoryMissing
	rankTooHigh
	categoryLeaks
)

func (d *demand) check(s *Label, t *Bounds) fault {
	if d.rankUp && s.Rank < t.High.Rank {
		return rankTooLow
	}
	if d.rankDown && s.Rank > t.Low.Rank {
		return rankTooHigh
	}
	for i := range s.Categories {
		if t.High.Categories[i]&^s.Categories[i]&d.up[i] != 0 {
			return categoryMissing
		}
		if s.Categories[i]&^t.Low.Categories[i]&d.down[i] != 0 {
			return categoryLeaks
		}
	}
	return none
}

// directions say which way a mode looks.
func directions(m api.Mode, a Access) (up, down bool) {
	switch {
	case m == api.Confidentiality && a == Read, m == api.Integrity && a == Create:
		return true, false
	case m == api.Confidentiality && a == Create, m == api.Integrity && a == Read:
		return false, true
	case m == api.Confidentiality, m == api.Integrity:
		return true, true
	}
	return true, false
}

// demands are those of each access, for subjects that are trusted to let things flow down and for others.
func demands(levels api.Mode, categories []api.Mode) (normal, trusted [3]demand) {
	for a := Read; a <= Change; a++ {
		d := &normal[a]
		d.rankUp, d.rankDown = directions(levels, a)
		for i, m := range categories {
			up, down := directions(m, a)
			if up {
				d.up[i/64] |= 1 << (i % 64)
			}
			if down {
				d.down[i/64] |= 1 << (i % 64)
			}
		}
		trusted[a] = *d
		trusted[a].rankDown, trusted[a].down = false, Categories{}
	}
	return normal, trusted
}
