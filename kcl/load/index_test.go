package load

import (
	"bytes"
	"testing"

	"github.com/weft-dev/weft/kcl/syntax"
)

const indexed = "import a.b as c\nimport .d\nschema S:\n    x: int\nmixin XMixin:\n    y: int\nprotocol PProtocol:\n    z: int\nrule R:\n    True\ntype T = int\n"

func indexOfText(texts ...string) *index {
	p := &Package{}
	for _, text := range texts {
		f := syntax.Parse("f.k", text)
		p.Files = append(p.Files, &File{File: f, Body: f.Body})
	}
	x := indexOf(p)
	x.closure[0], x.closure[31] = 1, 2
	return x
}

func TestIndex(t *testing.T) {
	want := indexOfText(indexed, "", "a = 1\n")
	got, err := decodeIndex(want.encode())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.encode(), want.encode()) || got.closure != want.closure {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if f := got.files[0]; !f.plain || len(f.decls) != 5 || f.decls[3] != (declIndex{RuleDecl, "R"}) || f.imports[0].As.Text != "c" || f.imports[1].As != nil {
		t.Errorf("%+v", f)
	}
	if !got.files[1].plain || got.files[2].plain {
		t.Error("a file is plain when it has nothing but imports and declarations")
	}
}

// FuzzIndex: what is no index is refused, and what is one is written again as
// it was, as far as numbers have one form.
func FuzzIndex(f *testing.F) {
	f.Add(indexOfText(indexed).encode())
	f.Add(indexOfText("a = 1", "import x").encode())
	f.Add(make([]byte, 33))
	f.Add(append(make([]byte, 32), 0xff, 0xff, 0xff, 0xff, 0x7f))
	f.Fuzz(func(t *testing.T, data []byte) {
		x, err := decodeIndex(data)
		if err != nil {
			return
		}
		again, err := decodeIndex(x.encode())
		if err != nil || !bytes.Equal(again.encode(), x.encode()) {
			t.Errorf("%v: %+v", err, x)
		}
	})
}
