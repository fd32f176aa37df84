package lint_test

import (
	"context"
	"strings"
	"testing"

	"github.com/weft-dev/weft/kcl/diag"
	"github.com/weft-dev/weft/kcl/lint"
	"github.com/weft-dev/weft/kcl/load"
)

func warnings(t *testing.T, texts ...string) string {
	t.Helper()
	var sources []load.Source
	for i, text := range texts {
		sources = append(sources, load.Source{Name: "/" + string(rune('a'+i)) + ".k", Text: &text})
	}
	p, err := load.Load(context.Background(), sources, load.Options{WorkDir: "/", Root: "/", Modules: func(string) bool { return true }})
	if err != nil {
		t.Fatal(err)
	}
	list := lint.Imports(p.Main)
	for _, d := range list {
		if d.Level != diag.Warning || d.Messages[0].Note == "" {
			t.Errorf("%+v", d)
		}
	}
	return strings.TrimSpace(diag.Short(list))
}

func TestImports(t *testing.T) {
	for _, c := range []struct {
		name string
		text []string
		want string
	}{
		{"used", []string{"import math\na = math.pow(2, 3)\n"}, ""},
		{"used by a type, an alias, a base, a decorator's argument", []string{
			"import a\nimport b as c\nimport d.e\nimport f\n\ntype T = c.X\nschema S(e.B):\n    x: {str:[a.T | int]}\n    @deprecated(reason=f.r)\n    y?: int\n"}, ""},
		{"used in a string, a function's type, an index signature, a check", []string{
			"import a\nimport b\nimport c\nimport d\n\nschema S:\n    [k: str]: b.T\n    check:\n        c.ok(k)\n\nx = \"${a.v}\"\nf = lambda x: d.T { x }\n"}, ""},
		{"unused", []string{"import math\na = 1\n"}, "/a.k:1:1: warning[W1001]: Module 'math' imported but unused"},
		{"unused under another name", []string{"import math as m\nmath = 1\n"}, "/a.k:1:1: warning[W1001]: Module 'm' imported but unused"},
		{"each file for itself", []string{"import math\n", "import math\nb = math.pi\n"}, "/a.k:1:1: warning[W1001]: Module 'math' imported but unused"},
		{"twice", []string{"import math\nimport math\na = math.pi\n"}, "/a.k:2:1: warning[W1001]: Module 'math' is reimported multiple times"},
		{"below", []string{"a = 1\nimport math\nb = math.pi\n"}, "/a.k:2:1: warning[W1001]: The import stmt should be placed at the top of the module"},
	} {
		if got := warnings(t, c.text...); !strings.HasPrefix(got, c.want) || c.want == "" && got != "" {
			t.Errorf("%s: got\n%s\nwant\n%s", c.name, got, c.want)
		}
	}
}
