package regex

import (
	"unicode"
	"unicode/utf8"
)

type opcode uint8

const (
	opMatch   opcode = iota
	opByte           // byte b
	opBytes          // the bytes of str
	opTable          // one byte of table
	opRune           // one character of set
	opRun            // greedy run of table, min to max, never given back
	opRunBack        // greedy run of table, given back byte by byte
	opRunLazy        // as few as possible
	opSplit          // try x, then y
	opJump           // to x
	opSave           // position into slot x
	opLineBegin
	opLineEnd
	opTextBegin
	opTextEnd
	opTextEndLine
	opWordEdge
	opNoWordEdge
	opProgress // leaves the loop, to max, if nothing was consumed since slot y was saved
	opAtomic   // program x..., goes on at y
	opAhead
	opNotAhead
	opBackref
	opFail
)

// endOfText is the place in a first set that stands for the end of the text.
const endOfText = 256

// first is what a part of an expression can begin with: bytes, or the end of the text.
type first [257]bool

var everything = func() *first {
	var f first
	for i := range f {
		f[i] = true
	}
	return &f
}()

type instruction struct {
	op       opcode
	b        byte
	fold     bool
	x, y     int
	min, max int
	table    *[256]bool
	set      runeSet
	str      []byte
	next     *first // of what follows a run; of x at a split
	other    *first // of y at a split
}

const maxProgram = 20000

type compiler struct {
	program []instruction
	slots   int
	failed  error
}

// compile turns a tree into a program. Programs are built back to front: each part knows what follows it.
func compile(root *node, groups int) ([]instruction, int, int, error) {
	c := &compiler{slots: 2 * groups}
	match := c.emit(instruction{op: opMatch})
	start, _ := c.node(root, match, &first{})
	return c.program, start, c.slots, c.failed
}

func (c *compiler) emit(i instruction) int {
	if len(c.program) >= maxProgram {
		c.failed = errUnsupported
		return 0
	}
	c.program = append(c.program, i)
	return len(c.program) - 1
}

// node compiles n so that it goes on at next, which begins with follow. It gives the entry and what the whole begins with.
func (c *compiler) node(n *node, next int, follow *first) (int, *first) {
	if c.failed != nil {
		return 0, everything
	}
	switch n.kind {
	case nodeSet:
		return c.set(n.set, next)
	case nodeConcat:
		return c.concat(n.children, next, follow)
	case nodeAlternate:
		return c.alternate(n.children, next, follow)
	case nodeRepeat:
		return c.repeat(n, next, follow)
	case nodeGroup:
		return c.group(n, next, follow)
	case nodeAtomic, nodeAhead, nodeNotAhead:
		return c.inner(n, next)
	case nodeAssert:
		return c.assertion(n.op, next, follow)
	case nodeBackref:
		return c.emit(instruction{op: opBackref, x: next, y: n.index, fold: n.fold}), everything
	}
	return next, follow
}

func (c *compiler) concat(children []*node, next int, follow *first) (int, *first) {
	for i := len(children) - 1; i >= 0; i-- {
		if b, ok := literal(children[i]); ok {
			str := b
			for i > 0 {
				more, ok := literal(children[i-1])
				if !ok {
					break
				}
				str = append(append([]byte{}, more...), str...)
				i--
			}
			f := &first{}
			f[str[0]] = true
			if len(str) == 1 {
				next, follow = c.emit(instruction{op: opByte, b: str[0], x: next}), f
			} else {
				next, follow = c.emit(instruction{op: opBytes, str: str, x: next}), f
			}
			continue
		}
		next, follow = c.node(children[i], next, follow)
	}
	return next, follow
}

func literal(n *node) ([]byte, bool) {
	if n.kind == nodeSet && len(n.set) == 1 && n.set[0].low == n.set[0].high {
		return utf8.AppendRune(nil, n.set[0].low), true
	}
	return nil, false
}

func (c *compiler) set(s runeSet, next int) (int, *first) {
	f := &first{}
	table, exact := s.table()
	copy(f[:256], table[:])
	switch {
	case len(s) == 1 && s[0].low == s[0].high && s[0].low < utf8.RuneSelf:
		return c.emit(instruction{op: opByte, b: byte(s[0].low), x: next}), f
	case exact && (len(s) == 0 || s[len(s)-1].high < utf8.RuneSelf):
		return c.emit(instruction{op: opTable, table: table, x: next}), f
	}
	return c.emit(instruction{op: opRune, table: table, set: s, x: next}), f
}

// table is the bytes that a member of the set can begin with. It is exact if a run of members is a run of these bytes: the set
// holds either all or none of the characters above ASCII.
func (s runeSet) table() (*[256]bool, bool) {
	t := new([256]bool)
	high := false
	for _, r := range s {
		for b := r.low; b <= r.high && b < utf8.RuneSelf; b++ {
			t[b] = true
		}
		high = high || r.high >= utf8.RuneSelf
	}
	if high {
		for b := utf8.RuneSelf; b < 256; b++ {
			t[b] = true
		}
	}
	last := runeRange{unicode.MaxRune, 0}
	if len(s) > 0 {
		last = s[len(s)-1]
	}
	return t, !high || last.low <= utf8.RuneSelf && last.high == unicode.MaxRune
}

func (c *compiler) alternate(branches []*node, next int, follow *first) (int, *first) {
	if *follow == (first{}) {
		follow = everything // accepting: no byte tells the branches apart
	}
	entry, begins := c.node(branches[len(branches)-1], next, follow)
	for i := len(branches) - 2; i >= 0; i-- {
		x, f := c.node(branches[i], next, follow)
		entry = c.emit(instruction{op: opSplit, x: x, y: entry, next: f, other: begins})
		begins = union(f, begins)
	}
	return entry, begins
}

func union(a, b *first) *first {
	f := *a
	for i := range b {
		f[i] = f[i] || b[i]
	}
	return &f
}

func (c *compiler) group(n *node, next int, follow *first) (int, *first) {
	if n.index == 0 {
		return c.node(n.children[0], next, follow)
	}
	end := c.emit(instruction{op: opSave, y: 2*n.index + 1, x: next})
	entry, f := c.node(n.children[0], end, follow)
	return c.emit(instruction{op: opSave, y: 2 * n.index, x: entry}), f
}

// inner compiles a part that is matched on its own.
func (c *compiler) inner(n *node, next int) (int, *first) {
	match := c.emit(instruction{op: opMatch})
	entry, f := c.node(n.children[0], match, &first{})
	switch n.kind {
	case nodeAhead:
		return c.emit(instruction{op: opAhead, y: entry, x: next}), everything
	case nodeNotAhead:
		return c.emit(instruction{op: opNotAhead, y: entry, x: next}), everything
	}
	if nullable(n.children[0]) {
		f = everything
	}
	return c.emit(instruction{op: opAtomic, y: entry, x: next}), f
}

func (c *compiler) assertion(op opcode, next int, follow *first) (int, *first) {
	f := everything
	switch op {
	case opLineEnd, opTextEndLine:
		f = &first{}
		f['\n'], f[endOfText] = true, true
	case opTextEnd:
		f = &first{}
		f[endOfText] = true
	}
	return c.emit(instruction{op: op, x: next}), f
}

func (c *compiler) repeat(n *node, next int, follow *first) (int, *first) {
	child := n.children[0]
	for child.kind == nodeGroup && child.index == 0 {
		child = child.children[0]
	}
	if n.fixed {
		plain := *n
		plain.fixed = false
		return c.inner(&node{kind: nodeAtomic, children: []*node{&plain}}, next)
	}
	if child.kind == nodeSet && (n.max < 0 || child.set.ascii()) {
		if table, exact := child.set.table(); exact && (n.min <= 1 || child.set.ascii()) {
			return c.run(n, table, next, follow)
		}
	}
	return c.loop(n, child, next, follow)
}

func (s runeSet) ascii() bool { return len(s) == 0 || s[len(s)-1].high < utf8.RuneSelf }

// run compiles the repetition of one set. It gives nothing back if what follows begins with none of its bytes.
func (c *compiler) run(n *node, table *[256]bool, next int, follow *first) (int, *first) {
	i := instruction{op: opRunBack, table: table, min: n.min, max: n.max, x: next, next: follow}
	apart := true
	for b := range table {
		if table[b] && follow[b] {
			apart = false
			break
		}
	}
	switch {
	case apart && n.max < 0 && (!n.lazy || *follow != first{}):
		i.op = opRun
	case *follow == first{} && !n.lazy:
		i.op = opRun
	case n.lazy:
		i.op = opRunLazy
		if *follow == (first{}) {
			i.next = everything
		}
	}
	f := &first{}
	copy(f[:256], table[:])
	if n.min == 0 {
		f = union(f, follow)
		if *follow == (first{}) {
			f = everything
		}
	}
	return c.emit(i), f
}

// loop compiles the repetition of anything: min copies, then a loop or optional copies.
func (c *compiler) loop(n *node, child *node, next int, follow *first) (int, *first) {
	if *follow == (first{}) {
		follow = everything // accepting: no byte tells the branches apart
	}
	entry, begins := next, follow
	if n.max < 0 {
		entry, begins = c.star(n, child, next, follow)
	} else {
		for range n.max - n.min {
			x, f := c.node(child, entry, begins)
			if nullable(child) {
				f = everything
			}
			begins = union(f, follow)
			entry = c.split(n.lazy, x, next, f, follow)
		}
	}
	for range n.min {
		entry, begins = c.node(child, entry, begins)
		if c.failed != nil {
			break
		}
	}
	return entry, begins
}

func (c *compiler) split(lazy bool, x, y int, fx, fy *first) int {
	if lazy {
		x, y, fx, fy = y, x, fy, fx
	}
	return c.emit(instruction{op: opSplit, x: x, y: y, next: fx, other: fy})
}

func (c *compiler) star(n *node, child *node, next int, follow *first) (int, *first) {
	head := c.emit(instruction{op: opSplit}) // filled in below
	back := head
	var slot int
	empty := nullable(child)
	if empty {
		slot = c.slots
		c.slots++
		back = c.emit(instruction{op: opProgress, x: head, y: slot, max: next})
	}
	// What follows an iteration is another one or what follows the loop; the first of an iteration is not known yet.
	body, f := c.node(child, back, everything)
	if empty {
		body = c.emit(instruction{op: opSave, y: slot, x: body})
		f = everything
	} else {
		// Once more, now that it is known what an iteration begins with.
		body, f = c.node(child, back, union(f, follow))
	}
	if c.failed != nil {
		return 0, everything
	}
	i := instruction{op: opSplit, x: body, y: next, next: f, other: follow}
	if n.lazy {
		i.x, i.y, i.next, i.other = next, body, follow, f
	}
	c.program[head] = i
	return head, union(f, follow)
}

// nullable tells whether a part can match without consuming anything.
func nullable(n *node) bool {
	switch n.kind {
	case nodeSet:
		return false
	case nodeConcat:
		for _, child := range n.children {
			if !nullable(child) {
				return false
			}
		}
		return true
	case nodeAlternate:
		for _, child := range n.children {
			if nullable(child) {
				return true
			}
		}
		return false
	case nodeRepeat:
		return n.min == 0 || nullable(n.children[0])
	case nodeGroup, nodeAtomic:
		return nullable(n.children[0])
	}
	return true
}
