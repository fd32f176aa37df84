package plan

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/weft-dev/weft/kcl/value"
)

// maxDepth is how deep JSON and YAML may nest, as in serde.
const maxDepth = 128

// SyntaxError is an error in JSON text at a 1-based line and column.
type SyntaxError struct {
	Msg          string
	Line, Column int
}

// Error implements error in serde_json's words.
func (e *SyntaxError) Error() string {
	return fmt.Sprintf("%s at line %d column %d", e.Msg, e.Line, e.Column)
}

// ReadJSON reads one JSON value. Keys keep their order; of equal keys the last
// one counts. Integers beyond 64 bits become floats.
func ReadJSON(text string) (v value.Value, err error) {
	r := jsonReader{s: text}
	defer func() {
		switch fault := recover().(type) {
		case nil:
		case jsonFault:
			v, err = nil, r.fault(string(fault))
		default:
			panic(fault)
		}
	}()
	v = r.value(0)
	r.space()
	if r.i < len(r.s) {
		r.i++
		return nil, r.fault("trailing characters")
	}
	return v, nil
}

type jsonFault string

type jsonReader struct {
	s string
	i int
}

// fault places msg after the last character read.
func (r *jsonReader) fault(msg string) error {
	read := r.s[:min(r.i, len(r.s))]
	line := 1 + strings.Count(read, "\n")
	return &SyntaxError{msg, line, len(read) - (strings.LastIndexByte(read, '\n') + 1)}
}

func (r *jsonReader) fail(msg string) { panic(jsonFault(msg)) }

func (r *jsonReader) space() {
	for r.i < len(r.s) && (r.s[r.i] == ' ' || r.s[r.i] == '\n' || r.s[r.i] == '\t' || r.s[r.i] == '\r') {
		r.i++
	}
}

// peek is the next character that is not white space.
func (r *jsonReader) peek(eof string) byte {
	r.space()
	if r.i >= len(r.s) {
		r.fail(eof)
	}
	return r.s[r.i]
}

func (r *jsonReader) value(depth int) value.Value {
	c := r.peek("EOF while parsing a value")
	switch {
	case c == '{' || c == '[':
		r.i++
		if depth >= maxDepth-1 {
			r.fail("recursion limit exceeded")
		}
		if c == '{' {
			return r.object(depth + 1)
		}
		return r.array(depth + 1)
	case c == '"':
		r.i++
		return value.Str(r.str())
	case c == '-' || c >= '0' && c <= '9':
		return r.number()
	case c == 't':
		return r.word("true", value.Bool(true))
	case c == 'f':
		return r.word("false", value.Bool(false))
	case c == 'n':
		return r.word("null", value.None)
	}
	r.i++
	r.fail("expected value")
	return nil
}

func (r *jsonReader) word(word string, v value.Value) value.Value {
	for i := 0; i < len(word); i++ {
		if r.i >= len(r.s) {
			r.fail("EOF while parsing a value")
		}
		r.i++
		if r.s[r.i-1] != word[i] {
			r.fail("expected ident")
		}
	}
	return v
}

func (r *jsonReader) object(depth int) value.Value {
	d := value.NewDict(4)
	const eof = "EOF while parsing an object"
	c := r.peek(eof)
	if c == '}' {
		r.i++
		return d
	}
	for {
		if c != '"' {
			r.i++
			r.fail("key must be a string")
		}
		r.i++
		key := r.str()
		if r.peek(eof) != ':' {
			r.i++
			r.fail("expected `:`")
		}
		r.i++
		d.Put(value.Entry{Key: key, Value: r.value(depth), Index: value.NoIndex})
		c = r.peek(eof)
		r.i++
		switch c {
		case '}':
			return d
		case ',':
		default:
			r.fail("expected `,` or `}`")
		}
		if c = r.peek("EOF while parsing a value"); c == '}' {
			r.i++
			r.fail("trailing comma")
		}
	}
}

func (r *jsonReader) array(depth int) value.Value {
	l := &value.List{}
	const eof = "EOF while parsing a list"
	if r.peek(eof) == ']' {
		r.i++
		return l
	}
	for {
		l.Items = append(l.Items, r.value(depth))
		c := r.peek(eof)
		r.i++
		switch c {
		case ']':
			return l
		case ',':
		default:
			r.fail("expected `,` or `]`")
		}
		if r.peek("EOF while parsing a value") == ']' {
			r.i++
			r.fail("trailing comma")
		}
	}
}

func (r *jsonReader) digits() int {
	start := r.i
	for r.i < len(r.s) && r.s[r.i] >= '0' && r.s[r.i] <= '9' {
		r.i++
	}
	return r.i - start
}

func (r *jsonReader) number() value.Value {
	start := r.i
	if r.s[r.i] == '-' {
		r.i++
	}
	first := r.i
	n := r.digits()
	if n == 0 || n > 1 && r.s[first] == '0' {
		r.i = min(first+1+n/2, len(r.s))
		r.fail("invalid number")
	}
	float := false
	if r.i < len(r.s) && r.s[r.i] == '.' {
		r.i++
		float = true
		if r.digits() == 0 {
			r.i++
			r.fail("invalid number")
		}
	}
	if r.i < len(r.s) && r.s[r.i]|0x20 == 'e' {
		r.i++
		float = true
		if r.i < len(r.s) && (r.s[r.i] == '+' || r.s[r.i] == '-') {
			r.i++
		}
		if r.digits() == 0 {
			r.i++
			r.fail("invalid number")
		}
	}
	text := r.s[start:r.i]
	if !float {
		if i, err := strconv.ParseInt(text, 10, 64); err == nil && (i != 0 || text[0] != '-') {
			return value.Int(i)
		}
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsInf(f, 0) {
		r.fail("number out of range")
	}
	return value.Float(f)
}

// str reads a string whose opening quote has been read.
func (r *jsonReader) str() string {
	start := r.i
	for r.i < len(r.s) && r.s[r.i] != '"' && r.s[r.i] != '\\' && r.s[r.i] >= 0x20 {
		r.i++
	}
	if r.i < len(r.s) && r.s[r.i] == '"' {
		r.i++
		return strings.ToValidUTF8(r.s[start:r.i-1], "\uFFFD")
	}
	b := []byte(r.s[start:r.i])
	for {
		if r.i >= len(r.s) {
			r.fail("EOF while parsing a string")
		}
		c := r.s[r.i]
		r.i++
		switch {
		case c == '"':
			return strings.ToValidUTF8(string(b), "\uFFFD")
		case c < 0x20:
			r.fail("control character (\\u0000-\\u001F) found while parsing a string")
		case c == '\\':
			b = r.escape(b)
		default:
			b = append(b, c)
		}
	}
}

func (r *jsonReader) escape(b []byte) []byte {
	if r.i >= len(r.s) {
		r.fail("EOF while parsing a string")
	}
	c := r.s[r.i]
	r.i++
	switch c {
	case '"', '\\', '/':
		return append(b, c)
	case 'b':
		return append(b, '\b')
	case 'f':
		return append(b, '\f')
	case 'n':
		return append(b, '\n')
	case 'r':
		return append(b, '\r')
	case 't':
		return append(b, '\t')
	case 'u':
	default:
		r.fail("invalid escape")
	}
	u := r.hex4()
	if !utf16.IsSurrogate(u) {
		return utf8.AppendRune(b, u)
	}
	if u >= 0xdc00 {
		r.fail("lone leading surrogate in hex escape")
	}
	if !strings.HasPrefix(r.s[r.i:], `\u`) {
		r.fail("unexpected end of hex escape")
	}
	r.i += 2
	low := r.hex4()
	pair := utf16.DecodeRune(u, low)
	if pair == utf8.RuneError {
		r.fail("lone leading surrogate in hex escape")
	}
	return utf8.AppendRune(b, pair)
}

func (r *jsonReader) hex4() rune {
	if r.i+4 > len(r.s) {
		r.i = len(r.s)
		r.fail("EOF while parsing a string")
	}
	n, err := strconv.ParseUint(r.s[r.i:r.i+4], 16, 16)
	r.i += 4
	if err != nil {
		r.fail("invalid escape")
	}
	return rune(n)
}
