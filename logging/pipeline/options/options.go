// Package options gives the parts of a pipeline the values of their section in a configuration: typed, with the defaults of the plugin table,
// and with faults that name the place. An option that a part does not read is a fault as well, so that none is ignored.
package options

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/plugin"
)

// Set is the options of one section.
type Set struct {
	Section *config.Section
	Plugin  *plugin.Plugin
	env     func(string) (string, bool)
	used    map[string]bool
	told    map[config.Position]bool
	faults  []error
	passed  []config.Property
}

// New checks names and types of a section's options against the table. The faults are told by Done, with those found later.
func New(section *config.Section, p *plugin.Plugin, env func(string) (string, bool)) *Set {
	s := &Set{Section: section, Plugin: p, env: env, told: map[config.Position]bool{}, used: map[string]bool{"name": true, "@type": true}}
	seen := map[string]bool{}
	for _, property := range section.Properties {
		key := strings.ToLower(property.Key)
		if s.used[key] && p.Kind != "service" {
			continue
		}
		o := p.Option(key)
		switch {
		case o == nil && p.Kind == "service":
			continue // the engine passes over it
		case o == nil || o.Refused:
			s.Fail(property, "%s has no option %q%s", p.Name, property.Key, nearest(key, p))
			s.used[key] = true
			continue
		}
		if property.Tree == nil && !(property.Value == "" && o.Type == "bool" && p.Engine() == "Fluentd") { // a key alone switches on
			if err := o.Check(s.expand(property.Value)); err != nil {
				s.Fail(property, "%s: %v", property.Key, err)
			}
		}
		if seen[key] && !o.Many() && o.Type != "prefix" && o.Type != "commas" && !slices.Contains([]string{"parsers_file", "plugins_file", "streams_file"}, key) {
			s.Fail(property, "%s is set twice; write it once", property.Key)
		}
		seen[key] = true
	}
	return s
}

func (s *Set) expand(v string) string {
	if s.env == nil {
		return v
	}
	return config.Expand(v, s.env)
}

func nearest(key string, p *plugin.Plugin) string {
	best := ""
	for _, o := range p.All() {
		k := strings.ToLower(o.Key)
		if strings.ReplaceAll(strings.ReplaceAll(k, "_", ""), ".", "") == strings.ReplaceAll(strings.ReplaceAll(key, "_", ""), ".", "") {
			best = o.Key
		}
	}
	if best != "" {
		return "; is " + best + " meant?"
	}
	return "; `weft log plugins " + p.Kind + "/" + p.Name + "` lists its options"
}

// Fail records a fault at a property.
func (s *Set) Fail(p config.Property, format string, args ...any) {
	pos := p.ValuePos
	if pos.Line == 0 {
		pos = p.Pos
	}
	if pos.Line == 0 {
		pos = s.Section.Pos
	}
	if p.Key != "" {
		if s.told[pos] {
			return // one fault of a value is enough
		}
		s.told[pos] = true
	}
	s.faults = append(s.faults, &config.Error{Pos: pos, Message: fmt.Sprintf(format, args...)})
}

// Failf records a fault at the first property with this key, or at the section.
func (s *Set) Failf(key, format string, args ...any) {
	p, _ := s.Section.Get(key)
	s.Fail(p, format, args...)
}

// FailAt records a fault at a place.
func (s *Set) FailAt(pos config.Position, format string, args ...any) {
	s.faults = append(s.faults, &config.Error{Pos: pos, Message: fmt.Sprintf(format, args...)})
}

// Join takes the faults of a section inside of this one.
func (s *Set) Join(err error) { s.faults = append(s.faults, err) }

// Done gives all faults. Every option that is set and was not read is one.
func (s *Set) Done() error {
	for _, p := range s.Section.Properties {
		if key := strings.ToLower(p.Key); !s.used[key] {
			s.Fail(p, "the option %q of %s is not built into logagent yet; remove it, or use %s for this configuration", p.Key, s.Plugin.Name, s.Plugin.Engine())
		}
	}
	for _, o := range s.Plugin.Options {
		if key := strings.ToLower(o.Key); o.Needed && key != "" && o.Group == "" && key != "host" && !s.Has(key) {
			s.Failf("", "%s needs the option %s", s.Plugin.Name, o.Key)
		}
	}
	return errors.Join(s.faults...)
}

// Ignore names options that need no look here: another piece reads them, or what they ask for is so whatever they say. What changes nothing and might be
// missed is for Pass or Tell instead.
func (s *Set) Ignore(keys ...string) {
	for _, key := range keys {
		s.used[key] = true
	}
}

// Has tells whether an option is set.
func (s *Set) Has(key string) bool {
	_, ok := s.Section.Get(key)
	return ok
}

// Pass names options that are accepted and change nothing here, which a user may want to know: Passed gives those that are set to something else than
// the engine's default.
func (s *Set) Pass(keys ...string) {
	for _, key := range keys {
		if p, ok := s.Section.Get(key); ok && !s.usual(key, s.expand(p.Value)) {
			s.passed = append(s.passed, p)
		}
		s.used[key] = true
	}
}

// Tell is Pass for options that change nothing even as the engine has them by default.
func (s *Set) Tell(keys ...string) {
	for _, key := range keys {
		if p, ok := s.Section.Get(key); ok {
			s.passed = append(s.passed, p)
		}
		s.used[key] = true
	}
}

// usual tells whether a value is the default of an option, however it is spelt.
func (s *Set) usual(key, value string) bool {
	o := s.Plugin.Option(key)
	if o == nil || o.Default == "" {
		return false
	}
	switch o.Type {
	case "bool":
		return same(o.Default, value, config.ParseBool)
	case "size":
		return same(o.Default, value, config.ParseSize)
	case "time":
		return same(o.Default, value, config.ParseTime)
	}
	return strings.EqualFold(o.Default, value)
}

func same[T comparable](a, b string, read func(string) (T, error)) bool {
	x, err1 := read(a)
	y, err2 := read(b)
	return err1 == nil && err2 == nil && x == y
}

// Passed are the properties that are set and change nothing.
func (s *Set) Passed() []config.Property { return s.passed }

func (s *Set) get(key string) (config.Property, string) {
	s.used[strings.ToLower(key)] = true
	p, ok := s.Section.Get(key)
	if ok {
		return p, s.expand(p.Value)
	}
	if o := s.Plugin.Option(key); o != nil {
		return p, o.Default
	}
	return p, ""
}

// String is an option as text.
func (s *Set) String(key string) string {
	_, v := s.get(key)
	return v
}

// StringOr is an option as text, or other if it is empty.
func (s *Set) StringOr(key, other string) string {
	if v := s.String(key); v != "" {
		return v
	}
	return other
}

// Bool is a truth value.
func (s *Set) Bool(key string) bool {
	p, v := s.get(key)
	if v == "" {
		return p.Key != "" && s.Plugin.Engine() == "Fluentd"
	}
	b, err := config.ParseBool(v)
	if err != nil {
		s.Fail(p, "%s: %v", key, err)
	}
	return b
}

// Int is a whole number.
func (s *Set) Int(key string) int { return s.IntOr(key, 0) }

// IntOr is a whole number, or other if the option has neither value nor default.
func (s *Set) IntOr(key string, other int) int {
	p, v := s.get(key)
	if v == "" {
		return other
	}
	n, err := strconv.Atoi(strings.TrimSpace(v))
	if err != nil {
		s.Fail(p, "%s: %q is not a whole number", key, v)
	}
	return n
}

// Number is a floating point number.
func (s *Set) Number(key string) float64 {
	p, v := s.get(key)
	if v == "" {
		return 0
	}
	n, err := strconv.ParseFloat(strings.TrimSpace(v), 64)
	if err != nil {
		s.Fail(p, "%s: %q is not a number", key, v)
	}
	return n
}

// Size is a number of bytes; 0 without value and default, or for "no limit" in one of its spellings.
func (s *Set) Size(key string) int64 {
	p, v := s.get(key)
	switch strings.ToLower(v) {
	case "", "off", "-1", "unlimited", "no_limits":
		return 0
	}
	factor := int64(1)
	if short := strings.TrimSuffix(strings.ToLower(v), "b"); s.Plugin.Engine() == "Fluentd" && strings.HasSuffix(short, "t") {
		v, factor = strings.TrimSuffix(short, "t")+"g", 1<<10 // Fluentd has terabytes as well
	}
	n, err := config.ParseSize(v)
	if err != nil || n > math.MaxInt64/factor {
		s.Fail(p, "%s: %q is not a size; write bytes, or a number with k, M or G, for example 32k", key, v)
		return 0
	}
	return n * factor
}

// Duration is a span of time.
func (s *Set) Duration(key string) time.Duration {
	p, v := s.get(key)
	if v == "" {
		return 0
	}
	seconds, err := config.ParseTime(v)
	if err != nil {
		s.Fail(p, "%s: %v", key, err)
	}
	return time.Duration(seconds * float64(time.Second))
}

// Commas is a list separated by commas, of all properties with this key.
func (s *Set) Commas(key string) []string {
	var all []string
	for _, v := range s.All(key) {
		for word := range strings.SplitSeq(v.Value, ",") {
			if word = strings.TrimSpace(word); word != "" {
				all = append(all, word)
			}
		}
	}
	return all
}

// Words is a list separated by blanks, of all properties with this key.
func (s *Set) Words(key string) []string {
	var all []string
	for _, v := range s.All(key) {
		all = append(all, strings.Fields(v.Value)...)
	}
	return all
}

// All are all properties with this key, with variables replaced.
func (s *Set) All(key string) []config.Property {
	s.used[strings.ToLower(key)] = true
	var all []config.Property
	for _, p := range s.Section.Properties {
		if strings.EqualFold(p.Key, key) {
			p.Value = s.expand(p.Value)
			all = append(all, p)
		}
	}
	return all
}

// Prefixed are all properties whose key begins with prefix.
func (s *Set) Prefixed(prefix string) []config.Property {
	var all []config.Property
	for _, p := range s.Section.Properties {
		if len(p.Key) >= len(prefix) && strings.EqualFold(p.Key[:len(prefix)], prefix) {
			s.used[strings.ToLower(p.Key)] = true
			p.Value = s.expand(p.Value)
			all = append(all, p)
		}
	}
	return all
}

// Pair splits a value into a first word and the rest.
func (s *Set) Pair(p config.Property) (key, value string) {
	key, value, _ = strings.Cut(strings.TrimSpace(p.Value), " ")
	value = strings.TrimSpace(value)
	if key == "" || value == "" {
		s.Fail(p, "%s needs a key and a value, separated by a blank", p.Key)
	}
	return key, value
}
