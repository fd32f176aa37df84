package regex

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// errUnsupported sends an expression to the slower engine.
var errUnsupported = errors.New("not known to the fast engine")

type nodeKind uint8

const (
	nodeEmpty nodeKind = iota
	nodeSet
	nodeConcat
	nodeAlternate
	nodeRepeat
	nodeGroup  // index is the number, 0 for one that does not capture
	nodeAtomic // (?>...)
	nodeAhead
	nodeNotAhead
	nodeAssert // op says which
	nodeBackref
)

type node struct {
	kind     nodeKind
	set      runeSet
	children []*node
	index    int
	op       opcode
	min, max int // max < 0: no limit
	lazy     bool
	fixed    bool // possessive
	fold     bool
}

// parser reads Onigmo's Ruby syntax (doc/RE of the Onigmo project).
type parser struct {
	text     string
	at       int
	names    []string // by group number; 0 is the whole
	named    bool
	depth    int
	fold     bool
	dotAll   bool
	extended bool
}

const maxNesting = 200

func parse(text string) (*node, []string, error) {
	p := &parser{text: text, names: []string{""}}
	p.named = hasNames(text)
	n, err := p.alternate()
	if err == nil && p.at < len(text) {
		err = p.fail("a closing parenthesis that nothing opened")
	}
	return n, p.names, err
}

// hasNames: plain groups do not capture beside named ones.
func hasNames(text string) bool {
	for i := 0; i+3 < len(text); i++ {
		switch {
		case text[i] == '\\':
			i++
		case text[i] == '(' && text[i+1] == '?' && (text[i+2] == '\'' || text[i+2] == '<' && text[i+3] != '=' && text[i+3] != '!'):
			return true
		}
	}
	return false
}

func (p *parser) fail(format string, args ...any) error {
	return fmt.Errorf("character %d: %s", p.at+1, fmt.Sprintf(format, args...))
}

func (p *parser) more() bool { return p.at < len(p.text) }

func (p *parser) next() rune {
	r, n := utf8.DecodeRuneInString(p.text[p.at:])
	p.at += n
	return r
}

func (p *parser) take(prefix string) bool {
	if strings.HasPrefix(p.text[p.at:], prefix) {
		p.at += len(prefix)
		return true
	}
	return false
}

func (p *parser) alternate() (*node, error) {
	fold, dotAll, extended := p.fold, p.dotAll, p.extended
	defer func() { p.fold, p.dotAll, p.extended = fold, dotAll, extended }()
	if p.depth++; p.depth > maxNesting {
		return nil, p.fail("more than %d groups inside of each other", maxNesting)
	}
	defer func() { p.depth-- }()
	var branches []*node
	for {
		n, err := p.concat()
		if err != nil {
			return nil, err
		}
		branches = append(branches, n)
		if !p.take("|") {
			break
		}
	}
	if len(branches) == 1 {
		return branches[0], nil
	}
	return &node{kind: nodeAlternate, children: branches}, nil
}

func (p *parser) concat() (*node, error) {
	all := &node{kind: nodeConcat}
	for p.more() {
		if c := p.text[p.at]; c == '|' || c == ')' {
			break
		}
		if p.extended && p.skipExtended() {
			continue
		}
		item, err := p.atom()
		if err != nil {
			return nil, err
		}
		if item == nil {
			continue
		}
		if item, err = p.quantified(item); err != nil {
			return nil, err
		}
		all.children = append(all.children, item)
	}
	if len(all.children) == 1 {
		return all.children[0], nil
	}
	return all, nil
}

func (p *parser) skipExtended() bool {
	switch c := p.text[p.at]; c {
	case ' ', '\t', '\n', '\r', '\f', '\v':
		p.at++
		return true
	case '#':
		end := strings.IndexByte(p.text[p.at:], '\n')
		if end < 0 {
			end = len(p.text) - p.at
		}
		p.at += end
		return true
	}
	return false
}

func (p *parser) quantified(n *node) (*node, error) {
	for p.more() {
		r := &node{kind: nodeRepeat, children: []*node{n}, max: -1}
		switch c := p.text[p.at]; c {
		case '*':
		case '+':
			r.min = 1
		case '?':
			r.max = 1
		case '{':
			size := 0
			if r.min, r.max, size = interval(p.text[p.at:]); size == 0 {
				return n, nil
			}
			if r.min > 1000 || r.max > 1000 || r.max >= 0 && r.max < r.min {
				return nil, p.fail("the repetition %s is not possible; at most 1000, the smaller number first", p.text[p.at:p.at+size])
			}
			p.at += size
			r.lazy = p.take("?")
			n = r
			continue
		default:
			return n, nil
		}
		p.at++
		if p.take("?") {
			r.lazy = true
		} else if p.take("+") {
			r.fixed = true
		}
		n = r
	}
	return n, nil
}

// interval reads {n}, {n,}, {n,m} and {,m}; size 0 means that the brace is a brace.
func interval(text string) (low, high, size int) {
	end := strings.IndexByte(text, '}')
	if end < 2 {
		return 0, 0, 0
	}
	a, b, two := strings.Cut(text[1:end], ",")
	var err error
	if a == "" {
		if b == "" {
			return 0, 0, 0
		}
	} else if low, err = strconv.Atoi(a); err != nil || low < 0 {
		return 0, 0, 0
	}
	switch {
	case !two:
		high = low
	case b == "":
		high = -1
	default:
		if high, err = strconv.Atoi(b); err != nil || high < 0 {
			return 0, 0, 0
		}
	}
	return low, high, end + 1
}

func assert(op opcode) *node { return &node{kind: nodeAssert, op: op} }

func (p *parser) char(r rune) *node {
	s := runeSet{{r, r}}
	if p.fold {
		s = s.folded()
	}
	return &node{kind: nodeSet, set: s}
}

func (p *parser) atom() (*node, error) {
	start := p.at
	switch r := p.next(); r {
	case '(':
		return p.group()
	case '[':
		s, err := p.class()
		if err != nil {
			return nil, err
		}
		return &node{kind: nodeSet, set: s}, nil
	case '.':
		if p.dotAll {
			return &node{kind: nodeSet, set: anyRune}, nil
		}
		return &node{kind: nodeSet, set: runeSet{{'\n', '\n'}}.negated()}, nil
	case '^':
		return assert(opLineBegin), nil
	case '$':
		return assert(opLineEnd), nil
	case '\\':
		return p.escape()
	case '*', '+', '?':
		p.at = start
		return nil, p.fail("nothing stands before %c that it could repeat", r)
	case utf8.RuneError:
		if p.at-start == 1 {
			return nil, p.fail("the expression is not UTF-8")
		}
		return p.char(r), nil
	default:
		return p.char(r), nil
	}
}

func (p *parser) group() (*node, error) {
	if !p.take("?") {
		if p.named {
			return p.closed(&node{kind: nodeGroup})
		}
		p.names = append(p.names, "")
		return p.closed(&node{kind: nodeGroup, index: len(p.names) - 1})
	}
	switch {
	case p.take("#"):
		end := strings.IndexByte(p.text[p.at:], ')')
		if end < 0 {
			return nil, p.fail("the comment has no closing parenthesis")
		}
		p.at += end + 1
		return nil, nil
	case p.take(":"):
		return p.closed(&node{kind: nodeGroup})
	case p.take(">"):
		return p.closed(&node{kind: nodeAtomic})
	case p.take("="):
		return p.closed(&node{kind: nodeAhead})
	case p.take("!"):
		return p.closed(&node{kind: nodeNotAhead})
	case p.take("<="), p.take("<!"), p.take("~"), p.take("("), p.take("^"):
		return nil, errUnsupported
	case p.take("P<"), p.take("<"):
		return p.namedGroup('>')
	case p.take("'"):
		return p.namedGroup('\'')
	}
	return p.flags()
}

func (p *parser) namedGroup(end byte) (*node, error) {
	n := strings.IndexByte(p.text[p.at:], end)
	if n <= 0 {
		return nil, p.fail("a group's name ends with %c", end)
	}
	p.names = append(p.names, p.text[p.at:p.at+n])
	p.at += n + 1
	return p.closed(&node{kind: nodeGroup, index: len(p.names) - 1})
}

func (p *parser) closed(n *node) (*node, error) {
	inner, err := p.alternate()
	if err != nil {
		return nil, err
	}
	if !p.take(")") {
		return nil, p.fail("a closing parenthesis is missing")
	}
	n.children = []*node{inner}
	return n, nil
}

// flags reads (?imx-imx) and (?imx-imx:...). The first holds up to the end of the group around it.
func (p *parser) flags() (*node, error) {
	on := true
	fold, dotAll, extended := p.fold, p.dotAll, p.extended
	for p.more() {
		switch c := p.text[p.at]; c {
		case '-':
			on = false
		case 'i':
			p.fold = on
		case 'm':
			p.dotAll = on
		case 'x':
			p.extended = on
		case ')':
			p.at++
			rest, err := p.alternateHere()
			return &node{kind: nodeGroup, children: []*node{rest}}, err
		case ':':
			p.at++
			n, err := p.closed(&node{kind: nodeGroup})
			p.fold, p.dotAll, p.extended = fold, dotAll, extended
			return n, err
		default:
			return nil, p.fail("unknown option %q behind (?", c)
		}
		p.at++
	}
	return nil, p.fail("a closing parenthesis is missing")
}

// alternateHere reads what follows options up to the end of the group, alternatives included, as Ruby does.
func (p *parser) alternateHere() (*node, error) { return p.alternate() }

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
