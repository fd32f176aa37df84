package parser

import (
	"bytes"

	"github.com/weft-dev/weft/logging/pipeline/record"
)

// CRILine is a line of a container's log as Kubernetes' runtimes write it: time stream flag message.
type CRILine struct {
	Time, Stream, Flag, Message []byte
}

// CutCRI cuts such a line; ok is false for any other text.
func CutCRI(text []byte) (line CRILine, ok bool) {
	i := bytes.IndexByte(text, ' ')
	if i < 1 || len(text) < i+8 {
		return line, false
	}
	rest := text[i+1:]
	if stream := string(rest[:6]); stream != "stdout" && stream != "stderr" || rest[6] != ' ' {
		return line, false
	}
	line.Time, line.Stream, rest = text[:i], rest[:6], rest[7:]
	if i = bytes.IndexByte(rest, ' '); i < 0 {
		return line, false
	}
	line.Flag, line.Message = rest[:i], rest[i+1:]
	// The expression's dot does not match a line break, and $ only stands before one.
	if n := bytes.IndexByte(line.Message, '\n'); n >= 0 {
		line.Message = line.Message[:n]
	}
	return line, bytes.IndexByte(line.Flag, '\n') < 0 || len(line.Flag) > 0
}

// parseLTSV reads label:value pairs between tabs (ltsv.org).
func (p *Parser) parseLTSV(dst, text []byte) ([]byte, record.Time, bool) {
	start, n := len(dst), 0
	dst = append(dst, 0x80)
	var t record.Time
	for len(text) > 0 {
		var field []byte
		field, text, _ = bytes.Cut(text, []byte{'\t'})
		field = bytes.TrimRight(field, "\r\n")
		key, value, found := bytes.Cut(field, []byte{':'})
		if !found || len(key) == 0 {
			continue
		}
		if p.time != nil && string(key) == p.timeKey {
			moment, ok := p.readTime(value)
			if ok {
				t = moment
			}
			if ok && !p.timeKeep {
				continue
			}
		}
		dst = record.AppendString(dst, key)
		dst = appendTyped(dst, value, p.types[string(key)])
		n++
	}
	if n == 0 && t.IsZero() {
		return dst, t, false
	}
	return record.CloseMap(dst, start, n), t, true
}

func identByte(b byte) bool { return b > ' ' && b != '=' && b != '"' }

// parseLogfmt reads key=value pairs (brandur.org/logfmt).
func (p *Parser) parseLogfmt(dst, text []byte) ([]byte, record.Time, bool) {
	start, n := len(dst), 0
	dst = append(dst, 0x80)
	var t record.Time
	for at := 0; at < len(text); {
		if !identByte(text[at]) {
			at++
			continue
		}
		from := at
		for at < len(text) && identByte(text[at]) {
			at++
		}
		key := text[from:at]
		var value []byte
		set, quoted, escaped := false, false, false
		if at < len(text) && text[at] == '=' {
			set = true
			at++
			if at < len(text) && text[at] == '"' {
				quoted = true
				at++
				from = at
				for at < len(text) && text[at] != '"' {
					if text[at] == '\\' {
						escaped = true
						at++
					}
					at++
				}
				at = min(at, len(text))
				value = text[from:at]
				at++
			} else {
				from = at
				for at < len(text) && identByte(text[at]) {
					at++
				}
				value = text[from:at]
			}
		}
		if p.noBare && !set {
			return dst, t, false
		}
		if p.time != nil && len(value) > 0 && string(key) == p.timeKey {
			moment, ok := p.readTime(value)
			if !ok && p.strict {
				return dst, t, false
			}
			t = moment
			if !p.timeKeep {
				continue
			}
		}
		dst = record.AppendString(dst, key)
		dst = p.appendLogfmt(dst, key, value, quoted, escaped)
		n++
	}
	if n == 0 && t.IsZero() {
		return dst, t, false
	}
	return record.CloseMap(dst, start, n), t, true
}

func (p *Parser) appendLogfmt(dst, key, value []byte, quoted, escaped bool) []byte {
	if kind := p.types[string(key)]; kind != 0 {
		return appendTyped(dst, value, kind)
	}
	if len(value) == 0 && !quoted {
		return record.AppendBool(dst, true)
	}
	if escaped {
		return record.AppendString(dst, unescapeC(value))
	}
	return record.AppendString(dst, value)
}

// unescapeC decodes the escapes of C and JSON; an unknown one stays.
func unescapeC(text []byte) []byte {
	out := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' || i+1 == len(text) {
			out = append(out, text[i])
			continue
		}
		i++
		switch c := text[i]; c {
		case 'n':
			out = append(out, '\n')
		case 't':
			out = append(out, '\t')
		case 'r':
			out = append(out, '\r')
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'a':
			out = append(out, 7)
		case 'v':
			out = append(out, '\v')
		case '"', '\\', '/', '\'':
			out = append(out, c)
		case 'u':
			decoded, err := record.Unescape(nil, text[i-1:min(i+5, len(text))])
			if err != nil {
				out = append(out, '\\', 'u')
				continue
			}
			out = append(out, decoded...)
			i += 4
		default:
			out = append(out, '\\', c)
		}
	}
	return out
}
