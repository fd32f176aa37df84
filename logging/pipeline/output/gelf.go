package output

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/pipeline/record"
)

// gelf is how records become messages of GELF 1.1 (go2docs.graylog.org, "GELF Payload Specification"): fields of its own keep their names, all others begin
// with _, and maps are taken apart.
type gelf struct {
	keys map[string]string // of the record, to GELF's
}

// gelfLevels are the names of syslog's levels.
var gelfLevels = []string{"emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"}

func newGELF(o *options.Set) gelf {
	g := gelf{map[string]string{}}
	for _, name := range []string{"timestamp", "level", "full_message", "short_message", "host"} {
		g.keys[o.StringOr("gelf_"+name+"_key", name)] = name
	}
	return g
}

// appendRecord appends one message. It is not ok if the record has no short message, which GELF asks for.
func (g gelf) appendRecord(b []byte, e *record.Event) (out []byte, ok bool) {
	b = append(b, `{"version":"1.1"`...)
	seen := map[string]bool{}
	for f := record.FieldsOf(e.Body); f.Next(); {
		if f.Key == nil || record.KindOf(f.Value) == record.Nil {
			continue
		}
		name, own := g.keys[string(f.Key)]
		switch {
		case own && seen[name]:
			continue
		case own:
			seen[name] = true
		case string(f.Key) == "id": // GELF reserves _id
			continue
		}
		switch {
		case record.KindOf(f.Value) == record.Map:
			b = appendFlat(b, "_"+string(f.Key), f.Value)
			continue
		case own:
			b = appendGELFKey(b, name)
		default:
			b = appendGELFKey(b, "_"+string(f.Key))
		}
		if name == "level" {
			b = appendLevel(b, f.Value)
		} else {
			b = appendGELF(b, f.Value)
		}
	}
	if !seen["timestamp"] {
		b = appendGELFKey(b, "timestamp")
		b = strconv.AppendInt(b, e.Time.Sec, 10)
		b = append(b, '.')
		b = append(b, strconv.Itoa(1000 + int(e.Time.Nsec/1e6))[1:]...)
	}
	return append(b, '}'), seen["short_message"]
}

// appendGELFKey appends a key with what GELF does not take in names replaced.
func appendGELFKey(b []byte, key string) []byte {
	b = append(b, `, "`...)
	for i := range len(key) {
		c := key[i]
		if !(c == '_' || c == '-' || c == '.' || c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z') {
			c = '_'
		}
		b = append(b, c)
	}
	return append(b, `":`...)
}

// appendFlat appends the pairs of a map, and of maps inside of it, with their keys joined.
func appendFlat(b []byte, prefix string, value []byte) []byte {
	for f := record.FieldsOf(value); f.Next(); {
		if f.Key == nil {
			continue
		}
		key := prefix + "_" + string(f.Key)
		if record.KindOf(f.Value) == record.Map {
			b = appendFlat(b, key, f.Value)
			continue
		}
		b = appendGELF(appendGELFKey(b, key), f.Value)
	}
	return b
}

// appendGELF appends a value: GELF has texts and numbers only.
func appendGELF(b, value []byte) []byte {
	switch record.KindOf(value) {
	case record.Real:
		return record.AppendPlain(b, value)
	case record.Int, record.Nil:
		return record.AppendJSON(b, value)
	}
	return record.AppendJSONString(b, appendInner(nil, value))
}

// appendInner appends a value inside of a text: items with commas, pairs with =.
func appendInner(b, value []byte) []byte {
	switch record.KindOf(value) {
	case record.Array:
		first := true
		for i := record.ItemsOf(value); i.Next(); first = false {
			if !first {
				b = append(b, ", "...)
			}
			b = appendInner(b, i.Value)
		}
		return b
	case record.Map:
		return appendInnerMap(b, "", value)
	}
	return record.AppendPlain(b, value)
}

func appendInnerMap(b []byte, prefix string, value []byte) []byte {
	first := true
	for f := record.FieldsOf(value); f.Next(); first = false {
		key := strings.Trim(strings.TrimSuffix(string(bytes.TrimPrefix(appendGELFKey(nil, prefix+string(f.Key)), []byte(`, "`))), `":`), `"`)
		if record.KindOf(f.Value) == record.Map {
			b = appendInnerMap(b, key+"_", f.Value)
			continue
		}
		if !first {
			b = append(b, ' ')
		}
		b = append(append(b, key...), '=')
		b = appendInner(b, f.Value)
	}
	return b
}

// appendLevel appends a level of syslog as its number, whichever way the record has it.
func appendLevel(b, value []byte) []byte {
	if text, ok := record.Text(value); ok {
		if len(text) == 1 && text[0] >= '0' && text[0] <= '7' {
			return append(b, text...)
		}
		for n, name := range gelfLevels {
			if strings.EqualFold(string(text), name) {
				return strconv.AppendInt(b, int64(n), 10)
			}
		}
	}
	return appendGELF(b, value)
}
