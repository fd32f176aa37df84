package multiline

import (
	"bytes"
	"time"

	"github.com/weft-dev/weft/logging/pipeline/parser"
	"github.com/weft-dev/weft/logging/pipeline/record"
)

// Message is lines that belong together, as a record.
type Message struct {
	Time record.Time // zero if the lines name none
	Meta []byte
	Body []byte // a map; valid until the next call of the stream
}

// Stream is lines from one source, one after the other. It is used by one goroutine.
type Stream struct {
	parsers []*Parser
	key     string // of text that has no fields
	limit   int    // of a message in bytes
	groups  map[groupKey]*group
	order   []*group // with content, the oldest first
	body    []byte
	scratch []byte
	emit    func(Message)
}

type groupKey struct {
	parser int
	name   string
}

type group struct {
	key    groupKey
	parser *Parser
	text   []byte
	body   []byte // of the first line; nil if lines are plain text
	meta   []byte
	time   record.Time
	state  int // rule that matched last, -1 for none
	token  int64
	since  time.Time
	field  string // that takes the joined text
}

// NewStream begins a stream. Text without fields becomes a record with this key; a message is cut at limit bytes.
func NewStream(parsers []*Parser, key string, limit int, emit func(Message)) *Stream {
	return &Stream{parsers: parsers, key: key, limit: limit, groups: map[groupKey]*group{}, emit: emit}
}

// Timeout is how long lines may wait for others, at most.
func Timeout(parsers []*Parser) time.Duration {
	t := 4 * time.Second
	for _, p := range parsers {
		t = min(t, p.timeout)
	}
	return t
}

// Held is the token of the earliest line that waits for others.
func (s *Stream) Held() (int64, bool) {
	if len(s.order) == 0 {
		return 0, false
	}
	token := s.order[0].token
	for _, g := range s.order[1:] {
		token = min(token, g.token)
	}
	return token, true
}

// Flush sends what has waited so long; 0 means all. A clock that jumped back begins the wait anew.
func (s *Stream) Flush(now time.Time, wait time.Duration) {
	for i := 0; i < len(s.order); {
		g := s.order[i]
		if g.since.After(now) {
			g.since = now
		}
		if wait == 0 || now.Sub(g.since) >= wait {
			s.send(g)
			continue
		}
		i++
	}
}

// Text takes a line. The token is the caller's name for its place.
func (s *Stream) Text(line []byte, token int64, now time.Time) {
	for i, p := range s.parsers {
		if p.cri {
			if s.containerLine(i, p, line, token, now) {
				return
			}
			continue
		}
		content, body, moment := line, []byte(nil), record.Time{}
		if p.parser != nil {
			out, t, ok := p.parser.Parse(s.scratch[:0], line)
			s.scratch = out
			if !ok {
				continue
			}
			body, moment = out, t
			if content, ok = textOf(body, p.keyContent); !ok {
				continue
			}
		}
		if s.feed(i, p, content, body, nil, moment, token, now) {
			return
		}
	}
	s.plain(line, nil, nil, record.Time{})
}

// Record takes a record whose text is under key. A record without it passes at once.
func (s *Stream) Record(body, meta []byte, moment record.Time, key string, token int64, now time.Time) {
	for i, p := range s.parsers {
		field := key
		if field == "" {
			field = p.keyContent
		}
		content, ok := textOf(body, field)
		if !ok {
			continue
		}
		if p.parser != nil && key != "" && p.keyContent == "" {
			continue
		}
		if s.feedField(i, p, content, body, meta, moment, token, now, field) {
			return
		}
	}
	s.plain(nil, body, meta, moment)
}

func textOf(body []byte, key string) ([]byte, bool) {
	value, ok := record.Get(body, key)
	if !ok {
		return nil, false
	}
	return record.Text(value)
}

// plain sends a line that no parser takes, after all that came before it.
func (s *Stream) plain(line, body, meta []byte, moment record.Time) {
	for len(s.order) > 0 {
		s.send(s.order[0])
	}
	if body == nil {
		s.body = append(s.body[:0], 0x81)
		s.body = record.AppendString(s.body, s.key)
		if len(s.parsers) == 1 && s.parsers[0].parser == nil {
			line = append(s.scratch[:0], line...)
			line = append(line, '\n') // as Fluent Bit has it, if no other parser was asked
			s.scratch = line
		}
		s.body = record.AppendString(s.body, line)
		body = s.body
	}
	s.emit(Message{moment, meta, body})
}

func (s *Stream) group(i int, p *Parser, name []byte) *group {
	if g := s.groups[groupKey{i, string(name)}]; g != nil {
		return g
	}
	g := &group{key: groupKey{i, string(name)}, parser: p, state: -1}
	if len(s.groups) < 1000 { // names come from the log: they are not kept without end
		s.groups[g.key] = g
	}
	return g
}

// containerLine is the quick way for whole lines of a container's runtime.
func (s *Stream) containerLine(i int, p *Parser, line []byte, token int64, now time.Time) bool {
	c, ok := parser.CutCRI(line)
	if !ok || len(c.Flag) != 1 || c.Flag[0] != 'F' && c.Flag[0] != 'P' {
		return false
	}
	g := s.group(i, p, c.Stream)
	if len(g.text) == 0 && g.body == nil && c.Flag[0] == 'F' {
		b := append(s.body[:0], "\x84\xa4time"...)
		b = record.AppendString(b, c.Time)
		b = record.AppendString(append(b, "\xa6stream"...), c.Stream)
		b = append(b, "\xa2_p\xa1F\xa3log"...)
		s.body = record.AppendString(b, c.Message)
		moment, _ := p.parser.Time(c.Time)
		s.emit(Message{moment, nil, s.body})
		return true
	}
	out, moment, ok := p.parser.Parse(s.scratch[:0], line)
	s.scratch = out
	return ok && s.feed(i, p, c.Message, out, nil, moment, token, now)
}

func (s *Stream) feed(i int, p *Parser, content, body, meta []byte, moment record.Time, token int64, now time.Time) bool {
	return s.feedField(i, p, content, body, meta, moment, token, now, p.keyContent)
}

// feedField gives a line to a parser; false means that it is not one of its lines.
func (s *Stream) feedField(i int, p *Parser, content, body, meta []byte, moment record.Time, token int64, now time.Time, field string) bool {
	var name []byte
	if p.keyGroup != "" {
		name, _ = textOf(body, p.keyGroup)
	}
	g := s.group(i, p, name)
	add := func() {
		if len(g.text) == 0 && g.body == nil {
			g.token, g.since, g.time, g.field = token, now, moment, field
			g.body = bytes.Clone(body)
			g.meta = bytes.Clone(meta)
			s.order = append(s.order, g)
		}
		room := max(0, s.limit-len(g.text))
		g.text = append(g.text, content[:min(len(content), room)]...)
		g.since = now
	}
	if p.kind == "regex" {
		return s.feedRules(g, p, content, add)
	}
	pattern := content
	if p.keyPattern != "" {
		if v, ok := textOf(body, p.keyPattern); ok {
			pattern = v
		}
	}
	ends := string(pattern) == p.match
	if p.kind == "endswith" {
		ends = bytes.HasSuffix(pattern, []byte(p.match))
	}
	if len(g.text) > 0 && g.body == nil {
		g.breakLine()
	}
	add()
	if ends != p.negate || len(g.text) >= s.limit {
		s.send(g)
	}
	return true
}

func (g *group) breakLine() {
	if n := len(g.text); n > 0 && g.text[n-1] != '\n' {
		g.text = append(g.text, '\n')
	}
}

// feedRules follows the states of a parser with regular expressions.
func (s *Stream) feedRules(g *group, p *Parser, content []byte, add func()) bool {
	if g.state >= 0 {
		for _, next := range p.rules[g.state].next {
			r := &p.rules[next]
			if r.start || !r.regex.Match(content) {
				continue
			}
			g.breakLine()
			if len(content) == 0 {
				g.text = append(g.text, '\n')
			}
			add()
			g.state = next
			if len(g.text) >= s.limit {
				s.send(g)
			}
			s.finished(g, p)
			return true
		}
	}
	for i := range p.rules {
		if p.rules[i].start && p.rules[i].regex.Match(content) {
			s.send(g)
			add()
			g.state = i
			return true
		}
	}
	s.send(g)
	return false
}

// finished sends a message whose last rule leads to the start state only.
func (s *Stream) finished(g *group, p *Parser) {
	if g.state < 0 {
		return
	}
	next := p.rules[g.state].next
	for _, n := range next {
		if !p.rules[n].start {
			return
		}
	}
	s.send(g)
}

// send emits what a group holds.
func (s *Stream) send(g *group) {
	g.state = -1
	if len(g.text) == 0 && g.body == nil {
		return
	}
	for i, x := range s.order {
		if x == g {
			s.order = append(s.order[:i], s.order[i+1:]...)
			break
		}
	}
	if g.body == nil {
		g.breakLine()
		s.body = append(s.body[:0], 0x81)
		s.body = record.AppendString(s.body, s.key)
		s.body = record.AppendString(s.body, g.text)
	} else {
		s.body = g.joined(s.body[:0])
	}
	m := Message{g.time, g.meta, s.body}
	g.text, g.body, g.meta = g.text[:0], nil, nil
	if cap(g.text) > 64<<10 {
		g.text = nil
	}
	s.emit(m)
}

// joined is the first line's record with the joined text in its field.
func (g *group) joined(b []byte) []byte {
	fields := record.FieldsOf(g.body)
	b = record.AppendMapHead(b, fields.Count)
	for fields.Next() {
		if string(fields.Key) == g.field && fields.Key != nil && len(g.text) > 0 {
			b = append(b, fields.Raw[:len(fields.Raw)-len(fields.Value)]...)
			b = record.AppendString(b, g.text)
			continue
		}
		b = append(b, fields.Raw...)
	}
	return b
}
