package render

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/plugin"
	"github.com/weft-dev/weft/logging/resource"
)

// builder makes sections of one document and collects what is wrong with it.
type builder struct {
	doc       *resource.Document
	table     *plugin.Table
	found     resource.Found
	namespace string // where its Secrets and ConfigMaps are
	tenant    string // prefix of the tenant's tags, "" for what belongs to the cluster
	names     names  // what the tenant's names of parsers become
	as        string // name of a parser in the configuration
	format    config.Format
	problems  []resource.Problem
	used      []used
	scripts   map[string]string // Lua scripts by file name
}

// used is a reference that was looked up, with what was found.
type used struct {
	resource.Reference
	value string
	ok    bool
}

func (b *builder) fail(reason, field, format string, args ...any) {
	b.problems = append(b.problems, b.doc.Problem(resource.Error, reason, field, format, args...))
}

func (b *builder) warn(reason, field, format string, args ...any) {
	b.problems = append(b.problems, b.doc.Problem(resource.Warning, reason, field, format, args...))
}

// fill adds to a section what an object says, in the order of the table's options.
func (b *builder) fill(s *config.Section, options []*plugin.Option, object map[string]any, path string) {
	for i := 0; i < len(options); i++ {
		list, _, many := strings.Cut(options[i].Field, "[].")
		if name, ok := strings.CutSuffix(options[i].Field, "[]"); ok {
			for n, item := range b.list(object[name], path+"."+name) {
				b.section(s, options[i], item, fmt.Sprintf("%s.%s[%d]", path, name, n))
			}
			continue
		}
		if !many {
			b.option(s, options[i], field(object, options[i].Field), path+"."+options[i].Field)
			continue
		}
		end := i
		for end < len(options) && strings.HasPrefix(options[end].Field, list+"[].") {
			end++
		}
		for n, item := range b.list(object[list], path+"."+list) {
			inner := b.object(item, fmt.Sprintf("%s.%s[%d]", path, list, n))
			for _, o := range options[i:end] {
				name := strings.TrimPrefix(o.Field, list+"[].")
				b.option(s, o, inner[name], fmt.Sprintf("%s.%s[%d].%s", path, list, n, name))
			}
		}
		i = end - 1
	}
}

// field is the value at a path with dots.
func field(object map[string]any, path string) any {
	for {
		name, rest, more := strings.Cut(path, ".")
		if !more {
			return object[path]
		}
		object, _ = object[name].(map[string]any)
		if object == nil {
			return nil
		}
		path = rest
	}
}

func (b *builder) list(value any, path string) []any {
	switch v := value.(type) {
	case nil:
		return nil
	case []any:
		return v
	}
	b.fail("WrongType", path, "expected a list, found %s", describe(value))
	return nil
}

func (b *builder) object(value any, path string) map[string]any {
	switch v := value.(type) {
	case nil:
		return nil
	case map[string]any:
		return v
	}
	b.fail("WrongType", path, "expected an object, found %s", describe(value))
	return nil
}

func describe(value any) string {
	switch v := value.(type) {
	case nil:
		return "nothing"
	case string:
		if len(v) > 40 {
			v = v[:40] + "..."
		}
		return "the text " + strconv.Quote(v)
	case bool:
		return fmt.Sprintf("%v", v)
	case map[string]any:
		return "an object"
	case []any:
		return "a list"
	}
	return fmt.Sprintf("the number %v", value)
}

// option adds one option's properties.
func (b *builder) option(s *config.Section, o *plugin.Option, value any, path string) {
	if value == nil || o.Field == "" {
		return
	}
	if o.Refused {
		b.warn("RefusedByEngine", path, "the engine knows no such option; it is left out")
		return
	}
	if o.Has("special") {
		special(b, s, o, value, path)
		return
	}
	switch o.Shape {
	case "group":
		b.group(s, o, b.object(value, path), path)
	case "section":
		b.section(s, o, value, path)
	case "list":
		b.strings(s, o, value, path)
	case "map":
		b.pairs(s, o, value, path)
	case "secret":
		if text, ok := b.secret(value, path); ok {
			b.add(s, o, o.Key, text, path)
		}
	case "script":
		b.script(s, o, value, path)
	default:
		if text, ok := b.scalar(o, value, path); ok && text != "" {
			if word := o.Render["word"]; word != "" {
				text = word + "    " + text
			}
			b.add(s, o, o.Key, text, path)
		}
	}
}

// scalar is the text of a string, boolean or number; "" means that there is nothing to add.
func (b *builder) scalar(o *plugin.Option, value any, path string) (string, bool) {
	switch o.Shape {
	case "string":
		text, ok := value.(string)
		if !ok {
			b.fail("WrongType", path, "expected a text, found %s", describe(value))
			return "", false
		}
		return text, text == "" || b.allowed(o, text, path)
	case "boolean":
		v, ok := value.(bool)
		if !ok {
			b.fail("WrongType", path, "expected true or false, found %s", describe(value))
			return "", false
		}
		if o.Has("true") && !v {
			return "", true
		}
		return strconv.FormatBool(v != o.Has("not")), true
	case "integer":
		n, ok := integer(value)
		if !ok {
			b.fail("WrongType", path, "expected a whole number, found %s", describe(value))
			return "", false
		}
		if o.Min != nil && n < *o.Min || o.Max != nil && n > *o.Max {
			b.fail("OutOfRange", path, "%d is outside of what is allowed (%s)", n, limits(o))
			return "", false
		}
		if o.Has("positive") && n <= 0 || o.Has("nonzero") && n == 0 {
			return "", true
		}
		text := strconv.FormatInt(n, 10)
		if o.Has("megabytes") {
			text += "MB"
		}
		return text, o.Has("megabytes") || b.allowed(o, text, path)
	case "number":
		if f, ok := value.(float64); ok {
			return fmt.Sprint(f), true
		}
		if n, ok := integer(value); ok {
			return strconv.FormatInt(n, 10), true
		}
		b.fail("WrongType", path, "expected a number, found %s", describe(value))
	}
	return "", false
}

func limits(o *plugin.Option) string {
	switch {
	case o.Min == nil:
		return fmt.Sprintf("at most %d", *o.Max)
	case o.Max == nil:
		return fmt.Sprintf("at least %d", *o.Min)
	}
	return fmt.Sprintf("%d to %d", *o.Min, *o.Max)
}

func integer(value any) (int64, bool) {
	switch v := value.(type) {
	case int64:
		return v, true
	case int:
		return int64(v), true
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
			return int64(v), true
		}
	case json.Number:
		n, err := v.Int64()
		return n, err == nil
	}
	return 0, false
}

// allowed tells whether the resource's schema allows a text.
func (b *builder) allowed(o *plugin.Option, text, path string) bool {
	switch {
	case len(o.Enum) > 0 && !slices.Contains(o.Enum, text):
		b.fail("InvalidValue", path, "%q is not allowed; there are %s", text, strings.Join(o.Enum, ", "))
	case o.Pattern != nil && !o.Pattern.MatchString(text):
		b.fail("InvalidValue", path, "%q does not have the form %s", text, o.Pattern)
	default:
		return true
	}
	return false
}

// add adds a property if the engine takes the value.
func (b *builder) add(s *config.Section, o *plugin.Option, key, value, path string) {
	if err := o.Check(value); err != nil && o.Shape != "secret" {
		b.fail("InvalidValue", path, "%v", err)
		return
	}
	switch in, inside := o.Render["in"]; {
	case o.Has("arg"):
		s.Arg = value
		return
	case inside:
		s = inner(s, in)
	}
	s.Properties = append(s.Properties, config.Property{Key: key, Value: value, Pos: config.Position{File: path}})
}

// inner is the section of this kind inside of another, made if it is not there.
func inner(s *config.Section, kind string) *config.Section {
	for _, child := range s.Sections {
		if child.Kind == kind {
			return child
		}
	}
	child := &config.Section{Kind: kind}
	s.Sections = append(s.Sections, child)
	return child
}

func (b *builder) group(s *config.Section, o *plugin.Option, object map[string]any, path string) {
	if object == nil {
		return
	}
	if o.Group == "tls" {
		s.Properties = append(s.Properties, config.Property{Key: "tls", Value: "On", Pos: config.Position{File: path}})
	}
	b.fill(s, b.table.Groups[o.Group].Options, object, path)
}

func (b *builder) texts(value any, path string) []string {
	var texts []string
	for i, item := range b.list(value, path) {
		text, ok := item.(string)
		if !ok {
			b.fail("WrongType", fmt.Sprintf("%s[%d]", path, i), "expected a text, found %s", describe(item))
			continue
		}
		texts = append(texts, text)
	}
	return texts
}

func (b *builder) strings(s *config.Section, o *plugin.Option, value any, path string) {
	texts := b.texts(value, path)
	if len(texts) == 0 {
		return
	}
	if join, ok := o.Render["join"]; ok {
		if text := strings.Join(texts, join); text != "" {
			b.add(s, o, o.Key, text, path)
		}
		return
	}
	if o.Has("one") && len(texts) > 1 {
		b.warn("OnlyOne", path, "the engine takes one value here; all but the first are left out")
		texts = texts[:1]
	}
	for i, text := range texts {
		key := o.Key
		if o.Has("numbered") {
			key += strconv.Itoa(i + 1)
		}
		if text == "" {
			b.fail("InvalidValue", fmt.Sprintf("%s[%d]", path, i), "an empty entry")
			continue
		}
		b.add(s, o, key, text, fmt.Sprintf("%s[%d]", path, i))
	}
}

func (b *builder) pairs(s *config.Section, o *plugin.Option, value any, path string) {
	object := b.object(value, path)
	var joined []string
	for _, name := range slices.Sorted(maps.Keys(object)) {
		text, ok := object[name].(string)
		at := path + "." + name
		if !ok {
			b.fail("WrongType", at, "expected a text, found %s", describe(object[name]))
			continue
		}
		if strings.ContainsAny(name, " \t\r\n") || name == "" {
			b.fail("InvalidValue", at, "a name without blanks is needed here")
			continue
		}
		switch {
		case o.Has("word"):
			b.add(s, o, o.Key, o.Render["word"]+"    "+name+"    "+text, at)
		case o.Has("prefixed"):
			b.add(s, o, o.Key+name, text, at)
		case o.Has("joined"):
			joined = append(joined, name+"="+text)
		case o.Has("repeat"):
			b.add(s, o, o.Key, name+"    "+text, at)
		default: // a header or label: the operator writes one blank more, which in YAML counts for nothing
			blank := " "
			if b.format == config.YAML {
				blank = ""
			}
			b.add(s, o, o.Key, blank+name+"    "+text, at)
		}
	}
	if len(joined) > 0 {
		b.add(s, o, o.Key, strings.Join(joined, ","), path)
	}
}

// reference reads name and key of a reference.
func (b *builder) reference(kind string, value any, path string) (resource.Reference, bool) {
	object := b.object(value, path)
	r := resource.Reference{Kind: kind, Namespace: b.namespace}
	r.Name, _ = object["name"].(string)
	r.Key, _ = object["key"].(string)
	if r.Name == "" || r.Key == "" {
		b.fail("IncompleteReference", path, "a reference to a %s needs name and key", kind)
		return r, false
	}
	return r, true
}

func (b *builder) lookup(r resource.Reference, path string) (string, bool) {
	value, ok := b.found.Lookup(r)
	b.used = append(b.used, used{r, value, ok})
	if !ok {
		b.fail(r.Kind+"NotFound", path, "%s %s/%s, or the key %s in it, does not exist", r.Kind, r.Namespace, r.Name, r.Key)
	}
	return value, ok
}

// secret is the text that {valueFrom: {secretKeyRef: {name, key}}} leads to, without one line break at its end.
func (b *builder) secret(value any, path string) (string, bool) {
	object := b.object(value, path)
	from, _ := object["valueFrom"].(map[string]any)
	r, ok := b.reference("Secret", from["secretKeyRef"], path+".valueFrom.secretKeyRef")
	if !ok {
		return "", false
	}
	text, ok := b.lookup(r, path+".valueFrom.secretKeyRef")
	text = strings.TrimSuffix(text, "\n")
	if ok && strings.ContainsAny(text, "\r\n\x00") {
		b.fail("InvalidSecret", path, "the value in %s has a line break or zero byte", r)
		return "", false
	}
	return text, ok && text != ""
}

// script gives the path of a Lua script and keeps its text.
func (b *builder) script(s *config.Section, o *plugin.Option, value any, path string) {
	object := b.object(value, path)
	if key, _ := object["key"].(string); key == "" {
		return
	}
	r, ok := b.reference("ConfigMap", value, path)
	if !ok {
		return
	}
	text, ok := b.lookup(r, path)
	if !ok {
		return
	}
	if strings.Trim(r.Key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") != "" || strings.HasPrefix(r.Key, "..") {
		b.fail("InvalidValue", path+".key", "%q cannot be the name of a file", r.Key)
		return
	}
	name := r.Key
	if b.tenant != "" {
		name = b.tenant + "-" + name
	}
	if b.scripts == nil {
		b.scripts = map[string]string{}
	}
	b.scripts[name] = text
	b.add(s, o, o.Key, "/fluent-bit/config/"+name, path)
}
