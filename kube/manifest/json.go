package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// parseJSON parses one or several JSON values that follow each other.
func parseJSON(file string, data []byte, lim Limits) ([]*node, error) {
	p := &jsonParser{file: file, data: data, depth: lim.Depth, line: 1, column: 1, dec: json.NewDecoder(bytes.NewReader(data))}
	p.dec.UseNumber()
	var docs []*node
	for {
		n, err := p.value(0)
		if errors.Is(err, io.EOF) {
			return docs, nil
		}
		if err != nil {
			return nil, err
		}
		docs = append(docs, n)
	}
}

type jsonParser struct {
	file         string
	data         []byte
	dec          *json.Decoder
	depth        int
	at           int // offset that line and column stand for
	line, column int
}

func (p *jsonParser) moveTo(offset int) {
	for p.at < offset && p.at < len(p.data) {
		if p.data[p.at] == '\n' {
			p.line, p.column = p.line+1, 1
			p.at++
			continue
		}
		_, size := utf8.DecodeRune(p.data[p.at:])
		p.column++
		p.at += size
	}
}

// token returns the next token and places the parser at its beginning.
func (p *jsonParser) token() (json.Token, error) {
	start := int(p.dec.InputOffset())
	for start < len(p.data) && bytes.IndexByte([]byte(" \t\r\n,:"), p.data[start]) >= 0 {
		start++
	}
	p.moveTo(start)
	t, err := p.dec.Token()
	if err == nil || errors.Is(err, io.EOF) {
		return t, err
	}
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) && int(syntax.Offset) > p.at {
		p.moveTo(int(syntax.Offset) - 1)
	}
	return nil, p.fail("not valid JSON: " + err.Error())
}

func (p *jsonParser) fail(msg string) error {
	return &Error{Pos: Position{File: p.file, Line: p.line, Column: p.column}, Msg: msg}
}

func (p *jsonParser) value(depth int) (*node, error) {
	t, err := p.token()
	if err != nil {
		return nil, err
	}
	return p.from(t, depth)
}

func (p *jsonParser) from(t json.Token, depth int) (*node, error) {
	if depth > p.depth {
		return nil, p.fail(fmt.Sprintf("nested deeper than %d levels", p.depth))
	}
	n := &node{line: p.line, column: p.column}
	switch t := t.(type) {
	case json.Delim:
		if t == '[' {
			n.kind = listNode
			return n, p.list(n, depth)
		}
		n.kind = mapNode
		return n, p.object(n, depth)
	case json.Number:
		if i, err := t.Int64(); err == nil {
			n.scalar = i
		} else if f, err := t.Float64(); err == nil {
			n.scalar = f
		} else {
			return nil, p.fail("the number " + t.String() + " is out of range")
		}
	default:
		n.scalar = t
	}
	return n, nil
}

func (p *jsonParser) list(n *node, depth int) error {
	for {
		t, err := p.inside()
		if err != nil {
			return err
		}
		if t == json.Delim(']') {
			return nil
		}
		item, err := p.from(t, depth+1)
		if err != nil {
			return err
		}
		n.items = append(n.items, item)
	}
}

func (p *jsonParser) object(n *node, depth int) error {
	seen := map[string]int{}
	for {
		t, err := p.inside()
		if err != nil {
			return err
		}
		key, ok := t.(string)
		if !ok {
			return nil // the closing brace: the decoder lets nothing else through
		}
		f := field{key: key, line: p.line, column: p.column}
		if line, twice := seen[key]; twice {
			return p.fail(fmt.Sprintf("the key %q stands twice in one map, first in line %d; remove one of them", key, line))
		}
		seen[key] = f.line
		vt, err := p.inside()
		if err != nil {
			return err
		}
		if f.value, err = p.from(vt, depth+1); err != nil {
			return err
		}
		n.fields = append(n.fields, f)
	}
}

// inside is token within a value, where the end of the file is an error.
func (p *jsonParser) inside() (json.Token, error) {
	t, err := p.token()
	if errors.Is(err, io.EOF) {
		return nil, p.fail("not valid JSON: the file ends inside a value")
	}
	return t, err
}
