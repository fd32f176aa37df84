package fluentd

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/pipeline/regex"
	"github.com/weft-dev/weft/logging/plugin"
)

// tailPace bounds how fast a source tail reads: bytes a second of each file (read_bytes_limit_per_second), and lines of groups of files (<group>,
// lib/fluent/plugin/in_tail/group_watch.rb). It is used by one goroutine.
type tailPace struct {
	bytes   int64 // a second, 0 for any number
	pattern *regex.Regexp
	period  time.Duration
	rules   []*paceRule // those with more conditions first
	rest    *paceRule   // of files that no rule takes: without limit
	files   map[string]*pacedFile
}

// paceRule is a <rule>: the files whose names have these parts share the lines of a period.
type paceRule struct {
	match map[string]*regex.Regexp
	lines int // -1 for any number
	files int // that are followed
}

type pacedFile struct {
	rule  *paceRule
	began time.Time // of the period
	lines int       // that were read in it
	next  time.Time // when bytes may be read again
}

// leastBytes is what upstream reads at once: a lower limit is raised to it.
const leastBytes = 64 << 10

// containerLogs is the pattern of a <group> without one: the names that the kubelet gives, POD_NAMESPACE_CONTAINER-ID.log.
const containerLogs = `^/var/log/containers/(?<podname>[a-z0-9]([-a-z0-9]*[a-z0-9])?(/[a-z0-9]([-a-z0-9]*[a-z0-9])?)*)_(?<namespace>[^_]+)_(?<container>.+)-(?<docker_id>[a-z0-9]{64})\.log$`

// newTailPace gives nil if nothing is bounded.
func newTailPace(p *part) *tailPace {
	o := p.set
	t := &tailPace{rest: &paceRule{lines: -1}, files: map[string]*pacedFile{}}
	if t.bytes = o.Size("read_bytes_limit_per_second"); t.bytes > 0 && t.bytes < leastBytes {
		p.log.Warn("read_bytes_limit_per_second is raised", "to", leastBytes)
		t.bytes = leastBytes
	}
	s := p.child("group")
	if s == nil && t.bytes <= 0 {
		return nil
	}
	if s == nil {
		return t
	}
	group := options.New(s, plugin.Fluentd().Groups["group"], nil)
	defer p.finish(group)
	t.period = group.Duration("rate_period")
	if t.period <= 0 {
		group.Failf("rate_period", "rate_period must be above 0")
	}
	t.pattern = compiled(group, "pattern", group.StringOr("pattern", containerLogs))
	for _, inner := range s.Sections {
		if inner.Kind != "rule" {
			group.FailAt(inner.Pos, "<%s> cannot stand inside of <group>; there is rule", inner.Kind)
			continue
		}
		o := options.New(inner, plugin.Fluentd().Groups["rule"], nil)
		rule := &paceRule{match: map[string]*regex.Regexp{}, lines: o.IntOr("limit", -1)}
		if rule.lines < -1 {
			o.Failf("limit", "limit must be -1 (no limit), 0 (nothing is read) or a number of lines")
		}
		for _, pair := range o.Pairs("match") {
			if t.pattern != nil && !slices.Contains(t.pattern.Names(), pair[0]) {
				o.Failf("match", "match: the pattern of the group has no part %q; there are %s", pair[0], strings.Join(named(t.pattern), ", "))
			}
			rule.match[pair[0]] = compiled(o, "match", pair[1])
		}
		t.rules = append(t.rules, rule)
		p.finish(o)
	}
	if len(t.rules) == 0 {
		group.FailAt(s.Pos, "<group> needs a <rule>")
	}
	slices.SortStableFunc(t.rules, func(a, b *paceRule) int { return cmp.Compare(len(b.match), len(a.match)) })
	return t
}

func named(r *regex.Regexp) []string {
	return slices.DeleteFunc(slices.Clone(r.Names()), func(name string) bool { return name == "" })
}

func compiled(o *options.Set, key, text string) *regex.Regexp {
	r, err := regex.Compile(text)
	if err != nil {
		o.Failf(key, "%s: %v", key, err)
	}
	return r
}

// rule finds what holds for a file: the first rule all of whose conditions its name meets.
func (t *tailPace) rule(name string) *paceRule {
	if t.pattern == nil {
		return t.rest
	}
	found, err := t.pattern.Find([]byte(name), nil)
	if err != nil || found == nil {
		return t.rest
	}
	parts := map[string]string{}
	for i, n := range t.pattern.Names() {
		if n != "" && found[2*i] >= 0 {
			parts[n] = name[found[2*i]:found[2*i+1]]
		}
	}
	i := slices.IndexFunc(t.rules, func(r *paceRule) bool {
		for key, want := range r.match {
			if !want.Match([]byte(parts[key])) {
				return false
			}
		}
		return true
	})
	if i < 0 {
		return t.rest
	}
	return t.rules[i]
}

func (t *tailPace) file(name string) *pacedFile {
	f := t.files[name]
	if f == nil {
		f = &pacedFile{rule: t.rule(name)}
		f.rule.files++
		t.files[name] = f
	}
	return f
}

// Allow gives the number of lines that may be read of a file at a time.
func (t *tailPace) Allow(name string, now time.Time) int {
	f := t.file(name)
	if t.bytes > 0 && now.Before(f.next) {
		return 0
	}
	if f.rule.lines <= 0 {
		return f.rule.lines
	}
	if since := now.Sub(f.began); since >= t.period || since < 0 { // the clock may jump back
		f.began, f.lines = now, 0
	}
	return max(max(f.rule.lines/f.rule.files, 1)-f.lines, 0)
}

// Took notes what was read: who took more bytes than a second allows waits for longer.
func (t *tailPace) Took(name string, lines, bytes int, now time.Time) {
	f := t.file(name)
	f.lines += lines
	if t.bytes > 0 {
		if f.next.Before(now) {
			f.next = now
		}
		f.next = f.next.Add(time.Duration(float64(bytes) / float64(t.bytes) * float64(time.Second)))
	}
}

// Left makes the share of the other files of a group larger.
func (t *tailPace) Left(name string) {
	if f := t.files[name]; f != nil {
		f.rule.files--
		delete(t.files, name)
	}
}
