package fluentd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/weft-dev/weft/logging/pipeline/flow"
	"github.com/weft-dev/weft/logging/pipeline/fluentd/format"
	"github.com/weft-dev/weft/logging/pipeline/fluentd/parse"
	"github.com/weft-dev/weft/logging/pipeline/record"
)

// filters are those that are built in.
func filters() map[string]func(*builder, *part) filter {
	return map[string]func(*builder, *part) filter{
		"grep":               func(_ *builder, p *part) filter { return newGrep(p) },
		"parser":             newParserFilter,
		"record_transformer": func(_ *builder, p *part) filter { return newTransformer(p) },
		"stdout":             newStdoutFilter,
	}
}

// parserFilter parses the text of one field.
type parserFilter struct {
	part                               *part
	key                                record.Path
	parser                             *parse.Parser
	keep, keepTime, removeKey, replace bool
	prefix, hashField                  string
	tell                               bool
}

func newParserFilter(b *builder, p *part) filter {
	o := p.set
	f := &parserFilter{part: p, keep: o.Bool("reserve_data"), keepTime: o.Bool("reserve_time"), removeKey: o.Bool("remove_key_name_field"),
		replace: o.Bool("replace_invalid_sequence"), prefix: o.String("inject_key_prefix"), hashField: o.String("hash_value_field"), tell: o.Bool("emit_invalid_record_to_error")}
	path, err := record.ParseAccessor(o.String("key_name"))
	if err != nil || o.String("key_name") == "" {
		o.Failf("key_name", "the filter parser needs key_name, the field whose text is parsed (%v)", err)
	}
	f.key = path
	p.only("parse")
	f.parser = b.parser(p, "")
	return f
}

func (f *parserFilter) apply(ctx context.Context, b flow.Batch) ([]byte, int, error) {
	var out []byte
	count := 0
	for r := record.NewReader(b.Data); r.Next(); {
		text, ok := f.text(r.Body)
		if !ok {
			if f.keep {
				out = record.AppendEvent(out, r.Time, r.Meta, f.merged(r.Body, record.EmptyMap))
				count++
			}
			if err := f.reject(ctx, b, &r.Event, fmt.Errorf("%s does not exist", f.key)); err != nil {
				return nil, 0, err
			}
			continue
		}
		found, err := f.parser.Parse(text)
		if err != nil {
			if errors.Is(err, parse.ErrNoMatch) {
				err = fmt.Errorf("pattern not matched with data '%.500s'", text)
			}
			if err := f.reject(ctx, b, &r.Event, err); err != nil {
				return nil, 0, err
			}
			if f.keep {
				out = record.AppendEvent(out, r.Time, r.Meta, f.merged(r.Body, record.EmptyMap))
				count++
			}
			continue
		}
		for _, x := range found {
			at := x.Time
			if f.keepTime || !x.Timed {
				at = r.Time
			}
			body := r.Body
			if f.removeKey {
				body = record.Without(body, []record.Path{f.key})
			}
			out = record.AppendEvent(out, at, r.Meta, f.merged(body, x.Body))
			count++
		}
	}
	return out, count, nil
}

// text is the field's text; other values are given as text as well.
func (f *parserFilter) text(body []byte) ([]byte, bool) {
	v, ok := f.key.Find(body)
	if !ok || record.KindOf(v) == record.Nil {
		return nil, false
	}
	text := record.AppendText(nil, v)
	if f.replace {
		text = bytes.ToValidUTF8(text, []byte("?"))
	}
	return text, true
}

func (f *parserFilter) reject(ctx context.Context, b flow.Batch, e *record.Event, why error) error {
	if !f.tell {
		return nil
	}
	return f.part.reject(ctx, b, e.Time, e.Body, why)
}

// merged puts what was parsed where the options say.
func (f *parserFilter) merged(body, values []byte) []byte {
	if f.prefix != "" {
		fields := record.FieldsOf(values)
		out := record.AppendMapHead(nil, fields.Count)
		for fields.Next() {
			out = append(record.AppendString(out, f.prefix+string(fields.Key)), fields.Value...)
		}
		values = out
	}
	if f.hashField != "" {
		values = append(record.AppendString([]byte{0x81}, f.hashField), values...)
	}
	if !f.keep {
		return values
	}
	return mergedMaps(body, values)
}

// mergedMaps is a map with the fields of another: those that are there already keep their place.
func mergedMaps(body, more []byte) []byte {
	out, n := []byte{0x80}, 0
	var used []string
	for f := record.FieldsOf(body); f.Next(); n++ {
		if v, ok := record.Get(more, string(f.Key)); ok && f.Key != nil {
			used = append(used, string(f.Key))
			out = append(append(out, f.Raw[:len(f.Raw)-len(f.Value)]...), v...)
			continue
		}
		out = append(out, f.Raw...)
	}
	for f := record.FieldsOf(more); f.Next(); {
		if !slices.Contains(used, string(f.Key)) {
			out = append(out, f.Raw...)
			n++
		}
	}
	return record.CloseMap(out, 0, n)
}

// stdoutFilter prints what passes.
type stdoutFilter struct {
	printer printer
	inject  *injector
}

// printer writes records to the engine's standard output.
type printer struct {
	mu     *sync.Mutex
	out    io.Writer
	format *format.Formatter
}

func (p *printer) print(b flow.Batch, inject *injector) error {
	var text []byte
	for r := record.NewReader(b.Data); r.Next(); {
		text = p.format.Append(text, b.Tag, r.Time, inject.apply(b.Tag, r.Time, r.Body))
	}
	return p.put(text)
}

func (p *printer) put(text []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, err := p.out.Write(text)
	return err
}

func newStdoutFilter(b *builder, p *part) filter {
	p.only("format", "inject")
	return &stdoutFilter{printer{&b.engine.stdout, b.out, b.formatter(p, "stdout")}, b.injector(p)}
}

func (f *stdoutFilter) apply(_ context.Context, b flow.Batch) ([]byte, int, error) {
	return b.Data, b.Count, f.printer.print(b, f.inject)
}
