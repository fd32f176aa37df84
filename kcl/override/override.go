// Package override changes KCL source by specifications such as
// "app.replicas=3", as the option -O and tools that edit configurations need.
//
// A specification is a path and a value with one of three operators, or a
// path to delete:
//
//	a.b=1        set the value
//	a.b:{x = 1}  merge a configuration into it
//	a.b+=[1]     add to a list
//	a.b-         delete it
//
// A path may hold quoted parts: a["b.c"].d. The text is edited in place, so
// that everything else keeps its form and its line.
//
// The package knows syntax trees, nothing of packages or values.
package override

import (
	"errors"
	"fmt"
	"regexp"
	"sort"
	"strconv"
	"strings"

	"github.com/weft-dev/weft/kcl/syntax"
)

// Spec is a parsed specification. Op is "=", ":", "+=" or "-".
type Spec struct {
	Path  []string
	Op    string
	Value string
}

// Parse reads a specification.
func Parse(text string) (Spec, error) {
	invalid := fmt.Errorf("Invalid spec format '%s', expected <field_path>=<field_value>, <field_path>:<field_value>, <field_path>+=<field_value> or <field_path>-", text)
	body := strings.TrimPrefix(text, ":") // the form :path=value of older versions
	path, op, val, ok := cut(body)
	if !ok {
		path, ok = strings.CutSuffix(body, "-")
		op = "-"
		if !ok {
			return Spec{}, invalid
		}
	}
	path, val = strings.TrimSpace(path), strings.TrimSpace(val)
	if path == "" || op != "-" && val == "" {
		return Spec{}, invalid
	}
	parts, err := splitPath(path)
	if err != nil {
		return Spec{}, fmt.Errorf("%w: %w", invalid, err)
	}
	if len(parts) == 0 {
		return Spec{}, invalid
	}
	return Spec{parts, op, val}, nil
}

// cut splits at the first operator outside of brackets and strings.
func cut(s string) (path, op, val string, ok bool) {
	depth := 0
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '[' || c == '{':
			depth++
		case c == ']' || c == '}':
			depth--
		case c == '"' || c == '\'':
			if end := strings.IndexByte(s[i+1:], c); end >= 0 {
				i += end + 1
			}
		case depth > 0:
		case c == '=' || c == ':':
			return s[:i], string(c), s[i+1:], true
		case c == '+' && strings.HasPrefix(s[i:], "+="):
			return s[:i], "+=", s[i+2:], true
		}
	}
	return "", "", "", false
}

// splitPath splits a.b["c"].d into its parts.
func splitPath(s string) ([]string, error) {
	var parts []string
	for s != "" {
		switch {
		case s[0] == '.':
			s = s[1:]
		case s[0] == '[':
			if len(s) < 2 || s[1] != '"' && s[1] != '\'' {
				return nil, errors.New("expected opening quote after '['")
			}
			end := strings.Index(s[2:], s[1:2]+"]")
			if end < 0 {
				return nil, errors.New("expected closing bracket")
			}
			parts = append(parts, s[2:2+end])
			s = s[end+4:]
		default:
			end := strings.IndexAny(s, ".[")
			if end < 0 {
				end = len(s)
			}
			parts = append(parts, s[:end])
			s = s[end:]
		}
	}
	return parts, nil
}

// Apply changes the texts of the files of one package. Each specification is
// applied where its first name is assigned; a name that no file assigns is
// added to the last file. Texts with syntax errors are left for the compiler
// to report.
func Apply(texts []string, specs []string) ([]string, error) {
	texts = append([]string(nil), texts...)
	for _, text := range specs {
		spec, err := Parse(text)
		if err != nil {
			return nil, err
		}
		if err := spec.apply(texts); err != nil {
			return nil, fmt.Errorf("override '%s': %w", text, err)
		}
	}
	return texts, nil
}

func (s Spec) apply(texts []string) error {
	if s.Op != "-" {
		s.Value = quoteIfNeeded(s.Value)
	}
	found := false
	for i, text := range texts {
		f := syntax.Parse("", text)
		if len(f.Errors) > 0 {
			continue
		}
		e := editor{file: f, spec: s}
		if e.inFile() {
			found = true
			texts[i] = e.text()
		}
	}
	if found || s.Op == "-" || len(texts) == 0 {
		return nil
	}
	last := len(texts) - 1
	if n := len(texts[last]); n > 0 && texts[last][n-1] != '\n' {
		texts[last] += "\n"
	}
	texts[last] += s.statement() + "\n"
	return nil
}

// quoteIfNeeded makes a string of what is no expression, or one with operators
// such as a-b, which was hardly meant to be computed.
func quoteIfNeeded(text string) string {
	expr, f := syntax.ParseExpr("", text)
	if len(f.Errors) > 0 {
		return strconv.Quote(text)
	}
	switch x := expr.(type) {
	case *syntax.UnaryExpr:
		if _, ok := x.X.(*syntax.NumberLit); ok && x.Op == "-" {
			return text
		}
		return strconv.Quote(text)
	case *syntax.BinaryExpr, *syntax.Ident, *syntax.SelectorExpr, *syntax.MissingExpr:
		return strconv.Quote(text)
	}
	return text
}

// statement assigns to a name that did not exist.
func (s Spec) statement() string {
	name := s.Path[0]
	if len(s.Path) > 1 {
		return name + " = {" + s.entry(s.Path[1:]) + "}"
	}
	if s.Op == ":" && schemaValue.MatchString(s.Value) {
		return name + ": " + s.Value
	}
	if s.Op == "+=" {
		return name + " += " + s.Value
	}
	return name + " = " + s.Value
}

var schemaValue = regexp.MustCompile(`^[A-Za-z_][\w.]*\s*\{`)

// entry is a config entry for the rest of a path.
func (s Spec) entry(path []string) string {
	var b strings.Builder
	plain := true
	for _, part := range path {
		plain = plain && identifier.MatchString(part)
	}
	close := 0
	for i, part := range path {
		switch {
		case i > 0 && plain:
			b.WriteByte('.')
		case i > 0:
			b.WriteString(": {")
			close++
		}
		if plain {
			b.WriteString(part)
		} else {
			b.WriteString(strconv.Quote(part))
		}
	}
	if s.Op == ":" {
		b.WriteString(": " + s.Value)
	} else {
		b.WriteString(" " + s.Op + " " + s.Value)
	}
	return b.String() + strings.Repeat("}", close)
}

var identifier = regexp.MustCompile(`^[A-Za-z_]\w*$`)

// edit replaces a span of the text.
type edit struct {
	syntax.Span
	text string
}

type editor struct {
	file  *syntax.File
	spec  Spec
	edits []edit
}

// text is the file with all edits made.
func (e *editor) text() string {
	sort.SliceStable(e.edits, func(i, j int) bool { return e.edits[i].Start > e.edits[j].Start })
	src := e.file.Src
	for _, d := range e.edits {
		src = src[:d.Start] + d.text + src[d.End:]
	}
	return src
}

func (e *editor) replace(at syntax.Span, text string) { e.edits = append(e.edits, edit{at, text}) }

// inFile makes the edits of one file and reports whether the path was there.
func (e *editor) inFile() bool {
	found := false
	for _, stmt := range e.file.Body {
		name, val := target(stmt)
		if val == nil || name != e.spec.Path[0] {
			continue
		}
		if len(e.spec.Path) > 1 {
			if config := configOf(val); config != nil && !found {
				_, isSchema := val.(*syntax.SchemaExpr)
				found = e.config(config, e.spec.Path[1:]) || isSchema
			}
			continue
		}
		if e.spec.Op == "-" {
			e.replace(e.lines(stmt.Range()), "")
			found = true
			continue
		}
		_, unify := stmt.(*syntax.UnifyStmt)
		if unify && e.spec.Op != ":" && !schemaValue.MatchString(e.spec.Value) {
			continue
		}
		found = e.set(val) || found
	}
	return found
}

func target(stmt syntax.Stmt) (string, syntax.Expr) {
	switch s := stmt.(type) {
	case *syntax.AssignStmt:
		for _, t := range s.Targets {
			if len(t.Paths) == 0 {
				return t.Name.Text, s.Value
			}
		}
	case *syntax.AugAssignStmt:
		if len(s.Target.Paths) == 0 {
			return s.Target.Name.Text, s.Value
		}
	case *syntax.UnifyStmt:
		return s.Target.String(), s.Value
	}
	return "", nil
}

func configOf(e syntax.Expr) *syntax.ConfigExpr {
	switch e := e.(type) {
	case *syntax.ConfigExpr:
		return e
	case *syntax.SchemaExpr:
		return configOf(e.Config)
	}
	return nil
}

// lines widens a span to whole lines where nothing else stands on them.
func (e *editor) lines(at syntax.Span) syntax.Span {
	src := e.file.Src
	start := strings.LastIndexByte(src[:at.Start], '\n') + 1
	end := len(src)
	if i := strings.IndexByte(src[at.End:], '\n'); i >= 0 {
		end = int(at.End) + i
	}
	if strings.TrimSpace(src[start:at.Start]) != "" || strings.Trim(src[at.End:end], " \t\r,") != "" {
		return at
	}
	return syntax.Span{Start: syntax.Pos(start), End: syntax.Pos(end)}
}

// set applies the operator to an existing value.
func (e *editor) set(val syntax.Expr) bool {
	switch e.spec.Op {
	case ":":
		from, _ := syntax.ParseExpr("", e.spec.Value)
		merged := configOf(from)
		if merged == nil {
			break
		}
		into := configOf(val)
		if s, ok := from.(*syntax.SchemaExpr); ok {
			if t, ok := val.(*syntax.SchemaExpr); !ok || t.Name.String() != s.Name.String() {
				into = nil
			}
		}
		if into == nil {
			return false
		}
		return e.merge(into, merged)
	case "+=":
		add, _ := syntax.ParseExpr("", e.spec.Value)
		list, ok1 := add.(*syntax.ListExpr)
		into, ok2 := val.(*syntax.ListExpr)
		if !ok1 || !ok2 {
			return false
		}
		for _, item := range list.Items {
			e.insert(into.Range(), len(into.Items) > 0, e.spec.Value[item.Range().Start:item.Range().End])
		}
		return true
	}
	e.replace(val.Range(), e.spec.Value)
	return true
}

// merge lays the entries of a configuration in the specification's value over
// one of the file.
func (e *editor) merge(into, from *syntax.ConfigExpr) bool {
	changed := false
	for _, item := range from.Items {
		text := e.spec.Value[item.Start:item.End]
		path := keyPath(item.Key)
		if len(path) == 0 {
			e.insert(into.Range(), len(into.Items) > 0, text)
			changed = true
			continue
		}
		one := editor{file: e.file, spec: Spec{path, item.Op, e.spec.Value[item.Value.Range().Start:item.Value.Range().End]}}
		changed = one.config(into, path) || changed
		e.edits = append(e.edits, one.edits...)
	}
	return changed
}

// keyPath are the parts of a key, nil for an entry without one.
func keyPath(key syntax.Expr) []string {
	switch k := key.(type) {
	case *syntax.Ident:
		parts := make([]string, len(k.Names))
		for i, n := range k.Names {
			parts[i] = n.Text
		}
		return parts
	case *syntax.StringLit:
		return []string{k.Value}
	}
	return nil
}

// config applies the specification below a configuration: to the entries whose
// keys lead there or, if there are none, by a new entry.
func (e *editor) config(c *syntax.ConfigExpr, path []string) bool {
	changed := false
	for _, item := range c.Items {
		key := keyPath(item.Key)
		if len(key) == 0 || len(key) > len(path) || !equal(key, path[:len(key)]) {
			continue
		}
		rest := path[len(key):]
		switch inner := configOf(item.Value); {
		case len(rest) > 0 && inner != nil:
			changed = e.config(inner, rest) || changed
		case len(rest) > 0:
		case e.spec.Op == "-":
			e.delete(c, item)
			changed = true
		default:
			changed = e.set(item.Value) || changed
		}
	}
	if !changed && e.spec.Op != "-" {
		e.insert(c.Range(), len(c.Items) > 0, e.spec.entry(path))
		changed = true
	}
	return changed
}

func equal(a, b []string) bool {
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// delete removes an entry and the comma after it.
func (e *editor) delete(_ *syntax.ConfigExpr, item *syntax.ConfigEntry) {
	at := e.lines(item.Range())
	if at == item.Range() {
		rest := e.file.Src[at.End:]
		if i := len(rest) - len(strings.TrimLeft(rest, " \t")); strings.HasPrefix(rest[i:], ",") {
			at.End += syntax.Pos(i + 1)
		}
	}
	e.replace(at, "")
}

// insert adds an item before the closing bracket of a collection. In one of
// several lines it gets a line of its own.
func (e *editor) insert(at syntax.Span, more bool, text string) {
	src := e.file.Src
	end := int(at.End) - 1
	last := end
	for last > int(at.Start)+1 && strings.IndexByte(" \t\r\n", src[last-1]) >= 0 {
		last--
	}
	span := syntax.Span{Start: syntax.Pos(last), End: syntax.Pos(last)}
	switch {
	case !more:
		e.replace(span, text)
	case strings.Contains(src[last:end], "\n"):
		line := src[strings.LastIndexByte(src[:end], '\n')+1 : end]
		e.replace(span, "\n"+line+"    "+text)
	case src[last-1] == ',':
		e.replace(span, " "+text)
	default:
		e.replace(span, ", "+text)
	}
}
