package lint

import (
	"fmt"
	"regexp/syntax"
	"strings"

	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/pipeline/regex"
	"github.com/weft-dev/weft/logging/plugin"
)

// regexOption checks an option that holds a regular expression.
func (c *checker) regexOption(s *config.Section, o *plugin.Option, p config.Property) {
	if o.Type == "regex" || regexKeys[strings.ToLower(p.Key)] {
		c.regex(s, at(p), p.Value)
		return
	}
	if s.Kind != config.Filter && s.Kind != config.Processor {
		return
	}
	key, expression, found := strings.Cut(strings.TrimSpace(p.Value), " ")
	switch name := strings.ToLower(s.Plugin()); {
	case (name == "grep" || name == "log_to_metrics") && (strings.EqualFold(p.Key, "regex") || strings.EqualFold(p.Key, "exclude")):
		if !found {
			c.fail(s, at(p), "InvalidValue", "%s needs a key and an expression, found %q", p.Key, key)
			return
		}
		c.regex(s, at(p), strings.TrimSpace(expression))
	case name == "rewrite_tag" && strings.EqualFold(p.Key, "rule"):
		parts := strings.Fields(p.Value)
		if len(parts) != 4 {
			c.fail(s, at(p), "InvalidValue", "a rule has four parts: $key regex new_tag keep; found %d", len(parts))
			return
		}
		c.regex(s, at(p), parts[1])
		if _, err := config.ParseBool(parts[3]); err != nil {
			c.fail(s, at(p), "InvalidValue", "the last part of a rule says whether the record is kept: %v", err)
		}
	case name == "modify" && strings.EqualFold(p.Key, "condition"):
		c.condition(s, p)
	}
}

var regexKeys = map[string]bool{"tag_regex": true, "match_regex": true}

// condition checks those conditions of the filter modify that have expressions.
func (c *checker) condition(s *config.Section, p config.Property) {
	parts := strings.Fields(p.Value)
	if len(parts) < 2 {
		c.fail(s, at(p), "InvalidValue", "a condition needs its kind and a key")
		return
	}
	switch strings.ToLower(parts[0]) {
	case "a_key_matches", "no_key_matches":
		c.regex(s, at(p), strings.Join(parts[1:], " "))
	case "key_value_matches", "key_value_does_not_match":
		if len(parts) > 2 {
			c.regex(s, at(p), strings.Join(parts[2:], " "))
		}
	case "matching_keys_have_matching_values", "matching_keys_do_not_have_matching_values":
		c.regex(s, at(p), parts[1])
		if len(parts) > 2 {
			c.regex(s, at(p), strings.Join(parts[2:], " "))
		}
	case "key_exists", "key_does_not_exist", "key_value_equals", "key_value_does_not_equal":
	default:
		c.fail(s, at(p), "InvalidValue", "there is no condition %q", parts[0])
	}
}

// regex checks that an expression of Onigmo's syntax compiles and that no short text makes it run forever.
func (c *checker) regex(s *config.Section, pos config.Position, expression string) {
	if strings.Contains(expression, "${") {
		return
	}
	if _, err := regex.Compile(expression); err != nil {
		c.fail(s, pos, "InvalidRegex", "the regular expression does not compile: %s", strings.TrimPrefix(err.Error(), fmt.Sprintf("regular expression %q: ", expression)))
		return
	}
	if len(expression) > 1 && expression[0] == '/' {
		if end := strings.LastIndexByte(expression, '/'); end > 0 {
			expression = expression[1:end]
		}
	}
	if text := explodes(perl(expression)); text != "" {
		c.fail(s, pos, "ExplodingRegex", "the regular expression takes more than %d steps for a text of %d bytes such as %.24q...; no repetition should stand in another that can match the same text", stepLimit, len(text), text)
	}
}

// perl translates what Onigmo writes in another way than package regexp: sets inside of sets, hexadecimal digits \h, possessive repetition. The expression
// compiles.
func perl(expression string) string {
	var b strings.Builder
	for i := 0; i < len(expression); i++ {
		c := expression[i]
		switch {
		case c == '\\' && i+1 < len(expression):
			i++
			switch expression[i] {
			case 'h':
				b.WriteString("[0-9a-fA-F]")
			case 'H':
				b.WriteString("[^0-9a-fA-F]")
			case 'R':
				b.WriteString(`(?:\r\n|[\n-\r])`)
			default:
				b.WriteByte('\\')
				b.WriteByte(expression[i])
			}
			continue
		case c == '[':
			if flat, n, err := regex.FlatSet(expression[i:]); err == nil {
				b.WriteString(flat)
				i += n - 1
				continue
			}
		case c == '+' && i > 0 && strings.IndexByte("*+?}", expression[i-1]) >= 0 && (i < 2 || expression[i-2] != '\\'):
			continue // possessive; without it the same texts match, or more
		}
		b.WriteByte(c)
	}
	return b.String()
}

const stepLimit = 2_000_000

// explodes looks for repetitions inside of repetitions, makes a text for each that they can split in many ways, and counts the steps of a
// backtracking matcher on it. It gives the text, or "" if all is well.
func explodes(expression string) string {
	re, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		return "" // with look-around or back references
	}
	for _, text := range attacks(re, "", 0) {
		program, err := syntax.Compile(re.Simplify())
		if err != nil {
			return ""
		}
		m := &matcher{program: program, text: text, entered: make([]entry, len(program.Inst))}
		for start := 0; start <= len(text) && start < 3 && !m.stopped; start++ {
			if m.run(uint32(program.Start), start, 0) {
				break
			}
		}
		if m.steps > stepLimit {
			return text
		}
	}
	return ""
}

// attacks are texts that reach a repetition of a repetition, go around in it, and do not match in the end.
func attacks(re *syntax.Regexp, before string, depth int) []string {
	if depth > 50 {
		return nil
	}
	var all []string
	switch re.Op {
	case syntax.OpConcat:
		for _, sub := range re.Sub {
			all = append(all, attacks(sub, before, depth+1)...)
			before += sample(sub, 0)
		}
	case syntax.OpAlternate, syntax.OpCapture, syntax.OpQuest:
		for _, sub := range re.Sub {
			all = append(all, attacks(sub, before, depth+1)...)
		}
	case syntax.OpStar, syntax.OpPlus, syntax.OpRepeat:
		if re.Op != syntax.OpRepeat || re.Max < 0 || re.Max > 10 {
			unit := inner(re.Sub[0], 0)
			if unit != "" && strings.Trim(sample(re.Sub[0], 0), unit) != "" {
				all = append(all, before+strings.Repeat(sample(re.Sub[0], 0), 20)+"\x00")
			}
			if unit != "" {
				all = append(all, before+strings.Repeat(unit, max(1, 40/len(unit)))+"\x00")
			}
		}
		all = append(all, attacks(re.Sub[0], before, depth+1)...)
	}
	return all
}

// inner is a text of one unbounded repetition or choice inside of re, or "".
func inner(re *syntax.Regexp, depth int) string {
	if depth > 50 {
		return ""
	}
	switch re.Op {
	case syntax.OpStar, syntax.OpPlus:
		return sample(re.Sub[0], 0)
	case syntax.OpRepeat:
		if re.Max < 0 || re.Max > re.Min {
			return sample(re.Sub[0], 0)
		}
	case syntax.OpQuest:
		return sample(re.Sub[0], 0)
	case syntax.OpAlternate:
		for _, sub := range re.Sub {
			if text := sample(sub, 0); text != "" {
				return text
			}
		}
	}
	for _, sub := range re.Sub {
		if text := inner(sub, depth+1); text != "" {
			return text
		}
	}
	return ""
}

// sample is a short text that re matches.
func sample(re *syntax.Regexp, depth int) string {
	if depth > 50 {
		return ""
	}
	switch re.Op {
	case syntax.OpLiteral:
		return string(re.Rune)
	case syntax.OpCharClass:
		for _, want := range "a0 -_.:" {
			for i := 0; i+1 < len(re.Rune); i += 2 {
				if re.Rune[i] <= want && want <= re.Rune[i+1] {
					return string(want)
				}
			}
		}
		if len(re.Rune) > 0 {
			return string(re.Rune[0])
		}
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return "a"
	case syntax.OpCapture, syntax.OpPlus:
		return sample(re.Sub[0], depth+1)
	case syntax.OpRepeat:
		return strings.Repeat(sample(re.Sub[0], depth+1), min(re.Min, 16))
	case syntax.OpAlternate:
		return sample(re.Sub[0], depth+1)
	case syntax.OpConcat:
		var b strings.Builder
		for _, sub := range re.Sub {
			b.WriteString(sample(sub, depth+1))
		}
		return b.String()
	}
	return ""
}

// matcher runs a program by backtracking, as Onigmo does, and counts.
type matcher struct {
	program *syntax.Prog
	text    string
	steps   int
	stopped bool
	entered []entry // for each choice, where this path made it last
}

// entry is a place in the text plus one, and how often a choice was made there.
type entry struct{ at, times int }

func (m *matcher) run(pc uint32, at, depth int) bool {
	for {
		if m.steps++; m.steps > stepLimit || depth > 10_000 {
			m.stopped = true
			return true
		}
		i := &m.program.Inst[pc]
		switch i.Op {
		case syntax.InstAlt, syntax.InstAltMatch:
			last := m.entered[pc]
			now := entry{at: at + 1, times: 1}
			if last.at == at+1 {
				now.times = last.times + 1
			}
			if now.times > 2 { // around a loop without a step forward
				return false
			}
			m.entered[pc] = now
			if m.run(i.Out, at, depth+1) || m.run(i.Arg, at, depth+1) {
				return true
			}
			m.entered[pc] = last
			return false
		case syntax.InstCapture, syntax.InstNop:
			pc = i.Out
		case syntax.InstEmptyWidth:
			before, after := rune(-1), rune(-1)
			if at > 0 {
				before = rune(m.text[at-1])
			}
			if at < len(m.text) {
				after = rune(m.text[at])
			}
			if want := syntax.EmptyOp(i.Arg); syntax.EmptyOpContext(before, after)&want != want {
				return false
			}
			pc = i.Out
		case syntax.InstMatch:
			return true
		case syntax.InstFail:
			return false
		default:
			if at >= len(m.text) || !i.MatchRune(rune(m.text[at])) {
				return false
			}
			at++
			pc = i.Out
		}
	}
}
