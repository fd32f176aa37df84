package tree

// Merge puts an upper layer on a lower one and gives the result, which shares nodes with both: neither may be used afterwards. Whiteouts and
// opaque folders of the upper layer hide what the lower one has. The marks stay in the result, for the layers that may lie below both; after
// the last one DropMarks removes them.
func Merge(lower, upper *Node) *Node {
	if lower == nil || !lower.IsDir() || upper.Opaque || !upper.IsDir() {
		return upper
	}
	for name, child := range lower.children {
		above, ok := upper.children[name]
		switch {
		case !ok:
			upper.Set(name, child)
		case above.IsDir() && child.IsDir():
			upper.Set(name, Merge(child, above))
		case above.IsDir() && child.IsWhiteout():
			// What lies below the lower layer is hidden by it, and not by the folder that stands in its place.
			above.Opaque = true
		}
	}
	upper.Opaque = lower.Opaque
	return upper
}

// DropMarks removes whiteouts and the marks of opaque folders from a tree: below it there is nothing.
func (n *Node) DropMarks() {
	n.Opaque = false
	for name, child := range n.children {
		if child.IsWhiteout() {
			delete(n.children, name)
		} else if child.IsDir() {
			child.DropMarks()
		}
	}
}
