package syntax

type parser struct{ file *File }

func newParser(name, src string) *parser { return &parser{file: &File{Name: name, Src: src}} }

func (p *parser) parseFile() {}
