package config

import (
	"fmt"
	"strings"
)

func (w *writer) classicFile(f *File) {
	for _, e := range f.Env {
		if e.Key == "" || strings.ContainsAny(e.Key, "\r\n= ") || strings.ContainsAny(e.Value, "\r\n\x00") {
			w.fault(e.Pos, "the variable %q cannot be written as @SET", e.Key)
			continue
		}
		fmt.Fprintf(w, "@SET %s=%s\n", e.Key, e.Value)
	}
	for _, s := range f.Sections {
		w.classic(s)
	}
}

// titles are the section heads as the operator writes them.
var titles = map[string]string{Service: "Service", Input: "Input", Filter: "Filter", Output: "Output", Parser: "PARSER", MultilineParser: "MULTILINE_PARSER"}

func (w *writer) classic(s *Section) {
	title := titles[s.Kind]
	if title == "" {
		title = strings.ToUpper(s.Kind)
	}
	if strings.ContainsAny(title, "]\r\n\x00") || strings.TrimSpace(title) == "" {
		w.fault(s.Pos, "%q cannot be the name of a section", s.Kind)
		return
	}
	w.WriteString("[")
	w.WriteString(title)
	w.WriteString("]\n")
	for _, p := range s.Properties {
		if p.Tree != nil {
			w.fault(p.Pos, "%s: a value with parts can be written in YAML only", p.Key)
			continue
		}
		w.classicProperty(p)
	}
	for _, child := range s.Sections {
		switch child.Kind {
		case Rule:
			w.classicProperty(Property{Key: "Rule", Value: QuoteRule(child.Value("state"), child.Value("regex"), child.Value("next_state")), Pos: child.Pos})
		case Processor:
			w.fault(child.Pos, "processors can be written in YAML only")
		default:
			w.fault(child.Pos, "the section %s inside of %s can be written in YAML only", child.Kind, s.Kind)
		}
	}
}

func (w *writer) classicProperty(p Property) {
	if err := CheckClassic(p.Key, p.Value); err != nil {
		w.fault(p.Pos, "%v", err)
		return
	}
	w.WriteString("    ")
	if p.Line != "" {
		w.WriteString(p.Line)
	} else {
		w.WriteString(p.Key)
		w.WriteString("    ")
		w.WriteString(p.Value)
	}
	w.WriteByte('\n')
}

// CheckClassic tells why a key and its value cannot be said in the classic format, which has no quoting.
func CheckClassic(key, value string) error {
	switch {
	case key == "" || strings.ContainsAny(key, " \t\r\n\x00") || key[0] == '[' || key[0] == '#' || key[0] == '@':
		return fmt.Errorf("%q cannot be a key in the classic format", key)
	case strings.ContainsAny(value, "\r\n"):
		return fmt.Errorf("the value of %s has a line break, which the classic format cannot hold", key)
	case strings.ContainsRune(value, 0):
		return fmt.Errorf("the value of %s has a zero byte", key)
	case strings.TrimSpace(value) == "":
		return fmt.Errorf("the value of %s is empty, which the classic format cannot hold", key)
	}
	return nil
}

// QuoteRule is the value of a rule of a multiline parser: three strings in double quotes.
func QuoteRule(state, regex, next string) string {
	return `"` + state + `" "` + regex + `" "` + next + `"`
}

// SplitRule takes the value of a rule apart again. Quotes may be left out where a part has no blank; inside of quotes \" stands
// for a quote (flb_utils_split_quoted).
func SplitRule(value string) ([]string, error) {
	var parts []string
	for {
		value = strings.TrimLeft(value, " \t")
		switch {
		case value == "":
			if len(parts) != 3 {
				return nil, fmt.Errorf("a rule has %d parts; it needs three: \"state\" \"/regex/\" \"next state\"", len(parts))
			}
			return parts, nil
		case value[0] != '"':
			end := strings.IndexAny(value, " \t")
			if end < 0 {
				end = len(value)
			}
			parts, value = append(parts, value[:end]), value[end:]
		default:
			var b strings.Builder
			i := 1
			for ; i < len(value) && value[i] != '"'; i++ {
				if value[i] == '\\' && i+1 < len(value) && value[i+1] == '"' {
					i++
				}
				b.WriteByte(value[i])
			}
			if i >= len(value) {
				return nil, fmt.Errorf("a quotation in the rule is not closed")
			}
			parts, value = append(parts, b.String()), value[i+1:]
		}
	}
}

// Rules are the rules of a multiline parser's section, of either format: state, regular expression, next state.
func Rules(s *Section) ([][3]string, error) {
	var rules [][3]string
	for _, value := range s.Values("rule") {
		parts, err := SplitRule(value)
		if err != nil {
			return nil, err
		}
		rules = append(rules, [3]string(parts))
	}
	for _, child := range s.Sections {
		if child.Kind == Rule {
			rules = append(rules, [3]string{child.Value("state"), child.Value("regex"), child.Value("next_state")})
		}
	}
	return rules, nil
}
