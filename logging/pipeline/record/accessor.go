package record

import (
	"fmt"
	"strconv"
	"strings"
)

// ParseAccessor reads a path as Fluentd's record_accessor has it: key, $.key.inner[0], $['key']['inner'][0]. Text that does not begin with $. or $[
// is the name of one key.
func ParseAccessor(text string) (Path, error) {
	switch {
	case strings.HasPrefix(text, "$."):
		return dotted(text)
	case strings.HasPrefix(text, "$["):
		p := Path{text: text}
		var err error
		p.steps, err = brackets(text, text[1:])
		return p, err
	}
	return Path{text, []step{{text, -1}}}, nil
}

// PathOf leads to the value under keys inside of each other.
func PathOf(keys ...string) Path {
	p := Path{text: strings.Join(keys, ".")}
	for _, k := range keys {
		p.steps = append(p.steps, step{k, -1})
	}
	return p
}

func dotted(text string) (Path, error) {
	p := Path{text: text}
	for key := range strings.SplitSeq(text[2:], ".") {
		name, rest, _ := strings.Cut(key, "[")
		if name == "" {
			return p, fmt.Errorf("%q: a key is empty", text)
		}
		p.steps = append(p.steps, step{name, -1})
		if len(rest) == 0 {
			continue
		}
		inner, err := brackets(text, key[len(name):])
		if err != nil {
			return p, err
		}
		p.steps = append(p.steps, inner...)
	}
	return p, nil
}

// brackets reads ['key'], ["key"] and [0], one after the other.
func brackets(text, rest string) (steps []step, err error) {
	for rest != "" {
		if rest[0] != '[' || len(rest) < 3 {
			return nil, fmt.Errorf("%q: expected ['key'] or [0] at %q", text, rest)
		}
		if q := rest[1]; q == '\'' || q == '"' {
			end := strings.Index(rest[2:], string(q)+"]")
			if end < 0 {
				return nil, fmt.Errorf("%q: the bracket is not closed", text)
			}
			steps = append(steps, step{rest[2 : 2+end], -1})
			rest = rest[end+4:]
			continue
		}
		inner, after, found := strings.Cut(rest[1:], "]")
		n, err := strconv.Atoi(inner)
		if !found || err != nil || n < 0 {
			return nil, fmt.Errorf("%q: expected ['key'] or [0] at %q", text, rest)
		}
		steps = append(steps, step{"", n})
		rest = after
	}
	return steps, nil
}
