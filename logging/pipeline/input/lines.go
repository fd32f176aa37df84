package input

import (
	"math"
	"slices"
	"strings"
	"time"

	"github.com/weft-dev/weft/logging/pipeline/multiline"
	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/pipeline/parser"
	"github.com/weft-dev/weft/logging/pipeline/record"
)

// lineMode says how lines become messages: each for itself, or several together.
type lineMode struct {
	parsers []*multiline.Parser // multiline.parser, and Docker_Mode
	first   *parser.Parser      // Parser_Firstline, the older way
	others  []*parser.Parser    // Parser_1, Parser_2 ...
	timeout time.Duration
	limit   int // of a message in bytes
}

func newLineMode(o *options.Set, h Host) lineMode {
	m := lineMode{limit: h.MaxMessage}
	if m.limit == 0 {
		m.limit = math.MaxInt
	}
	for _, name := range o.Commas("multiline.parser") {
		p := h.Multiline[name]
		if p == nil {
			o.Failf("multiline.parser", "there is no multiline parser %q", name)
			continue
		}
		m.parsers = append(m.parsers, p)
	}
	if len(m.parsers) > 0 {
		m.timeout = multiline.Timeout(m.parsers)
	}
	if o.Bool("docker_mode") {
		m.parsers = append(m.parsers, h.Multiline["docker"])
		m.timeout = time.Duration(max(o.Int("docker_mode_flush"), 1)) * time.Second
	} else {
		o.Tell("docker_mode_flush", "docker_mode_parser")
	}
	if !o.Bool("multiline") {
		o.Tell("multiline_flush", "parser_firstline")
		return m
	}
	m.timeout = time.Duration(max(o.Int("multiline_flush"), 1)) * time.Second
	if name := o.String("parser_firstline"); name == "" {
		o.Failf("multiline", "Multiline needs Parser_Firstline")
	} else {
		m.first = namedParser(o, h, "parser_firstline", name)
	}
	for _, p := range o.Prefixed("parser_") {
		if strings.EqualFold(p.Key, "parser_firstline") {
			continue
		}
		m.others = append(m.others, namedParser(o, h, p.Key, p.Value))
	}
	if len(m.parsers) > 0 {
		o.Failf("multiline", "Multiline and multiline.parser (or Docker_Mode) cannot be used together")
	}
	return m
}

func (m lineMode) flushEvery() time.Duration {
	if len(m.parsers) == 0 && m.first == nil {
		return 0
	}
	return max(m.timeout/4, 50*time.Millisecond)
}

// lineStream is the messages of one file that wait for more lines.
type lineStream struct {
	mode   lineMode
	stream *multiline.Stream
	tail   *tail
	file   *tailed
	at     int64 // of the line that is being taken
	now    record.Time
	count  int

	// the older way
	body  []byte
	time  record.Time
	first int64
	since time.Time
}

func (m lineMode) newStream(t *tail, f *tailed) *lineStream {
	if len(m.parsers) == 0 && m.first == nil {
		return nil
	}
	s := &lineStream{mode: m, tail: t, file: f}
	if m.first == nil {
		s.stream = multiline.NewStream(m.parsers, t.key, m.limit, s.message)
	}
	return s
}

func (s *lineStream) message(m multiline.Message) {
	at := m.Time
	if at.IsZero() {
		at = s.now
	}
	t := s.tail
	t.batch = record.AppendEventHead(t.batch, at, m.Meta)
	start := len(t.batch)
	t.batch = append(t.batch, m.Body...)
	t.extras(s.file, start, s.at)
	s.count++
}

// idle tells whether nothing is held back.
func (s *lineStream) idle() bool {
	if s == nil {
		return true
	}
	_, held := s.held()
	return !held
}

// held is the offset of the first line that is held back.
func (s *lineStream) held() (int64, bool) {
	switch {
	case s == nil:
		return 0, false
	case s.stream != nil:
		return s.stream.Held()
	}
	return s.first, s.body != nil
}

func (s *lineStream) add(line []byte, at int64, now record.Time) int {
	s.at, s.now, s.count = at, now, 0
	if s.stream != nil {
		s.stream.Text(line, at, s.tail.host.Now())
	} else {
		s.addOlder(line, at)
	}
	return s.count
}

// addOlder takes a line as Multiline, Parser_Firstline and Parser_N have it.
func (s *lineStream) addOlder(line []byte, at int64) {
	if body, moment, ok := s.mode.first.Parse(nil, line); ok {
		s.sendOlder()
		s.body, s.time, s.first, s.since = body, moment, at, s.tail.host.Now()
		return
	}
	if s.body == nil {
		s.tail.appendLine(s.file, line, at, s.now)
		s.count++
		return
	}
	s.since = s.tail.host.Now()
	for _, p := range s.mode.others {
		if more, _, ok := p.Parse(nil, line); ok {
			s.body = joinMaps(s.body, more)
			return
		}
	}
	s.body = appendToLast(s.body, line, s.mode.limit)
}

func joinMaps(a, b []byte) []byte {
	x, y := record.FieldsOf(a), record.FieldsOf(b)
	out := record.AppendMapHead(nil, x.Count+y.Count)
	for x.Next() {
		out = append(out, x.Raw...)
	}
	for y.Next() {
		out = append(out, y.Raw...)
	}
	return out
}

// appendToLast adds a line to the last text of a map.
func appendToLast(body, line []byte, limit int) []byte {
	last := -1
	n := 0
	for f := record.FieldsOf(body); f.Next(); n++ {
		if _, ok := record.Text(f.Value); ok {
			last = n
		}
	}
	f := record.FieldsOf(body)
	out := record.AppendMapHead(nil, f.Count)
	for n = 0; f.Next(); n++ {
		if n != last {
			out = append(out, f.Raw...)
			continue
		}
		text, _ := record.Text(f.Value)
		if len(text) < limit {
			text = slices.Concat(text, []byte("\n"), line)
		}
		out = append(out, f.Raw[:len(f.Raw)-len(f.Value)]...)
		out = record.AppendString(out, text)
	}
	return out
}

func (s *lineStream) sendOlder() {
	if s.body == nil {
		return
	}
	s.message(multiline.Message{Time: s.time, Body: s.body})
	s.body = nil
}

// flush sends what has waited long enough, or all; it gives the number of records.
func (s *lineStream) flush(now record.Time, all bool) int {
	s.now, s.count = now, 0
	clock, wait := s.tail.host.Now(), s.mode.timeout
	if all {
		wait = 0
	}
	if s.since.After(clock) { // it jumped back
		s.since = clock
	}
	switch {
	case s.stream != nil:
		s.stream.Flush(clock, wait)
	case s.body != nil && (all || clock.Sub(s.since) >= wait):
		s.sendOlder()
	}
	return s.count
}
