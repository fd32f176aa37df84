package vet_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/weft-dev/weft/kcl"
	"github.com/weft-dev/weft/kcl/vet"
)

const schema = `schema P:
    name: str
    n?: int
    list?: [float]
`

func check(d vet.Data) error {
	o := kcl.Options{WorkDir: "/w", Files: []string{"p.k"}, Code: map[string]string{"p.k": schema}}
	return vet.Check(context.Background(), o, "", "", d)
}

// The places of errors are those of the data.
func TestPlaces(t *testing.T) {
	for _, c := range []struct {
		name, text string
		line, col  int // 0 for valid data
	}{
		{"a.json", `{"name": "x", "n": 1, "list": [1, 2.5]}`, 0, 0},
		{"a.yaml", "name: x\nlist:\n- 1\n", 0, 0},
		{"a.yaml", "name: x\n---\nname: y\n", 0, 0},
		{"a.json", "[{\"name\": \"x\"},\n {\"name\": \"y\"}]", 0, 0},
		{"a.json", "{\n  \"name\": 1\n}", 2, 2},
		{"a.yaml", "name: x\n# ü\nn: ü\n", 3, 0},
		{"a.yaml", "name: x\nlist: [1,\n  x]\n", 2, 0},
	} {
		err := check(vet.Data{Name: c.name, Text: c.text})
		var program *kcl.Error
		switch {
		case c.line == 0 && err != nil:
			t.Errorf("%q: %v", c.text, err)
		case c.line == 0:
		case !errors.As(err, &program):
			t.Errorf("%q gives %v", c.text, err)
		default:
			m := program.Diagnostics[0].Messages[0]
			if m.File != c.name || m.Line != c.line || m.Col != c.col {
				t.Errorf("%q is wrong at %s:%d:%d, want %d:%d", c.text, m.File, m.Line, m.Col, c.line, c.col)
			}
		}
	}
}

func TestNoData(t *testing.T) {
	for text, want := range map[string]string{"1": "a number cannot be an instance of schema P", "[1]": "a number cannot be", "{": "EOF while parsing an object"} {
		if err := check(vet.Data{Name: "a.json", Text: text}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q gives %v, want %s", text, err, want)
		}
	}
	if err := check(vet.Data{Name: "a", Text: "x", Format: "ini"}); err == nil {
		t.Error("format ini is accepted")
	}
}

func FuzzCheck(f *testing.F) {
	f.Add(`{"name": "x", "list": [1]}`, "a.json")
	f.Add("name: x\nlist: &a [1]\nn: *a\n", "a.yaml")
	f.Add("? a\n: b\n<<: {name: x}\n", "a.yaml")
	f.Fuzz(func(t *testing.T, text, name string) { _ = check(vet.Data{Name: name, Text: text}) })
}
