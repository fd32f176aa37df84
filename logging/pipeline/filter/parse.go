package filter

import (
	"context"

	"github.com/weft-dev/weft/logging/pipeline/flow"
	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/pipeline/parser"
	"github.com/weft-dev/weft/logging/pipeline/record"
)

// parse runs parsers over a field; the first one that fits replaces the record, or joins it.
type parse struct {
	path              record.Path
	key               string
	parsers           []*parser.Parser
	preserve, reserve bool
}

func newParse(o *options.Set, h Host) Filter {
	f := &parse{preserve: o.Bool("preserve_key"), reserve: o.Bool("reserve_data")}
	o.Pass("unescape_key") // without effect in the engine as well
	path, err := record.ParsePath(o.String("key_name"))
	if err != nil {
		o.Failf("key_name", "Key_Name: %v", err)
	}
	f.path = path
	if keys, ok := path.Keys(); ok && len(keys) == 1 {
		f.key = keys[0] // what lies deeper stays where it is
	}
	for _, p := range o.All("parser") {
		found := h.Parsers[p.Value]
		if found == nil {
			o.Fail(p, "there is no parser %q; define it in a file that parsers_file names", p.Value)
			continue
		}
		f.parsers = append(f.parsers, found)
	}
	return f
}

func (f *parse) Apply(_ context.Context, dst []byte, b flow.Batch) ([]byte, error) {
	r := record.NewReader(b.Data)
	changed := false
	at := 0
	for r.Next() {
		out, ok := f.event(dst, &r.Event, b.Data[:at], changed)
		if ok {
			dst, changed = out, true
		} else if changed {
			dst = append(dst, r.Raw...)
		}
		at += len(r.Raw)
	}
	if !changed {
		return b.Data, r.Err
	}
	return dst, r.Err
}

// event appends the event as it becomes; before are the events that were not changed and not copied yet.
func (f *parse) event(dst []byte, e *record.Event, before []byte, changed bool) ([]byte, bool) {
	value, ok := f.path.Find(e.Body)
	if !ok {
		return dst, false
	}
	text, ok := record.Text(value)
	if !ok {
		return dst, false
	}
	start := len(dst)
	if !changed {
		dst = append(dst, before...)
	}
	head := len(dst)
	dst = record.AppendEventHead(dst, e.Time, e.Meta)
	body := len(dst)
	for _, p := range f.parsers {
		out, t, ok := p.Parse(dst, text)
		if !ok {
			continue
		}
		dst = out
		if !t.IsZero() {
			record.AppendTime(dst[head+2:head+2], t)
		}
		if f.reserve || f.preserve {
			dst = f.join(dst, body, e.Body)
		}
		return dst, true
	}
	return dst[:start], false
}

// join appends the fields of the record as it was to the parsed map that begins at start.
func (f *parse) join(dst []byte, start int, old []byte) []byte {
	parsed := record.FieldsOf(dst[start:])
	head, err := record.ReadHead(dst[start:])
	if err != nil {
		return dst // a map that was just made
	}
	n := parsed.Count
	for x := record.FieldsOf(old); x.Next(); {
		own := string(x.Key) == f.key && x.Key != nil
		if own && f.preserve || !own && f.reserve {
			dst = append(dst, x.Raw...)
			n++
		}
	}
	var exact [5]byte
	h := record.AppendMapHead(exact[:0], n)
	if grown := len(h) - head.Size; grown > 0 {
		dst = append(dst, exact[:grown]...)
		copy(dst[start+len(h):], dst[start+head.Size:len(dst)-grown])
	}
	copy(dst[start:], h)
	return dst
}
