package record

import (
	"strconv"
	"strings"
)

// Template is text with parts of an event: $key, $key['inner'][0], $TAG, $TAG[n], and $0 to $9 for the groups of a regular expression. A key ends at the first
// byte that is no letter, digit, _, - or / (Fluent Bit's record accessor, src/record_accessor/ra.l).
type Template struct {
	text   string
	pieces []templatePiece
}

type templatePiece struct {
	text  string
	group int // -1 if it is none
	part  int // of the tag, -2 for the whole tag, -1 if it is none
	path  *Path
}

// Scope is what a template is filled from.
type Scope struct {
	Tag    string
	Body   []byte
	Value  []byte // what the regular expression was matched with
	Groups []int  // pairs of offsets into Value
}

// ParseTemplate reads a template. A $ at the end of the text stands for itself.
func ParseTemplate(text string) (Template, error) {
	t := Template{text: text}
	add := func(p templatePiece) { t.pieces = append(t.pieces, p) }
	for text != "" {
		i := strings.IndexByte(text, '$')
		if i < 0 || i == len(text)-1 {
			add(templatePiece{text: text, group: -1, part: -1})
			return t, nil
		}
		if i > 0 {
			add(templatePiece{text: text[:i], group: -1, part: -1})
		}
		text = text[i:]
		switch {
		case text[1] >= '0' && text[1] <= '9':
			add(templatePiece{group: int(text[1] - '0'), part: -1})
			text = text[2:]
		case strings.HasPrefix(text, "$TAG"):
			piece := templatePiece{group: -1, part: -2}
			text = text[4:]
			if inner, after, ok := strings.Cut(text, "]"); ok && strings.HasPrefix(inner, "[") {
				if n, err := strconv.Atoi(inner[1:]); err == nil && n >= 0 {
					piece.part, text = n, after
				}
			}
			add(piece)
		default:
			end := pathEnd(text)
			p, err := ParsePath(text[:end])
			if err != nil {
				return Template{}, err
			}
			add(templatePiece{group: -1, part: -1, path: &p})
			text = text[end:]
		}
	}
	return t, nil
}

// FixedTemplate is text without parts of events.
func FixedTemplate(text string) Template {
	return Template{text: text, pieces: []templatePiece{{text: text, group: -1, part: -1}}}
}

// FieldTemplate is the text of one field.
func FieldTemplate(p Path) Template {
	return Template{text: p.text, pieces: []templatePiece{{group: -1, part: -1, path: &p}}}
}

// pathEnd is where a path that text begins with ends.
func pathEnd(text string) int {
	i := 1
	for i < len(text) {
		c := text[i]
		switch {
		case c == '[':
			end := strings.IndexByte(text[i:], ']')
			if end < 0 {
				return len(text)
			}
			i += end + 1
		case c == '_' || c == '-' || c == '/' || c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z':
			i++
		default:
			return i
		}
	}
	return i
}

// String is the template as it was written.
func (t Template) String() string { return t.text }

// OfRecord tells whether the text depends on records, and not on their tag alone.
func (t Template) OfRecord() bool {
	for i := range t.pieces {
		if t.pieces[i].path != nil || t.pieces[i].group >= 0 {
			return true
		}
	}
	return false
}

// Paths are the fields that are named.
func (t Template) Paths() []Path {
	var all []Path
	for i := range t.pieces {
		if p := t.pieces[i].path; p != nil {
			all = append(all, *p)
		}
	}
	return all
}

// Append appends the text for an event. Fields that it lacks leave nothing, and then complete is false.
func (t Template) Append(b []byte, s Scope) (out []byte, complete bool) {
	complete = true
	for i := range t.pieces {
		p := &t.pieces[i]
		switch {
		case p.group >= 0:
			if 2*p.group+1 < len(s.Groups) && s.Groups[2*p.group] >= 0 {
				b = append(b, s.Value[s.Groups[2*p.group]:s.Groups[2*p.group+1]]...)
			}
		case p.part == -2:
			b = append(b, s.Tag...)
		case p.part >= 0:
			words := strings.Split(s.Tag, ".")
			if p.part < len(words) {
				b = append(b, words[p.part]...)
			}
		case p.path != nil:
			v, ok := p.path.Find(s.Body)
			if !ok {
				complete = false
				continue
			}
			b = AppendPlain(b, v)
		default:
			b = append(b, p.text...)
		}
	}
	return b, complete
}

// AppendPlain appends a value as the record accessor writes it into text: strings as they are, numbers with a point with six digits behind it, maps as
// JSON, and nothing for arrays.
func AppendPlain(b, value []byte) []byte {
	switch KindOf(value) {
	case Real:
		f, _ := Float(value)
		return strconv.AppendFloat(b, f, 'f', 6, 64)
	case Array:
		return b
	}
	return AppendText(b, value)
}
