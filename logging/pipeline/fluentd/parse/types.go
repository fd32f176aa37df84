package parse

import (
	"bytes"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/weft-dev/weft/logging/pipeline/clock"
	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/pipeline/record"
)

// converters are the conversions of the option types: field:type, or field:type:argument.
func converters(o *options.Set, s clock.Settings, now func() time.Time) map[string]func([]byte) []byte {
	pairs := o.Pairs("types")
	if len(pairs) == 0 {
		return nil
	}
	all := map[string]func([]byte) []byte{}
	for _, pair := range pairs {
		kind, argument, has := strings.Cut(pair[1], ":")
		switch kind {
		case "string":
			all[pair[0]] = func(v []byte) []byte { return record.AppendString(nil, record.AppendText(nil, v)) }
		case "integer":
			all[pair[0]] = toInteger
		case "float":
			all[pair[0]] = toFloat
		case "bool":
			all[pair[0]] = toBool
		case "array":
			if !has {
				argument = ","
			}
			all[pair[0]] = func(v []byte) []byte { return toArray(v, argument) }
		case "time":
			if r := timeOf(o, argument, s, now); r != nil {
				all[pair[0]] = func(v []byte) []byte {
					t, err := r.Read(v)
					if err != nil {
						return record.AppendNil(nil)
					}
					return record.AppendInt(nil, t.Sec)
				}
			}
		default:
			o.Failf("types", "types: there is no type %q (of %s); there are string, integer, float, bool, time and array", kind, pair[0])
		}
	}
	return all
}

// timeOf reads the argument of the type time: FORMAT, or ZONE:FORMAT; unixtime and float are formats as well.
func timeOf(o *options.Set, argument string, s clock.Settings, now func() time.Time) *clock.Reader {
	s.Type, s.Format = "string", argument
	if zone, format, ok := strings.Cut(argument, ":"); ok {
		if found, err := clock.Zone(zone); err == nil {
			s.Zone, s.Format = found, format
		}
	}
	if s.Format == "unixtime" || s.Format == "float" {
		s.Type, s.Format = s.Format, ""
	}
	r, err := clock.NewReader(s, now)
	if err != nil {
		o.Failf("types", "types: %v", err)
		return nil
	}
	return r
}

func toInteger(v []byte) []byte {
	switch record.KindOf(v) {
	case record.Int:
		return v
	case record.Real:
		f, _ := record.Float(v)
		if math.Abs(f) < 1<<62 {
			return record.AppendInt(nil, int64(f))
		}
		return record.AppendInt(nil, 0)
	}
	text, _ := record.Text(v)
	return record.AppendInt(nil, leadingInteger(text))
}

// leadingInteger is the number that text begins with, 0 if there is none.
func leadingInteger(text []byte) int64 {
	text = bytes.TrimLeft(text, " \t\r\n")
	n := 0
	for n < len(text) && (text[n] >= '0' && text[n] <= '9' || n == 0 && (text[n] == '-' || text[n] == '+')) {
		n++
	}
	v, err := strconv.ParseInt(string(text[:n]), 10, 64)
	if err != nil && v == 0 {
		return 0
	}
	return v // at the limits of its range if the text is beyond them
}

func toFloat(v []byte) []byte {
	if record.KindOf(v) == record.Real || record.KindOf(v) == record.Int {
		f, _ := record.Float(v)
		return record.AppendFloat(nil, f)
	}
	text, _ := record.Text(v)
	text = bytes.TrimSpace(text)
	for n := min(len(text), 64); n > 0; n-- {
		c := text[n-1]
		if !(c >= '0' && c <= '9') {
			continue
		}
		if f, err := strconv.ParseFloat(string(text[:n]), 64); err == nil {
			return record.AppendFloat(nil, f)
		}
	}
	return record.AppendFloat(nil, 0)
}

func toBool(v []byte) []byte {
	switch strings.ToLower(string(record.AppendText(nil, v))) {
	case "true", "yes", "1":
		return record.AppendBool(nil, true)
	}
	return record.AppendBool(nil, false)
}

func toArray(v []byte, delimiter string) []byte {
	words := strings.Split(string(record.AppendText(nil, v)), delimiter)
	for len(words) > 0 && words[len(words)-1] == "" { // empty words at the end are none
		words = words[:len(words)-1]
	}
	b := record.AppendArrayHead(nil, len(words))
	for _, w := range words {
		b = record.AppendString(b, w)
	}
	return b
}
