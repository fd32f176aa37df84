package regex

import (
	"fmt"
	"strings"
)

// class reads a bracket expression; the opening bracket was taken.
func (p *parser) class() (runeSet, error) {
	if p.depth++; p.depth > maxNesting {
		return nil, p.fail("brackets inside of each other, more than %d", maxNesting)
	}
	defer func() { p.depth-- }()
	negated := p.take("^")
	var result, current runeSet
	intersect := false
	merge := func() {
		current = current.normal()
		if intersect {
			current = result.intersection(current)
		}
		result, current = current, nil
	}
	for first := true; ; first = false {
		if !p.more() {
			return nil, p.fail("a bracket is not closed")
		}
		if p.text[p.at] == ']' && !first {
			p.at++
			break
		}
		if p.take("&&") {
			merge()
			intersect = true
			continue
		}
		s, err := p.classItem()
		if err != nil {
			return nil, err
		}
		current = append(current, s...)
	}
	merge()
	if p.fold {
		result = result.folded()
	}
	if negated {
		result = result.negated()
	}
	return result, nil
}

func (p *parser) classItem() (runeSet, error) {
	if p.take("[:") {
		end := strings.Index(p.text[p.at:], ":]")
		if end < 0 {
			p.at -= 2
			p.at++
			return p.class()
		}
		name := p.text[p.at : p.at+end]
		negated := strings.HasPrefix(name, "^")
		s, ok := propertySet(strings.TrimPrefix(name, "^"))
		if !ok {
			return nil, p.fail("there is no class [:%s:]", name)
		}
		p.at += end + 2
		if negated {
			s = s.negated()
		}
		return s, nil
	}
	if p.take("[") {
		return p.class()
	}
	low, single, err := p.classChar()
	if err != nil || single < 0 {
		return low, err
	}
	if !strings.HasPrefix(p.text[p.at:], "-") || strings.HasPrefix(p.text[p.at:], "-]") || strings.HasPrefix(p.text[p.at:], "-[") {
		return low, nil
	}
	p.at++
	if !p.more() {
		return nil, p.fail("a bracket is not closed")
	}
	high, last, err := p.classChar()
	if err != nil {
		return nil, err
	}
	if last < 0 { // [a-\d]: the hyphen is a hyphen
		return append(append(low, runeRange{'-', '-'}), high...), nil
	}
	if last < single {
		return nil, p.fail("the range %c-%c runs backward", single, last)
	}
	return runeSet{{single, last}}, nil
}

// classChar reads a character or an escape; single is -1 if it stands for several characters.
func (p *parser) classChar() (set runeSet, single rune, err error) {
	r := p.next()
	if r == '\\' {
		if !p.more() {
			return nil, 0, p.fail("a backslash at the end")
		}
		if p.text[p.at] == 'b' {
			p.at++
			return runeSet{{8, 8}}, 8, nil
		}
		s, err := p.escapedSet()
		if err != nil {
			return nil, 0, err
		}
		if len(s) == 1 && s[0].low == s[0].high {
			return s, s[0].low, nil
		}
		return s, -1, nil
	}
	return runeSet{{r, r}}, r, nil
}

// FlatSet reads the bracket expression that text begins with and writes it as one of the form that package regexp knows: Onigmo's sets inside of sets, their
// intersections and classes become plain ranges. n is how many bytes of text it took.
func FlatSet(text string) (flat string, n int, err error) {
	p := &parser{text: text}
	if !p.take("[") {
		return "", 0, p.fail("expected a bracket")
	}
	set, err := p.class()
	if err != nil {
		return "", 0, err
	}
	if len(set) == 0 {
		return `[^\x{0}-\x{10FFFF}]`, p.at, nil // nothing
	}
	var b strings.Builder
	b.WriteByte('[')
	for _, r := range set {
		fmt.Fprintf(&b, `\x{%X}-\x{%X}`, r.low, r.high)
	}
	b.WriteByte(']')
	return b.String(), p.at, nil
}
