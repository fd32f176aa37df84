package tree

import "strings"

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

// TakeNames makes marks of the files that mark deletions by their names (image-spec, layer.md): .wh.NAME and .wh..wh..opq. Nydus's converter packs
// layers with such files and leaves their meaning to the merge.
func (n *Node) TakeNames() {
	var hidden []string
	for name, child := range n.children {
		if child.IsDir() {
			child.TakeNames()
			continue
		}
		of, ok := strings.CutPrefix(name, ".wh.")
		if !ok {
			continue
		}
		delete(n.children, name)
		switch {
		case of == ".wh..opq":
			n.Opaque = true
		case of != "" && of != "." && !strings.HasPrefix(of, ".wh."): // what begins so means nothing, see layer.whiteout
			hidden = append(hidden, of)
		}
	}
	for _, name := range hidden {
		n.hide(name)
	}
}

// hide puts a whiteout in its place: what the layer has itself stays and hides what lies below.
func (n *Node) hide(name string) {
	if own, ok := n.Child(name); !ok {
		n.Set(name, Whiteout())
	} else if own.IsDir() {
		own.Opaque = true
	}
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
