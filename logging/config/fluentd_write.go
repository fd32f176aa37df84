package config

import (
	"encoding/json"
	"strings"
)

func (w *writer) fluentd(s *Section, indent string) {
	if s.Text != "" {
		for line := range strings.SplitSeq(s.Text, "\n") {
			if line != "" {
				w.WriteString(indent + line + "\n")
			}
		}
		return
	}
	if s.Kind == "" || strings.Trim(s.Kind, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != "" {
		w.fault(s.Pos, "%q cannot be the name of a section", s.Kind)
		return
	}
	w.WriteString(indent + "<" + s.Kind)
	if s.Arg != "" {
		w.WriteString(" " + fluentdArg(s.Arg))
	}
	w.WriteString(">\n")
	for _, p := range s.Properties {
		w.fluentdProperty(p, indent+"  ")
	}
	for _, child := range s.Sections {
		w.fluentd(child, indent+"  ")
	}
	w.WriteString(indent + "</" + s.Kind + ">\n")
}

func fluentdArg(arg string) string {
	if strings.ContainsAny(arg, ">\"'\\\r\n\x00") || strings.TrimSpace(arg) != arg || strings.Contains(arg, "#{") || strings.HasPrefix(arg, "#") {
		return rubyQuoted(arg)
	}
	return arg
}

func (w *writer) fluentdProperty(p Property, indent string) {
	if p.Tree != nil || p.Key == "" {
		w.fault(p.Pos, "%q: Fluentd's format has no such value", p.Key)
		return
	}
	if p.Key[0] == '@' && !reserved[p.Key] {
		w.fault(p.Pos, "%q cannot be a name in Fluentd's format: names that begin with @ are the engine's own", p.Key)
		return
	}
	w.WriteString(indent + fluentdKey(p.Key))
	value := fluentdValue(p)
	if value != "" {
		w.WriteString("  " + value)
	}
	w.WriteByte('\n')
}

func fluentdKey(key string) string {
	if reserved[key] {
		return key
	}
	for i := range len(key) {
		c := key[i]
		if !('a' <= c|32 && c|32 <= 'z' || '0' <= c && c <= '9' || c == '_' || i > 0 && strings.IndexByte(".-/$[]:'", c) >= 0 || c == '$') {
			return rubyQuoted(key)
		}
	}
	if key == "include" {
		return rubyQuoted(key)
	}
	return key
}

func fluentdValue(p Property) string {
	v := p.Value
	switch {
	case p.Embedded && strings.HasPrefix(v, "["), p.Embedded && strings.HasPrefix(v, "{"):
		return v
	case p.Embedded:
		return `"` + escapeAround(v) + `"`
	case v == "" && p.Quote == 0:
		return ""
	case v == "", strings.ContainsAny(v, "\r\n\x00\f\b"), strings.TrimSpace(v) != v, v[0] == '"', v[0] == '\'', strings.Contains(v, " #"), strings.Contains(v, "\t#"):
		return rubyQuoted(v)
	case v[0] == '[' || v[0] == '{':
		if p.Quote != 0 || !json.Valid([]byte(v)) || strings.Contains(v, "#") {
			return rubyQuoted(v)
		}
	}
	return v
}

// escapeAround escapes all but the Ruby code #{...}.
func escapeAround(v string) string {
	var b strings.Builder
	for v != "" {
		start := strings.Index(v, "#{")
		end := -1
		if start >= 0 {
			end = rubyEnd(v[start:])
		}
		if end < 0 {
			b.WriteString(rubyEscape(v))
			break
		}
		b.WriteString(rubyEscape(v[:start]) + v[start:start+end])
		v = v[start+end:]
	}
	return b.String()
}

// rubyQuoted is a text in double quotes of which no part can be read as Ruby code.
func rubyQuoted(v string) string { return `"` + rubyEscape(v) + `"` }

var rubyEscapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, `#`, `\#`, "\n", `\n`, "\r", `\r`, "\t", `\t`, "\x00", `\0`, "\f", `\f`, "\b", `\b`)

func rubyEscape(v string) string { return rubyEscapes.Replace(v) }
