package record

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// FromJSON appends the value that text begins with as MessagePack, and says how many bytes of text it took, blanks before it
// included. Pairs keep their order and are not merged.
func FromJSON(dst, text []byte) (out []byte, n int, err error) {
	j := jsonReader{text: text}
	out, err = j.value(dst, 0)
	return out, j.at, err
}

type jsonReader struct {
	text []byte
	at   int
}

func (j *jsonReader) fail(expected string) error {
	found := "the end"
	if j.at < len(j.text) {
		found = fmt.Sprintf("%q", j.text[j.at])
	}
	return fmt.Errorf("JSON, byte %d: expected %s, found %s", j.at+1, expected, found)
}

// blanks skips them. Mostly there are none.
func (j *jsonReader) blanks() {
	if j.at < len(j.text) && j.text[j.at] <= ' ' {
		j.skipBlanks()
	}
}

func (j *jsonReader) skipBlanks() {
	for j.at < len(j.text) && (j.text[j.at] == ' ' || j.text[j.at] == '\t' || j.text[j.at] == '\n' || j.text[j.at] == '\r') {
		j.at++
	}
}

func (j *jsonReader) value(dst []byte, depth int) ([]byte, error) {
	j.blanks()
	if j.at >= len(j.text) {
		return dst, j.fail("a value")
	}
	switch c := j.text[j.at]; {
	case c == '"':
		return j.str(dst)
	case c == '{':
		return j.object(dst, depth)
	case c == '[':
		return j.array(dst, depth)
	case c == '-' || c >= '0' && c <= '9':
		return j.number(dst)
	case c == 't' && j.word("true"):
		return append(dst, 0xc3), nil
	case c == 'f' && j.word("false"):
		return append(dst, 0xc2), nil
	case c == 'n' && j.word("null"):
		return append(dst, 0xc0), nil
	}
	return dst, j.fail("a value")
}

func (j *jsonReader) word(w string) bool {
	if len(j.text)-j.at >= len(w) && string(j.text[j.at:j.at+len(w)]) == w {
		j.at += len(w)
		return true
	}
	return false
}

func (j *jsonReader) object(dst []byte, depth int) ([]byte, error) {
	if depth >= MaxDepth-8 {
		return dst, ErrDeep
	}
	j.at++
	start, n := len(dst), 0
	dst = append(dst, 0x80)
	j.blanks()
	if j.at < len(j.text) && j.text[j.at] == '}' {
		j.at++
		return dst, nil
	}
	for {
		j.blanks()
		if j.at >= len(j.text) || j.text[j.at] != '"' {
			return dst, j.fail("a key in quotes")
		}
		var err error
		if dst, err = j.str(dst); err != nil {
			return dst, err
		}
		j.blanks()
		if j.at >= len(j.text) || j.text[j.at] != ':' {
			return dst, j.fail("a colon")
		}
		j.at++
		if dst, err = j.value(dst, depth+1); err != nil {
			return dst, err
		}
		n++
		j.blanks()
		if j.at < len(j.text) && j.text[j.at] == ',' {
			j.at++
			continue
		}
		if j.at < len(j.text) && j.text[j.at] == '}' {
			j.at++
			return CloseMap(dst, start, n), nil
		}
		return dst, j.fail("a comma or }")
	}
}

func (j *jsonReader) array(dst []byte, depth int) ([]byte, error) {
	if depth >= MaxDepth-8 {
		return dst, ErrDeep
	}
	j.at++
	start, n := len(dst), 0
	dst = append(dst, 0x90)
	j.blanks()
	if j.at < len(j.text) && j.text[j.at] == ']' {
		j.at++
		return dst, nil
	}
	for {
		var err error
		if dst, err = j.value(dst, depth+1); err != nil {
			return dst, err
		}
		n++
		j.blanks()
		if j.at < len(j.text) && j.text[j.at] == ',' {
			j.at++
			continue
		}
		if j.at < len(j.text) && j.text[j.at] == ']' {
			j.at++
			return CloseArray(dst, start, n), nil
		}
		return dst, j.fail("a comma or ]")
	}
}

var powersOfTen = [...]float64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15}

func (j *jsonReader) number(dst []byte) ([]byte, error) {
	start := j.at
	negative := j.text[j.at] == '-'
	if negative {
		j.at++
	}
	var n uint64
	digits, point := j.at, -1 // where they begin, and where those behind the point do
	whole, plain := true, true
	for j.at < len(j.text) {
		c := j.text[j.at]
		if c >= '0' && c <= '9' {
			n = n*10 + uint64(c-'0')
		} else if c == '.' && point < 0 {
			whole, point = false, j.at+1
		} else if c == '.' || c == 'e' || c == 'E' || (c == '+' || c == '-') && (j.text[j.at-1]|0x20) == 'e' {
			whole, plain = false, false
		} else {
			break
		}
		j.at++
	}
	if whole && j.at > digits && j.at-digits <= 18 {
		if negative {
			return AppendInt(dst, -int64(n)), nil
		}
		return AppendUint(dst, n), nil
	}
	// A number of 15 digits and a power of ten up to 22 are both exact, and so is the rounding of their quotient.
	if plain && point > digits+1 && j.at > point && j.at-digits <= 16 {
		f := float64(n) / powersOfTen[j.at-point]
		if negative {
			f = -f
		}
		return AppendFloat(dst, f), nil
	}
	text := string(j.text[start:j.at])
	if whole {
		if v, err := strconv.ParseInt(text, 10, 64); err == nil {
			return AppendInt(dst, v), nil
		}
		if v, err := strconv.ParseUint(text, 10, 64); err == nil {
			return AppendUint(dst, v), nil
		}
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) { // beyond what 64 bits hold is infinite or 0
		j.at = start
		return dst, j.fail("a number")
	}
	return AppendFloat(dst, f), nil
}

// str appends a string. Text without backslashes is copied as a whole.
func (j *jsonReader) str(dst []byte) ([]byte, error) {
	j.at++
	rest := j.text[j.at:]
	end := special(rest)
	if end < len(rest) && rest[end] == '"' {
		j.at += end + 1
		return AppendString(dst, rest[:end]), nil
	}
	end = closingQuote(rest)
	if end < 0 {
		j.at = len(j.text)
		return dst, j.fail("a closing quote")
	}
	// The decoded text is never longer than the written one: decode behind the longest head, then move.
	head := len(AppendStringHead(dst[len(dst):], end))
	start := len(dst)
	var pad [5]byte
	dst = append(dst, pad[:head]...)
	var err error
	if dst, err = Unescape(dst, rest[:end]); err != nil {
		return dst, fmt.Errorf("JSON, byte %d: %w", j.at+1, err)
	}
	n := len(dst) - start - head
	var exact [5]byte
	h := AppendStringHead(exact[:0], n)
	if len(h) != head {
		copy(dst[start+len(h):], dst[start+head:])
		dst = dst[:start+len(h)+n]
	}
	copy(dst[start:], h)
	j.at += end + 1
	return dst, nil
}

// special is where the first quote or backslash stands, len(text) if there is none. It looks at eight bytes at once: a byte of the word is 0 where
// the character is, and the lowest such byte is the one whose highest bit is left behind by the subtraction of 1.
func special(text []byte) int {
	const ones, highest = 0x0101010101010101, 0x8080808080808080
	i := 0
	for ; len(text)-i >= 8; i += 8 {
		word := binary.LittleEndian.Uint64(text[i:])
		quote, back := word^'"'*ones, word^'\\'*ones
		if found := ((quote-ones)&^quote | (back-ones)&^back) & highest; found != 0 {
			return i + bits.TrailingZeros64(found)/8
		}
	}
	for i < len(text) && text[i] != '"' && text[i] != '\\' {
		i++
	}
	return i
}

func closingQuote(text []byte) int {
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return -1
}

// Unescape appends text with the escapes of JSON decoded.
func Unescape(dst, text []byte) ([]byte, error) {
	for {
		i := bytes.IndexByte(text, '\\')
		if i < 0 {
			return append(dst, text...), nil
		}
		dst = append(dst, text[:i]...)
		if i+1 >= len(text) {
			return dst, fmt.Errorf("a backslash at the end")
		}
		c := text[i+1]
		text = text[i+2:]
		switch c {
		case 'n':
			dst = append(dst, '\n')
		case 't':
			dst = append(dst, '\t')
		case 'r':
			dst = append(dst, '\r')
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case '"', '\\', '/':
			dst = append(dst, c)
		case 'u':
			r, n := escapedRune(text)
			if n == 0 {
				return dst, fmt.Errorf("\\u needs four hexadecimal digits")
			}
			dst, text = utf8.AppendRune(dst, r), text[n:]
		default:
			return dst, fmt.Errorf("unknown escape \\%c", c)
		}
	}
}

// escapedRune reads the digits behind \u, and those of a second half.
func escapedRune(text []byte) (rune, int) {
	r := hex4(text)
	if r < 0 {
		return 0, 0
	}
	if utf16.IsSurrogate(r) && len(text) >= 10 && text[4] == '\\' && text[5] == 'u' {
		if low := hex4(text[6:]); low >= 0 {
			if both := utf16.DecodeRune(r, low); both != utf8.RuneError {
				return both, 10
			}
		}
	}
	return r, 4 // half a pair alone becomes U+FFFD in AppendRune
}

func hex4(text []byte) rune {
	if len(text) < 4 {
		return -1
	}
	var r rune
	for _, c := range text[:4] {
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return -1
		}
	}
	return r
}

// AppendJSON appends a value as JSON. Bytes that are not UTF-8 become U+FFFD, binary bytes are treated as text, extensions are
// base64, NaN and infinities null. A malformed value becomes null. Of pairs with the same key the last one is written.
func AppendJSON(dst, value []byte) []byte {
	switch KindOf(value) {
	case Bool:
		b, _ := Truth(value)
		return strconv.AppendBool(dst, b)
	case Int:
		if len(value) >= 9 && value[0] == 0xcf {
			return strconv.AppendUint(dst, binary.BigEndian.Uint64(value[1:]), 10)
		}
		n, _ := Integer(value)
		return strconv.AppendInt(dst, n, 10)
	case Real:
		f, _ := Float(value)
		return AppendJSONFloat(dst, f)
	case String, Binary:
		text, _ := Text(value)
		return AppendJSONString(dst, text)
	case Array:
		dst = append(dst, '[')
		first := true
		for i := ItemsOf(value); i.Next(); first = false {
			if !first {
				dst = append(dst, ',')
			}
			dst = AppendJSON(dst, i.Value)
		}
		return append(dst, ']')
	case Map:
		dst = append(dst, '{')
		first := true
		for f := FieldsOf(Distinct(value)); f.Next(); first = false {
			if !first {
				dst = append(dst, ',')
			}
			dst = AppendJSONKey(dst, &f)
			dst = append(dst, ':')
			dst = AppendJSON(dst, f.Value)
		}
		return append(dst, '}')
	case Extension:
		if t, ok := ReadTime(value); ok {
			return AppendJSONFloat(dst, t.Float())
		}
		dst = append(dst, '"')
		dst = base64.StdEncoding.AppendEncode(dst, value)
		return append(dst, '"')
	}
	return append(dst, "null"...)
}

// AppendJSONKey appends the key of a pair as a JSON string, whatever its kind.
func AppendJSONKey(dst []byte, f *Fields) []byte {
	if f.Key != nil {
		return AppendJSONString(dst, f.Key)
	}
	return AppendJSONString(dst, AppendJSON(nil, f.Raw[:len(f.Raw)-len(f.Value)]))
}

// AppendJSONFloat appends a number as Fluent Bit writes it (src/flb_pack.c): one that is whole and fits 64 bits with a zero behind the point, others
// with 16 digits at most; null if JSON has none for it.
func AppendJSONFloat(dst []byte, f float64) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return append(dst, "null"...)
	}
	if f == math.Trunc(f) && f >= -1<<63 && f < 1<<63 {
		return strconv.AppendFloat(dst, f, 'f', 1, 64)
	}
	return strconv.AppendFloat(dst, f, 'g', 16, 64)
}

const hexDigits = "0123456789abcdef"

// AppendJSONString appends text as a JSON string.
func AppendJSONString[T string | []byte](dst []byte, text T) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(text); {
		c := text[i]
		if c >= 0x20 && c != '"' && c != '\\' && c < 0x7f {
			i++
			continue
		}
		if c >= 0x80 {
			var window [4]byte
			r, n := utf8.DecodeRune(window[:copy(window[:], text[i:])])
			if r != utf8.RuneError || n > 1 {
				i += n
				continue
			}
			dst = append(dst, text[start:i]...)
			dst = append(dst, "\uFFFD"...)
			i++
			start = i
			continue
		}
		dst = append(dst, text[start:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\t':
			dst = append(dst, '\\', 't')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\b':
			dst = append(dst, '\\', 'b')
		case '\f':
			dst = append(dst, '\\', 'f')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		start = i
	}
	dst = append(dst, text[start:]...)
	return append(dst, '"')
}
