// Package clock writes and reads times as Fluentd's plugins do: in the directives of Ruby's strftime and strptime, as numbers of seconds, and in
// time zones that are named or given as an offset (lib/fluent/time.rb). It knows no records beyond their time.
package clock

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/weft-dev/weft/logging/pipeline/parser"
	"github.com/weft-dev/weft/logging/pipeline/record"
)

var offsetForm = regexp.MustCompile(`^[-+]\d\d:?\d\d$`)

// Zone finds a time zone: an offset (+0900, +09:00), or a name (Asia/Tokyo).
func Zone(name string) (*time.Location, error) {
	if offsetForm.MatchString(name) {
		digits := strings.ReplaceAll(name[1:], ":", "")
		h, errH := strconv.Atoi(digits[:2])
		m, errM := strconv.Atoi(digits[2:])
		if errH != nil || errM != nil || h > 23 || m > 59 {
			return nil, fmt.Errorf("%q is no time zone", name)
		}
		seconds := h*3600 + m*60
		if name[0] == '-' {
			seconds = -seconds
		}
		return time.FixedZone(name[:1]+digits, seconds), nil
	}
	if name == "" || name == "Local" || !strings.Contains(name, "/") && name != "UTC" {
		return nil, fmt.Errorf("%q is no time zone; write an offset such as +0900, or a name such as Asia/Tokyo", name)
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("%q is no time zone that is known here; write an offset such as +0900, or a name such as Asia/Tokyo", name)
	}
	return zone, nil
}

// Settings are the options for times that many sections share.
type Settings struct {
	Type      string         // string, unixtime, float, mixed; for writing also unixtime_millis, unixtime_micros, unixtime_nanos
	Format    string         // of strftime and strptime, or %iso8601; "" for ISO 8601 when writing, any usual form when reading
	Fallbacks []string       // formats that are tried after Format, for mixed
	Zone      *time.Location // of texts that name none
}

// Writer writes times.
type Writer struct{ Settings }

// Text appends the time as text.
func (w *Writer) Text(b []byte, t record.Time) []byte {
	switch w.Type {
	case "unixtime":
		return strconv.AppendInt(b, t.Sec, 10)
	case "float":
		return fmt.Appendf(b, "%d.%09d", t.Sec, t.Nsec)
	}
	at := t.Std().In(w.Zone)
	if w.Format == "" || w.Format == "%iso8601" {
		if w.Zone == time.UTC {
			return at.AppendFormat(b, "2006-01-02T15:04:05Z")
		}
		return at.AppendFormat(b, "2006-01-02T15:04:05-07:00")
	}
	return Format(b, w.Format, at)
}

// Value appends the time as a value of MessagePack: a number for the numeric types.
func (w *Writer) Value(b []byte, t record.Time) []byte {
	switch w.Type {
	case "float": // of microseconds
		return record.AppendFloat(b, float64(t.Sec*1e6+int64(t.Nsec/1000))/1e6)
	case "unixtime":
		return record.AppendInt(b, t.Sec)
	case "unixtime_millis":
		return record.AppendInt(b, t.Sec*1e3+int64(t.Nsec/1e6))
	case "unixtime_micros":
		return record.AppendInt(b, t.Sec*1e6+int64(t.Nsec/1e3))
	case "unixtime_nanos":
		return record.AppendInt(b, t.Sec*1e9+int64(t.Nsec))
	}
	return record.AppendString(b, w.Text(nil, t))
}

// Reader reads times. It may be used by several goroutines.
type Reader struct {
	ways []func(value []byte) (record.Time, bool)
	now  func() time.Time
}

// NewReader checks the settings.
func NewReader(s Settings, now func() time.Time) (*Reader, error) {
	r := &Reader{now: now}
	if s.Type != "mixed" {
		way, err := r.way(s.Type, s.Format, s.Zone)
		r.ways = append(r.ways, way)
		return r, err
	}
	for _, form := range append([]string{s.Format}, s.Fallbacks...) {
		if form == "" {
			continue
		}
		kind := "string"
		if form == "unixtime" || form == "float" {
			kind = form
		}
		way, err := r.way(kind, form, s.Zone)
		if err != nil {
			return nil, err
		}
		r.ways = append(r.ways, way)
	}
	if len(r.ways) == 0 {
		return nil, errors.New("time_type mixed needs time_format or time_format_fallbacks")
	}
	return r, nil
}

func (r *Reader) way(kind, format string, zone *time.Location) (func([]byte) (record.Time, bool), error) {
	switch {
	case kind == "unixtime" || kind == "float":
		return func(value []byte) (record.Time, bool) { return numeric(value, kind == "float") }, nil
	case format == "":
		return func(value []byte) (record.Time, bool) { return anyForm(value, zone) }, nil
	case format == "%iso8601":
		return func(value []byte) (record.Time, bool) {
			text, ok := record.Text(value)
			t, err := time.Parse(time.RFC3339Nano, string(text))
			return record.TimeOf(t), ok && err == nil
		}, nil
	}
	f, err := parser.NewTimeFormat(fractions.ReplaceAllString(format, "%L"), 0, zone)
	if err != nil {
		return nil, err
	}
	return func(value []byte) (record.Time, bool) {
		text, ok := record.Text(value)
		if !ok {
			return record.Time{}, false
		}
		return f.Parse(text, r.now().In(zone))
	}, nil
}

// fractions are what Ruby has for a fraction of a second, of any number of digits.
var fractions = regexp.MustCompile(`%\d*[NL]`)

// Read reads a value of MessagePack: text, or a number for the numeric types.
func (r *Reader) Read(value []byte) (record.Time, error) {
	for _, way := range r.ways {
		if t, ok := way(value); ok {
			return t, nil
		}
	}
	return record.Time{}, fmt.Errorf("invalid time format: value = %.200s", record.AppendText(nil, value))
}

// numeric reads a number, or text that begins with one; a fraction only if asked for.
func numeric(value []byte, fraction bool) (record.Time, bool) {
	if record.KindOf(value) == record.Int {
		n, ok := record.Integer(value)
		return record.Time{Sec: n}, ok
	}
	text, ok := record.Text(value)
	if record.KindOf(value) == record.Real {
		var f float64
		f, ok = record.Float(value)
		text = strconv.AppendFloat(nil, f, 'f', -1, 64)
	}
	if !ok {
		return record.Time{}, false
	}
	whole, rest, _ := bytes.Cut(text, []byte("."))
	sec, err := strconv.ParseInt(string(bytes.TrimSpace(whole)), 10, 64)
	if err != nil {
		return record.Time{}, false
	}
	t := record.Time{Sec: sec}
	if fraction {
		for i := range 9 {
			t.Nsec *= 10
			if i < len(rest) && rest[i] >= '0' && rest[i] <= '9' {
				t.Nsec += uint32(rest[i] - '0')
			}
		}
	}
	return t, true
}

// forms are those that Time.parse of Ruby meets in logs.
var forms = []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999Z0700", "2006-01-02 15:04:05.999999999 Z0700", "2006-01-02 15:04:05.999999999 Z07:00", "2006-01-02 15:04:05.999999999 MST",
	"2006-01-02 15:04:05.999999999Z07:00", "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999", "2006/01/02 15:04:05.999999999", "2006/01/02 15:04:05.999999999 Z0700",
	"2006-01-02", "2006/01/02", time.RFC1123Z, time.RFC1123, time.RFC850, time.ANSIC, time.UnixDate, time.RubyDate, "Mon, 2 Jan 2006 15:04:05 Z0700", "2 Jan 2006 15:04:05 Z0700", "2 Jan 2006 15:04:05", "20060102T150405Z0700", "20060102150405"}

func anyForm(value []byte, zone *time.Location) (record.Time, bool) {
	text, ok := record.Text(value)
	if !ok || len(text) > 100 {
		return record.Time{}, false
	}
	for _, form := range forms {
		if t, err := time.ParseInLocation(form, string(text), zone); err == nil {
			return record.TimeOf(t), true
		}
	}
	return record.Time{}, false
}
