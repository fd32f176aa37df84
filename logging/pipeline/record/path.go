package record

import (
	"fmt"
	"strconv"
	"strings"
)

// Path leads to a value inside of a record: key, $key, $key['inner'][0].
type Path struct {
	text  string
	steps []step
}

type step struct {
	key   string
	index int // -1 for a key
}

// ParsePath reads a path as Fluent Bit's record accessor has it. Text without a leading $ is the name of one key.
func ParsePath(text string) (Path, error) {
	if !strings.HasPrefix(text, "$") {
		return Path{text, []step{{text, -1}}}, nil
	}
	rest := text[1:]
	end := strings.IndexByte(rest, '[')
	if end < 0 {
		end = len(rest)
	}
	if end == 0 {
		return Path{}, fmt.Errorf("%q names no key behind $", text)
	}
	p := Path{text, []step{{rest[:end], -1}}}
	for rest = rest[end:]; rest != ""; {
		if rest[0] != '[' || len(rest) < 3 {
			return Path{}, fmt.Errorf("%q: expected ['key'] or [0] at %q", text, rest)
		}
		if q := rest[1]; q == '\'' || q == '"' {
			end := strings.Index(rest[2:], string(q)+"]")
			if end < 0 {
				return Path{}, fmt.Errorf("%q: the bracket is not closed", text)
			}
			p.steps = append(p.steps, step{rest[2 : 2+end], -1})
			rest = rest[end+4:]
			continue
		}
		inner, after, found := strings.Cut(rest[1:], "]")
		n, err := strconv.Atoi(inner)
		if !found || err != nil || n < 0 {
			return Path{}, fmt.Errorf("%q: expected ['key'] or [0] at %q", text, rest)
		}
		p.steps = append(p.steps, step{"", n})
		rest = after
	}
	return p, nil
}

// String is the path as it was written.
func (p Path) String() string { return p.text }

// First is the key that the path begins with.
func (p Path) First() string {
	if len(p.steps) == 0 {
		return ""
	}
	return p.steps[0].key
}

// Name is the path's keys and numbers with a separator between them.
func (p Path) Name(separator string) string {
	var words []string
	for _, s := range p.steps {
		if s.index >= 0 {
			words = append(words, strconv.Itoa(s.index))
		} else {
			words = append(words, s.key)
		}
	}
	return strings.Join(words, separator)
}

// Keys are the steps as keys; ok is false if one is an index.
func (p Path) Keys() (keys []string, ok bool) {
	for _, s := range p.steps {
		if s.index >= 0 {
			return nil, false
		}
		keys = append(keys, s.key)
	}
	return keys, true
}

// Find is the value at the path in a body.
func (p Path) Find(body []byte) ([]byte, bool) {
	value := body
	for i := range p.steps {
		s := &p.steps[i]
		if s.index < 0 {
			inner, ok := Get(value, s.key)
			if !ok {
				return nil, false
			}
			value = inner
			continue
		}
		items := ItemsOf(value)
		for n := 0; ; n++ {
			if !items.Next() {
				return nil, false
			}
			if n == s.index {
				value = items.Value
				break
			}
		}
	}
	return value, true
}

// AppendText appends a value as plain text: strings as they are, all else as JSON.
func AppendText(dst, value []byte) []byte {
	if text, ok := Text(value); ok {
		return append(dst, text...)
	}
	return AppendJSON(dst, value)
}

// Without is a body without the values at the paths. Paths into arrays are passed over.
func Without(body []byte, paths []Path) []byte {
	var chains [][]string
	for _, p := range paths {
		if keys, ok := p.Keys(); ok && len(keys) > 0 {
			chains = append(chains, keys)
		}
	}
	return without(body, chains)
}

func without(value []byte, chains [][]string) []byte {
	fields := FieldsOf(value)
	out := []byte{0x80}
	n := 0
	for fields.Next() {
		var inner [][]string
		gone := false
		for _, c := range chains {
			if fields.Key == nil || c[0] != string(fields.Key) {
				continue
			}
			if len(c) == 1 {
				gone = true
				break
			}
			inner = append(inner, c[1:])
		}
		if gone {
			continue
		}
		n++
		if len(inner) > 0 && KindOf(fields.Value) == Map {
			out = append(out, fields.Raw[:len(fields.Raw)-len(fields.Value)]...)
			out = append(out, without(fields.Value, inner)...)
			continue
		}
		out = append(out, fields.Raw...)
	}
	return CloseMap(out, 0, n)
}
