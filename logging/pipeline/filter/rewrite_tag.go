package filter

import (
	"context"
	"strconv"
	"strings"

	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/pipeline/flow"
	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/pipeline/record"
	"github.com/weft-dev/weft/logging/pipeline/regex"
)

// rewriteTag sends records anew under a tag made of their fields.
type rewriteTag struct {
	rules []tagRule
	emit  flow.Sink
	host  Host
}

type tagRule struct {
	path  record.Path
	regex *regex.Regexp
	tag   tagTemplate
	keep  bool
}

// tagTemplate is text with $0 to $9 (groups of the expression), $TAG, $TAG[n] and $field['inner'].
type tagTemplate []tagPiece

type tagPiece struct {
	text  string
	group int // -1 if it is none
	part  int // of the tag, -2 for the whole tag, -1 if it is none
	path  *record.Path
}

func newRewriteTag(o *options.Set, h Host) Filter {
	f := &rewriteTag{host: h}
	for _, p := range o.All("rule") {
		if r, ok := newTagRule(o, p); ok {
			f.rules = append(f.rules, r)
		}
	}
	name := o.StringOr("emitter_name", "emitter_for_"+h.Name)
	limit := o.Size("emitter_mem_buf_limit")
	f.emit = h.Emitter(name, limit, strings.EqualFold(o.String("emitter_storage.type"), "filesystem"))
	return f
}

func newTagRule(o *options.Set, p config.Property) (tagRule, bool) {
	parts := strings.Fields(p.Value)
	if len(parts) != 4 {
		o.Fail(p, "a rule has four parts: $key regex new_tag keep; found %d", len(parts))
		return tagRule{}, false
	}
	var r tagRule
	var err error
	if r.path, err = record.ParsePath(parts[0]); err != nil || !strings.HasPrefix(parts[0], "$") {
		o.Fail(p, "the first part of a rule is a field, such as $log: %v", err)
		return r, false
	}
	if r.regex, err = regex.Compile(parts[1]); err != nil {
		o.Fail(p, "%v", err)
		return r, false
	}
	if r.tag, err = parseTagTemplate(parts[2]); err != nil {
		o.Fail(p, "%v", err)
		return r, false
	}
	if r.keep, err = config.ParseBool(parts[3]); err != nil {
		o.Fail(p, "the last part of a rule says whether the record is kept: %v", err)
		return r, false
	}
	return r, true
}

func parseTagTemplate(text string) (tagTemplate, error) {
	var t tagTemplate
	for text != "" {
		i := strings.IndexByte(text, '$')
		if i < 0 || i == len(text)-1 {
			return append(t, tagPiece{text: text, group: -1, part: -1}), nil
		}
		if i > 0 {
			t = append(t, tagPiece{text: text[:i], group: -1, part: -1})
		}
		text = text[i:]
		switch {
		case text[1] >= '0' && text[1] <= '9':
			t = append(t, tagPiece{group: int(text[1] - '0'), part: -1})
			text = text[2:]
		case strings.HasPrefix(text, "$TAG"):
			piece := tagPiece{group: -1, part: -2}
			text = text[4:]
			if inner, after, ok := strings.Cut(text, "]"); ok && strings.HasPrefix(inner, "[") {
				if n, err := strconv.Atoi(inner[1:]); err == nil && n >= 0 {
					piece.part, text = n, after
				}
			}
			t = append(t, piece)
		default:
			end := pathEnd(text)
			p, err := record.ParsePath(text[:end])
			if err != nil {
				return nil, err
			}
			t = append(t, tagPiece{group: -1, part: -1, path: &p})
			text = text[end:]
		}
	}
	return t, nil
}

// pathEnd is where a path inside of a text ends: at the first byte that is no letter, digit, _ or -, outside of brackets.
func pathEnd(text string) int {
	i := 1
	for i < len(text) {
		c := text[i]
		switch {
		case c == '[':
			end := strings.IndexByte(text[i:], ']')
			if end < 0 {
				return len(text)
			}
			i += end + 1
		case c == '_' || c == '-' || c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z':
			i++
		default:
			return i
		}
	}
	return i
}

func (t tagTemplate) append(b []byte, tag string, body, value []byte, groups []int) []byte {
	for i := range t {
		p := &t[i]
		switch {
		case p.group >= 0:
			if 2*p.group+1 < len(groups) && groups[2*p.group] >= 0 {
				b = append(b, value[groups[2*p.group]:groups[2*p.group+1]]...)
			}
		case p.part == -2:
			b = append(b, tag...)
		case p.part >= 0:
			words := strings.Split(tag, ".")
			if p.part < len(words) {
				b = append(b, words[p.part]...)
			}
		case p.path != nil:
			if v, ok := p.path.Find(body); ok {
				b = record.AppendText(b, v)
			}
		default:
			b = append(b, p.text...)
		}
	}
	return b
}

// emission is records under one new tag.
type emission struct {
	tag   string
	data  []byte
	count int
}

func (f *rewriteTag) Apply(ctx context.Context, dst []byte, b flow.Batch) ([]byte, error) {
	var emissions []*emission
	var tag []byte
	var groups []int
	out, err := selectEvents(dst, b.Data, func(e *record.Event) bool {
		for i := range f.rules {
			r := &f.rules[i]
			v, ok := r.path.Find(e.Body)
			if !ok {
				continue
			}
			text, ok := record.Text(v)
			if !ok {
				continue
			}
			found, err := r.regex.Find(text, groups[:0])
			if err != nil || found == nil {
				continue
			}
			groups = found
			tag = r.tag.append(tag[:0], b.Tag, e.Body, text, groups)
			if len(tag) == 0 {
				continue
			}
			emissions = collect(emissions, tag, e.Raw)
			return r.keep
		}
		return true
	})
	if err != nil {
		return out, err
	}
	for _, e := range emissions {
		if err := f.emit.Append(ctx, flow.Batch{Tag: e.tag, Data: e.data, Count: e.count, Ack: b.Ack, Depth: b.Depth + 1}); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func collect(all []*emission, tag, raw []byte) []*emission {
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].tag == string(tag) {
			all[i].data = append(all[i].data, raw...)
			all[i].count++
			return all
		}
	}
	return append(all, &emission{string(tag), append([]byte(nil), raw...), 1})
}
