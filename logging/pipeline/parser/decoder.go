package parser

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/pipeline/record"
)

// decoder is a Decode_Field or Decode_Field_As of a parser.
type decoder struct {
	replace bool   // Decode_Field_As: the value takes the place of the field; else its pairs join the record
	kind    string // json, escaped, escaped_utf8, mysql_quoted
	field   string
	onFail  string // try_next, do_next or nothing
}

func newDecoder(p config.Property) (decoder, error) {
	words := strings.Fields(p.Value)
	if len(words) < 2 || len(words) > 3 {
		return decoder{}, fmt.Errorf("%s needs a decoder and a field, and may have try_next or do_next behind them", p.Key)
	}
	d := decoder{replace: strings.EqualFold(p.Key, "decode_field_as"), kind: strings.ToLower(words[0]), field: words[1]}
	switch d.kind {
	case "json", "escaped", "escaped_utf8", "mysql_quoted":
	default:
		return d, fmt.Errorf("%s: there is no decoder %q; there are json, escaped, escaped_utf8 and mysql_quoted", p.Key, words[0])
	}
	if len(words) == 3 {
		d.onFail = strings.ToLower(words[2])
		if d.onFail != "try_next" && d.onFail != "do_next" {
			return d, fmt.Errorf("%s: there is no action %q; there are try_next and do_next", p.Key, words[2])
		}
	}
	return d, nil
}

// decode applies the decoders to the map that was appended at start.
func (p *Parser) decode(dst []byte, start int) []byte {
	body := bytes.Clone(dst[start:])
	dst = append(dst[:start], 0x80)
	n := 0
	var joined []byte // pairs of decoded maps, behind all others
	for f := record.FieldsOf(body); f.Next(); {
		text, ok := record.Text(f.Value)
		if !ok || f.Key == nil {
			dst = append(dst, f.Raw...)
			n++
			continue
		}
		value, pairs, changed := p.decodeField(string(f.Key), text)
		if pairs != nil {
			inner := record.FieldsOf(pairs)
			for inner.Next() {
				joined = append(joined, inner.Raw...)
				n++
			}
		}
		switch {
		case changed:
			dst = append(record.AppendString(dst, f.Key), value...)
		default:
			dst = append(dst, f.Raw...)
		}
		n++
	}
	return record.CloseMap(append(dst, joined...), start, n)
}

// decodeField runs the decoders of one field: at most one successful rule of each form, unless do_next says to go on.
func (p *Parser) decodeField(key string, text []byte) (value, pairs []byte, changed bool) {
	doneAs, done := false, false
	for i := range p.decoders {
		d := &p.decoders[i]
		if d.field != key || d.replace && doneAs || !d.replace && done {
			continue
		}
		decoded, ok := d.run(text)
		if ok && d.replace {
			if inner, isText := record.Text(decoded); isText {
				text = inner
			}
			value, changed = decoded, true
			doneAs = d.onFail != "do_next"
		}
		if ok && !d.replace && record.KindOf(decoded) == record.Map {
			pairs = decoded
			done = d.onFail != "do_next"
		}
		if !ok && d.onFail == "" {
			break
		}
	}
	return value, pairs, changed
}

func (d *decoder) run(text []byte) ([]byte, bool) {
	switch d.kind {
	case "json":
		trimmed := bytes.TrimSpace(text)
		if len(trimmed) == 0 || trimmed[0] != '{' {
			return nil, false
		}
		out, n, err := record.FromJSON(nil, trimmed)
		return out, err == nil && n == len(trimmed)
	case "mysql_quoted":
		n := len(text)
		if n < 2 || text[0] != text[n-1] || text[0] != '\'' && text[0] != '"' {
			return nil, false
		}
		return record.AppendString(nil, unescapeC(text[1:n-1])), true
	}
	return record.AppendString(nil, unescapeC(text)), true
}
