package output

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/pipeline/record"
)

// file appends records to files named by the options, by the tag or by the records.
type file struct {
	host           Host
	mu             sync.Mutex
	to             destination
	format         string
	delimiter      string
	labelDelimiter string
	template       []templatePart
	mkdir          bool
	columns        bool // csv_column_names
	headed         map[string]bool
	rotate         bool
	rotateSize     int64
	rotateFiles    int
	rotateGzip     bool
	buf            []byte
}

// templatePart is text, or what stands in braces.
type templatePart struct {
	text string // with its braces, if it is a field
	path *record.Path
	time bool
}

var delimiters = map[string]string{"\\t": "\t", "tab": "\t", "space": " ", "comma": ","}

func newFile(o *options.Set, h Host) Output {
	f := &file{host: h, to: newDestination(o), format: strings.ToLower(o.StringOr("format", "out_file")), mkdir: o.Bool("mkdir"),
		columns: o.Bool("csv_column_names"), headed: map[string]bool{}, rotate: o.Bool("rotate"), rotateSize: o.Size("rotate_max_size"),
		rotateFiles: o.Int("rotate_max_files"), rotateGzip: o.Bool("rotate_gzip")}
	named := func(key, other string) string {
		v := o.StringOr(key, other)
		if d, ok := delimiters[strings.ToLower(v)]; ok {
			return d
		}
		return v
	}
	switch f.format {
	case "out_file", "plain", "msgpack":
	case "csv":
		f.delimiter = named("delimiter", ",")
	case "ltsv":
		f.delimiter, f.labelDelimiter = named("delimiter", "\t"), named("label_delimiter", ":")
	case "template":
		var err error
		if f.template, err = parseTemplate(o.String("template")); err != nil {
			o.Failf("template", "Template: %v", err)
		}
	default:
		o.Failf("format", "there is no format %q; there are out_file, plain, csv, ltsv, msgpack and template", f.format)
	}
	if f.format != "csv" && f.format != "ltsv" {
		o.Tell("delimiter")
	}
	if f.format != "template" {
		o.Tell("template")
	}
	if f.format != "ltsv" {
		o.Tell("label_delimiter")
	}
	return f
}

// parseTemplate reads "{time} {message}": {name} and {$path} stand for fields, {time} for the time. Braces that are not closed are text.
func parseTemplate(text string) ([]templatePart, error) {
	text = strings.Trim(text, `"`)
	var parts []templatePart
	for text != "" {
		end := strings.IndexByte(text, '}')
		begin := strings.LastIndexByte(text[:max(end, 0)], '{')
		if end < 0 {
			return append(parts, templatePart{text: text}), nil
		}
		if begin < 0 {
			parts, text = append(parts, templatePart{text: text[:end+1]}), text[end+1:]
			continue
		}
		part := templatePart{text: text[begin : end+1]}
		if key := text[begin+1 : end]; key == "time" {
			part.time = true
		} else {
			p, err := record.ParsePath(key)
			if err != nil {
				return nil, err
			}
			part.path = &p
		}
		parts = append(parts, templatePart{text: text[:begin]}, part)
		text = text[end+1:]
	}
	return parts, nil
}

func (f *file) Write(_ context.Context, c Chunk) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.to.dynamic {
		return f.write(f.to.name(c.Tag), c)
	}
	names, parts, err := f.to.split(c, f.host)
	if err != nil {
		return Hopeless(err) // records that no try will place
	}
	for i, name := range names {
		if err := f.write(name, parts[i]); err != nil {
			return err
		}
	}
	return nil
}

// write appends records to one file.
func (f *file) write(name string, c Chunk) error {
	if f.mkdir {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
	}
	if f.rotate {
		if err := f.rotateIfFull(name); err != nil {
			return fmt.Errorf("rotating %s: %w", name, err)
		}
	}
	f.buf = f.appendChunk(f.buf[:0], name, c)
	out, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	before, statErr := out.Stat()
	_, err = out.Write(f.buf)
	if err != nil && statErr == nil && before.Mode().IsRegular() {
		// Nothing half written stays: the chunk comes again.
		if cut := out.Truncate(before.Size()); cut != nil {
			err = fmt.Errorf("%w; and what was written stays: %w", err, cut)
		}
	}
	if cap(f.buf) > 4<<20 {
		f.buf = nil
	}
	if closed := out.Close(); err == nil {
		err = closed
	}
	return err
}

// TakesMetrics says that metrics are written, in their text form whatever the format is.
func (f *file) TakesMetrics() {}

func (f *file) appendChunk(b []byte, name string, c Chunk) []byte {
	if c.Metrics {
		return metricsText(b, c)
	}
	if f.format == "msgpack" {
		return append(b, c.Data...)
	}
	for r := record.NewReader(c.Data); r.Next(); {
		switch f.format {
		case "out_file":
			b = append(b, c.Tag...)
			b = append(b, ": ["...)
			b = appendDecimalTime(b, r.Time)
			b = append(b, ", "...)
			b = record.AppendJSON(b, r.Body)
			b = append(b, ']', '\n')
		case "plain":
			b = append(record.AppendJSON(b, r.Body), '\n')
		case "csv":
			b = f.appendCSV(b, name, &r.Event)
		case "ltsv":
			b = f.appendLTSV(b, &r.Event)
		case "template":
			b = append(f.appendTemplate(b, &r.Event), '\n')
		}
	}
	return b
}

// appendCSV appends a line, none for a record without fields. Quotes in text are doubled (RFC 4180).
func (f *file) appendCSV(b []byte, name string, e *record.Event) []byte {
	if record.FieldsOf(e.Body).Count == 0 {
		return b
	}
	if f.columns && !f.headed[name] {
		f.headed[name] = true
		if info, err := os.Stat(name); err != nil || info.Size() == 0 {
			b = append(b, "timestamp"...)
			for fields := record.FieldsOf(e.Body); fields.Next(); {
				b = append(b, f.delimiter...)
				b = appendCell(b, keyOf(&fields))
			}
			b = append(b, '\n')
		}
	}
	b = appendDecimalTime(b, e.Time)
	for fields := record.FieldsOf(e.Body); fields.Next(); {
		b = append(b, f.delimiter...)
		b = appendCell(b, fields.Value)
	}
	return append(b, '\n')
}

func appendCell(b, value []byte) []byte {
	start := len(b)
	b = appendText(b, value)
	if n := bytes.Count(b[start:], []byte{'"'}); n > 2 && record.KindOf(value) == record.String {
		inner := bytes.ReplaceAll(b[start+1:len(b)-1], []byte{'"'}, []byte{'"', '"'})
		b = append(append(b[:start+1], inner...), '"')
	}
	return b
}

// keyOf is the key of a pair as it stands.
func keyOf(f *record.Fields) []byte { return f.Raw[:len(f.Raw)-len(f.Value)] }

func (f *file) appendLTSV(b []byte, e *record.Event) []byte {
	if record.FieldsOf(e.Body).Count == 0 {
		return b
	}
	b = append(b, `"time"`...)
	b = append(b, f.labelDelimiter...)
	b = strconv.AppendFloat(b, e.Time.Float(), 'f', 6, 64)
	for fields := record.FieldsOf(e.Body); fields.Next(); {
		b = append(b, f.delimiter...)
		b = appendText(b, keyOf(&fields))
		b = append(b, f.labelDelimiter...)
		b = appendText(b, fields.Value)
	}
	return append(b, '\n')
}

func (f *file) appendTemplate(b []byte, e *record.Event) []byte {
	for i := range f.template {
		p := &f.template[i]
		if p.time {
			b = strconv.AppendFloat(b, e.Time.Float(), 'f', 6, 64)
			continue
		}
		if p.path != nil {
			if v, ok := p.path.Find(e.Body); ok {
				if text, ok := record.Text(v); ok {
					b = append(b, text...)
				} else {
					b = appendText(b, v)
				}
				continue
			}
		}
		b = append(b, p.text...)
	}
	return b
}

// rotateIfFull moves a full file to NAME.1 (or NAME.1.gz), what was there to NAME.2 and so on, and removes the last.
func (f *file) rotateIfFull(name string) error {
	info, err := os.Stat(name)
	if err != nil || info.Size() < f.rotateSize || f.rotateSize == 0 {
		return nil
	}
	ending := ""
	if f.rotateGzip {
		ending = ".gz"
	}
	numbered := func(n int) string { return name + "." + strconv.Itoa(n) + ending }
	if err := os.Remove(numbered(f.rotateFiles)); err != nil && !os.IsNotExist(err) {
		return err
	}
	for n := f.rotateFiles - 1; n >= 1; n-- {
		if err := os.Rename(numbered(n), numbered(n+1)); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	f.headed[name] = false
	if !f.rotateGzip {
		return os.Rename(name, numbered(1))
	}
	return compressFile(name, numbered(1))
}

func compressFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to+".tmp", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	z := gzip.NewWriter(out)
	_, err = io.Copy(z, in)
	if closed := z.Close(); err == nil {
		err = closed
	}
	if closed := out.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	if err := os.Rename(to+".tmp", to); err != nil {
		return err
	}
	return os.Remove(from)
}

func (f *file) Close() error { return nil }
