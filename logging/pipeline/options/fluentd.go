package options

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/weft-dev/weft/logging/config"
)

// Chosen finds what the @type of a section names among what is built in; other is meant if the section names none. what is how such a plugin is called.
func Chosen[T any](s *config.Section, what, other string, built map[string]T) (name string, found T, err error) {
	if name = s.Plugin(); name == "" {
		name = other
	}
	found, ok := built[name]
	if !ok {
		pos := s.Pos
		if p, ok := s.Get("@type"); ok {
			pos = p.ValuePos
		}
		err = &config.Error{Pos: pos, Message: fmt.Sprintf("the %s %q is not built into logagent, which has %s", what, name, strings.Join(slices.Sorted(maps.Keys(built)), ", "))}
	}
	return name, found, err
}

// Array is a list as Fluentd writes it: a JSON array, or words separated by commas.
func (s *Set) Array(key string) []string {
	p, v := s.get(key)
	v = strings.TrimSpace(v)
	if v == "" {
		return nil
	}
	if !strings.HasPrefix(v, "[") {
		var words []string
		for word := range strings.SplitSeq(v, ",") {
			words = append(words, strings.TrimSpace(word))
		}
		return words
	}
	var items []any
	if err := json.Unmarshal([]byte(v), &items); err != nil {
		s.Fail(p, "%s is no list; write words separated by commas, or a JSON array such as [\"a\", \"b\"]", key)
		return nil
	}
	words := make([]string, 0, len(items))
	for _, item := range items {
		text, ok := item.(string)
		if !ok {
			plain, err := json.Marshal(item)
			if err != nil {
				plain = nil // what came from JSON goes back into it
			}
			text = string(plain)
		}
		words = append(words, text)
	}
	return words
}

// Pairs is a map as Fluentd writes it: a JSON object, or key:value pairs separated by commas; in the order in which it is written.
func (s *Set) Pairs(key string) [][2]string {
	p, v := s.get(key)
	v = strings.TrimSpace(v)
	if v == "" {
		return nil
	}
	if strings.HasPrefix(v, "{") {
		return s.object(p, v)
	}
	var pairs [][2]string
	for pair := range strings.SplitSeq(v, ",") {
		k, value, ok := strings.Cut(pair, ":")
		if !ok {
			s.Fail(p, "%s: %q is no pair; write key:value pairs separated by commas, or a JSON object", key, pair)
			continue
		}
		pairs = append(pairs, [2]string{strings.TrimSpace(k), strings.TrimSpace(value)})
	}
	return pairs
}

func (s *Set) object(p config.Property, text string) [][2]string {
	d := json.NewDecoder(bytes.NewReader([]byte(text)))
	d.UseNumber()
	var pairs [][2]string
	if _, err := d.Token(); err != nil {
		s.Fail(p, "%s is no JSON object: %v", p.Key, err)
		return nil
	}
	for d.More() {
		k, err := d.Token()
		var raw json.RawMessage
		if err == nil {
			err = d.Decode(&raw)
		}
		if err != nil {
			s.Fail(p, "%s is no JSON object: %v", p.Key, err)
			return nil
		}
		name, _ := k.(string) // the key of an object
		value := string(raw)
		var plain string
		if json.Unmarshal(raw, &plain) == nil {
			value = plain
		}
		pairs = append(pairs, [2]string{name, value})
	}
	return pairs
}
