// Package regex matches the regular expressions of log pipelines: Onigmo's Ruby syntax, in which parsers and filters of Fluent Bit and Fluentd
// are written. It compiles them to a byte program that goes back only where the next byte does not decide, with a limit of steps. Expressions
// that this engine does not know (look behind, recursion, absent groups) run on github.com/dlclark/regexp2 with a limit of time.
package regex

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/dlclark/regexp2"
)

// ErrLimit says that a search was given up since it took too long.
var ErrLimit = errors.New("the regular expression takes too long on this text")

const maxExpression = 64 << 10

var wordSet, _ = propertySet("word")

// Regexp is a compiled expression; it may be used by several goroutines.
type Regexp struct {
	text    string
	names   []string
	program []instruction
	start   int
	slots   int
	anchor  opcode // opTextBegin or opLineBegin if every match begins there
	begin   *first // what a match can begin with; nil if unknown
	slow    *regexp2.Regexp
	pool    sync.Pool
}

// Compile reads an expression, which may stand between slashes with the options i, m, x, o and u behind it.
func Compile(expression string) (*Regexp, error) {
	if len(expression) > maxExpression {
		return nil, fmt.Errorf("the expression has %d characters, more than the limit of %d", len(expression), maxExpression)
	}
	body, options := delimited(expression)
	text := body
	if options != "" {
		text = "(?" + options + ":" + body + ")"
	}
	r := &Regexp{text: expression}
	r.pool.New = func() any { return new(matcher) }
	root, names, err := parse(text)
	if err == nil {
		var begins *first
		r.names = names
		r.program, r.start, r.slots, err = compile(root, len(names))
		r.anchor = anchorOf(root)
		if err == nil {
			begins = r.firstOf(root)
			r.begin = begins
		}
	}
	if errors.Is(err, errUnsupported) {
		return r, r.compileSlow(text)
	}
	if err != nil {
		return nil, fmt.Errorf("regular expression %q: %w", expression, err)
	}
	return r, nil
}

// delimited takes off slashes around the expression, as Fluent Bit does.
func delimited(text string) (body, options string) {
	if len(text) < 2 || text[0] != '/' {
		return text, ""
	}
	end := strings.LastIndexByte(text, '/')
	if end == 0 || strings.Trim(text[end+1:], "imxou") != "" {
		return text, ""
	}
	for _, o := range text[end+1:] {
		if o == 'i' || o == 'm' || o == 'x' {
			options += string(o)
		}
	}
	return text[1:end], options
}

func (r *Regexp) firstOf(root *node) *first {
	if nullable(root) {
		return nil
	}
	c := &compiler{slots: 2 * len(r.names)}
	_, f := c.node(root, c.emit(instruction{op: opMatch}), &first{})
	if *f == *everything {
		return nil
	}
	return f
}

func anchorOf(n *node) opcode {
	switch n.kind {
	case nodeAssert:
		if n.op == opTextBegin || n.op == opLineBegin {
			return n.op
		}
	case nodeConcat:
		if len(n.children) > 0 {
			return anchorOf(n.children[0])
		}
	case nodeGroup, nodeAtomic:
		return anchorOf(n.children[0])
	case nodeAlternate:
		a := anchorOf(n.children[0])
		for _, child := range n.children[1:] {
			if anchorOf(child) != a {
				return opMatch
			}
		}
		return a
	}
	return opMatch
}

// slowTimeout bounds one search of the slower engine.
const slowTimeout = 200 * time.Millisecond

func (r *Regexp) compileSlow(text string) error {
	named := hasNames(text)
	var options regexp2.RegexOptions = regexp2.Multiline
	if named {
		options |= regexp2.ExplicitCapture
	}
	slow, err := regexp2.Compile(forRegexp2(text), options)
	if err != nil {
		return fmt.Errorf("regular expression %q: %w", r.text, err)
	}
	slow.MatchTimeout = slowTimeout
	r.slow, r.program = slow, nil
	r.names = nil
	for i, n := range slow.GetGroupNumbers() {
		name := slow.GroupNameFromNumber(n)
		if i != n {
			return fmt.Errorf("regular expression %q: groups with numbers of one's own are not possible", r.text)
		}
		if !named || i == 0 {
			name = ""
		}
		r.names = append(r.names, name)
	}
	return nil
}

// forRegexp2 writes what the syntaxes spell differently.
func forRegexp2(text string) string {
	var b strings.Builder
	class := 0
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '\\' && i+1 < len(text):
			i++
			switch next := text[i]; {
			case next == 'h' && class > 0:
				b.WriteString("0-9a-fA-F")
			case next == 'h':
				b.WriteString("[0-9a-fA-F]")
			case next == 'H' && class == 0:
				b.WriteString("[^0-9a-fA-F]")
			default:
				b.WriteByte('\\')
				b.WriteByte(next)
			}
			continue
		case c == '[':
			class++
		case c == ']' && class > 0:
			class--
		case (c == '*' || c == '+' || c == '?') && class == 0 && i+1 < len(text) && text[i+1] == '+':
			// possessive: close to it, and never less than it matches
			b.WriteByte(c)
			i++
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}

// String is the expression as it was written.
func (r *Regexp) String() string { return r.text }

// Names are the names of the groups by number; 0 is the whole match, and "" a group without name.
func (r *Regexp) Names() []string { return r.names }

// Match tells whether the expression matches anywhere. A search that takes too long does not match.
func (r *Regexp) Match(text []byte) bool {
	if r.slow != nil {
		ok, err := r.slow.MatchString(string(text))
		return ok && err == nil
	}
	m := r.pool.Get().(*matcher)
	ok := r.search(m, text)
	r.release(m)
	return ok
}

// Find gives begin and end of the first match and of each group, -1 for groups that took no part, appended to into. It gives nil if there
// is no match, and ErrLimit if the search takes too long.
func (r *Regexp) Find(text []byte, into []int) ([]int, error) {
	if r.slow != nil {
		return r.findSlow(text, into)
	}
	m := r.pool.Get().(*matcher)
	ok := r.search(m, text)
	failed := m.failed
	if ok {
		into = append(into, m.slots[:2*len(r.names)]...)
	}
	r.release(m)
	switch {
	case failed:
		return nil, ErrLimit
	case !ok:
		return nil, nil
	}
	return into, nil
}

func (r *Regexp) release(m *matcher) {
	m.text = nil
	if cap(m.stack) > 4096 {
		m.stack = nil
	}
	r.pool.Put(m)
}

func (r *Regexp) findSlow(text []byte, into []int) ([]int, error) {
	s := string(text)
	match, err := r.slow.FindStringMatch(s)
	if err != nil {
		return nil, ErrLimit
	}
	if match == nil {
		return nil, nil
	}
	// Positions count characters; bytes are wanted.
	offsets := make([]int, 0, len(s)+1)
	for i := range s {
		offsets = append(offsets, i)
	}
	offsets = append(offsets, len(s))
	for _, g := range match.Groups() {
		if len(g.Captures) == 0 {
			into = append(into, -1, -1)
			continue
		}
		into = append(into, offsets[g.Index], offsets[g.Index+g.Length])
	}
	return into, nil
}
