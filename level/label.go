package level

// MaxCategories is how many categories a registry can have.
const MaxCategories = 256

// Categories is a set of categories, one bit each.
type Categories [MaxCategories / 64]uint64

// Label is a level, as its rank from the lowest (0), and a set of categories. Labels are a lattice under Dominates.
type Label struct {
	Rank       uint16
	Categories Categories
}

// Dominates says whether a is at least as high as b and has all its categories.
func (a Label) Dominates(b Label) bool {
	if a.Rank < b.Rank {
		return false
	}
	for i := range a.Categories {
		if b.Categories[i]&^a.Categories[i] != 0 {
			return false
		}
	}
	return true
}

// Join is the lowest label that dominates both.
func (a Label) Join(b Label) Label {
	a.Rank = max(a.Rank, b.Rank)
	for i := range a.Categories {
		a.Categories[i] |= b.Categories[i]
	}
	return a
}

// Meet is the highest label that both dominate.
func (a Label) Meet(b Label) Label {
	a.Rank = min(a.Rank, b.Rank)
	for i := range a.Categories {
		a.Categories[i] &= b.Categories[i]
	}
	return a
}

// Bounds enclose the labels of several objects: Low is dominated by all of them, High dominates all.
type Bounds struct{ Low, High Label }

func exactly(l Label) Bounds { return Bounds{l, l} }

func (b Bounds) with(l Label) Bounds { return Bounds{b.Low.Meet(l), b.High.Join(l)} }
