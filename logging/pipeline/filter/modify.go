package filter

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/pipeline/flow"
	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/pipeline/record"
	"github.com/weft-dev/weft/logging/pipeline/regex"
)

// modify changes keys and values by rules, in their order, if all conditions hold.
type modify struct {
	conditions []condition
	rules      []modifyRule
}

type modifyRule struct {
	kind           string
	key            string
	rawKey         []byte // key as MessagePack
	name           string // new name
	rawName, value []byte
	regex          *regex.Regexp
}

type condition struct {
	kind       string
	key, value string
	path       record.Path
	keys       *regex.Regexp
	values     *regex.Regexp
}

func newModify(o *options.Set, _ Host) Filter {
	m := &modify{}
	for _, p := range o.Section.Properties {
		switch kind := strings.ToLower(p.Key); kind {
		case "condition":
			if c, ok := newCondition(o, p); ok {
				m.conditions = append(m.conditions, c)
			}
		case "set", "add", "rename", "hard_rename", "copy", "hard_copy":
			key, value := quotedPair(o, p)
			m.rules = append(m.rules, modifyRule{kind: kind, key: key, rawKey: text(key), name: value, rawName: text(value), value: text(value)})
		case "remove", "remove_wildcard", "move_to_start", "move_to_end":
			m.rules = append(m.rules, modifyRule{kind: kind, key: unquoted(strings.TrimSpace(p.Value))})
		case "remove_regex":
			r, err := regex.Compile(p.Value)
			if err != nil {
				o.Fail(p, "Remove_regex: %v", err)
				continue
			}
			m.rules = append(m.rules, modifyRule{kind: kind, regex: r})
		}
	}
	o.Ignore("condition", "set", "add", "rename", "hard_rename", "copy", "hard_copy", "remove", "remove_wildcard", "move_to_start", "move_to_end", "remove_regex")
	return m
}

func unquoted(s string) string {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		return s[1 : len(s)-1]
	}
	return s
}

// quotedPair is a key and a value with a blank between them; either may stand in quotes.
func quotedPair(o *options.Set, p config.Property) (key, value string) {
	text := strings.TrimSpace(p.Value)
	if strings.HasPrefix(text, `"`) {
		if end := strings.IndexByte(text[1:], '"'); end >= 0 && strings.HasPrefix(text[end+2:], " ") {
			o.Pair(p) // tells what is missing
			return text[1 : end+1], unquoted(strings.TrimSpace(text[end+2:]))
		}
	}
	key, value = o.Pair(p)
	return unquoted(key), unquoted(value)
}

func newCondition(o *options.Set, p config.Property) (condition, bool) {
	words := strings.Fields(p.Value)
	if len(words) < 2 {
		o.Fail(p, "a condition needs its kind and a key")
		return condition{}, false
	}
	c := condition{kind: strings.ToLower(words[0]), key: words[1]}
	rest := strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(p.Value), words[0])), words[1]))
	compile := func(expression string) *regex.Regexp {
		r, err := regex.Compile(expression)
		if err != nil {
			o.Fail(p, "%s: %v", words[0], err)
		}
		return r
	}
	var err error
	switch c.kind {
	case "key_exists", "key_does_not_exist":
		c.path, err = record.ParsePath(c.key)
	case "key_value_equals", "key_value_does_not_equal":
		c.path, err = record.ParsePath(c.key)
		c.value = unquoted(rest)
	case "key_value_matches", "key_value_does_not_match":
		c.path, err = record.ParsePath(c.key)
		c.values = compile(rest)
	case "a_key_matches", "no_key_matches":
		c.keys = compile(strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(p.Value), words[0])))
	case "matching_keys_have_matching_values", "matching_keys_do_not_have_matching_values":
		c.keys, c.values = compile(c.key), compile(rest)
	default:
		o.Fail(p, "there is no condition %q", words[0])
	}
	if err != nil {
		o.Fail(p, "%s: %v", words[0], err)
	}
	return c, true
}

func (c *condition) holds(body []byte) bool {
	switch c.kind {
	case "key_exists", "key_does_not_exist":
		_, ok := c.path.Find(body)
		return ok == (c.kind == "key_exists")
	case "key_value_equals", "key_value_does_not_equal":
		v, ok := c.path.Find(body)
		t, isText := record.Text(v)
		return ok && (isText && string(t) == c.value) == (c.kind == "key_value_equals")
	case "key_value_matches", "key_value_does_not_match":
		v, ok := c.path.Find(body)
		return ok && matches(c.values, v) == (c.kind == "key_value_matches")
	}
	found, all := false, true
	for f := record.FieldsOf(body); f.Next(); {
		if f.Key == nil || !c.keys.Match(f.Key) {
			continue
		}
		found = true
		if c.values != nil {
			all = all && matches(c.values, f.Value)
		}
	}
	switch c.kind {
	case "a_key_matches":
		return found
	case "no_key_matches":
		return !found
	case "matching_keys_have_matching_values":
		return all
	}
	return !all
}

// matches tells whether a value is text that matches, or a truth value whose name does.
func matches(r *regex.Regexp, value []byte) bool {
	switch record.KindOf(value) {
	case record.String:
		t, _ := record.Text(value)
		return r.Match(t)
	case record.Bool:
		b, _ := record.Truth(value)
		return r.Match(strconv.AppendBool(nil, b))
	}
	return false
}

func (m *modify) Apply(_ context.Context, dst []byte, b flow.Batch) ([]byte, error) {
	return mapEvents(dst, b.Data, func(p *pairs, e *record.Event) bool {
		for i := range m.conditions {
			if !m.conditions[i].holds(e.Body) {
				return false
			}
		}
		changed := false
		for i := range m.rules {
			if m.rules[i].apply(p) {
				changed = true
			}
		}
		return changed
	})
}

func (r *modifyRule) apply(p *pairs) bool {
	switch r.kind {
	case "set": // at the end, also what was there
		p.remove(func(x *pair) bool { return x.key != nil && string(x.key) == r.key })
		p.all = append(p.all, pair{r.rawKey[len(r.rawKey)-len(r.key):], r.rawKey, r.value})
		return true
	case "add":
		if p.find(r.key) >= 0 {
			return false
		}
		p.all = append(p.all, pair{r.rawKey[len(r.rawKey)-len(r.key):], r.rawKey, r.value})
		return true
	case "rename", "hard_rename":
		i := p.find(r.key)
		if i < 0 || !r.free(p, r.kind == "hard_rename") {
			return false
		}
		i = p.find(r.key) // may have moved
		if i < 0 {
			return false
		}
		p.all[i].key, p.all[i].raw = r.rawName[len(r.rawName)-len(r.name):], r.rawName
		return true
	case "copy", "hard_copy":
		i := p.find(r.key)
		if i < 0 {
			return false
		}
		value := p.all[i].value
		if !r.free(p, r.kind == "hard_copy") {
			return false
		}
		i = p.find(r.key) // may have moved
		p.all = slices.Insert(p.all, i+1, pair{r.rawName[len(r.rawName)-len(r.name):], r.rawName, value})
		return true
	case "remove":
		return p.remove(func(x *pair) bool { return string(x.key) == r.key && x.key != nil })
	case "remove_wildcard":
		return p.remove(func(x *pair) bool {
			return x.key != nil && strings.HasPrefix(string(x.key), strings.TrimSuffix(r.key, "*"))
		})
	case "remove_regex":
		return p.remove(func(x *pair) bool { return x.key != nil && r.regex.Match(x.key) })
	}
	return r.move(p)
}

// free makes sure that no pair has the new name, by removing it if force says so.
func (r *modifyRule) free(p *pairs, force bool) bool {
	if p.find(r.name) < 0 {
		return true
	}
	if !force || r.name == r.key {
		return false
	}
	p.remove(func(x *pair) bool { return string(x.key) == r.name })
	return true
}

func (r *modifyRule) move(p *pairs) bool {
	var chosen, others []pair
	for _, x := range p.all {
		if x.key != nil && strings.HasPrefix(string(x.key), strings.TrimSuffix(r.key, "*")) {
			chosen = append(chosen, x)
		} else {
			others = append(others, x)
		}
	}
	if len(chosen) == 0 {
		return false
	}
	if r.kind == "move_to_start" {
		p.all = slices.Concat(chosen, others)
	} else {
		p.all = slices.Concat(others, chosen)
	}
	return true
}
