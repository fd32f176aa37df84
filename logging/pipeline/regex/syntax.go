package regex

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
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
