package output

import (
	"strconv"
	"strings"

	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/pipeline/record"
)

// jsonStyle is how records become JSON: with the time under a key of its own, in one of Fluent Bit's forms (src/flb_pack.c).
type jsonStyle struct {
	shape   string // json (an array), json_lines, json_stream
	dateKey string // "" leaves the time out
	date    string // double, iso8601, epoch, epoch_ms, epoch_ns, java_sql_timestamp
}

// newJSONStyle reads json_date_key and json_date_format.
func newJSONStyle(o *options.Set, shape string) jsonStyle {
	s := jsonStyle{shape: shape, dateKey: o.String("json_date_key"), date: strings.ToLower(o.StringOr("json_date_format", "double"))}
	switch strings.ToLower(s.dateKey) {
	case "false", "off", "no":
		s.dateKey = ""
	}
	switch s.date {
	case "double", "iso8601", "epoch", "epoch_ms", "epoch_ns", "epoch_nano", "java_sql_timestamp":
	default:
		o.Failf("json_date_format", "there is no date format %q; there are double, iso8601, java_sql_timestamp, epoch, epoch_ms and epoch_ns", s.date)
	}
	return s
}

func (s jsonStyle) appendTime(b []byte, t record.Time) []byte {
	switch s.date {
	case "iso8601":
		b = append(b, '"')
		b = t.Std().AppendFormat(b, "2006-01-02T15:04:05.000000Z")
		return append(b, '"')
	case "iso8601_ns":
		b = append(b, '"')
		b = t.Std().AppendFormat(b, "2006-01-02T15:04:05.000000000Z")
		return append(b, '"')
	case "java_sql_timestamp":
		b = append(b, '"')
		b = t.Std().AppendFormat(b, "2006-01-02 15:04:05.000000")
		return append(b, '"')
	case "epoch":
		return strconv.AppendInt(b, t.Sec, 10)
	case "epoch_ms":
		return strconv.AppendInt(b, t.Sec*1000+int64(t.Nsec/1e6), 10)
	case "epoch_ns", "epoch_nano":
		return strconv.AppendInt(b, t.Sec*1e9+int64(t.Nsec), 10)
	}
	return record.AppendJSONFloat(b, t.Float())
}

// appendRecord appends one record as a JSON object.
func (s jsonStyle) appendRecord(b []byte, e *record.Event) []byte {
	b = append(b, '{')
	first := true
	if s.dateKey != "" {
		b = record.AppendJSONString(b, s.dateKey)
		b = append(b, ':')
		b = s.appendTime(b, e.Time)
		first = false
	}
	for f := record.FieldsOf(record.Distinct(e.Body)); f.Next(); first = false {
		if !first {
			b = append(b, ',')
		}
		b = record.AppendJSONKey(b, &f)
		b = append(b, ':')
		b = record.AppendJSON(b, f.Value)
	}
	return append(b, '}')
}

// appendChunk appends all records of a chunk in the style's shape.
func (s jsonStyle) appendChunk(b []byte, data []byte) []byte {
	if s.shape == "json" {
		b = append(b, '[')
	}
	n := 0
	for r := record.NewReader(data); r.Next(); n++ {
		if s.shape == "json" && n > 0 {
			b = append(b, ',')
		}
		b = s.appendRecord(b, &r.Event)
		if s.shape == "json_lines" {
			b = append(b, '\n')
		}
	}
	if s.shape == "json" {
		b = append(b, ']')
	}
	return b
}

// appendDecimalTime appends seconds and nanoseconds with a point.
func appendDecimalTime(b []byte, t record.Time) []byte {
	b = strconv.AppendInt(b, t.Sec, 10)
	b = append(b, '.')
	nsec := strconv.Itoa(int(t.Nsec))
	for range 9 - len(nsec) {
		b = append(b, '0')
	}
	return append(b, nsec...)
}
