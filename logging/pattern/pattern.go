// Package pattern matches tags with the patterns of Fluentd's <match> and <filter>: * is one part of a tag, ** any number of parts, {a,b} are
// alternatives, /.../ is a regular expression, and blanks separate patterns of which one has to match (lib/fluent/match.rb). It knows no plugins.
package pattern

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/weft-dev/weft/logging/pipeline/regex"
)

// Pattern is the argument of a section. The zero value matches nothing.
type Pattern struct {
	text string
	all  bool // ** is among the patterns
	any  []matcher
}

type matcher interface{ Match(tag []byte) bool }

// maxLength bounds a pattern in bytes.
const maxLength = 16 << 10

// Parse reads patterns. No text at all is **, which matches every tag.
func Parse(text string) (*Pattern, error) {
	if len(text) > maxLength {
		return nil, fmt.Errorf("the pattern has %d bytes, more than the limit of %d", len(text), maxLength)
	}
	p := &Pattern{text: text}
	words := strings.Fields(text)
	if len(words) == 0 {
		words = []string{"**"}
	}
	for _, word := range words {
		if word == "**" {
			p.all = true
			continue
		}
		m, err := compile(word)
		if err != nil {
			return nil, err
		}
		p.any = append(p.any, m)
	}
	return p, nil
}

// String is the pattern as it was written.
func (p *Pattern) String() string { return p.text }

// All tells whether every tag matches because ** is among the patterns.
func (p *Pattern) All() bool { return p.all }

// Match tells whether a tag fits.
func (p *Pattern) Match(tag string) bool {
	if p.all {
		return true
	}
	for _, m := range p.any {
		if m.Match([]byte(tag)) {
			return true
		}
	}
	return false
}

func compile(word string) (matcher, error) {
	if strings.HasPrefix(word, "/") {
		if len(word) < 2 || !strings.HasSuffix(word, "/") {
			return nil, fmt.Errorf("the pattern %q begins as a regular expression and does not end with /", word)
		}
		return regex.Compile(`\A(?:` + word[1:len(word)-1] + `)\Z`)
	}
	expression, err := expressionOf(word)
	if err != nil {
		return nil, fmt.Errorf("the pattern %q: %w", word, err)
	}
	return regexp.Compile(`\A(?:` + expression + `)\z`)
}

// maxDepth bounds braces inside of braces.
const maxDepth = 20

// expressionOf is a pattern as a regular expression.
func expressionOf(word string) (string, error) {
	var b strings.Builder
	depth, dot := 0, false
	for i := 0; i < len(word); i++ {
		rest := word[i:]
		if strings.HasPrefix(rest, "**") {
			i++
			switch {
			case strings.HasPrefix(rest, "**."):
				i++
				if dot { // what is between two dots may be nothing at all
					b.WriteString(`\.(?:.*\.)?`)
				} else {
					b.WriteString(`(?:.*\.|\A)`)
				}
			case dot && (len(rest) == 2 || depth > 0 && (rest[2] == '}' || rest[2] == ',')):
				b.WriteString(`(?:\..*)?`)
			case dot:
				b.WriteString(`\..*`)
			default:
				b.WriteString(`.*`)
			}
			dot = false
			continue
		}
		if dot {
			b.WriteString(`\.`)
			dot = false
		}
		switch c := word[i]; {
		case c == '\\':
			if i++; i < len(word) {
				b.WriteString(regexp.QuoteMeta(word[i : i+1]))
			}
		case c == '.':
			dot = true
		case c == '*':
			b.WriteString(`[^.]*`)
		case c == '{':
			if depth++; depth > maxDepth {
				return "", errors.New("too many braces inside of braces")
			}
			b.WriteString("(?:")
		case c == '}' && depth > 0:
			depth--
			b.WriteString(")")
		case c == ',' && depth > 0:
			b.WriteString("|")
		case c >= 0x80: // part of a letter that has several bytes
			b.WriteByte(c)
		default:
			b.WriteString(regexp.QuoteMeta(word[i : i+1]))
		}
	}
	b.WriteString(strings.Repeat(")", depth))
	return b.String(), nil
}
