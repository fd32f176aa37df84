package stdlib

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/weft-dev/weft/kcl/value"
)

// member is the body of a member function: s is the string, a.Args are the
// arguments after it.
type member = func(s string, a *args) (value.Value, error)

var members = newMembers()

func newMembers() map[string]function {
	functions := map[string]function{}
	for name, body := range map[string]member{
		"capitalize": capitalize, "chars": chars, "count": count,
		"endswith": affix("endswith", strings.HasSuffix), "startswith": affix("startswith", strings.HasPrefix),
		"find": find("find", strings.Index, false), "rfind": find("rfind", strings.LastIndex, false),
		"index": find("index", strings.Index, true), "rindex": find("rindex", strings.LastIndex, true),
		"format":  func(s string, a *args) (value.Value, error) { return format(s, a.Args, a.Kwargs) },
		"isalpha": every(isAlphabetic), "isdigit": every(isDigit), "isspace": every(isSpace),
		"isalnum": every(func(r rune) bool { return isAlphabetic(r) || unicode.IsNumber(r) }),
		"islower": cased(unicode.IsLower, unicode.IsUpper), "isupper": cased(unicode.IsUpper, unicode.IsLower),
		"istitle": istitle, "title": title, "join": join,
		"lower":   func(s string, _ *args) (value.Value, error) { return value.Str(strings.ToLower(s)), nil },
		"upper":   func(s string, _ *args) (value.Value, error) { return value.Str(toUpper(s)), nil },
		"strip":   strip(strings.TrimSpace, strings.Trim),
		"lstrip":  strip(func(s string) string { return strings.TrimLeftFunc(s, unicode.IsSpace) }, strings.TrimLeft),
		"rstrip":  strip(func(s string) string { return strings.TrimRightFunc(s, unicode.IsSpace) }, strings.TrimRight),
		"replace": replace, "removeprefix": remove(strings.TrimPrefix), "removesuffix": remove(strings.TrimSuffix),
		"split": split, "rsplit": rsplit, "splitlines": splitlines,
	} {
		f := func(c *value.Call) (value.Value, error) {
			if len(c.Args) == 0 {
				return nil, fmt.Errorf("invalid self value in str_%s", name)
			}
			s, ok := c.Args[0].(value.Str)
			if !ok {
				return nil, fmt.Errorf("'%s' object has no attribute '%s'", value.TypeName(c.Args[0]), name)
			}
			rest := *c
			rest.Args = c.Args[1:]
			return body(string(s), read(&rest))
		}
		if name == "format" || name == "join" {
			f = written(f)
		}
		functions[name] = f
	}
	return functions
}

// window is the part of s between the arguments i and i+1, which count bytes
// and may be negative. ok is false when the part is empty because the bounds
// cross.
func window(s string, a *args, i int) (part string, start int, ok bool) {
	bound := func(i, def int) int {
		v := a.set(i, "")
		if v == nil {
			return def
		}
		n := asInt(v)
		return int(max(min(n, int64(len(s)+1)), int64(-len(s)-1)))
	}
	start, end := bound(i, 0), bound(i+1, len(s))
	if end = min(end, len(s)); end < 0 {
		end = max(end+len(s), 0)
	}
	if start < 0 {
		start = max(start+len(s), 0)
	}
	if start > end {
		return "", start, false
	}
	return s[start:end], start, true
}

// needle is the string to look for: the first argument of several members.
func needle(fn string, a *args) (string, error) {
	if len(a.Args) == 0 {
		return "", fmt.Errorf("%s() takes at least 1 argument (0 given)", fn)
	}
	sub, ok := a.Args[0].(value.Str)
	if !ok {
		return "", fmt.Errorf("%s() first arg must be str, not %s", fn, value.TypeName(a.Args[0]))
	}
	return string(sub), nil
}

func count(s string, a *args) (value.Value, error) {
	sub, err := needle("count", a)
	part, _, ok := window(s, a, 1)
	if err != nil || !ok {
		return value.Int(0), err
	}
	return value.Int(strings.Count(part, sub)), nil
}

func affix(fn string, has func(s, sub string) bool) member {
	return func(s string, a *args) (value.Value, error) {
		sub, err := needle(fn, a)
		part, _, ok := window(s, a, 1)
		return value.Bool(ok && has(part, sub)), err
	}
}

func find(fn string, index func(s, sub string) int, must bool) member {
	return func(s string, a *args) (value.Value, error) {
		sub, err := needle(fn, a)
		if err != nil {
			return nil, err
		}
		at := -1
		if part, start, ok := window(s, a, 1); ok {
			if i := index(part, sub); i >= 0 {
				at = start + i
			}
		}
		if at < 0 && must {
			return nil, errors.New("substring not found")
		}
		return value.Int(at), nil
	}
}

func capitalize(s string, _ *args) (value.Value, error) {
	_, n := utf8.DecodeRuneInString(s)
	return value.Str(toUpper(s[:n]) + strings.ToLower(s[n:])), nil
}

// toUpper also knows the one common letter whose upper case is two letters.
func toUpper(s string) string {
	return strings.ToUpper(strings.ReplaceAll(s, "ß", "SS"))
}

func chars(s string, a *args) (value.Value, error) {
	if err := grow(a.Call, len(s)*2*itemSize); err != nil {
		return nil, err
	}
	items, err := each(value.Str(s))
	return value.NewList(items...), err
}

func every(is func(rune) bool) member {
	return func(s string, _ *args) (value.Value, error) {
		for _, r := range s {
			if !is(r) {
				return value.Bool(false), nil
			}
		}
		return value.Bool(s != ""), nil
	}
}

func isAlphabetic(r rune) bool {
	return unicode.IsLetter(r) || unicode.Is(unicode.Other_Alphabetic, r) || unicode.Is(unicode.Nl, r)
}

func isDigit(r rune) bool {
	switch r {
	case 0x2070, 0xb9, 0xb2, 0xb3:
		return true
	}
	return r >= '0' && r <= '9' || r >= 0x2074 && r <= 0x2079
}

// isSpace is Python's notion: separators and the bidirectional classes WS, B and S.
func isSpace(r rune) bool {
	return unicode.Is(unicode.Zs, r) || r >= 0x09 && r <= 0x0d || r >= 0x1c && r <= 0x1f || r == 0x85 || r == 0x2028 || r == 0x2029
}

func cased(is, opposite func(rune) bool) member {
	return func(s string, _ *args) (value.Value, error) {
		found := false
		for _, r := range s {
			if opposite(r) {
				return value.Bool(false), nil
			}
			found = found || is(r)
		}
		return value.Bool(found), nil
	}
}

func istitle(s string, _ *args) (value.Value, error) {
	found, inWord := false, false
	for _, r := range s {
		switch {
		case unicode.IsUpper(r) || unicode.IsTitle(r):
			if inWord {
				return value.Bool(false), nil
			}
			found, inWord = true, true
		case unicode.IsLower(r):
			if !inWord {
				return value.Bool(false), nil
			}
			found = true
		default:
			inWord = false
		}
	}
	return value.Bool(found), nil
}

func title(s string, _ *args) (value.Value, error) {
	inWord := false
	return value.Str(strings.Map(func(r rune) rune {
		switch {
		case unicode.IsLower(r):
			if !inWord {
				r = unicode.ToTitle(r)
			}
			inWord = true
		case unicode.IsUpper(r) || unicode.IsTitle(r):
			if inWord {
				r = unicode.ToLower(r)
			}
			inWord = true
		default:
			inWord = false
		}
		return r
	}, s)), nil
}

func join(s string, a *args) (value.Value, error) {
	if len(a.Args) == 0 {
		return nil, errors.New("join() takes exactly one argument (0 given)")
	}
	items, err := each(a.Args[0])
	if err != nil {
		return nil, err
	}
	if err := grow(a.Call, product(len(s), len(items))); err != nil {
		return nil, err
	}
	var b []byte
	for i, item := range items {
		if i > 0 {
			b = append(b, s...)
		}
		b = value.AppendText(b, item)
	}
	return value.Str(b), nil
}

func strip(space func(string) string, cut func(s, set string) string) member {
	return func(s string, a *args) (value.Value, error) {
		if v := a.set(0, ""); v != nil {
			set, _ := v.(value.Str)
			return value.Str(cut(s, string(set))), nil
		}
		return value.Str(space(s)), nil
	}
}

func replace(s string, a *args) (value.Value, error) {
	if len(a.Args) < 2 {
		return nil, fmt.Errorf("replace() takes at least 2 arguments (%d given)", len(a.Args))
	}
	old, _ := a.Args[0].(value.Str)
	to, _ := a.Args[1].(value.Str)
	n := -1
	if v := a.set(2, ""); v != nil {
		n = int(max(min(asInt(v), 1<<31), -1))
	}
	times := strings.Count(s, string(old))
	if n >= 0 {
		times = min(times, n)
	}
	if err := grow(a.Call, product(times, len(to))); err != nil {
		return nil, err
	}
	return value.Str(strings.Replace(s, string(old), string(to), n)), nil
}

// product is a times b, or the greatest number there is.
func product(a, b int) int {
	if b > 0 && a > math.MaxInt/b {
		return math.MaxInt
	}
	return a * b
}

func remove(trim func(s, sub string) string) member {
	return func(s string, a *args) (value.Value, error) {
		if len(a.Args) == 0 {
			return nil, errors.New("expect 1 argument, found 0")
		}
		sub, _ := a.Args[0].(value.Str)
		return value.Str(trim(s, string(sub))), nil
	}
}
