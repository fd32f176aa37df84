package config

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// fluentdParser reads Fluentd's configuration language, version 1, as lib/fluent/config/v1_parser.rb and literal_parser.rb do.
type fluentdParser struct {
	*reader
	name  string
	data  string
	off   int
	line  int // of off
	start int // offset of that line
	stop  bool
}

func (p *fluentdParser) pos() Position {
	return Position{p.name, p.line, p.off - p.start + 1}
}

func (p *fluentdParser) fail(pos Position, format string, args ...any) {
	if !p.stop {
		p.fault(pos, format, args...)
	}
	p.stop = true
}

func (p *fluentdParser) eof() bool { return p.stop || p.off >= len(p.data) }

func (p *fluentdParser) peek() byte {
	if p.off < len(p.data) {
		return p.data[p.off]
	}
	return 0
}

func (p *fluentdParser) advance(n int) {
	for range n {
		if p.data[p.off] == '\n' {
			p.line, p.start = p.line+1, p.off+1
		}
		p.off++
	}
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

// space passes over blanks, line ends and, if asked, comments. It answers whether a line ended.
func (p *fluentdParser) space(comments bool) bool {
	ended := false
	for p.off < len(p.data) {
		c := p.peek()
		switch {
		case isSpace(c):
			ended = ended || c == '\n'
			p.advance(1)
		case c == '#' && comments:
			p.restOfLine()
		default:
			return ended
		}
	}
	return true
}

func (p *fluentdParser) restOfLine() {
	end := strings.IndexByte(p.data[p.off:], '\n')
	if end < 0 {
		end = len(p.data) - p.off
	}
	p.advance(end)
}

// atLineEnd tells whether only blanks and a comment are left on the line.
func (p *fluentdParser) atLineEnd() bool {
	rest := strings.TrimLeft(p.data[p.off:], " \t")
	return rest == "" || rest[0] == '#' || rest[0] == '\r' || rest[0] == '\n'
}

func (p *fluentdParser) endLine(what string) {
	if p.stop {
		return
	}
	if !p.atLineEnd() {
		p.fail(p.pos(), "expected the end of the line after %s", what)
		return
	}
	p.restOfLine()
}

func (p *fluentdParser) word() string {
	end := p.off
	for end < len(p.data) && (p.data[end] == '_' || '0' <= p.data[end] && p.data[end] <= '9' || 'a' <= p.data[end]|32 && p.data[end]|32 <= 'z') {
		end++
	}
	word := p.data[p.off:end]
	p.advance(len(word))
	return word
}

// body reads the properties and sections up to the end of the element, or of the file if element is "".
func (p *fluentdParser) body(element string, depth int) (properties []Property, sections []*Section) {
	for {
		p.space(true)
		if p.eof() {
			if element != "" {
				p.fail(p.pos(), "expected </%s> but the file ends", element)
			}
			return properties, sections
		}
		switch {
		case strings.HasPrefix(p.data[p.off:], "</"):
			p.closing(element)
			return properties, sections
		case p.peek() == '<':
			if s := p.element(depth); s != nil {
				sections = append(sections, s)
			}
		default:
			p.property(element, &properties, &sections, depth)
		}
	}
}

func (p *fluentdParser) closing(element string) {
	pos := p.pos()
	p.advance(2)
	name := p.word()
	p.space(true)
	switch {
	case p.peek() != '>':
		p.fail(p.pos(), "expected > after the name of the section that ends")
	case element == "":
		p.fail(pos, "</%s> ends a section that was not begun", name)
	case name != element:
		p.fail(pos, "</%s> stands where </%s> is expected", name, element)
	default:
		p.advance(1)
		p.endLine("</" + element + ">")
	}
}

func (p *fluentdParser) element(depth int) *Section {
	s := &Section{Pos: p.pos()}
	p.advance(1)
	if s.Kind = p.word(); s.Kind == "" {
		p.fail(p.pos(), "expected the name of a section after <")
		return nil
	}
	p.space(true)
	if p.peek() == '"' || p.peek() == '\'' {
		var v Property
		p.quoted(&v)
		s.Arg = v.Value
	} else {
		end := strings.IndexAny(p.data[p.off:], ">\n")
		if end < 0 {
			p.fail(s.Pos, "expected > at the end of <%s", s.Kind)
			return nil
		}
		s.Arg = strings.TrimRight(p.data[p.off:p.off+end], " \t\r")
		p.advance(end)
	}
	p.space(true)
	if p.peek() != '>' {
		p.fail(p.pos(), "expected > at the end of <%s", s.Kind)
		return nil
	}
	p.advance(1)
	p.endLine("<" + s.Kind + ">")
	if depth >= maxDepth {
		p.fail(s.Pos, "sections nested more than %d deep", maxDepth)
		return nil
	}
	s.Properties, s.Sections = p.body(s.Kind, depth+1)
	return s
}

func (p *fluentdParser) property(element string, properties *[]Property, sections *[]*Section, depth int) {
	v := Property{Pos: p.pos()}
	bare := p.peek() != '"' && p.peek() != '\''
	if !bare {
		var key Property
		p.quoted(&key)
		v.Key = key.Value
	} else {
		end := strings.IndexAny(p.data[p.off:], " \t\r\n")
		if end < 0 {
			end = len(p.data) - p.off
		}
		v.Key = p.data[p.off : p.off+end]
		p.advance(end)
	}
	if p.stop {
		return
	}
	if p.space(false) { // a key alone
		if v.Key != "@include" {
			*properties = append(*properties, v)
			return
		}
	}
	v.ValuePos = p.pos()
	if v.Key == "@include" || v.Key == "include" && element == "" && bare {
		p.includeInto(v, properties, sections, depth)
		return
	}
	if strings.HasPrefix(v.Key, "@") && !reserved[v.Key] && (element == "" || topLevel[element]) {
		p.fail(v.Pos, "%q: names that begin with @ are the engine's own: @type, @id, @label, @log_level", v.Key)
		return
	}
	p.literal(&v)
	p.endLine("the value of " + v.Key)
	if !p.stop {
		*properties = append(*properties, v)
	}
}

var (
	reserved = map[string]bool{"@type": true, "@id": true, "@label": true, "@log_level": true}
	topLevel = map[string]bool{"match": true, "source": true, "filter": true, "system": true}
)

func (p *fluentdParser) includeInto(v Property, properties *[]Property, sections *[]*Section, depth int) {
	p.literalBare(&v)
	p.endLine("@include")
	if p.stop {
		return
	}
	if strings.Contains(v.Value, "://") && !strings.HasPrefix(v.Value, "file://") {
		p.fault(v.ValuePos, "including over the network is not done; name a file")
		return
	}
	v.Value = strings.TrimPrefix(v.Value, "file://")
	p.include(Position{p.name, v.ValuePos.Line, v.ValuePos.Column}, v.Value, func(name string, data []byte) {
		if len(data) > maxFileSize {
			p.fault(v.ValuePos, "%s has more than %d bytes", filepath.Base(name), maxFileSize)
			return
		}
		p.file.Read = append(p.file.Read, name)
		p.open[name] = true
		p.depth++
		inner := &fluentdParser{reader: p.reader, name: name, data: string(data), line: 1}
		ps, ss := inner.body("", depth)
		*properties = append(*properties, ps...)
		*sections = append(*sections, ss...)
		p.depth--
		delete(p.open, name)
	})
}

// literal reads a value: JSON that begins with [ or {, a quoted string, or the rest of the line without a comment.
func (p *fluentdParser) literal(v *Property) {
	switch p.peek() {
	case '[', '{':
		p.json(v)
	case '"', '\'':
		p.quoted(v)
	default:
		p.literalBare(v)
	}
}

func (p *fluentdParser) literalBare(v *Property) {
	end := p.off
	for end < len(p.data) && p.data[end] != '\n' {
		// a comment needs a blank before its #
		if c := p.data[end]; c == ' ' || c == '\t' || c == '\r' {
			rest := strings.TrimLeft(p.data[end:], " \t")
			if rest == "" || rest[0] == '#' || rest[0] == '\r' || rest[0] == '\n' {
				break
			}
		}
		end++
	}
	v.Value = p.data[p.off:end]
	p.advance(end - p.off)
}

func (p *fluentdParser) quoted(v *Property) {
	begin := p.pos()
	v.Quote = p.peek()
	p.advance(1)
	var b strings.Builder
	for {
		if p.off >= len(p.data) {
			p.fail(begin, "the quotation is not closed")
			return
		}
		c := p.peek()
		switch {
		case c == v.Quote:
			p.advance(1)
			v.Value = b.String()
			return
		case c == '\n' && v.Quote == '\'':
			p.fail(begin, "a line ends inside of single quotes; use double quotes")
			return
		case c == '\\':
			if !p.escape(v.Quote, &b) {
				return
			}
		case c == '#' && v.Quote == '"' && strings.HasPrefix(p.data[p.off:], "#{"):
			v.Embedded = true
			end := rubyEnd(p.data[p.off:])
			if end < 0 {
				p.fail(p.pos(), "the Ruby code #{...} is not closed")
				return
			}
			b.WriteString(p.data[p.off : p.off+end])
			p.advance(end)
		default:
			b.WriteByte(c)
			p.advance(1)
		}
	}
}

func (p *fluentdParser) escape(quote byte, b *strings.Builder) bool {
	if p.off+1 >= len(p.data) {
		p.fail(p.pos(), "the quotation is not closed")
		return false
	}
	pos, c := p.pos(), p.data[p.off+1]
	p.advance(1)
	if quote == '\'' { // only \' and \\ mean something here
		if c != '\'' && c != '\\' {
			b.WriteByte('\\')
			return true
		}
		b.WriteByte(c)
		p.advance(1)
		return true
	}
	p.advance(1)
	switch {
	case c == '\n': // the line goes on
	case strings.IndexByte("rntfb0", c) >= 0:
		b.WriteByte("\r\n\t\f\b\x00"[strings.IndexByte("rntfb0", c)])
	case '0' <= c && c <= '9' || 'a' <= c|32 && c|32 <= 'z':
		p.fail(pos, "\\%c means nothing inside of double quotes; write \\\\%c for a backslash", c, c)
		return false
	default:
		b.WriteByte(c)
	}
	return true
}

// rubyEnd is the length of #{...} at the beginning of text, with quotes and braces inside of it balanced; -1 if it does not end.
func rubyEnd(text string) int {
	depth := 0
	var quote byte
	for i := 1; i < len(text) && i < 1<<16; i++ {
		c := text[i]
		switch {
		case c == '\\':
			i++
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '\'' || c == '"':
			quote = c
		case c == '{':
			depth++
		case c == '}':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return -1
}

// json reads an array or object that may go over several lines, with comments.
func (p *fluentdParser) json(v *Property) {
	begin := p.pos()
	var b bytes.Buffer
	depth, inString := 0, false
	for p.off < len(p.data) {
		c := p.peek()
		if c == '#' && !inString {
			p.restOfLine()
			continue
		}
		if c == '#' && strings.HasPrefix(p.data[p.off:], "#{") {
			if end := rubyEnd(p.data[p.off:]); end > 0 {
				v.Embedded = true
				text, _ := json.Marshal(p.data[p.off : p.off+end])
				b.Write(text[1 : len(text)-1])
				p.advance(end)
				continue
			}
		}
		b.WriteByte(c)
		p.advance(1)
		switch {
		case inString && c == '\\':
			if p.off < len(p.data) {
				b.WriteByte(p.peek())
				p.advance(1)
			}
		case c == '"':
			inString = !inString
		case inString:
		case c == '[' || c == '{':
			depth++
		case c == ']' || c == '}':
			depth--
		}
		if depth == 0 {
			break
		}
	}
	var compact bytes.Buffer
	if depth != 0 || !utf8.Valid(b.Bytes()) || json.Compact(&compact, b.Bytes()) != nil {
		p.fail(begin, "a value that begins with [ or { must be JSON; put it in quotes if it is meant as text")
		return
	}
	v.Value = compact.String()
}
