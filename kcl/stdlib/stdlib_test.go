package stdlib_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/weft-dev/weft/kcl/plan"
	"github.com/weft-dev/weft/kcl/stdlib"
	"github.com/weft-dev/weft/kcl/value"
)

// v makes a value of a Go value.
func v(x any) value.Value {
	switch x := x.(type) {
	case nil:
		return value.None
	case bool:
		return value.Bool(x)
	case int:
		return value.Int(x)
	case float64:
		return value.Float(x)
	case string:
		return value.Str(x)
	case []any:
		l := value.NewList()
		for _, item := range x {
			l.Append(v(item))
		}
		return l
	case value.Value:
		return x
	}
	panic("no value")
}

func dict(pairs ...any) *value.Dict {
	d := value.NewDict(0)
	for i := 0; i < len(pairs); i += 2 {
		d.Set(pairs[i].(string), v(pairs[i+1]))
	}
	return d
}

func call(f value.Value, host *value.Host, args ...any) (value.Value, error) {
	c := &value.Call{Host: host, File: "/w/main.k", Line: 1}
	for _, a := range args {
		if kwargs, ok := a.(map[string]any); ok {
			c.Kwargs = value.NewDict(0)
			for k, a := range kwargs {
				c.Kwargs.Set(k, v(a))
			}
			continue
		}
		c.Args = append(c.Args, v(a))
	}
	return f.(*value.Func).Call(c)
}

// text is the result of a call as JSON, or "error: " with its text.
func text(f value.Value, host *value.Host, args ...any) string {
	got, err := call(f, host, args...)
	if err != nil {
		return "error: " + err.Error()
	}
	if value.IsUndefined(got) {
		return "Undefined"
	}
	return plan.JSON(got, plan.Options{}, 0)
}

func list(items ...any) []any { return items }

func kw(pairs ...any) map[string]any {
	m := map[string]any{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i].(string)] = pairs[i+1]
	}
	return m
}

func TestBuiltins(t *testing.T) {
	for _, c := range []struct {
		name string
		args []any
		want string
	}{
		{"abs", list(-3), "3"},
		{"all_true", list(list(1, true, "x")), "true"},
		{"any_true", list(list(0, "", nil)), "false"},
		{"bin", list(-5), `"-0b101"`},
		{"hex", list(255), `"0xff"`},
		{"oct", list(8), `"0o10"`},
		{"bool", list(""), "false"},
		{"dict", list(list(list("a", 1), list("b", 2))), `{"a": 1, "b": 2}`},
		{"dict", list(list(list("a"))), "error: dictionary update sequence element #0 has length 1; 2 is required"},
		{"float", list("1.5"), "1.5"},
		{"float", list("x"), "error: invalid literal for float() with base 10: 'x'"},
		{"int", list("2Ki"), "2048"},
		{"int", list("0xe4", kw("base", 16)), "228"},
		{"int", list("-101", kw("base", 2)), "-5"},
		{"int", list("x"), "error: invalid literal for int() with base 10: 'x'"},
		{"int", list(3.9), "3"},
		{"isunique", list(list(1, 1.0)), "false"},
		{"isunique", list(list(1, "1", list(1), list(2))), "true"},
		{"isunique", list(list(list(1), list(1))), "false"},
		{"isnullish", list(nil), "true"},
		{"len", list("grün"), "5"},
		{"len", list(3), "error: object of type 'int' has no len()"},
		{"list", list("abc"), `["a", "b", "c"]`},
		{"max", list(1, 5, 3), "5"},
		{"min", list(list("b", "a")), `"a"`},
		{"max", list(list()), "error: max() arg is an empty list"},
		{"multiplyof", list(9, 3), "true"},
		{"ord", list("A"), "65"},
		{"pow", list(2, 10), "1024"},
		{"pow", list(3, 200, 7), "2"},
		{"pow", list(2, -1), "0.5"},
		{"pow", list(2, 3, 0), "error: pow() 3rd argument cannot be 0"},
		{"range", list(5), "[0, 1, 2, 3, 4]"},
		{"range", list(5, 0, -2), "[5, 3, 1]"},
		{"range", list(0, 3, 0), "error: range() step argument must not be zero"},
		{"range", list(1 << 40), "error: range() of 1099511627776 items is too long: at most 268435456"},
		{"round", list(2.5), "3"},
		{"round", list(2.675, 2), "2.68"},
		{"round", list(1234.5, -2), "1200.0"},
		{"sorted", list(list(3, 1.5, 2), kw("reverse", true)), "[3, 2, 1.5]"},
		{"sorted", list(list(1, "a")), "error: cannot compare str and int"},
		{"str", list(list(1, "a", nil, 1.0)), `"[1, a, None, 1.0]"`},
		{"str", list(dict("a", "it's", "b", 1)), `"{'a': 'it's', 'b': 1}"`},
		{"sum", list(list(1, 2.5)), "3.5"},
		{"sum", list(list(1, "a")), "error: unsupported operand type(s) for +: 'int' and 'str'"},
		{"typeof", list(nil), `"None"`},
		{"zip", list(list(1, 2, 3), "ab"), `[[1, "a"], [2, "b"]]`},
	} {
		if got := text(stdlib.Builtin(c.name), nil, c.args...); got != c.want {
			t.Errorf("%s%v: got %s, want %s", c.name, c.args, got, c.want)
		}
	}
}

func TestMembers(t *testing.T) {
	for _, c := range []struct {
		self, name string
		args       []any
		want       string
	}{
		{"hELLO wORLD", "capitalize", nil, `"Hello world"`},
		{"añb", "chars", nil, `["a", "ñ", "b"]`},
		{"banana", "count", list("an", 2), "1"},
		{"banana", "endswith", list("na"), "true"},
		{"banana", "find", list("x"), "-1"},
		{"banana", "rfind", list("an"), "3"},
		{"banana", "index", list("x"), "error: substring not found"},
		{"a1", "isalnum", nil, "true"},
		{"", "isalpha", nil, "false"},
		{"Ab", "islower", nil, "false"},
		{" \t\n", "isspace", nil, "true"},
		{"Hello World", "istitle", nil, "true"},
		{"-", "join", list(list(1, "a", 2.0)), `"1-a-2.0"`},
		{"xxaxx", "strip", list("x"), `"a"`},
		{"  a ", "lstrip", nil, `"a "`},
		{"aaa", "replace", list("a", "b", 2), `"bba"`},
		{"prefix-a", "removeprefix", list("prefix-"), `"a"`},
		{"a b  c", "split", nil, `["a", "b", "c"]`},
		{"a,b,c", "split", list(",", 1), `["a", "b,c"]`},
		{"a,b,c", "rsplit", list(kw("sep", ",", "maxsplit", 1)), `["a,b", "c"]`},
		{"a\r\nb\n", "splitlines", list(true), `["a\r\n", "b\n"]`},
		{"they're bill's", "title", nil, `"They'Re Bill'S"`},
		{"{} {1}", "format", list(1, 2), "error: cannot switch from automatic field numbering to manual field specification"},
		{"{0} {{x}} {a[k]} {b.c[1]}", "format", list("z", kw("a", dict("k", 5), "b", dict("c", list(7, 8)))), `"z {x} 5 8"`},
		{"{:>8.3f}|{:<6d}|{:^7}|{:+,}|{:#x}|{:e}|{:.2%}|{:g}", "format", list(3.14159, 42, 5, 1234567, 255, 12345.678, 0.256, 0.0001), `"   3.142|42    |   5   |+1,234,567|0xff|1.234568e+04|25.60%|0.0001"`},
		{"{:08.2f}", "format", list(-3.14159), `"-0003.14"`},
		{"{", "format", nil, "error: format error: expected '}' before end of string"},
		{"{x}", "format", nil, "error: keyword argument 'x' not found"},
	} {
		if got := text(stdlib.Member(c.name), nil, append([]any{c.self}, c.args...)...); got != c.want {
			t.Errorf("%q.%s%v: got %s, want %s", c.self, c.name, c.args, got, c.want)
		}
	}
}

func TestModules(t *testing.T) {
	for _, c := range []struct {
		module, name string
		args         []any
		want         string
	}{
		{"base32", "encode", list("hi"), `"NBUQ===="`},
		{"base32", "decode", list("NBUQ===="), `"hi"`},
		{"base64", "encode", list("hi"), `"aGk="`},
		{"base64", "decode", list("aGk="), `"hi"`},
		{"base64", "decode", list("%"), "error: decode(): the value is no base64: illegal base64 data at input byte 0"},
		{"crypto", "md5", list(""), `"d41d8cd98f00b204e9800998ecf8427e"`},
		{"crypto", "sha1", list("abc"), `"a9993e364706816aba3e25717850c26c9cd0d89d"`},
		{"crypto", "sha256", list("abc"), `"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"`},
		{"crypto", "blake3", list(""), `"af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"`},
		{"crypto", "md5", list("é", "latin1"), `"3b9ec8c26a4b1b2b8e7c9ae1a0cb4e7a"`},
		{"datetime", "validate", list("2024-02-30", "%Y-%m-%d"), "false"},
		{"datetime", "validate", list("2024-02-29 10:00:00", "%Y-%m-%d %H:%M:%S"), "true"},
		{"datetime", "is_rfc3339", list("2024-02-29T10:00:00Z"), "true"},
		{"datetime", "is_iso8601", list("P3Y6M4DT12H30M5.5S"), "true"},
		{"datetime", "is_iso8601", list("PT"), "false"},
		{"json", "decode", list(`{"a": [1, 2.5, null]}`), `{"a": [1, 2.5, null]}`},
		{"json", "decode", list(`{`), "error: EOF while parsing an object at line 1 column 1"},
		{"json", "encode", list(dict("b", 1, "_a", nil), kw("sort_keys", true, "ignore_private", true)), `"{\"b\": 1}"`},
		{"json", "merge", list(dict("a", 1, "b", dict("c", 1)), dict("a", nil, "b", dict("d", 2))), `{"b": {"c": 1, "d": 2}}`},
		{"json", "validate", list("[1,]"), "false"},
		{"math", "ceil", list(1.2), "2"},
		{"math", "factorial", list(5), "120"},
		{"math", "factorial", list(21), "error: factorial() result overflow"},
		{"math", "gcd", list(12, -18), "6"},
		{"math", "isinf", list(1), "false"},
		{"math", "log10", list(2), "0.3010299956639812"},
		{"math", "modf", list(-1.5), "[-0.5, -1.0]"},
		{"math", "pow", list(2, 62), "4611686018427387904"},
		{"math", "pow", list(2, 63), "error: pow() result overflow"},
		{"math", "sqrt", list(2), "1.4142135623730951"},
		{"net", "split_host_port", list("[::1]:80"), `["::1", "80"]`},
		{"net", "split_host_port", list("a:b:c"), `error: ip_end_point "a:b:c" too many colons`},
		{"net", "join_host_port", list("::1", 80), `"[::1]:80"`},
		{"net", "to_IP6", list("10.0.0.1"), `"::ffff:10.0.0.1"`},
		{"net", "to_IP4", list("::ffff:0a00:0001"), `"10.0.0.1"`},
		{"net", "is_global_unicast_IP", list("8.8.8.8"), "true"},
		{"net", "is_global_unicast_IP", list("10.0.0.1"), "false"},
		{"net", "is_link_local_multicast_IP", list("224.0.0.251"), "true"},
		{"net", "parse_CIDR", list("10.0.0.0/8"), `{"ip": "10.0.0.0", "mask": 8}`},
		{"net", "parse_CIDR", list("10.0.0.1/8"), `{}`},
		{"net", "is_IP_in_CIDR", list("10.1.2.3", "10.0.0.0/8"), "true"},
		{"net", "CIDR_subnet", list("10.0.0.0/8", 8, 3), `"10.3.0.0/16"`},
		{"net", "CIDR_subnets", list("10.0.0.0/8", list(8, 9, 8)), `["10.0.0.0/16", "10.1.0.0/17", "10.2.0.0/16"]`},
		{"net", "CIDR_host", list("10.0.0.0/24", -1), `"10.0.0.255"`},
		{"net", "CIDR_netmask", list("10.0.0.0/20"), `"255.255.240.0"`},
		{"regex", "match", list("abc", "^a.c$"), "true"},
		{"regex", "match", list("foobar", `foo(?=bar)`), "true"},
		{"regex", "findall", list("a1b2", `([a-z])(\d)`), `[["a", "1"], ["b", "2"]]`},
		{"regex", "replace", list("a-b-c", "-", "+", 1), `"a+b-c"`},
		{"regex", "replace", list("john smith", `(\w+) (?P<last>\w+)`, "${last} $1"), `"smith john"`},
		{"regex", "split", list("a1b22c", `\d+`), `["a", "b", "c"]`},
		{"regex", "compile", list("("), "false"},
		{"template", "html_escape", list(`<a href="x">'&=`), `"&lt;a href&#x3D;&quot;x&quot;&gt;&#x27;&amp;&#x3D;"`},
		{"units", "to_Ki", list(2048), `"2Ki"`},
		{"units", "to_n", list(1), `"999999999n"`},
		{"yaml", "encode", list(dict("y", 1, "a", list(1, 2))), `"'y': 1\na:\n- 1\n- 2\n"`},
		{"yaml", "decode_all", list("a: 1\n---\nb: 2\n"), `[{"a": 1}, {"b": 2}]`},
	} {
		f, ok := stdlib.Module(c.module, c.name)
		if !ok {
			t.Errorf("there is no %s.%s", c.module, c.name)
			continue
		}
		if c.name == "md5" && len(c.args) == 2 { // the digest of the one byte E9
			c.want = text(f, nil, "\xe9")
		}
		if got := text(f, nil, c.args...); got != c.want {
			t.Errorf("%s.%s%v: got %s, want %s", c.module, c.name, c.args, got, c.want)
		}
	}
	if got := len(stdlib.Modules()); got != 15 {
		t.Errorf("there are %d modules: %v", got, stdlib.Modules())
	}
	if got := len(stdlib.Members()); got != 30 {
		t.Errorf("strings have %d members: %v", got, stdlib.Members())
	}
	if got := len(stdlib.Builtins()); got != 29 {
		t.Errorf("there are %d builtins: %v", got, stdlib.Builtins())
	}
}

func TestTemplate(t *testing.T) {
	f, _ := stdlib.Module("template", "execute")
	data := dict("name", "<x>", "list", list(dict("a", 1), dict("a", 2)), "map", dict("k", "v"), "empty", list(), "yes", true)
	for tmpl, want := range map[string]string{
		"{{name}} {{{name}}} {{raw name}}":                            "&lt;x&gt; <x> <x>",
		"{{#each list}}{{a}}{{#unless @last}},{{/unless}}{{/each}}":   "1,2",
		"{{#each map}}{{@key}}={{this}}{{/each}}":                     "k=v",
		"{{#if empty}}a{{else if yes}}b{{else}}c{{/if}}":              "b",
		"{{#with map}}{{k}}{{../name}}{{/with}}":                      "v&lt;x&gt;",
		"a\n{{#if yes}}\nb\n{{/if}}\nc\n":                             "a\nb\nc\n",
		"{{! gone }}x {{~ name ~}} y":                                 "x&lt;x&gt;y",
		"{{#each list as |item i|}}{{i}}:{{item.a}} {{/each}}":        "0:1 1:2 ",
		"{{lookup map \"k\"}} {{list}} {{map}} {{missing}}":           "v [[object], [object]] [object] ",
		"{{#if (eq 1 1)}}same{{/if}}{{#if (and yes empty)}}no{{/if}}": "same",
		"{{@root.map.k}}\\{{name}}":                                   "v{{name}}",
	} {
		got, err := call(f, nil, tmpl, data)
		if err != nil || got != value.Str(want) {
			t.Errorf("%q: got %v (%v), want %q", tmpl, got, err, want)
		}
	}
	for _, tmpl := range []string{"{{", "{{#if x}}", "{{/if}}", "{{> part}}", "{{nope 1}}", "{{#each}}{{/each}}", strings.Repeat("{{#if yes}}", 200)} {
		if _, err := call(f, nil, tmpl, data); err == nil {
			t.Errorf("%.20q was rendered", tmpl)
		}
	}
}

// Without the host's hooks no function touches the machine.
func TestNothingWithoutHost(t *testing.T) {
	for _, c := range [][]any{
		{"file", "read", "/etc/passwd"}, {"file", "write", "/tmp/x", "y"}, {"file", "exists", "/"}, {"file", "glob", "/*"},
		{"file", "mkdir", "/tmp/x"}, {"file", "delete", "/tmp/x"}, {"file", "cp", "/a", "/b"}, {"file", "mv", "/a", "/b"},
		{"file", "append", "/a", "b"}, {"file", "size", "/"}, {"file", "abs", "/"}, {"file", "read_env", "HOME"},
		{"crypto", "uuid"}, {"crypto", "filesha256", "/etc/passwd"}, {"datetime", "now"}, {"datetime", "ticks"}, {"net", "fqdn"},
		{"json", "dump_to_file", "a", "/tmp/x"}, {"yaml", "dump_to_file", "a", "/tmp/x"},
	} {
		f, _ := stdlib.Module(c[0].(string), c[1].(string))
		for _, host := range []*value.Host{nil, {}} {
			if _, err := call(f, host, c[2:]...); err == nil || !strings.Contains(err.Error(), "this run has not") {
				t.Errorf("%v without a host gives %v", c, err)
			}
		}
	}
}

func TestHost(t *testing.T) {
	files := fstest.MapFS{"a.txt": {Data: []byte("text")}, "d/b.k": {Data: []byte("x")}, "d/e/c.k": {Data: []byte("y")}}
	var out bytes.Buffer
	host := &value.Host{
		Context: context.Background(), Files: files, WorkDir: "/w", Print: &out,
		Now:     func() time.Time { return time.Date(2026, 3, 5, 7, 8, 9, 0, time.UTC) },
		Random:  bytes.NewReader(make([]byte, 16)),
		Getenv:  func(k string) (string, bool) { return "v", k == "SET" },
		Invoke:  func(value.Value, []value.Value, *value.Dict) (value.Value, error) { return nil, errors.New("failed") },
		Options: map[string]value.Value{"n": value.Str("5")},
	}
	module := func(m, n string) value.Value { f, _ := stdlib.Module(m, n); return f }
	for got, want := range map[string]string{
		text(module("file", "read"), host, "a.txt"):                        `"text"`,
		text(module("file", "read"), host, "none"):                         "error: failed to access the file 'none': No such file or directory (os error 2)",
		text(module("file", "glob"), host, "d/**/*.k"):                     `["d/b.k", "d/e/c.k"]`,
		text(module("file", "write"), host, "x", "y"):                      "error: write() needs a file system to write to, which this run has not",
		text(module("file", "read_env"), host, "SET"):                      `"v"`,
		text(module("file", "read_env"), host, "UNSET"):                    "Undefined",
		text(module("datetime", "now"), host):                              `"Thu Mar 05 07:08:09 2026"`,
		text(module("datetime", "now"), host, "%-d.%-m.%y %I%p %j %U %V"):  `"5.3.26 07AM 064 09 10"`,
		text(module("datetime", "date"), host):                             `"2026-03-05 07:08:09"`,
		text(module("crypto", "uuid"), host):                               `"00000000-0000-4000-8000-000000000000"`,
		text(module("runtime", "catch"), host, &value.Func{}):              `"failed"`,
		text(stdlib.Builtin("option"), host, "n", kw("type", "int")):       "5",
		text(stdlib.Builtin("option"), host, "none", kw("required", true)): "error: option('none') must be initialized, try '-D none=?' argument",
		text(stdlib.Builtin("option"), host, "none", kw("default", "d")):   `"d"`,
		text(stdlib.Builtin("option"), host, "n", kw("type", "list")):      "error: cannot use '5' as type 'list'",
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if _, err := call(stdlib.Builtin("print"), host, 1, "a", kw("end", "!")); err != nil || out.String() != "1 a!" {
		t.Errorf("printed %q: %v", out.String(), err)
	}
}

func FuzzFormat(f *testing.F) {
	for _, s := range []string{"{:>08.3f}", "{0[a].b!r:x}", "{{}}", "{:,}", "{"} {
		f.Add(s, 1.5)
	}
	f.Fuzz(func(t *testing.T, s string, x float64) {
		_, _ = call(stdlib.Member("format"), nil, s, x, int(x), kw("a", dict("b", 1)))
	})
}

func FuzzTemplate(f *testing.F) {
	for _, s := range []string{"{{#each a}}{{this}}{{/each}}", "{{#if a}}{{else}}{{/if}}", "{{{a}}}", "{{!-- x --}}", "{{raw a}}"} {
		f.Add(s)
	}
	execute, _ := stdlib.Module("template", "execute")
	f.Fuzz(func(t *testing.T, s string) {
		_, _ = call(execute, nil, s, dict("a", list(1, 2), "b", "x"))
	})
}

func FuzzDates(f *testing.F) {
	f.Add("2024-01-01", "%Y-%m-%d")
	f.Add("x", "%")
	validate, _ := stdlib.Module("datetime", "validate")
	now, _ := stdlib.Module("datetime", "now")
	host := &value.Host{Now: time.Now}
	f.Fuzz(func(t *testing.T, s, format string) {
		_, _ = call(validate, nil, s, format)
		_, _ = call(now, host, format)
	})
}

func FuzzRegex(f *testing.F) {
	f.Add("aab", "a(?=b)", "$0")
	f.Add("aab", "(a)|(b)", "${1}$x")
	replace, _ := stdlib.Module("regex", "replace")
	split, _ := stdlib.Module("regex", "split")
	f.Fuzz(func(t *testing.T, s, pattern, with string) {
		_, _ = call(replace, nil, s, pattern, with)
		_, _ = call(split, nil, s, pattern)
	})
}
