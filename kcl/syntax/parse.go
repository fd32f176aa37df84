package syntax

// Parse reads one file. It always gives a tree; File.Errors holds what was
// wrong, in the order in which it was met.
func Parse(name, src string) *File {
	p := newParser(name, src)
	p.parseFile()
	return p.file
}
