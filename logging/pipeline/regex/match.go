package regex

import (
	"bytes"
	"unicode/utf8"
)

// maxSteps is how many times one search may go back, and maxStack how many choices it may keep.
const (
	maxSteps = 2_000_000
	maxStack = 1 << 20
)

type choice struct {
	pc   int32 // where to go on; -1: only restore the slot
	slot int32 // restored to pos if pc is -1; for runs the lowest position
	pos  int
}

// matcher is the working state of one search.
type matcher struct {
	program []instruction
	text    []byte
	slots   []int
	stack   []choice
	steps   int
	failed  bool // out of steps
}

// search finds the first match at or behind from.
func (r *Regexp) search(m *matcher, text []byte) bool {
	m.program, m.text, m.steps, m.failed = r.program, text, 0, false
	if cap(m.slots) < r.slots {
		m.slots = make([]int, r.slots)
	}
	m.slots = m.slots[:r.slots]
	for at := 0; at <= len(text); at++ {
		switch r.anchor {
		case opTextBegin:
			if at > 0 {
				return false
			}
		case opLineBegin:
			if at > 0 && text[at-1] != '\n' {
				next := bytes.IndexByte(text[at:], '\n')
				if next < 0 {
					return false
				}
				at += next
				continue
			}
		default:
			if r.begin != nil {
				for at < len(text) && !r.begin[text[at]] {
					at++
				}
				if at == len(text) && !r.begin[endOfText] {
					return false
				}
			}
		}
		for i := range m.slots {
			m.slots[i] = -1
		}
		m.stack = m.stack[:0]
		if end := m.run(r.start, at); end >= 0 {
			m.slots[0], m.slots[1] = at, end
			return true
		}
		if m.failed {
			return false
		}
	}
	return false
}

// run matches from a place of the program on; it gives the end of the match, or -1. Choices that were on the stack stay.
func (m *matcher) run(pc, pos int) int {
	base := len(m.stack)
	text := m.text
	for {
		i := &m.program[pc]
		ok := true
		switch i.op {
		case opMatch:
			return pos
		case opByte:
			if pos < len(text) && text[pos] == i.b {
				pos++
			} else {
				ok = false
			}
		case opBytes:
			if len(text)-pos >= len(i.str) && string(text[pos:pos+len(i.str)]) == string(i.str) {
				pos += len(i.str)
			} else {
				ok = false
			}
		case opTable:
			if pos < len(text) && i.table[text[pos]] {
				pos++
			} else {
				ok = false
			}
		case opRune:
			n := m.runeAt(i, pos)
			pos += n
			ok = n > 0
		case opRun, opRunBack:
			end := runEnd(text, pos, i)
			low := pos + i.min
			if end < low {
				ok = false
				break
			}
			pos = end
			if i.op == opRunBack && end > low {
				m.stack = append(m.stack, choice{int32(pc), int32(low), end})
			}
		case opRunLazy:
			low := pos + i.min
			if i.min > 0 && (low > len(text) || runEnd(text[:low], pos, i) < low) {
				ok = false
				break
			}
			// max counts from here on
			m.stack = append(m.stack, choice{int32(pc), int32(pos), low - 1})
			ok = false
		case opSplit:
			b := endOfText
			if pos < len(text) {
				b = int(text[pos])
			}
			switch {
			case !i.next[b]:
				pc = i.y
				continue
			case i.other[b]:
				m.stack = append(m.stack, choice{int32(i.y), 0, pos})
			}
		case opJump:
		case opSave:
			if len(m.stack) > 0 {
				m.stack = append(m.stack, choice{-1, int32(i.y), m.slots[i.y]})
			}
			m.slots[i.y] = pos
		case opProgress:
			if m.slots[i.y] == pos {
				pc = i.max
				continue
			}
		case opAtomic, opAhead, opNotAhead:
			pos, ok = m.inner(i, pos)
		case opBackref:
			pos, ok = m.backref(i, pos)
		default:
			ok = m.assertion(i.op, pos)
		}
		if ok {
			pc = i.x
			continue
		}
		if pc, pos = m.back(base); pc < 0 {
			return -1
		}
	}
}

func runEnd(text []byte, pos int, i *instruction) int {
	rest := text[pos:]
	if i.max >= 0 && len(rest) > i.max {
		rest = rest[:i.max]
	}
	table := i.table
	for n, b := range rest {
		if !table[b] {
			return pos + n
		}
	}
	return pos + len(rest)
}

// back takes the latest choice; -1 if there is none above base.
func (m *matcher) back(base int) (pc, pos int) {
	if len(m.stack) > maxStack {
		m.failed = true
	}
	for len(m.stack) > base {
		top := len(m.stack) - 1
		c := &m.stack[top]
		if c.pc < 0 {
			m.slots[c.slot] = c.pos
			m.stack = m.stack[:top]
			continue
		}
		if m.steps++; m.steps > maxSteps {
			m.failed = true
		}
		if m.failed {
			m.stack = m.stack[:base]
			return -1, 0
		}
		i := &m.program[c.pc]
		switch i.op {
		case opRunBack:
			if pos, ok := m.giveBack(i, c); ok {
				if pos <= int(c.slot) {
					m.stack = m.stack[:top]
				}
				return i.x, pos
			}
		case opRunLazy:
			if pos, ok := m.takeMore(i, c); ok {
				return i.x, pos
			}
		default:
			pc, pos = int(c.pc), c.pos
			m.stack = m.stack[:top]
			return pc, pos
		}
		m.stack = m.stack[:top]
	}
	return -1, 0
}

// giveBack shortens a run up to where what follows can begin.
func (m *matcher) giveBack(i *instruction, c *choice) (int, bool) {
	for c.pos > int(c.slot) {
		c.pos--
		if i.next[m.text[c.pos]] {
			return c.pos, true
		}
	}
	return 0, false
}

// takeMore lengthens a lazy run up to where what follows can begin. slot is the run's start, pos the last end that was tried.
func (m *matcher) takeMore(i *instruction, c *choice) (int, bool) {
	start := int(c.slot)
	for {
		if at := c.pos; at >= start+i.min && (at >= len(m.text) || !i.table[m.text[at]] || i.max >= 0 && at-start >= i.max) {
			return 0, false
		}
		c.pos++
		b := endOfText
		if c.pos < len(m.text) {
			b = int(m.text[c.pos])
		}
		if i.next[b] {
			return c.pos, true
		}
	}
}

func (m *matcher) runeAt(i *instruction, pos int) int {
	if pos >= len(m.text) {
		return 0
	}
	b := m.text[pos]
	if b < utf8.RuneSelf {
		if i.table[b] {
			return 1
		}
		return 0
	}
	if !i.table[b] {
		return 0
	}
	r, n := utf8.DecodeRune(m.text[pos:])
	if !i.set.has(r) {
		return 0
	}
	return n
}

func (m *matcher) inner(i *instruction, pos int) (int, bool) {
	base := len(m.stack)
	// A mark keeps the undo records of slots: what is restored when the search goes back beyond this part.
	m.stack = append(m.stack, choice{-1, 0, m.slots[0]})
	end := m.run(i.y, pos)
	if end >= 0 && i.op != opNotAhead {
		m.dropChoices(base)
	} else {
		for len(m.stack) > base {
			c := m.stack[len(m.stack)-1]
			if c.pc < 0 {
				m.slots[c.slot] = c.pos
			}
			m.stack = m.stack[:len(m.stack)-1]
		}
	}
	switch i.op {
	case opAhead:
		return pos, end >= 0
	case opNotAhead:
		return pos, end < 0
	}
	return end, end >= 0
}

// dropChoices forgets the choices above base and keeps the records of slots.
func (m *matcher) dropChoices(base int) {
	kept := m.stack[:base]
	for _, c := range m.stack[base:] {
		if c.pc < 0 {
			kept = append(kept, c)
		}
	}
	m.stack = kept
}

func (m *matcher) backref(i *instruction, pos int) (int, bool) {
	start, end := m.slots[2*i.y], m.slots[2*i.y+1]
	if start < 0 || end < start || len(m.text)-pos < end-start {
		return pos, false
	}
	was, now := m.text[start:end], m.text[pos:pos+end-start]
	if !bytes.Equal(was, now) && (!i.fold || !bytes.EqualFold(was, now)) {
		return pos, false
	}
	return pos + end - start, true
}

func (m *matcher) assertion(op opcode, pos int) bool {
	text := m.text
	switch op {
	case opLineBegin:
		return pos == 0 || text[pos-1] == '\n'
	case opLineEnd:
		return pos == len(text) || text[pos] == '\n'
	case opTextBegin:
		return pos == 0
	case opTextEnd:
		return pos == len(text)
	case opTextEndLine:
		return pos == len(text) || pos == len(text)-1 && text[pos] == '\n'
	case opWordEdge, opNoWordEdge:
		edge := wordBefore(text, pos) != wordAfter(text, pos)
		return edge == (op == opWordEdge)
	}
	return false
}

func wordBefore(text []byte, pos int) bool {
	if pos == 0 {
		return false
	}
	r, _ := utf8.DecodeLastRune(text[:pos])
	return wordSet.has(r)
}

func wordAfter(text []byte, pos int) bool {
	if pos >= len(text) {
		return false
	}
	r, _ := utf8.DecodeRune(text[pos:])
	return wordSet.has(r)
}
