package stdlib

import (
	"errors"
	"fmt"
	"strings"

	"github.com/weft-dev/weft/kcl/value"
)

var templateFunctions = map[string]function{
	"execute": written(func(c *value.Call) (value.Value, error) {
		a := read(c)
		text := a.str(0, "template", one("execute"))
		data := a.get(1, "data")
		if a.err != nil {
			return nil, a.err
		}
		if data == nil {
			data = value.NewDict(0)
		}
		if !value.IsConfig(data) {
			return nil, fmt.Errorf("execute() data must be a config, got %s", value.TypeName(data))
		}
		nodes, err := parseTemplate(text)
		if err != nil {
			return nil, fmt.Errorf("register template failed: %w", err)
		}
		r := renderer{root: data, grow: func(n int) error { return grow(c, n) }}
		if err := r.render(nodes, &frame{this: data}); err != nil {
			return nil, fmt.Errorf("render template failed: %w", err)
		}
		return value.Str(r.b.String()), nil
	}),
	"html_escape": func(c *value.Call) (value.Value, error) {
		a := read(c)
		return value.Str(escapeHTML(a.str(0, "data", one("html_escape")))), a.err
	},
}

var htmlEscapes = strings.NewReplacer("<", "&lt;", ">", "&gt;", `"`, "&quot;", "&", "&amp;", "'", "&#x27;", "`", "&#x60;", "=", "&#x3D;")

func escapeHTML(s string) string { return htmlEscapes.Replace(s) }

// node is a piece of a handlebars template: text, or an expression, or a
// block with its body.
type node struct {
	text          string
	expr          *expr
	raw           bool
	block         bool
	body, inverse []node
	// names are the block parameters: {{#each x as |item index|}}.
	names []string
}

// expr is a path, a literal, or a helper with parameters.
type expr struct {
	path    string
	literal value.Value
	params  []*expr
	hash    map[string]*expr
}

// tag is a {{...}} in the text.
type tag struct {
	inner            string
	raw              bool
	trimLeft, tright bool
}

type templateParser struct {
	s     string
	depth int
	// inline is set when the text that is read follows a tag on its line.
	inline bool
}

func parseTemplate(s string) ([]node, error) {
	p := &templateParser{s: s}
	nodes, end, err := p.nodes(nil, "")
	if err == nil && end != "" {
		err = fmt.Errorf("unexpected {{%s}}", end)
	}
	return nodes, err
}

// nodes reads up to a tag that ends the block: {{else...}} or {{/name}}, whose
// content it returns.
func (p *templateParser) nodes(into []node, within string) (_ []node, end string, err error) {
	if p.depth++; p.depth > 100 {
		return nil, "", errors.New("blocks nest too deep")
	}
	defer func() { p.depth-- }()
	for {
		i := strings.Index(p.s, "{{")
		if i < 0 {
			if within != "" {
				return nil, "", fmt.Errorf("{{#%s}} is not closed", within)
			}
			return addText(into, p.s), "", nil
		}
		before := p.s[:i]
		if strings.HasSuffix(before, `\`) {
			close := strings.Index(p.s[i:], "}}")
			if close < 0 {
				close = len(p.s) - i - 2
			}
			into = addText(into, before[:i-1]+p.s[i:i+close+2])
			p.s = p.s[i+close+2:]
			continue
		}
		p.s = p.s[i:]
		t, err := p.tag()
		if err != nil {
			return nil, "", err
		}
		before = p.trim(before, t)
		into = addText(into, before)
		kind, inner := byte(0), t.inner
		if inner != "" && strings.IndexByte("#/^!>&", inner[0]) >= 0 {
			kind, inner = inner[0], strings.TrimSpace(inner[1:])
		}
		switch {
		case kind == '!':
		case kind == '>':
			return nil, "", fmt.Errorf("partial %q not found: templates have no partials", inner)
		case kind == '#' || kind == '^' && inner != "":
			n, err := p.blockNode(inner, kind == '^')
			if err != nil {
				return nil, "", err
			}
			into = append(into, n)
		case kind == '/' || kind == '^' || inner == "else" || strings.HasPrefix(inner, "else "):
			return into, t.inner, nil
		default:
			e, err := parseExpr(inner)
			if err != nil {
				return nil, "", err
			}
			into = append(into, node{expr: e, raw: t.raw || kind == '&'})
		}
	}
}

func addText(into []node, text string) []node {
	if text == "" {
		return into
	}
	return append(into, node{text: text})
}

// tag reads the tag at the start of the text.
func (p *templateParser) tag() (tag, error) {
	open, shut := "{{", "}}"
	t := tag{}
	switch {
	case strings.HasPrefix(p.s, "{{!--"):
		open, shut = "{{!--", "--}}"
		if i := strings.Index(p.s, "--~}}"); i >= 0 && i < strings.Index(p.s+"--}}", "--}}") {
			shut, t.tright = "--~}}", true
		}
	case strings.HasPrefix(p.s, "{{{"):
		open, shut, t.raw = "{{{", "}}}", true
	}
	i := strings.Index(p.s[len(open):], shut)
	if i < 0 {
		return t, fmt.Errorf("%q is not closed", p.s[:min(20, len(p.s))])
	}
	t.inner = strings.TrimSpace(p.s[len(open) : len(open)+i])
	p.s = p.s[len(open)+i+len(shut):]
	if open == "{{!--" {
		t.inner = "!"
		return t, nil
	}
	if inner, ok := strings.CutPrefix(t.inner, "~"); ok {
		t.inner, t.trimLeft = strings.TrimSpace(inner), true
	}
	if inner, ok := strings.CutSuffix(t.inner, "~"); ok {
		t.inner, t.tright = strings.TrimSpace(inner), true
	}
	return t, nil
}

// trim takes white space away around a tag: what ~ asks for, and the line of a
// block tag or comment that stands alone on it.
func (p *templateParser) trim(before string, t tag) string {
	const space = " \t\r\n"
	standalone := t.inner == "else" || strings.HasPrefix(t.inner, "else ") || t.inner != "" && strings.IndexByte("#/^!", t.inner[0]) >= 0
	if standalone && !t.raw {
		line := before[strings.LastIndexByte(before, '\n')+1:]
		after, _, more := strings.Cut(p.s, "\n")
		if strings.Trim(line, " \t") == "" && strings.Trim(after, " \t\r") == "" && !p.midLine(before, line) {
			before = before[:len(before)-len(line)]
			p.s = p.s[len(after):]
			if more {
				p.s = p.s[1:]
			}
			p.inline = false
			return before
		}
	}
	p.inline = true
	if t.trimLeft {
		before = strings.TrimRight(before, space)
	}
	if t.tright {
		p.s = strings.TrimLeft(p.s, space)
	}
	return before
}

// midLine reports whether the text before a tag begins within a line, after
// another tag: then the tag does not stand alone.
func (p *templateParser) midLine(before, line string) bool {
	return len(before) == len(line) && p.inline
}

func (p *templateParser) blockNode(inner string, inverted bool) (node, error) {
	inner, names := blockNames(inner)
	e, err := parseExpr(inner)
	if err != nil {
		return node{}, err
	}
	n := node{expr: e, block: true, names: names}
	body, end, err := p.nodes(nil, e.path)
	if err != nil {
		return n, err
	}
	n.body = body
	if rest, ok := strings.CutPrefix(end, "else "); ok {
		chained, err := p.blockNode(strings.TrimSpace(rest), false)
		if err != nil {
			return n, err
		}
		n.inverse = []node{chained}
		return n, nil // the closing tag of the chain closed this block, too
	}
	if end == "else" || end == "^" {
		if n.inverse, end, err = p.nodes(nil, e.path); err != nil {
			return n, err
		}
	}
	if strings.TrimSpace(strings.TrimPrefix(end, "/")) == "" || end[0] != '/' {
		return n, fmt.Errorf("{{#%s}} is closed by {{%s}}", e.path, end)
	}
	if inverted {
		n.body, n.inverse = n.inverse, n.body
	}
	return n, nil
}

// blockNames cuts "as |a b|" off.
func blockNames(s string) (string, []string) {
	i := strings.LastIndex(s, " as |")
	if i < 0 || !strings.HasSuffix(s, "|") {
		return s, nil
	}
	return s[:i], strings.Fields(strings.Trim(s[i+5:], "|"))
}
