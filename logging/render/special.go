package render

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/plugin"
)

// special renders the options that the table marks so.
func special(b *builder, s *config.Section, o *plugin.Option, value any, path string) {
	switch {
	case o.Shape == "rules":
		b.rules(s, o, value, path)
		return
	case o.Shape == "records":
		b.records(s, value, path)
		return
	case o.Shape == "map":
		b.jsonMap(s, o, value, path)
		return
	case o.Shape == "list":
		b.specialList(s, o, value, path)
		return
	case o.Shape == "boolean":
		if v, ok := value.(bool); ok && v {
			b.add(s, o, o.Key, "true", path)
		} else if !ok {
			b.fail("WrongType", path, "expected true or false, found %s", describe(value))
		}
		return
	}
	text, ok := b.scalar(o, value, path)
	if !ok {
		return
	}
	switch o.Key {
	case "host": // of a scraped target: the node itself unless one is named
		if text == "" || strings.EqualFold(text, "host") {
			text = "${HOST_IP}"
		}
	case "code":
		text = joinLua(text)
	case "Parsers_File":
		if text == "parsers.conf" { // absolute, so that a reload finds it
			text = "/fluent-bit/etc/parsers.conf"
		}
	case "Parser":
		for name := range strings.SplitSeq(text, ",") {
			if name = strings.Trim(name, " "); name != "" {
				b.add(s, o, o.Key, b.names.parser(name), path)
			}
		}
		return
	case "path":
		text = bufferPath(text)
	}
	if text != "" {
		b.add(s, o, o.Key, text, path)
	}
}

// bufferPath keeps buffers below the folder that is a volume.
func bufferPath(path string) string {
	if strings.HasPrefix(path, "/buffers") {
		return path
	}
	return "/buffers/" + strings.TrimLeft(path, "/")
}

func (b *builder) specialList(s *config.Section, o *plugin.Option, value any, path string) {
	texts := b.texts(value, path)
	if len(texts) == 0 {
		return
	}
	switch o.Field {
	case "labels":
		if o.Key == "extra_labels" { // Fluentd: as JSON
			labels := map[string]string{}
			for i, text := range texts {
				name, label, found := strings.Cut(text, "=")
				if !found {
					b.warn("InvalidValue", fmt.Sprintf("%s[%d]", path, i), "%q is not of the form name=value; it is left out", text)
					continue
				}
				labels[strings.TrimSpace(name)] = strings.TrimSpace(label)
			}
			b.add(s, o, o.Key, toJSON(labels), path)
			return
		}
		slices.SortStableFunc(texts, func(x, y string) int {
			x, _, _ = strings.Cut(x, "=")
			y, _, _ = strings.Cut(y, "=")
			return strings.Compare(x, y)
		})
		b.add(s, o, o.Key, strings.Join(texts, ","), path)
	case "labelKeys":
		label := &config.Section{Kind: "label"}
		for _, text := range texts {
			label.Add(text, text)
		}
		s.Sections = append(s.Sections, label)
	case "excludePath":
		quoted := make([]string, len(texts))
		for i, text := range texts {
			quoted[i] = toJSON(text)
		}
		b.add(s, o, o.Key, "["+strings.Join(quoted, ", ")+"]", path)
	}
}

func toJSON(v any) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if e.Encode(v) != nil {
		return ""
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func (b *builder) jsonMap(s *config.Section, o *plugin.Option, value any, path string) {
	labels := map[string]string{}
	for name, v := range b.object(value, path) {
		text, ok := v.(string)
		if !ok {
			b.fail("WrongType", path+"."+name, "expected a text, found %s", describe(v))
			return
		}
		labels[name] = text
	}
	if len(labels) > 0 {
		b.add(s, o, o.Key, toJSON(labels), path)
	}
}

// rules are those of a multiline parser.
func (b *builder) rules(s *config.Section, o *plugin.Option, value any, path string) {
	for i, item := range b.list(value, path) {
		at := fmt.Sprintf("%s[%d]", path, i)
		rule := b.object(item, at)
		var parts [3]string
		for n, name := range []string{"start", "regex", "next"} {
			parts[n], _ = rule[name].(string)
			if parts[n] == "" {
				b.fail("MissingField", at+"."+name, "a rule needs start, regex and next")
				return
			}
		}
		if strings.Contains(parts[0]+parts[2], `"`) {
			b.fail("InvalidValue", at, "the name of a state cannot have quotes")
			return
		}
		b.add(s, o, o.Key, config.QuoteRule(parts[0], escapeQuotes(parts[1]), parts[2]), at+".regex")
	}
}

// escapeQuotes puts a backslash before each quote that has none.
func escapeQuotes(text string) string {
	var out strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] == '\\' && i+1 < len(text) {
			out.WriteByte(text[i])
			i++
		} else if text[i] == '"' {
			out.WriteByte('\\')
		}
		out.WriteByte(text[i])
	}
	return out.String()
}

// records are what record_transformer adds.
func (b *builder) records(s *config.Section, value any, path string) {
	list := b.list(value, path)
	if len(list) == 0 {
		return
	}
	record := &config.Section{Kind: "record"}
	for i, item := range list {
		at := fmt.Sprintf("%s[%d]", path, i)
		object := b.object(item, at)
		key, _ := object["key"].(string)
		text, ok := object["value"].(string)
		if key == "" || !ok {
			b.fail("MissingField", at, "a record needs key and value")
			continue
		}
		record.Properties = append(record.Properties, config.Property{Key: key, Value: text, Pos: config.Position{File: at}})
	}
	s.Sections = append(s.Sections, record)
}

var (
	luaBlock = regexp.MustCompile(`^function |^if |^for |^else|^elseif |^end|--[[]+`)
	luaOpen  = regexp.MustCompile(`(\b(do|then|else|repeat|and|or|not|return|in)|[{(\[,=+*/%<>~]|\.\.|function\s*[\w.:]*\([^)]*\))$`)
	luaClose = regexp.MustCompile(`^([})\],+*/%]|\.\.|and\b|or\b)`)
)

// joinLua makes one line of a Lua program, since the classic format has no other: as the operator does, but a comment does not swallow the
// rest and an expression or block that goes on is not cut.
func joinLua(code string) string {
	var lines []string
	for line := range strings.SplitSeq(strings.TrimSuffix(code, "\n"), "\n") {
		if line = strings.TrimSpace(uncomment(line)); line != "" {
			lines = append(lines, line)
		}
	}
	var b strings.Builder
	for i, line := range lines {
		b.WriteString(line)
		next := ""
		if i+1 < len(lines) {
			next = lines[i+1]
		}
		if luaBlock.MatchString(line) || luaOpen.MatchString(line) || luaClose.MatchString(next) || strings.HasSuffix(line, ";") {
			b.WriteByte(' ')
		} else {
			b.WriteString("; ")
		}
	}
	return b.String()
}

// uncomment takes a comment that goes to the end of the line off.
func uncomment(line string) string {
	var quote byte
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case quote != 0:
			if c == '\\' {
				i++
			} else if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		case strings.HasPrefix(line[i:], "--") && !strings.HasPrefix(line[i:], "--[["):
			return line[:i]
		}
	}
	return line
}
