package stdlib

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/dlclark/regexp2"

	"github.com/weft-dev/weft/kcl/value"
)

var regexFunctions = map[string]function{
	"match": matches("match"), "search": matches("search"), "compile": compile, "replace": regexReplace,
	"findall": findall, "split": regexSplit,
}

// pattern is a compiled regular expression. Those without look-around and back
// references run in linear time on package regexp; the others backtrack, with
// a limit on time.
type pattern struct {
	linear  *regexp.Regexp
	general *regexp2.Regexp
}

// match holds the byte offsets of a match and its groups, -1 for none.
type match = []int

// patience is how long a backtracking match may take.
const patience = 2 * time.Second

func parsePattern(expr string) (*pattern, error) {
	if linear, err := regexp.Compile(expr); err == nil {
		return &pattern{linear: linear}, nil
	}
	general, err := regexp2.Compile(expr, regexp2.None)
	if err != nil {
		return nil, fmt.Errorf("invalid regular expression '%s': %w", expr, err)
	}
	general.MatchTimeout = patience
	return &pattern{general: general}, nil
}

func (p *pattern) bounds(m *regexp2.Match, runes []int) match {
	var at match
	for _, g := range m.Groups() {
		if len(g.Captures) == 0 {
			at = append(at, -1, -1)
			continue
		}
		at = append(at, runes[g.Index], runes[g.Index+g.Length])
	}
	return at
}

// offsets are the byte offsets of the characters of s and of its end.
func offsets(s string) []int {
	at := make([]int, 0, len(s)+1)
	for i := range s {
		at = append(at, i)
	}
	return append(at, len(s))
}

// all are the matches of p in s that do not overlap, at most limit of them if
// limit is above 0.
func (p *pattern) all(s string, limit int) ([]match, error) {
	if p.linear != nil {
		if limit <= 0 {
			limit = -1
		}
		return p.linear.FindAllStringSubmatchIndex(s, limit), nil
	}
	runes := offsets(s)
	var found []match
	m, err := p.general.FindStringMatch(s)
	for m != nil && err == nil && (limit <= 0 || len(found) < limit) {
		found = append(found, p.bounds(m, runes))
		m, err = p.general.FindNextMatch(m)
	}
	if err != nil {
		return nil, fmt.Errorf("the regular expression takes too long: %w", err)
	}
	return found, nil
}

// subject reads the arguments string and pattern.
func subject(c *value.Call, fn string) (*args, string, *pattern, error) {
	a := read(c)
	s := a.str(0, "string", missing(fn, "string", "pattern"))
	expr := a.str(1, "pattern", fn+"() missing the required positional argument: 'pattern'")
	if a.err != nil {
		return nil, "", nil, a.err
	}
	p, err := parsePattern(expr)
	return a, s, p, err
}

func matches(fn string) function {
	return func(c *value.Call) (value.Value, error) {
		_, s, p, err := subject(c, fn)
		if err != nil {
			return nil, err
		}
		found, err := p.all(s, 1)
		return value.Bool(len(found) > 0), err
	}
}

func compile(c *value.Call) (value.Value, error) {
	a := read(c)
	expr := a.str(0, "pattern", "compile() missing the required positional argument: 'pattern'")
	_, err := parsePattern(expr)
	return value.Bool(err == nil), a.err
}

func findall(c *value.Call) (value.Value, error) {
	_, s, p, err := subject(c, "findall")
	if err != nil {
		return nil, err
	}
	found, err := p.all(s, 0)
	if err != nil {
		return nil, err
	}
	list := value.NewList()
	for _, m := range found {
		if len(m) < 6 {
			list.Append(value.Str(s[m[0]:m[1]]))
			continue
		}
		groups := value.NewList()
		for i := 2; i < len(m); i += 2 {
			groups.Append(value.Str(group(s, m, i/2)))
		}
		list.Append(groups)
	}
	return list, grow(c, len(found)*2*itemSize)
}

// group is the text of a group, "" when it took no part in the match.
func group(s string, m match, i int) string {
	if 2*i+1 >= len(m) || m[2*i] < 0 {
		return ""
	}
	return s[m[2*i]:m[2*i+1]]
}

func regexReplace(c *value.Call) (value.Value, error) {
	a, s, p, err := subject(c, "replace")
	if err != nil {
		return nil, err
	}
	with := a.str(2, "replace", "replace() missing the required positional argument: 'replace'")
	n := a.integer(3, "count", 0)
	if a.err != nil {
		return nil, a.err
	}
	found, err := p.all(s, int(min(max(n, 0), 1<<31)))
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	last := 0
	for _, m := range found {
		b.WriteString(s[last:m[0]])
		p.expand(&b, with, s, m)
		last = m[1]
	}
	b.WriteString(s[last:])
	return value.Str(b.String()), grow(c, b.Len())
}

// expand writes a replacement with $1, ${name} and $$ filled in.
func (p *pattern) expand(b *strings.Builder, with, s string, m match) {
	for {
		before, rest, found := strings.Cut(with, "$")
		b.WriteString(before)
		if !found {
			return
		}
		if strings.HasPrefix(rest, "$") {
			b.WriteByte('$')
			with = rest[1:]
			continue
		}
		name, after, ok := groupName(rest)
		if !ok {
			b.WriteByte('$')
			with = rest
			continue
		}
		b.WriteString(group(s, m, p.index(name)))
		with = after
	}
}

func groupName(s string) (name, rest string, ok bool) {
	if inner, found := strings.CutPrefix(s, "{"); found {
		name, rest, ok = strings.Cut(inner, "}")
		return name, rest, ok && name != ""
	}
	n := 0
	for n < len(s) && (s[n] == '_' || s[n]|0x20 >= 'a' && s[n]|0x20 <= 'z' || s[n] >= '0' && s[n] <= '9') {
		n++
	}
	return s[:n], s[n:], n > 0
}

// index is the number of a group, one that does not exist when unknown.
func (p *pattern) index(name string) int {
	n := 0
	for _, c := range name {
		if c < '0' || c > '9' || n > 1<<20 {
			if p.linear != nil {
				if i := p.linear.SubexpIndex(name); i >= 0 {
					return i
				}
			} else if i := p.general.GroupNumberFromName(name); i >= 0 {
				return i
			}
			return 1 << 20
		}
		n = 10*n + int(c-'0')
	}
	return n
}

func regexSplit(c *value.Call) (value.Value, error) {
	a, s, p, err := subject(c, "split")
	if err != nil {
		return nil, err
	}
	limit := a.integer(2, "maxsplit", 0)
	if a.err != nil {
		return nil, a.err
	}
	found, err := p.all(s, 0)
	if err != nil {
		return nil, err
	}
	var parts []string
	last := 0
	for _, m := range found {
		if m[1] == m[0] && m[0] == last && (last == 0 || last == len(s)) {
			if m[0] == len(s) {
				break
			}
			continue
		}
		parts = append(parts, s[last:m[0]])
		last = m[1]
		if limit > 0 && int64(len(parts)) >= limit {
			return strList(parts), nil
		}
	}
	return strList(append(parts, s[last:])), nil
}
