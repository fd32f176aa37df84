package regex

import (
	"strconv"
	"strings"
	"unicode"
)

func (p *parser) escape() (*node, error) {
	if !p.more() {
		return nil, p.fail("a backslash at the end")
	}
	switch c := p.text[p.at]; c {
	case 'A':
		p.at++
		return assert(opTextBegin), nil
	case 'z':
		p.at++
		return assert(opTextEnd), nil
	case 'Z':
		p.at++
		return assert(opTextEndLine), nil
	case 'b':
		p.at++
		return assert(opWordEdge), nil
	case 'B':
		p.at++
		return assert(opNoWordEdge), nil
	case 'G', 'K', 'X', 'g':
		return nil, errUnsupported
	case 'R':
		p.at++
		crlf := &node{kind: nodeConcat, children: []*node{p.char('\r'), p.char('\n')}}
		one := &node{kind: nodeSet, set: runeSet{{'\n', '\r'}, {0x85, 0x85}, {0x2028, 0x2029}}}
		return &node{kind: nodeAtomic, children: []*node{{kind: nodeAlternate, children: []*node{crlf, one}}}}, nil
	case 'k':
		return p.namedBackref()
	case '1', '2', '3', '4', '5', '6', '7', '8', '9':
		n := int(c - '0')
		if p.named || n >= len(p.names) {
			return nil, errUnsupported
		}
		p.at++
		return &node{kind: nodeBackref, index: n, fold: p.fold}, nil
	}
	s, err := p.escapedSet()
	if err != nil {
		return nil, err
	}
	if p.fold {
		s = s.folded()
	}
	return &node{kind: nodeSet, set: s}, nil
}

func (p *parser) namedBackref() (*node, error) {
	rest := p.text[p.at+1:]
	if rest == "" || rest[0] != '<' && rest[0] != '\'' {
		return nil, p.fail("\\k needs <name>")
	}
	end := strings.IndexByte(rest[1:], map[byte]byte{'<': '>', '\'': '\''}[rest[0]])
	if end < 0 {
		return nil, p.fail("\\k needs <name>")
	}
	name, found := rest[1:1+end], 0
	for i, n := range p.names {
		if n == name && i > 0 {
			if found > 0 {
				return nil, errUnsupported
			}
			found = i
		}
	}
	if found == 0 {
		return nil, p.fail("there is no group %q before this", name)
	}
	p.at += end + 3
	return &node{kind: nodeBackref, index: found, fold: p.fold}, nil
}

// escapedSet reads what follows a backslash and stands for characters, in and out of brackets.
func (p *parser) escapedSet() (runeSet, error) {
	r := p.next()
	one := func(r rune) (runeSet, error) { return runeSet{{r, r}}, nil }
	switch r {
	case 'd':
		return digits, nil
	case 'D':
		return digits.negated(), nil
	case 'w':
		return words, nil
	case 'W':
		return words.negated(), nil
	case 's':
		return spaces, nil
	case 'S':
		return spaces.negated(), nil
	case 'h':
		return hexes, nil
	case 'H':
		return hexes.negated(), nil
	case 't':
		return one('\t')
	case 'n':
		return one('\n')
	case 'r':
		return one('\r')
	case 'f':
		return one('\f')
	case 'v':
		return one('\v')
	case 'a':
		return one(7)
	case 'e':
		return one(27)
	case 'x', 'u':
		return p.hexRune(r)
	case 'p', 'P':
		return p.property(r == 'P')
	case '0', '1', '2', '3', '4', '5', '6', '7':
		n := 1
		for n < 3 && p.at-1+n < len(p.text) && p.text[p.at-1+n] >= '0' && p.text[p.at-1+n] <= '7' {
			n++
		}
		v, err := strconv.ParseUint(p.text[p.at-1:p.at-1+n], 8, 8)
		if err != nil || v > 127 {
			return nil, errUnsupported
		}
		p.at += n - 1
		return one(rune(v))
	case 'c', 'C', 'M':
		return nil, errUnsupported
	}
	return one(r)
}

func (p *parser) hexRune(kind rune) (runeSet, error) {
	rest := p.text[p.at:]
	width, skip := 2, 0
	if kind == 'u' {
		width = 4
	}
	if strings.HasPrefix(rest, "{") {
		end := strings.IndexByte(rest, '}')
		if end < 0 {
			return nil, p.fail("\\x{ is not closed")
		}
		rest, width, skip = rest[1:end], end-1, 2
	}
	n := 0
	for n < width && n < len(rest) && strings.IndexByte("0123456789abcdefABCDEF", rest[n]) >= 0 {
		n++
	}
	v, err := strconv.ParseUint(rest[:n], 16, 32)
	if err != nil || v > unicode.MaxRune {
		return nil, p.fail("\\%c needs hexadecimal digits", kind)
	}
	if kind == 'x' && skip == 0 && v > 127 {
		return nil, errUnsupported // a byte, not a character
	}
	p.at += n + skip
	return runeSet{{rune(v), rune(v)}}, nil
}

func (p *parser) property(negated bool) (runeSet, error) {
	rest := p.text[p.at:]
	end := strings.IndexByte(rest, '}')
	if !strings.HasPrefix(rest, "{") || end < 0 {
		return nil, p.fail("\\p needs {Name}")
	}
	name := rest[1:end]
	if n, ok := strings.CutPrefix(name, "^"); ok {
		name, negated = n, !negated
	}
	s, ok := propertySet(name)
	if !ok {
		return nil, p.fail("there is no character property %q", name)
	}
	p.at += end + 1
	if negated {
		s = s.negated()
	}
	return s, nil
}
