package config

import "strings"

// classic reads Fluent Bit's classic format as src/config_format/flb_cf_fluentbit.c does: the first indented line fixes the
// indentation of the whole file; a key ends at the first space; a line that begins with # is a comment.
func (r *reader) classic(name string, data []byte) {
	p := &classicParser{reader: r, name: name}
	for number, line := range strings.Split(string(data), "\n") {
		p.line(number+1, strings.TrimSuffix(line, "\r"))
	}
}

type classicParser struct {
	*reader
	name    string
	indent  string
	has     bool // indent is known
	section *Section
	group   *Section
}

func (p *classicParser) at(line, column int) Position {
	return Position{p.name, line, column}
}

func (p *classicParser) line(number int, line string) {
	switch {
	case line == "" || line[0] == '#':
		return
	case len(line) > 9 && strings.EqualFold(line[:9], "@INCLUDE "):
		p.include(p.at(number, 1), strings.TrimSpace(line[9:]), p.read)
		return
	case line[0] == '@' && len(line) > 3:
		p.meta(number, line)
		return
	case line[0] == '[':
		p.header(number, line)
		return
	}
	rest := p.content(number, line)
	if rest == "" || rest[0] == '#' {
		return
	}
	column := len(line) - len(rest) + 1
	pos := p.at(number, column)
	if rest[0] == '[' {
		p.startGroup(pos, rest)
		return
	}
	key, value, found := strings.Cut(rest, " ")
	trimmed := strings.Trim(value, " \t\r\n\v\f")
	if !found || trimmed == "" {
		p.fault(pos, "%q has no value; write the key, a space and the value", strings.TrimSpace(key))
		return
	}
	property := Property{Key: key, Value: trimmed, Pos: pos, ValuePos: p.at(number, column+len(key)+1+strings.Index(value, trimmed))}
	switch {
	case p.group != nil:
		p.group.Properties = append(p.group.Properties, property)
	case p.section != nil:
		p.section.Properties = append(p.section.Properties, property)
	default:
		p.fault(pos, "%q stands outside of any section; begin one, for example [SERVICE]", key)
	}
}

// content takes off the indentation. It is "" if nothing is left or the indentation is wrong.
func (p *classicParser) content(number int, line string) string {
	if !p.has {
		rest := strings.TrimLeft(line[1:], " \t") // the engine counts the first byte without looking at it
		p.indent, p.has = line[:len(line)-len(rest)], true
		if strings.Trim(p.indent, " \t") != "" {
			p.has = false
			p.fault(p.at(number, 1), "a line that is neither a section, a comment nor indented; indent the keys of a section")
			return ""
		}
		return rest
	}
	if strings.Trim(line, " \t") == "" && !strings.HasPrefix(line, p.indent) {
		return ""
	}
	rest, ok := strings.CutPrefix(line, p.indent)
	if !ok {
		p.fault(p.at(number, 1), "the indentation differs from that of the first key of this file (%d characters); use the same everywhere", len(p.indent))
		return ""
	}
	inner := strings.TrimLeft(rest, " \t")
	switch extra := len(rest) - len(inner); {
	case extra == 0:
		p.group = nil
	case inner == "" || extra == len(p.indent):
	default:
		p.fault(p.at(number, len(p.indent)+1), "more indentation than the first key of this file has; use the same everywhere")
		return ""
	}
	return inner
}

func (p *classicParser) header(number int, line string) {
	end := strings.IndexByte(line, ']')
	if end < 0 {
		p.fault(p.at(number, 1), "the section's name has no closing bracket")
		return
	}
	p.group = nil
	kind := strings.ToLower(line[1:end])
	if strings.TrimSpace(kind) == "" {
		p.fault(p.at(number, 1), "the section has no name")
	}
	p.section = &Section{Kind: kind, Pos: p.at(number, 1)}
	p.file.Sections = append(p.file.Sections, p.section)
}

func (p *classicParser) startGroup(pos Position, text string) {
	end := strings.IndexByte(text, ']')
	if end < 0 || p.section == nil {
		p.fault(pos, "a group needs a closing bracket and a section around it")
		return
	}
	p.group = &Section{Kind: strings.ToLower(text[1:end]), Pos: pos}
	p.section.Sections = append(p.section.Sections, p.group)
}

// meta reads @SET NAME=VALUE.
func (p *classicParser) meta(number int, line string) {
	pos := p.at(number, 1)
	command, rest, _ := strings.Cut(line[1:], " ")
	if !strings.EqualFold(command, "set") {
		p.fault(pos, "unknown command @%s; there are @INCLUDE and @SET", command)
		return
	}
	key, value, found := strings.Cut(rest, "=")
	key = strings.TrimSpace(key)
	if !found || key == "" {
		p.fault(pos, "@SET needs NAME=VALUE")
		return
	}
	p.file.Env = append(p.file.Env, Property{Key: key, Value: strings.TrimSpace(value), Pos: pos, ValuePos: pos})
}
