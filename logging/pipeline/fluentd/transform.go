package fluentd

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/pipeline/clock"
	"github.com/weft-dev/weft/logging/pipeline/flow"
	"github.com/weft-dev/weft/logging/pipeline/record"
)

// transformer is record_transformer without Ruby: new fields made of placeholders.
type transformer struct {
	part     *part
	record   []pair
	renew    bool
	keep     []string
	remove   []record.Path
	timeKey  string
	hostname string
}

// pair is one line of <record>.
type pair struct{ key, value *mould }

// mould is a value with placeholders.
type mould struct {
	pieces []piece  // of text; a single one keeps the type of its value
	cast   bool     // the value of the single piece keeps its type
	raw    []byte   // a value without placeholders
	items  []*mould // of an array
	pairs  []pair   // of an object
	kind   record.Kind
}

// piece is plain text or a placeholder.
type piece struct {
	text  string
	name  string // tag, tag_parts, tag_prefix, tag_suffix, hostname, time, record; "" for text, ? for an unknown placeholder
	index int
	path  record.Path
}

func newTransformer(p *part) filter {
	o := p.set
	t := &transformer{part: p, renew: o.Bool("renew_record"), keep: o.Array("keep_keys"), timeKey: o.String("renew_time_key"), hostname: hostname()}
	ruby, cast := o.Bool("enable_ruby"), o.Bool("auto_typecast")
	if len(t.keep) > 0 && !t.renew {
		o.Failf("keep_keys", "keep_keys needs renew_record true")
	}
	for _, key := range o.Array("remove_keys") {
		path, err := record.ParseAccessor(key)
		if err != nil {
			o.Failf("remove_keys", "remove_keys: %v", err)
		}
		t.remove = append(t.remove, path)
	}
	p.only("record")
	for _, s := range p.section.Sections {
		if s.Kind != "record" {
			continue
		}
		for _, property := range s.Properties {
			m := moulder{p, property, ruby, cast}
			t.record = append(t.record, pair{m.text(property.Key, false), m.value(property.Value)})
		}
	}
	return t
}

type moulder struct {
	part     *part
	property config.Property
	ruby     bool
	cast     bool
}

// value reads JSON if the text begins as such, else text.
func (m moulder) value(text string) *mould {
	if strings.HasPrefix(text, "{") || strings.HasPrefix(text, "[") {
		value, n, err := record.FromJSON(nil, []byte(text))
		if err == nil && len(strings.TrimSpace(text[n:])) == 0 {
			return m.tree(value)
		}
	}
	return m.text(text, m.cast)
}

func (m moulder) tree(value []byte) *mould {
	out := &mould{kind: record.KindOf(value)}
	switch out.kind {
	case record.Map:
		for f := record.FieldsOf(value); f.Next(); {
			out.pairs = append(out.pairs, pair{m.text(string(f.Key), false), m.tree(f.Value)})
		}
	case record.Array:
		for i := record.ItemsOf(value); i.Next(); {
			out.items = append(out.items, m.tree(i.Value))
		}
	case record.String:
		text, _ := record.Text(value)
		return m.text(string(text), m.cast)
	default:
		out.raw = value
	}
	return out
}

var placeholderForm = regexp.MustCompile(`\$\{[^}]+\}|__[A-Z_]+__`)

func (m moulder) text(text string, cast bool) *mould {
	out := &mould{kind: record.String}
	at := 0
	for _, found := range placeholderForm.FindAllStringIndex(text, -1) {
		if m.ruby && text[found[0]] == '_' {
			continue
		}
		if found[0] > at {
			out.pieces = append(out.pieces, piece{text: text[at:found[0]]})
		}
		out.pieces = append(out.pieces, m.placeholder(text[found[0]:found[1]]))
		at = found[1]
	}
	if at < len(text) {
		out.pieces = append(out.pieces, piece{text: text[at:]})
	}
	out.cast = cast && len(out.pieces) == 1 && out.pieces[0].name != ""
	return out
}

var (
	indexed    = regexp.MustCompile(`^(tag_parts|tag_prefix|tag_suffix)\[(-?\d+)\]$`)
	plainField = regexp.MustCompile(`^record\["([^"]*)"\]$`)
	rubyField  = regexp.MustCompile(`^record((?:\[(?:"[^"]*"|'[^']*')\])+)$`)
	rubyDig    = regexp.MustCompile(`^record\.dig\(\s*((?:"[^"]*"|'[^']*')(?:\s*,\s*(?:"[^"]*"|'[^']*'))*)\s*\)$`)
	rubyWords  = regexp.MustCompile(`"([^"]*)"|'([^']*)'`)
)

// placeholder reads ${...}. With enable_ruby what stands inside is Ruby: of that only plain paths are known, all else is refused.
func (m moulder) placeholder(text string) piece {
	name := strings.TrimSuffix(strings.TrimPrefix(text, "${"), "}")
	if m.ruby {
		name = strings.TrimSpace(name)
	}
	switch name {
	case "tag", "hostname", "time":
		return piece{name: name}
	}
	if found := indexed.FindStringSubmatch(name); found != nil {
		n, err := strconv.Atoi(found[2])
		if err == nil {
			return piece{name: found[1], index: n}
		}
	}
	if found := plainField.FindStringSubmatch(name); found != nil {
		return piece{name: "record", path: record.PathOf(found[1])}
	}
	if !m.ruby {
		m.part.log.Warn("unknown placeholder found", "placeholder", text, "at", m.property.ValuePos.String())
		return piece{name: "?"}
	}
	for _, form := range []*regexp.Regexp{rubyField, rubyDig} {
		if found := form.FindStringSubmatch(name); found != nil {
			var keys []string
			for _, w := range rubyWords.FindAllStringSubmatch(found[1], -1) {
				keys = append(keys, w[1]+w[2])
			}
			return piece{name: "record", path: record.PathOf(keys...)}
		}
	}
	m.part.set.FailAt(m.property.ValuePos, "%s: ${%.200s} is Ruby, which logagent does not run; it knows ${tag}, ${tag_parts[N]}, ${tag_prefix[N]}, ${tag_suffix[N]}, "+
		"${hostname}, ${time}, ${record[\"key\"]} and ${record.dig(\"key\", \"inner\")}. Use Fluentd for this configuration", m.property.Key, name)
	return piece{name: "?"}
}

// event is what placeholders are filled from.
type event struct {
	tag      string
	parts    []string
	time     record.Time
	body     []byte
	hostname string
}

// fill appends the value of a placeholder as MessagePack.
func (p *piece) fill(b []byte, e *event) []byte {
	switch p.name {
	case "tag":
		return record.AppendString(b, e.tag)
	case "hostname":
		return record.AppendString(b, e.hostname)
	case "time":
		return record.AppendString(b, clock.Format(nil, "%Y-%m-%d %H:%M:%S %z", e.time.Std().In(time.Local)))
	case "record":
		if v, ok := p.path.Find(e.body); ok {
			return append(b, v...)
		}
	case "tag_parts", "tag_prefix", "tag_suffix":
		n := p.index
		if n < 0 {
			n += len(e.parts)
		}
		if n < 0 || n >= len(e.parts) {
			break
		}
		switch p.name {
		case "tag_parts":
			return record.AppendString(b, e.parts[n])
		case "tag_prefix":
			return record.AppendString(b, strings.Join(e.parts[:n+1], "."))
		}
		return record.AppendString(b, strings.Join(e.parts[n:], "."))
	}
	return record.AppendNil(b)
}

func (m *mould) fill(b []byte, e *event) []byte {
	switch {
	case m.raw != nil:
		return append(b, m.raw...)
	case m.kind == record.Map:
		b = record.AppendMapHead(b, len(m.pairs))
		for _, p := range m.pairs {
			b = p.value.fill(p.key.fill(b, e), e)
		}
		return b
	case m.kind == record.Array:
		b = record.AppendArrayHead(b, len(m.items))
		for _, item := range m.items {
			b = item.fill(b, e)
		}
		return b
	case m.cast:
		return m.pieces[0].fill(b, e)
	}
	var text []byte
	for i := range m.pieces {
		if p := &m.pieces[i]; p.name == "" {
			text = append(text, p.text...)
		} else if v := p.fill(nil, e); record.KindOf(v) != record.Nil {
			text = record.AppendText(text, v)
		}
	}
	return record.AppendString(b, text)
}

func (t *transformer) apply(ctx context.Context, b flow.Batch) ([]byte, int, error) {
	e := &event{tag: b.Tag, parts: strings.Split(b.Tag, "."), hostname: t.hostname}
	var out []byte
	count := 0
	for r := record.NewReader(b.Data); r.Next(); {
		e.time, e.body = r.Time, r.Body
		body := t.reformed(e)
		at := r.Time
		if t.timeKey != "" {
			if v, ok := record.Get(body, t.timeKey); ok {
				moment, err := renewed(v)
				if err != nil {
					if err := t.part.reject(ctx, b, r.Time, r.Body, err); err != nil {
						return nil, 0, err
					}
					continue
				}
				at = moment
			}
		}
		if len(t.remove) > 0 {
			body = record.Without(body, t.remove)
		}
		out = record.AppendEvent(out, at, r.Meta, body)
		count++
	}
	return out, count, nil
}

// renewed is a time of seconds since 1970.
func renewed(v []byte) (record.Time, error) {
	f, ok := record.Float(v)
	if text, isText := record.Text(v); isText {
		var err error
		f, err = strconv.ParseFloat(strings.TrimSpace(string(text)), 64)
		ok = err == nil
	}
	t, fits := record.ReadTime(record.AppendFloat(nil, f))
	if !ok || !fits || f < 0 || f >= 1<<32 {
		return t, fmt.Errorf("renew_time_key: %.100s is no time in seconds", record.AppendText(nil, v))
	}
	return t, nil
}

// reformed is the body with the new fields: a field that is there already keeps its place.
func (t *transformer) reformed(e *event) []byte {
	type made struct{ key, value []byte }
	fresh := make([]made, 0, len(t.record))
	for _, p := range t.record {
		key, value := p.key.fill(nil, e), p.value.fill(nil, e)
		if i := slices.IndexFunc(fresh, func(m made) bool { return bytes.Equal(m.key, key) }); i >= 0 {
			fresh[i].value = value
			continue
		}
		fresh = append(fresh, made{key, value})
	}
	out, n := []byte{0x80}, 0
	for f := record.FieldsOf(e.body); f.Next(); {
		if t.renew && !slices.Contains(t.keep, string(f.Key)) {
			continue
		}
		key := f.Raw[:len(f.Raw)-len(f.Value)]
		value := f.Value
		if i := slices.IndexFunc(fresh, func(m made) bool { return sameText(m.key, f.Key) }); i >= 0 {
			value = fresh[i].value
			fresh = slices.Delete(fresh, i, i+1)
		}
		out = append(append(out, key...), value...)
		n++
	}
	for _, m := range fresh {
		out = append(append(out, m.key...), m.value...)
		n++
	}
	return record.CloseMap(out, 0, n)
}

func sameText(packed, text []byte) bool {
	got, ok := record.Text(packed)
	return ok && bytes.Equal(got, text)
}
