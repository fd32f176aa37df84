// Package record holds log records as the pipeline moves them: MessagePack bytes, one event after the other. It appends, skips and
// looks into values in place, and turns JSON into MessagePack and back. It knows no tags, chunks or plugins.
//
// The formats are MessagePack (github.com/msgpack/msgpack, spec.md) and Fluent Bit's event format 2: [[time, metadata], body].
package record

import (
	"encoding/binary"
	"errors"
	"math"
)

// MaxDepth is how deep maps and arrays may lie inside of each other.
const MaxDepth = 128

// ErrMalformed says that bytes are not one whole value of MessagePack.
var ErrMalformed = errors.New("malformed MessagePack")

// ErrDeep says that a value has more levels than MaxDepth.
var ErrDeep = errors.New("the value is nested too deep")

// ErrShort says that a value goes on after the end of the bytes.
var ErrShort = errors.New("the value is cut off")

// Kind is the type of a value.
type Kind uint8

// The kinds.
const (
	Nil Kind = iota
	Bool
	Int  // signed and unsigned
	Real // 32 and 64 bits
	String
	Binary
	Array
	Map
	Extension
	Invalid
)

// KindOf tells the kind of the value that begins here.
func KindOf(b []byte) Kind {
	if len(b) == 0 {
		return Invalid
	}
	switch c := b[0]; {
	case c < 0x80 || c >= 0xe0:
		return Int
	case c < 0x90:
		return Map
	case c < 0xa0:
		return Array
	case c < 0xc0:
		return String
	default:
		return kinds[c-0xc0]
	}
}

var kinds = [32]Kind{
	Nil, Invalid, Bool, Bool, Binary, Binary, Binary, Extension, Extension, Extension, Real, Real, Int, Int, Int, Int,
	Int, Int, Int, Int, Extension, Extension, Extension, Extension, Extension, String, String, String, Array, Array, Map, Map,
}

// AppendNil appends nil.
func AppendNil(b []byte) []byte { return append(b, 0xc0) }

// AppendBool appends a truth value.
func AppendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 0xc3)
	}
	return append(b, 0xc2)
}

// AppendInt appends a signed number in its shortest form.
func AppendInt(b []byte, v int64) []byte {
	switch {
	case v >= 0:
		return AppendUint(b, uint64(v))
	case v >= -32:
		return append(b, byte(v))
	case v >= math.MinInt8:
		return append(b, 0xd0, byte(v))
	case v >= math.MinInt16:
		return binary.BigEndian.AppendUint16(append(b, 0xd1), uint16(v))
	case v >= math.MinInt32:
		return binary.BigEndian.AppendUint32(append(b, 0xd2), uint32(v))
	}
	return binary.BigEndian.AppendUint64(append(b, 0xd3), uint64(v))
}

// AppendUint appends a number in its shortest form.
func AppendUint(b []byte, v uint64) []byte {
	switch {
	case v < 128:
		return append(b, byte(v))
	case v <= math.MaxUint8:
		return append(b, 0xcc, byte(v))
	case v <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, 0xcd), uint16(v))
	case v <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(b, 0xce), uint32(v))
	}
	return binary.BigEndian.AppendUint64(append(b, 0xcf), v)
}

// AppendFloat appends a floating point number of 64 bits.
func AppendFloat(b []byte, v float64) []byte {
	return binary.BigEndian.AppendUint64(append(b, 0xcb), math.Float64bits(v))
}

// AppendString appends text. The bytes need not be UTF-8.
func AppendString[T string | []byte](b []byte, s T) []byte {
	return append(AppendStringHead(b, len(s)), s...)
}

// AppendStringHead appends what stands before n bytes of text.
func AppendStringHead(b []byte, n int) []byte {
	switch {
	case n < 32:
		return append(b, 0xa0|byte(n))
	case n <= math.MaxUint8:
		return append(b, 0xd9, byte(n))
	case n <= math.MaxUint16:
		return append(b, 0xda, byte(n>>8), byte(n))
	}
	return binary.BigEndian.AppendUint32(append(b, 0xdb), uint32(n))
}

// AppendBinary appends bytes that are no text.
func AppendBinary(b, v []byte) []byte {
	switch n := len(v); {
	case n <= math.MaxUint8:
		b = append(b, 0xc4, byte(n))
	case n <= math.MaxUint16:
		b = append(b, 0xc5, byte(n>>8), byte(n))
	default:
		b = binary.BigEndian.AppendUint32(append(b, 0xc6), uint32(n))
	}
	return append(b, v...)
}

// AppendMapHead appends what stands before n pairs of keys and values.
func AppendMapHead(b []byte, n int) []byte { return appendHead(b, n, 0x80, 0xde) }

// AppendArrayHead appends what stands before n values.
func AppendArrayHead(b []byte, n int) []byte { return appendHead(b, n, 0x90, 0xdc) }

func appendHead(b []byte, n int, fix, wide byte) []byte {
	switch {
	case n < 16:
		return append(b, fix|byte(n))
	case n <= math.MaxUint16:
		return append(b, wide, byte(n>>8), byte(n))
	}
	return binary.BigEndian.AppendUint32(append(b, wide+1), uint32(n))
}

// CloseMap writes the number of pairs of a map whose head was begun as one byte at start, moving what follows if the head needs more.
func CloseMap(b []byte, start, n int) []byte { return closeHead(b, start, n, 0x80, 0xde) }

// CloseArray is CloseMap for arrays.
func CloseArray(b []byte, start, n int) []byte { return closeHead(b, start, n, 0x90, 0xdc) }

func closeHead(b []byte, start, n int, fix, wide byte) []byte {
	if n < 16 {
		b[start] = fix | byte(n)
		return b
	}
	var head [5]byte
	h := appendHead(head[:0], n, fix, wide)
	b = append(b, head[:len(h)-1]...)
	copy(b[start+len(h):], b[start+1:len(b)-len(h)+1])
	copy(b[start:], h)
	return b
}

// Head is the beginning of a value: its size up to where content or inner values begin, the bytes of content, and the number of inner values.
type Head struct {
	Size  int // of the head itself
	Bytes int // that follow as content
	Inner int // values that follow: items of an array, keys and values of a map
}

// ReadHead reads the head of a value.
func ReadHead(b []byte) (Head, error) {
	if len(b) == 0 {
		return Head{}, ErrShort
	}
	c := b[0]
	switch {
	case c < 0x80 || c >= 0xe0:
		return Head{Size: 1}, nil
	case c < 0x90:
		return Head{Size: 1, Inner: int(c&15) * 2}, nil
	case c < 0xa0:
		return Head{Size: 1, Inner: int(c & 15)}, nil
	case c < 0xc0:
		return Head{Size: 1, Bytes: int(c & 31)}, nil
	}
	switch c {
	case 0xc0, 0xc2, 0xc3:
		return Head{Size: 1}, nil
	case 0xcc, 0xd0:
		return Head{Size: 1, Bytes: 1}, nil
	case 0xcd, 0xd1:
		return Head{Size: 1, Bytes: 2}, nil
	case 0xca, 0xce, 0xd2:
		return Head{Size: 1, Bytes: 4}, nil
	case 0xcb, 0xcf, 0xd3:
		return Head{Size: 1, Bytes: 8}, nil
	case 0xd4, 0xd5, 0xd6, 0xd7, 0xd8:
		return Head{Size: 1, Bytes: 1 + 1<<(c-0xd4)}, nil
	}
	return readLongHead(b, c)
}

func readLongHead(b []byte, c byte) (Head, error) {
	width := 0
	switch c {
	case 0xc4, 0xd9, 0xc7:
		width = 1
	case 0xc5, 0xda, 0xc8, 0xdc, 0xde:
		width = 2
	case 0xc6, 0xdb, 0xc9, 0xdd, 0xdf:
		width = 4
	default:
		return Head{}, ErrMalformed
	}
	if len(b) < 1+width {
		return Head{}, ErrShort
	}
	n := 0
	for _, d := range b[1 : 1+width] {
		n = n<<8 | int(d)
	}
	h := Head{Size: 1 + width}
	switch c {
	case 0xc7, 0xc8, 0xc9:
		h.Bytes = n + 1
	case 0xdc, 0xdd:
		h.Inner = n
	case 0xde, 0xdf:
		h.Inner = 2 * n
	default:
		h.Bytes = n
	}
	return h, nil
}

// fixed is the size of values by their first byte, where that alone tells it; 0 elsewhere.
var fixed = fixedSizes()

func fixedSizes() (list [256]uint8) {
	for c := range list {
		h, err := ReadHead([]byte{byte(c)})
		if err == nil && h.Inner == 0 {
			list[c] = uint8(h.Size + h.Bytes)
		}
	}
	return list
}

// Skip is the size of the value that begins here.
func Skip(b []byte) (int, error) { return skip(b, 0, 1, 0) }

// skip is where the values end that begin at a place.
func skip(b []byte, at, values, depth int) (int, error) {
	for ; values > 0; values-- {
		if at >= len(b) {
			return 0, ErrShort
		}
		if n := int(fixed[b[at]]); n > 0 {
			at += n
			continue
		}
		h, err := ReadHead(b[at:])
		if err != nil {
			return 0, err
		}
		at += h.Size + h.Bytes
		if h.Inner == 0 {
			continue
		}
		if h.Inner > len(b)-at { // each value has a byte at least
			return 0, ErrShort
		}
		if depth == MaxDepth {
			return 0, ErrDeep
		}
		if at, err = skip(b, at, h.Inner, depth+1); err != nil {
			return 0, err
		}
	}
	if at > len(b) {
		return 0, ErrShort
	}
	return at, nil
}

// size is Skip for values that were checked before: it never fails, and takes the quick way for short text.
func size(b []byte) int {
	if len(b) > 0 {
		c := b[0]
		switch {
		case c < 0x80 || c >= 0xe0:
			return 1
		case c >= 0xa0 && c < 0xc0:
			if n := 1 + int(c&31); n <= len(b) {
				return n
			}
		case c == 0xd9 && len(b) > 1:
			if n := 2 + int(b[1]); n <= len(b) {
				return n
			}
		}
	}
	n, err := Skip(b)
	if err != nil {
		return len(b)
	}
	return n
}

// Text is the content of a string or of binary bytes; ok is false for other kinds.
func Text(b []byte) (text []byte, ok bool) {
	if k := KindOf(b); k != String && k != Binary {
		return nil, false
	}
	h, err := ReadHead(b)
	if err != nil || h.Size+h.Bytes > len(b) {
		return nil, false
	}
	return b[h.Size : h.Size+h.Bytes], true
}

// Integer is the value of a whole number; numbers above the largest int64 are given as that one.
func Integer(b []byte) (int64, bool) {
	if KindOf(b) != Int {
		return 0, false
	}
	h, err := ReadHead(b)
	if err != nil || h.Size+h.Bytes > len(b) {
		return 0, false
	}
	c := b[0]
	if h.Bytes == 0 {
		return int64(int8(c)), true
	}
	var n uint64
	for _, d := range b[1 : 1+h.Bytes] {
		n = n<<8 | uint64(d)
	}
	switch c {
	case 0xd0:
		return int64(int8(n)), true
	case 0xd1:
		return int64(int16(n)), true
	case 0xd2:
		return int64(int32(n)), true
	case 0xd3:
		return int64(n), true
	}
	return int64(min(n, math.MaxInt64)), true
}

// Unsigned is the value of a whole number that is not negative.
func Unsigned(b []byte) (uint64, bool) {
	if len(b) == 9 && b[0] == 0xcf {
		return binary.BigEndian.Uint64(b[1:]), true
	}
	n, ok := Integer(b)
	return uint64(n), ok && n >= 0
}

// Float is the value of a floating point number.
func Float(b []byte) (float64, bool) {
	switch {
	case len(b) >= 5 && b[0] == 0xca:
		return float64(math.Float32frombits(binary.BigEndian.Uint32(b[1:]))), true
	case len(b) >= 9 && b[0] == 0xcb:
		return math.Float64frombits(binary.BigEndian.Uint64(b[1:])), true
	}
	return 0, false
}

// Truth is the value of a truth value.
func Truth(b []byte) (value, ok bool) {
	if len(b) == 0 || b[0] != 0xc2 && b[0] != 0xc3 {
		return false, false
	}
	return b[0] == 0xc3, true
}

// Fields walks over the pairs of a map. Use:
//
//	for f := record.FieldsOf(body); f.Next(); { f.Key; f.Value }
type Fields struct {
	Key   []byte // the text of the key; nil if the key is no text
	Raw   []byte // key and value as they stand
	Value []byte // the value as it stands
	Count int    // pairs of the map
	rest  []byte
	left  int
}

// FieldsOf walks over a map that was checked; anything else has no fields.
func FieldsOf(b []byte) Fields {
	if KindOf(b) != Map {
		return Fields{}
	}
	h, err := ReadHead(b)
	if err != nil {
		return Fields{}
	}
	return Fields{rest: b[h.Size:], left: h.Inner / 2, Count: h.Inner / 2}
}

// Next goes to the next pair.
func (f *Fields) Next() bool {
	if f.left == 0 || len(f.rest) == 0 {
		return false
	}
	f.left--
	k := size(f.rest)
	f.Key, _ = Text(f.rest[:k])
	v := size(f.rest[k:])
	f.Value = f.rest[k : k+v]
	f.Raw = f.rest[:k+v]
	f.rest = f.rest[k+v:]
	return true
}

// Items walks over the values of an array.
type Items struct {
	Value []byte
	Count int
	rest  []byte
	left  int
}

// ItemsOf walks over an array that was checked; anything else has no items.
func ItemsOf(b []byte) Items {
	if KindOf(b) != Array {
		return Items{}
	}
	h, err := ReadHead(b)
	if err != nil {
		return Items{}
	}
	return Items{rest: b[h.Size:], left: h.Inner, Count: h.Inner}
}

// Next goes to the next value.
func (i *Items) Next() bool {
	if i.left == 0 || len(i.rest) == 0 {
		return false
	}
	i.left--
	n := size(i.rest)
	i.Value, i.rest = i.rest[:n], i.rest[n:]
	return true
}

// Get is the value under a key of a map.
func Get(b []byte, key string) ([]byte, bool) {
	for f := FieldsOf(b); f.Next(); {
		if string(f.Key) == key && f.Key != nil {
			return f.Value, true
		}
	}
	return nil, false
}
