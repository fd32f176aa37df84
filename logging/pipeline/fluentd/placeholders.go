package fluentd

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weft-dev/weft/logging/pipeline/clock"
	"github.com/weft-dev/weft/logging/pipeline/fluentd/buffer"
	"github.com/weft-dev/weft/logging/pipeline/output"
)

// template is an option of an output with placeholders that a chunk fills: ${tag}, ${tag[N]}, ${field}, ${chunk_id}, and directives of strftime for the
// time of the chunk.
type template struct {
	text string
	keys *chunking
}

var (
	anyPlaceholder = regexp.MustCompile(`\$\{([-_.@$a-zA-Z0-9]+)\}`)
	tagPlaceholder = regexp.MustCompile(`\$\{tag(?:\[(-?\d+)\])?\}`)
	leadsAway      = regexp.MustCompile(`\.\.[/\\]|^[/\\]`)
)

// template reads an option; strict insists that every chunk key stands in it, so that different chunks go to different places.
func (c *chunking) template(p *part, key, text string, strict bool) *template {
	t := &template{text, c}
	if err := t.check(strict); err != nil {
		p.set.Failf(key, "%s %q: %v", key, text, err)
	}
	return t
}

// spans are the directives of strftime that tell times apart, from fine to coarse.
var spans = []struct {
	span time.Duration
	name string
}{{time.Second, "%S"}, {time.Minute, "%M"}, {time.Hour, "%H"}, {24 * time.Hour, "%d"}}

func (t *template) check(strict bool) error {
	span, name := time.Duration(0), ""
	base := time.Date(2016, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, s := range spans {
		if string(clock.Format(nil, t.text, base.Add(s.span))) != string(clock.Format(nil, t.text, base)) {
			span, name = s.span, s.name
			break
		}
	}
	switch {
	case span > 0 && !t.keys.time:
		return errors.New("it has placeholders for the time, but time is no chunk key; write <buffer time> with a timekey")
	case strict && t.keys.time && span == 0:
		return fmt.Errorf("it has no placeholders for the time, and timekey is %s; different chunks would go to the same place", t.keys.timekey)
	case strict && t.keys.time && t.keys.timekey < span:
		return fmt.Errorf("%s is too coarse for a timekey of %s", name, t.keys.timekey)
	}
	tagged := tagPlaceholder.MatchString(t.text)
	switch {
	case tagged && !t.keys.tag:
		return errors.New("it has a placeholder for the tag, but tag is no chunk key; write <buffer tag>")
	case strict && t.keys.tag && !tagged:
		return errors.New("it has no placeholder for the tag, which is a chunk key; different chunks would go to the same place")
	}
	var named []string
	for _, m := range anyPlaceholder.FindAllStringSubmatch(t.text, -1) {
		if m[1] != "tag" && m[1] != "chunk_id" {
			named = append(named, m[1])
		}
	}
	for _, n := range named {
		if !slices.Contains(t.keys.names, n) {
			return fmt.Errorf("${%s} is no chunk key; write it behind <buffer", n)
		}
	}
	for _, n := range t.keys.names {
		if strict && !slices.Contains(named, n) {
			return fmt.Errorf("it has no placeholder for the chunk key %s; different chunks would go to the same place", n)
		}
	}
	return nil
}

// expand fills the placeholders. What comes from records may not lead to another folder: then the chunk can never be delivered.
func (t *template) expand(c *buffer.Chunk) (string, error) {
	text := t.text
	if t.keys.time {
		text = string(clock.Format(nil, text, time.Unix(c.Key.Time, 0).In(t.keys.zone)))
	}
	var bad error
	put := func(what, value string) string {
		if leadsAway.MatchString(value) || strings.ContainsRune(value, 0) {
			bad = output.Hopeless(fmt.Errorf("invalid path component in %s: %.100q", what, value))
		}
		return value
	}
	if t.keys.tag {
		parts := strings.Split(c.Key.Tag, ".")
		text = tagPlaceholder.ReplaceAllStringFunc(text, func(found string) string {
			m := tagPlaceholder.FindStringSubmatch(found)
			if m[1] == "" {
				return put("the tag", c.Key.Tag)
			}
			n, err := strconv.Atoi(m[1])
			if n < 0 {
				n += len(parts)
			}
			if err != nil || n < 0 || n >= len(parts) {
				return ""
			}
			return put("the tag", parts[n])
		})
	}
	text = anyPlaceholder.ReplaceAllStringFunc(text, func(found string) string {
		name := found[2 : len(found)-1]
		if name == "chunk_id" {
			return c.ID
		}
		if !slices.Contains(t.keys.names, name) {
			return found
		}
		return put(name, c.Key.Vars[name])
	})
	if bad == nil && strings.Count(text, "../") > strings.Count(t.text, "../") {
		bad = output.Hopeless(fmt.Errorf("the placeholders lead to another folder: %.200q", text))
	}
	return text, bad
}
