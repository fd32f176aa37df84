package plan

import (
	"encoding/xml"
	"strings"

	"github.com/weft-dev/weft/kcl/value"
)

// XML writes one document as <root> and several inside <results>. Keys become
// elements, list items become <item>; a key that is no XML name becomes an
// <item> with the key as attribute "name".
func XML(docs []value.Value, o Options) string {
	var b strings.Builder
	b.WriteString(xml.Header)
	if len(docs) == 1 {
		xmlRoot(&b, docs[0], o)
		b.WriteByte('\n')
		return b.String()
	}
	b.WriteString("<results>\n")
	for _, doc := range docs {
		b.WriteString("  ")
		xmlRoot(&b, doc, o)
		b.WriteByte('\n')
	}
	b.WriteString("</results>\n")
	return b.String()
}

func xmlRoot(b *strings.Builder, v value.Value, o Options) {
	b.WriteString("<root>")
	xmlValue(b, v, o)
	b.WriteString("</root>")
}

func xmlValue(b *strings.Builder, v value.Value, o Options) {
	switch v := v.(type) {
	case *value.List:
		for _, item := range o.items(v) {
			b.WriteString("<item>")
			xmlValue(b, item, o)
			b.WriteString("</item>")
		}
	case *value.Dict, *value.Schema:
		for _, e := range o.visible(v) {
			name := e.Key
			if xmlName(name) {
				b.WriteString("<" + name + ">")
			} else {
				b.WriteString(`<item name="`)
				xmlText(b, name)
				b.WriteString(`">`)
				name = "item"
			}
			xmlValue(b, e.Value, o)
			b.WriteString("</" + name + ">")
		}
	case value.Str:
		xmlText(b, string(v))
	default:
		if !value.IsNull(v) {
			b.WriteString(JSON(v, o, 0))
		}
	}
}

func xmlText(b *strings.Builder, s string) {
	// A strings.Builder never fails.
	_ = xml.EscapeText(b, []byte(s))
}

func xmlName(s string) bool {
	for i, r := range s {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '_' || r >= 0xc0 && r != 0xd7 && r != 0xf7
		if !letter && (i == 0 || !(r >= '0' && r <= '9' || r == '-' || r == '.')) {
			return false
		}
	}
	return s != ""
}
