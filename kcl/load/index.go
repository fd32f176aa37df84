package load

import (
	"encoding/binary"
	"errors"
	"strings"

	"github.com/weft-dev/weft/kcl/syntax"
)

// An index is what has to be known of a package that was found free of errors
// before, so that its files need not be parsed until something asks for one of
// their declarations. It is part of an entry of a Cache and has its version.
type index struct {
	// closure is the digest of the package and all it imports, for which it was
	// found free of errors.
	closure digest
	files   []fileIndex
}

// fileIndex describes one file.
type fileIndex struct {
	// plain is set when the file has imports and declarations only, so that
	// evaluating the package does nothing with it.
	plain   bool
	imports []*syntax.ImportStmt
	decls   []declIndex
}

type declIndex struct {
	kind DeclKind
	name string
}

// DeclKind is the kind of a declaration.
type DeclKind uint8

// The kinds of declarations.
const (
	SchemaDecl DeclKind = iota
	MixinDecl
	ProtocolDecl
	RuleDecl
	AliasDecl
	declKinds
)

// Decl is a schema, rule or alias of a package found free of errors before.
type Decl struct {
	Kind DeclKind
	Name string
	File *File
	stmt syntax.Stmt
}

// Stmt is the declaration itself; its file is parsed now if it was not yet.
func (d *Decl) Stmt() syntax.Stmt {
	if d.stmt == nil {
		for _, s := range d.File.Stmts() {
			if _, name, ok := declares(s); ok && name == d.Name {
				d.stmt = s
			}
		}
	}
	return d.stmt
}

// declares is the kind and name of what a statement declares, if it does.
func declares(s syntax.Stmt) (kind DeclKind, name string, ok bool) {
	switch s := s.(type) {
	case *syntax.SchemaStmt:
		switch {
		case s.Mixin:
			kind = MixinDecl
		case s.Protocol:
			kind = ProtocolDecl
		}
		return kind, s.Name.Text, true
	case *syntax.RuleStmt:
		return RuleDecl, s.Name.Text, true
	case *syntax.TypeAliasStmt:
		return AliasDecl, s.Name.String(), true
	}
	return 0, "", false
}

func indexOf(p *Package) *index {
	x := &index{files: make([]fileIndex, len(p.Files))}
	for i, f := range p.Files {
		fx := &x.files[i]
		fx.plain = true
		for _, s := range f.Body {
			if im, ok := s.(*syntax.ImportStmt); ok {
				fx.imports = append(fx.imports, im)
			} else if kind, name, ok := declares(s); ok {
				fx.decls = append(fx.decls, declIndex{kind, name})
			} else {
				fx.plain = false
			}
		}
	}
	return x
}

// encode writes the index:
//
//	closure [32]byte
//	files   count, then for each: plain, imports, declarations
//	import  path, name, alias (present, text); spans of statement, path, alias
//	decl    kind, name
//
// Numbers are unsigned varints; texts are their length and their bytes.
func (x *index) encode() []byte {
	b := append([]byte(nil), x.closure[:]...)
	num := func(n int) { b = binary.AppendUvarint(b, uint64(n)) }
	text := func(s string) { num(len(s)); b = append(b, s...) }
	span := func(s syntax.Span) { num(int(s.Start)); num(int(s.End)) }
	flag := func(f bool) {
		if f {
			b = append(b, 1)
		} else {
			b = append(b, 0)
		}
	}
	num(len(x.files))
	for _, f := range x.files {
		flag(f.plain)
		num(len(f.imports))
		for _, im := range f.imports {
			text(im.Path.Text)
			text(im.Name)
			span(im.Span)
			span(im.Path.Span)
			flag(im.As != nil)
			if im.As != nil {
				text(im.As.Text)
				span(im.As.Span)
			}
		}
		num(len(f.decls))
		for _, d := range f.decls {
			num(int(d.kind))
			text(d.name)
		}
	}
	return b
}

var errIndex = errors.New("not an index of a package")

// decodeIndex reads what encode wrote. It fails on anything else.
func decodeIndex(data []byte) (x *index, err error) {
	x = &index{}
	if len(data) < len(x.closure) {
		return nil, errIndex
	}
	copy(x.closure[:], data)
	r := &indexReader{rest: string(data[len(x.closure):])}
	x.files = make([]fileIndex, r.count(3))
	for i := range x.files {
		f := &x.files[i]
		f.plain = r.flag()
		f.imports = make([]*syntax.ImportStmt, r.count(7))
		for k := range f.imports {
			im := &syntax.ImportStmt{}
			im.Path.Text, im.Name = r.text(), r.text()
			im.Span, im.Path.Span = r.span(), r.span()
			if r.flag() {
				im.As = &syntax.Name{Text: r.text()}
				im.As.Span = r.span()
			}
			f.imports[k] = im
		}
		f.decls = make([]declIndex, r.count(2))
		for k := range f.decls {
			kind := r.num()
			if kind >= int(declKinds) {
				r.bad = true
			}
			f.decls[k] = declIndex{DeclKind(kind), r.text()}
		}
	}
	if r.bad || r.rest != "" {
		return nil, errIndex
	}
	return x, nil
}

// indexReader reads the parts of an index; bad is set at the first that is
// none, after which everything reads as nothing.
type indexReader struct {
	rest string
	bad  bool
}

func (r *indexReader) num() int {
	var n uint64
	for i := 0; i < len(r.rest) && i < 5; i++ {
		c := r.rest[i]
		n |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			if n > 1<<31-1 {
				break
			}
			r.rest = r.rest[i+1:]
			return int(n)
		}
	}
	r.bad, r.rest = true, ""
	return 0
}

// count is a number of things that take at least size bytes each.
func (r *indexReader) count(size int) int {
	n := r.num()
	if n > len(r.rest)/size {
		r.bad, r.rest = true, ""
		return 0
	}
	return n
}

func (r *indexReader) text() string {
	n := r.count(1)
	s := r.rest[:n]
	r.rest = r.rest[n:]
	return s
}

func (r *indexReader) span() syntax.Span {
	return syntax.Span{Start: syntax.Pos(r.num()), End: syntax.Pos(r.num())}
}

func (r *indexReader) flag() bool {
	if r.rest == "" || r.rest[0] > 1 {
		r.bad, r.rest = true, ""
		return false
	}
	f := r.rest[0] == 1
	r.rest = r.rest[1:]
	return f
}

// apply makes the files of a package from their texts and the index.
func (x *index) apply(p *Package, cache *Cache, names []string, texts [][]byte, sums []digest) {
	p.Decls = map[string]*Decl{}
	for i, fx := range x.files {
		f := &File{File: &syntax.File{Name: names[i]}, Names: map[string]string{}}
		f.parse = func() *syntax.File { return cache.parse(names[i], texts[i], sums[i]) }
		f.pending = append(f.pending, fx.imports...)
		for _, d := range fx.decls {
			p.Decls[d.name] = &Decl{Kind: d.kind, Name: d.name, File: f}
		}
		if !fx.plain {
			f.Stmts()
		}
		p.Files = append(p.Files, f)
	}
}

// forget makes p a package like any other: all its files are parsed.
func (p *Package) forget() {
	p.Decls = nil
	for _, f := range p.Files {
		f.Stmts()
	}
}

// keyOf is the key of a package: its path, its module and its files.
func keyOf(build string, p *Package, names []string, sums []digest) digest {
	h := newHash("package", build, p.Path, p.Name)
	for i, name := range names {
		h.text(name[strings.LastIndexByte(name, '/')+1:])
		h.Write(sums[i][:])
	}
	return h.sum()
}
