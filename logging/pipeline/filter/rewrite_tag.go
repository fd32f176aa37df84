package filter

import (
	"context"
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
	tag   record.Template
	keep  bool
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
	if r.tag, err = record.ParseTemplate(parts[2]); err != nil {
		o.Fail(p, "%v", err)
		return r, false
	}
	if r.keep, err = config.ParseBool(parts[3]); err != nil {
		o.Fail(p, "the last part of a rule says whether the record is kept: %v", err)
		return r, false
	}
	return r, true
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
			tag, _ = r.tag.Append(tag[:0], record.Scope{Tag: b.Tag, Body: e.Body, Value: text, Groups: groups})
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
