package manifest

import (
	"strconv"
	"strings"
)

// node is a parsed value with its place. An aliased value is one node with several parents.
type node struct {
	line, column int
	kind         nodeKind
	scalar       any // string, int64, float64, bool or nil
	fields       []field
	items        []*node
}

type nodeKind uint8

const (
	scalarNode nodeKind = iota
	mapNode
	listNode
)

type field struct {
	key          string
	line, column int // of the key
	value        *node
}

func (n *node) field(key string) *node {
	if n == nil || n.kind != mapNode {
		return nil
	}
	for i := range n.fields {
		if n.fields[i].key == key {
			return n.fields[i].value
		}
	}
	return nil
}

// value builds the JSON form of the node, counting every value against the budget; false means that it ran out.
func (n *node) value(budget *int) (any, bool) {
	if *budget--; *budget < 0 {
		return nil, false
	}
	switch n.kind {
	case mapNode:
		m := make(map[string]any, len(n.fields))
		for _, f := range n.fields {
			v, ok := f.value.value(budget)
			if !ok {
				return nil, false
			}
			m[f.key] = v
		}
		return m, true
	case listNode:
		list := make([]any, len(n.items))
		for i, item := range n.items {
			v, ok := item.value(budget)
			if !ok {
				return nil, false
			}
			list[i] = v
		}
		return list, true
	default:
		return n.scalar, true
	}
}

// find walks a field path as far as the tree has it. Keys may themselves hold dots (labels), so the longest key that
// fits wins.
func (n *node) find(path string) (line, column int, exact bool) {
	line, column = n.line, n.column
	rest := strings.TrimPrefix(path, ".")
	for rest != "" {
		var f *field
		var item *node
		if rest[0] == '[' {
			inner, after, ok := cutBracket(rest)
			if !ok {
				return line, column, false
			}
			rest = after
			switch n.kind {
			case listNode:
				item = n.selectItem(inner)
			case mapNode:
				f = n.fieldNamed(unquote(inner))
			}
		} else {
			f, rest = n.longestField(rest)
		}
		switch {
		case f != nil:
			line, column, n = f.line, f.column, f.value
		case item != nil:
			line, column, n = item.line, item.column, item
		default:
			return line, column, false
		}
		rest = strings.TrimPrefix(rest, ".")
	}
	return line, column, true
}

func (n *node) fieldNamed(key string) *field {
	for i := range n.fields {
		if n.fields[i].key == key {
			return &n.fields[i]
		}
	}
	return nil
}

func (n *node) longestField(path string) (best *field, rest string) {
	if n.kind != mapNode {
		return nil, path
	}
	for i := range n.fields {
		key := n.fields[i].key
		after, ok := strings.CutPrefix(path, key)
		if !ok || key == "" || (after != "" && after[0] != '.' && after[0] != '[') {
			continue
		}
		if best == nil || len(key) > len(best.key) {
			best, rest = &n.fields[i], after
		}
	}
	return best, rest
}

// selectItem finds a list item by index (2), by keys (name="app",port=80) or by its own value (="x").
func (n *node) selectItem(selector string) *node {
	if i, err := strconv.Atoi(selector); err == nil {
		if i >= 0 && i < len(n.items) {
			return n.items[i]
		}
		return nil
	}
	pairs := splitSelector(selector)
	for _, item := range n.items {
		matches := len(pairs) > 0
		for _, p := range pairs {
			got := item
			if p[0] != "" {
				got = item.field(p[0])
			}
			if got == nil || got.kind != scalarNode || scalarText(got.scalar) != p[1] {
				matches = false
				break
			}
		}
		if matches {
			return item
		}
	}
	return nil
}

// cutBracket splits "[inner]rest", minding quotes.
func cutBracket(s string) (inner, rest string, ok bool) {
	quoted := false
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '\\' && quoted:
			i++
		case s[i] == '"':
			quoted = !quoted
		case s[i] == ']' && !quoted:
			return s[1:i], s[i+1:], true
		}
	}
	return "", "", false
}

func splitSelector(s string) [][2]string {
	var pairs [][2]string
	for s != "" {
		key, rest, ok := strings.Cut(s, "=")
		if !ok {
			return nil
		}
		end := len(rest)
		quoted := false
		for i := 0; i < len(rest); i++ {
			if rest[i] == '\\' && quoted {
				i++
			} else if rest[i] == '"' {
				quoted = !quoted
			} else if rest[i] == ',' && !quoted {
				end = i
				break
			}
		}
		pairs = append(pairs, [2]string{key, unquote(rest[:end])})
		s = strings.TrimPrefix(rest[end:], ",")
	}
	return pairs
}

func unquote(s string) string {
	if u, err := strconv.Unquote(s); err == nil {
		return u
	}
	return s
}

func scalarText(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case int64:
		return strconv.FormatInt(v, 10)
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	case bool:
		return strconv.FormatBool(v)
	}
	return "null"
}
