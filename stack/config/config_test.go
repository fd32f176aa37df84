package config

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestYAMLKeepsOrderAndPlaces(t *testing.T) {
	tree, err := ParseYAML("a.yaml", []byte("z: 1\na:\n  b: [true, 1.5, x, null]\nm: &m {p: q}\nn: {<<: *m, r: s}\n"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range tree.Fields {
		names = append(names, f.Name)
	}
	if got := strings.Join(names, " "); got != "z a m n" {
		t.Errorf("the fields are %s", got)
	}
	if got := tree.Get("a").Get("b").Items[1].At.String(); got != "a.yaml:3:13" {
		t.Errorf("the number is at %s", got)
	}
	want := map[string]any{"z": int64(1), "a": map[string]any{"b": []any{true, 1.5, "x", nil}}, "m": map[string]any{"p": "q"}, "n": map[string]any{"p": "q", "r": "s"}}
	if got := tree.Plain(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v", got)
	}
}

func TestProblemsNamePlaceAndField(t *testing.T) {
	for text, want := range map[string]string{
		"a: [":                   "a.yaml:1 : did not find expected node content",
		"a: 1\na: 2":             "a.yaml:2:1 a: is there twice",
		"a: 1\n---\nb: 2":        "a.yaml:3:1 : a second document begins here; expected one",
		"? [a]\n: b":             "a.yaml:1:3 : a field's name must be a word",
		"a: .nan":                "a.yaml:1:4 : must be a finite number, got .nan",
		"<<: 1":                  "a.yaml:1:5 <<: must name fields with values, got 1",
		strings.Repeat("[", 500): "a.yaml:1:202 : holds more or deeper values than are read",
	} {
		if strings.HasPrefix(text, "[") {
			text += strings.Repeat("]", 500)
		}
		_, err := ParseYAML("a.yaml", []byte(text))
		if got := told(err); got != want {
			t.Errorf("%.20q:\n got %s\nwant %s", text, got, want)
		}
	}
}

func TestReaderCollectsProblems(t *testing.T) {
	tree, err := ParseYAML("a.yaml", []byte("text: 1\nnumber: x\nlist: {}\nmap: []\nport: 70000\nflag: 1\ndeep:\n  a.b: 2\n"))
	if err != nil {
		t.Fatal(err)
	}
	r := &Reader{}
	n := r.Node(tree, "")
	n.Field("text").Text()
	n.Field("number").Int()
	n.Field("list").Texts()
	n.Field("map").TextMap()
	n.Field("port").IntIn(1, 65535)
	n.Field("flag").Bool()
	n.Field("deep").TextMap()
	n.Required("gone").Text()
	n.Field("nothing").Text() // may be missing
	var got []string
	var joined interface{ Unwrap() []error }
	if errors.As(r.Err(), &joined) {
		for _, err := range joined.Unwrap() {
			got = append(got, told(err))
		}
	}
	want := []string{
		"a.yaml:1:7 text: must be a text, got 1", `a.yaml:2:9 number: must be a whole number, got "x"`,
		"a.yaml:3:7 list: must be a list, got fields with values", "a.yaml:4:6 map: must be fields with values, got a list",
		"a.yaml:5:7 port: must be a whole number from 1 to 65535, got 70000", "a.yaml:6:7 flag: must be true or false, got 1",
		`a.yaml:8:8 deep["a.b"]: must be a text, got 2`, "a.yaml:1:1 gone: is missing",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %s\nwant %s", strings.Join(got, "\n     "), strings.Join(want, "\n     "))
	}
}

func told(err error) string {
	var p *Problem
	if !errors.As(err, &p) {
		return "no problem"
	}
	return p.At.String() + " " + p.Path + ": " + p.What
}

func FuzzParseYAML(f *testing.F) {
	for _, seed := range []string{"a: {b: [1, 2.5, true, null, x]}", "a: &a [*a]", "<<: {a: b}", "a: !!binary aGk=", "\x00", "? a", "a: 0x10\nb: 1e400"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		tree, err := ParseYAML("a.yaml", text)
		if err == nil {
			tree.Plain()
		}
	})
}
