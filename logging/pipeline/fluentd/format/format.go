// Package format writes records as Fluentd's formatter plugins do: what a <format> section says (lib/fluent/plugin/formatter*.rb). It knows no outputs.
package format

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/pipeline/clock"
	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/pipeline/record"
	"github.com/weft-dev/weft/logging/plugin"
)

// Formatter writes records. It may be used by several goroutines.
type Formatter struct {
	Type   string
	Passed []config.Property // options of the section that change nothing
	append func(b []byte, tag string, t record.Time, body []byte) []byte
}

type maker func(o *options.Set, newline string) func(b []byte, tag string, t record.Time, body []byte) []byte

func makers() map[string]maker {
	return map[string]maker{"json": newJSON, "out_file": newOutFile, "ltsv": newLTSV, "csv": newCSV, "tsv": newTSV, "msgpack": newMsgpack,
		"single_value": newSingleValue, "hash": newHash, "stdout": newStdout}
}

// Names are the formatters that are built in.
func Names() []string { return slices.Sorted(maps.Keys(makers())) }

// New makes the formatter of a <format> section, or of none (nil); other is its type if the section names none.
func New(s *config.Section, other string) (*Formatter, error) {
	if s == nil {
		s = &config.Section{Kind: "format"}
	}
	name, make, err := options.Chosen(s, "formatter", other, makers())
	if err != nil {
		return nil, err
	}
	o := options.New(s, plugin.Fluentd().Groups["format"], nil)
	newline := "\n"
	switch strings.ToLower(o.String("newline")) {
	case "", "lf":
	case "crlf":
		newline = "\r\n"
	default:
		o.Failf("newline", "newline must be lf or crlf")
	}
	if !o.Bool("add_newline") && o.Has("add_newline") && name != "out_file" && name != "stdout" {
		newline = ""
	}
	o.Ignore("@id", "@log_level")
	o.Pass("json_parser")
	f := &Formatter{Type: name, append: make(o, newline), Passed: o.Passed()}
	for _, child := range s.Sections {
		o.FailAt(child.Pos, "<%s> is not built into logagent inside of <format>", child.Kind)
	}
	return f, o.Done()
}

// Append appends one record.
func (f *Formatter) Append(b []byte, tag string, t record.Time, body []byte) []byte {
	return f.append(b, tag, t, body)
}

func newJSON(_ *options.Set, newline string) func([]byte, string, record.Time, []byte) []byte {
	return func(b []byte, _ string, _ record.Time, body []byte) []byte {
		return append(record.AppendJSON(b, body), newline...)
	}
}

func newOutFile(o *options.Set, newline string) func([]byte, string, record.Time, []byte) []byte {
	times := clock.Writer{Settings: clock.Read(o, "string")}
	delimiter := "\t"
	switch text := strings.ToUpper(o.String("delimiter")); {
	case strings.Contains(text, "SPACE"):
		delimiter = " "
	case strings.Contains(text, "COMMA"):
		delimiter = ","
	}
	withTime, withTag := o.Bool("output_time"), o.Bool("output_tag")
	return func(b []byte, tag string, t record.Time, body []byte) []byte {
		if withTime {
			b = append(times.Text(b, t), delimiter...)
		}
		if withTag {
			b = append(append(b, tag...), delimiter...)
		}
		return append(record.AppendJSON(b, body), newline...)
	}
}

func newLTSV(o *options.Set, newline string) func([]byte, string, record.Time, []byte) []byte {
	delimiter, label, replacement := o.StringOr("delimiter", "\t"), o.StringOr("label_delimiter", ":"), o.StringOr("replacement", " ")
	return func(b []byte, _ string, _ record.Time, body []byte) []byte {
		start := len(b)
		for f := record.FieldsOf(body); f.Next(); {
			if len(b) > start {
				b = append(b, delimiter...)
			}
			b = append(append(b, f.Key...), label...)
			b = append(b, strings.ReplaceAll(string(appendPlain(nil, f.Value)), delimiter, replacement)...)
		}
		return append(b, newline...)
	}
}

func newCSV(o *options.Set, newline string) func([]byte, string, record.Time, []byte) []byte {
	delimiter := o.StringOr("delimiter", ",")
	if delimiter == `\t` || delimiter == "TAB" {
		delimiter = "\t"
	}
	always := o.Bool("force_quotes")
	paths := paths(o, "fields")
	return func(b []byte, _ string, _ record.Time, body []byte) []byte {
		for i, p := range paths {
			if i > 0 {
				b = append(b, delimiter...)
			}
			v, ok := p.Find(body)
			var text []byte
			if ok {
				text = appendPlain(nil, v)
			}
			if always || bytes.ContainsAny(text, "\"\r\n") || bytes.Contains(text, []byte(delimiter)) || ok && len(text) == 0 && record.KindOf(v) != record.Nil {
				b = append(append(append(b, '"'), bytes.ReplaceAll(text, []byte(`"`), []byte(`""`))...), '"')
			} else {
				b = append(b, text...)
			}
		}
		return append(b, newline...)
	}
}

// paths are the fields that a list names.
func paths(o *options.Set, key string) []record.Path {
	var all []record.Path
	for _, name := range o.Array(key) {
		p, err := record.ParseAccessor(name)
		if err != nil {
			o.Failf(key, "%s: %v", key, err)
		}
		all = append(all, p)
	}
	if len(all) == 0 {
		o.Failf(key, "the formatter needs %s: the names of fields, separated by commas", key)
	}
	return all
}

func newTSV(o *options.Set, newline string) func([]byte, string, record.Time, []byte) []byte {
	delimiter, names := o.StringOr("delimiter", "\t"), o.Array("keys")
	if len(names) == 0 {
		o.Failf("keys", "the formatter needs keys: the names of fields, separated by commas")
	}
	return func(b []byte, _ string, _ record.Time, body []byte) []byte {
		for i, name := range names {
			if i > 0 {
				b = append(b, delimiter...)
			}
			if v, ok := record.Get(body, name); ok {
				b = appendPlain(b, v)
			}
		}
		return append(b, newline...)
	}
}

func newMsgpack(*options.Set, string) func([]byte, string, record.Time, []byte) []byte {
	return func(b []byte, _ string, _ record.Time, body []byte) []byte { return append(b, body...) }
}

func newSingleValue(o *options.Set, newline string) func([]byte, string, record.Time, []byte) []byte {
	key := o.StringOr("message_key", "message")
	return func(b []byte, _ string, _ record.Time, body []byte) []byte {
		if v, ok := record.Get(body, key); ok {
			b = appendPlain(b, v)
		}
		return append(b, newline...)
	}
}

func newHash(_ *options.Set, newline string) func([]byte, string, record.Time, []byte) []byte {
	return func(b []byte, _ string, _ record.Time, body []byte) []byte {
		return append(appendInspected(b, body), newline...)
	}
}

// newStdout is a line for people: time, tag and the record in another format.
func newStdout(o *options.Set, _ string) func([]byte, string, record.Time, []byte) []byte {
	kind, form := o.StringOr("output_type", "json"), o.StringOr("time_format", "%Y-%m-%d %H:%M:%S.%N %z")
	make := makers()[kind]
	if make == nil || kind == "stdout" {
		o.Failf("output_type", "there is no output_type %q; there are %s", kind, strings.Join(Names(), ", "))
		return nil
	}
	inner := make(o, "\n")
	o.Ignore("time_type")
	return func(b []byte, tag string, t record.Time, body []byte) []byte {
		b = clock.Format(b, form, t.Std().In(time.Local))
		b = append(append(append(b, ' '), tag...), ": "...)
		return append(bytes.TrimSuffix(inner(b, tag, t, body), []byte("\n")), '\n')
	}
}

// appendPlain appends a value as text: nothing for nil, maps and arrays as the engine's language prints them.
func appendPlain(b, value []byte) []byte {
	switch record.KindOf(value) {
	case record.Nil:
		return b
	case record.Map, record.Array:
		return appendInspected(b, value)
	}
	return record.AppendText(b, value)
}

// appendInspected appends a value as Ruby's inspect prints it.
func appendInspected(b, value []byte) []byte {
	switch record.KindOf(value) {
	case record.Nil:
		return append(b, "nil"...)
	case record.Map:
		b = append(b, '{')
		for f, n := record.FieldsOf(value), 0; f.Next(); n++ {
			if n > 0 {
				b = append(b, ", "...)
			}
			b = append(record.AppendJSONKey(b, &f), "=>"...)
			b = appendInspected(b, f.Value)
		}
		return append(b, '}')
	case record.Array:
		b = append(b, '[')
		for i, n := record.ItemsOf(value), 0; i.Next(); n++ {
			if n > 0 {
				b = append(b, ", "...)
			}
			b = appendInspected(b, i.Value)
		}
		return append(b, ']')
	}
	return record.AppendJSON(b, value)
}
