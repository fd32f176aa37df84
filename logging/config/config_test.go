package config

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// memory gives the files of an archive.
func memory(a *txtar.Archive) Options {
	files := map[string][]byte{}
	for _, f := range a.Files {
		files[f.Name] = f.Data
	}
	return Options{
		Open: func(name string) ([]byte, error) {
			if data, ok := files[name]; ok {
				return data, nil
			}
			return nil, fs.ErrNotExist
		},
		Glob: func(pattern string) ([]string, error) {
			var names []string
			for name := range files {
				if ok, err := filepath.Match(pattern, name); err != nil {
					return nil, err
				} else if ok {
					names = append(names, name)
				}
			}
			sort.Strings(names)
			return names, nil
		},
		Parsers: true,
	}
}

func dump(f *File) string {
	var b strings.Builder
	for _, e := range f.Env {
		fmt.Fprintf(&b, "env %s=%s\n", e.Key, e.Value)
	}
	properties := func(ps []Property, indent string) {
		for _, p := range ps {
			fmt.Fprintf(&b, "%s%s = %q", indent, p.Key, p.Value)
			if p.Tree != nil {
				b.WriteString(" tree " + dumpTree(p.Tree))
			}
			if p.Embedded {
				b.WriteString(" ruby")
			}
			fmt.Fprintf(&b, " @%d:%d\n", p.ValuePos.Line, p.ValuePos.Column)
		}
	}
	var section func(s *Section, indent string)
	section = func(s *Section, indent string) {
		fmt.Fprintf(&b, "%s%s %q @%s\n", indent, s.Kind, s.Arg, s.Pos)
		properties(s.Properties, indent+"  ")
		for _, c := range s.Sections {
			section(c, indent+"  ")
		}
	}
	properties(f.Properties, "")
	for _, s := range f.Sections {
		section(s, "")
	}
	return b.String()
}

func dumpTree(n *Node) string {
	var parts []string
	for i, item := range n.Items {
		text := dumpTree(item)
		if n.Map {
			text = n.Keys[i].Name + ":" + text
		}
		parts = append(parts, text)
	}
	switch {
	case n.Map:
		return "{" + strings.Join(parts, " ") + "}"
	case n.List:
		return "[" + strings.Join(parts, " ") + "]"
	}
	return n.Text
}

// Each archive has a configuration first, files that it includes, and "want": its sections, or the errors.
func TestRead(t *testing.T) {
	names, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(names) == 0 {
		t.Fatal("no test data", err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			want := string(a.Files[len(a.Files)-1].Data)
			f, err := Load(a.Files[0].Name, memory(a))
			got := ""
			if err != nil {
				got = err.Error() + "\n"
			} else {
				got = dump(f)
			}
			if got != want {
				t.Errorf("got\n%swant\n%s", got, want)
			}
		})
	}
}

func TestExpand(t *testing.T) {
	env := map[string]string{"A": "1", "EMPTY": ""}
	for in, want := range map[string]string{
		"${A}": "1", "x${A}y${A}": "x1y1", "${B}": "", "${B:-d}": "d", "${EMPTY:-d}": "d", "${EMPTY}": "", "${A:-d}": "1",
		"${": "${", "${}": "${}", "$A": "$A", "${A": "${A", "a}${A}": "a}1",
	} {
		got := Expand(in, func(n string) (string, bool) { v, ok := env[n]; return v, ok })
		if got != want {
			t.Errorf("%q gives %q, want %q", in, got, want)
		}
	}
}

func TestUnits(t *testing.T) {
	for in, want := range map[string]int64{"10": 10, "32k": 32768, "32KB": 32768, "5M": 5 << 20, "2G": 2 << 30, "false": 0, "1.5M": 3 << 19} {
		if got, err := ParseSize(in); err != nil || got != want {
			t.Errorf("%s: %d %v", in, got, err)
		}
	}
	for _, in := range []string{"", "x", "-1", "5T", "5 apples", "1e30", "NaN"} {
		if got, err := ParseSize(in); err == nil {
			t.Errorf("%q is taken for %d", in, got)
		}
	}
	for in, want := range map[string]float64{"10": 10, "5s": 5, "2m": 120, "1h": 3600, "1d": 86400, "0.5": 0.5} {
		if got, err := ParseTime(in); err != nil || got != want {
			t.Errorf("%s: %v %v", in, got, err)
		}
	}
	for _, in := range []string{"", "s", "5w", "NaN"} {
		if got, err := ParseTime(in); err == nil {
			t.Errorf("%q is taken for %v", in, got)
		}
	}
}

// bare takes the positions out, and what only tells how a thing was written.
func bare(f *File) *File {
	c := &File{}
	properties := func(ps []Property) []Property {
		var out []Property
		for _, p := range ps {
			out = append(out, Property{Key: p.Key, Value: p.Value, Embedded: p.Embedded})
		}
		return out
	}
	var section func(s *Section) *Section
	section = func(s *Section) *Section {
		n := &Section{Kind: s.Kind, Arg: s.Arg, Properties: properties(s.Properties)}
		for _, child := range s.Sections {
			n.Sections = append(n.Sections, section(child))
		}
		return n
	}
	c.Properties, c.Env = properties(f.Properties), properties(f.Env)
	for _, s := range f.Sections {
		c.Sections = append(c.Sections, section(s))
	}
	return c
}

// FuzzParse: no input makes a reader panic, and what was read is the same after writing and reading it again.
func FuzzParse(f *testing.F) {
	seeds, _ := filepath.Glob("testdata/*.txtar")
	for _, name := range seeds {
		a, err := txtar.ParseFile(name)
		if err != nil {
			f.Fatal(err)
		}
		for format := range 4 {
			f.Add(format, a.Files[0].Data)
		}
	}
	f.Add(2, []byte("<match a>\n  k \"#{x}\\n\" # c\n  j {\"a\":[1,2]}\n</match>"))
	none := Options{Open: func(string) ([]byte, error) { return nil, fs.ErrNotExist }, Glob: func(string) ([]string, error) { return nil, nil }}
	f.Fuzz(func(t *testing.T, format int, data []byte) {
		o := none
		o.Format = []Format{Classic, YAML, Fluentd, Fluentd}[uint(format)%4]
		name := "f"
		if uint(format)%4 == 3 { // it is written in Fluentd's own language
			name = "f.yaml"
		}
		first, err := Parse(name, data, o)
		if err != nil || len(first.Read) > 1 {
			return
		}
		if o.Format == YAML { // anything else than these sections has no place of its own when written
			first.Sections = slices.DeleteFunc(first.Sections, func(s *Section) bool {
				return !slices.Contains([]string{Input, Filter, Output, Parser, MultilineParser}, s.Kind) || strings.Contains(fmt.Sprintf("%q", dump(&File{Sections: []*Section{s}})), "ufffd")
			})
			slices.SortStableFunc(first.Sections, func(a, b *Section) int {
				order := []string{Input, Filter, Output, Parser, MultilineParser}
				return slices.Index(order, a.Kind) - slices.Index(order, b.Kind)
			})
		}
		text, err := Write(first, o.Format)
		if err != nil {
			return
		}
		second, err := Parse("f", text, o)
		if err != nil {
			t.Fatalf("%v\n%s\nwas\n%s", err, text, data)
		}
		if o.Format == YAML {
			if a, b := scrubbed(first), scrubbed(second); a != b {
				t.Fatalf("%s\nbecame\n%s\n%s\nand\n%s", data, text, a, b)
			}
			return
		}
		if !reflect.DeepEqual(bare(first), bare(second)) {
			t.Fatalf("%s\nbecame\n%s", data, text)
		}
	})
}

// Aliases of aliases stand for more values than a machine has room for.
func TestAliasesThatMultiply(t *testing.T) {
	var b strings.Builder
	b.WriteString("x-0: &a0 {k: 1}\n")
	for i := 1; i < 40; i++ {
		fmt.Fprintf(&b, "x-%d: &a%d {l: *a%d, r: *a%d}\n", i, i, i-1, i-1)
	}
	b.WriteString("config:\n  - match: {$tag: a, big: *a39}\n")
	_, err := Parse("f.yaml", []byte(b.String()), Options{})
	if err == nil || !strings.Contains(err.Error(), "more than a million of them") || strings.Count(err.Error(), "\n") > 5 {
		t.Errorf("got %v", err)
	}
}

func TestDetect(t *testing.T) {
	for text, want := range map[string]Format{
		"fluent.yaml config:\n  - source: {}\n":      Fluentd,
		"fluent.yml # c\nsystem:\n  a: b\n":          Fluentd,
		"fluent-bit.yaml service:\n  config: 1\n":    YAML,
		"fluent-bit.yaml pipeline: {}\nconfig: []\n": YAML,
		"a.conf <source>\n":                          Fluentd,
		"a.conf [INPUT]\n":                           Classic,
	} {
		name, data, _ := strings.Cut(text, " ")
		if got := Detect(name, []byte(data)); got != want {
			t.Errorf("%q is taken for %s, want %s", text, got, want)
		}
	}
}

// FuzzValue: whatever a value holds, a writer either refuses it or writes it so that a reader gets exactly it and nothing else.
func FuzzValue(f *testing.F) {
	for _, v := range []string{"a", "a\n[INPUT]", "#{`id`}", "\"#{`id`}", "a # b", "*", "[1", "{", "${A}", "a: b", "- x", "'", " x", "x ", "\\", "a\tb", "\u2028", "\xff", "null", "~", "0x1", "!!int 1", "%", "@", "a\r", "<match>", "</match>", "a>b", "@type", "@include", "include"} {
		f.Add(v, v)
	}
	f.Fuzz(func(t *testing.T, key, value string) {
		for _, format := range []Format{Classic, YAML, Fluentd} {
			file := &File{Sections: []*Section{{Kind: Input}}}
			s := file.Sections[0]
			if format == Fluentd {
				s.Kind, s.Arg = "match", value
				s.Add("first", value)
				s.Add(key, value)
			} else {
				s.Add("first", value)
			}
			s.Add("last", "x")
			text, err := Write(file, format)
			if err != nil {
				continue
			}
			back, err := Parse("f", text, Options{Format: format})
			if err != nil {
				t.Fatalf("%s: %v\n%s", format, err, text)
			}
			if !reflect.DeepEqual(valid(bare(file)), valid(bare(back))) {
				t.Fatalf("%s: key %q, value %q became\n%s\n%s", format, key, value, dump(back), text)
			}
		}
	})
}

// valid: YAML has no bytes that are not UTF-8; they become U+FFFD. The classic format takes blanks off the ends, and compact JSON is
// the same JSON.
func valid(f *File) *File {
	for _, s := range f.Sections {
		s.Arg = strings.TrimSpace(s.Arg)
		for i := range s.Properties {
			p := &s.Properties[i]
			p.Value = strings.Map(func(r rune) rune {
				if strings.ContainsRune(" \t\n\r\v\f", r) {
					return -1
				}
				return r
			}, string([]rune(p.Value)))
		}
	}
	return f
}

var places = regexp.MustCompile(`@[^\n]*`)

// scrubbed is a dump without places, and without regard to the case of keys, which YAML writes in lower case, and to what belongs to one key.
func scrubbed(f *File) string {
	lines := strings.Split(strings.ToLower(places.ReplaceAllString(dump(&File{Sections: f.Sections}), "")), "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
