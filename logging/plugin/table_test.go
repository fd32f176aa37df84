package plugin

import (
	"strings"
	"testing"
)

func TestTables(t *testing.T) {
	shapes := map[string]bool{"string": true, "boolean": true, "integer": true, "number": true, "list": true, "map": true, "secret": true, "script": true, "rules": true, "records": true, "group": true, "section": true}
	types := map[string]bool{"text": true, "bool": true, "int": true, "double": true, "size": true, "time": true, "regex": true, "commas": true, "words": true, "array": true, "hash": true, "prefix": true, "tree": true, "group": true, "section": true}
	for engine, text := range map[string]string{"fluentbit": fluentbitTable, "fluentd": fluentdTable} {
		table, err := parse(engine, text)
		if err != nil {
			t.Fatal(err)
		}
		all := table.Plugins
		for _, g := range table.Groups {
			all = append(all, g)
		}
		for _, p := range all {
			fields := map[string]bool{}
			for _, o := range p.Options {
				where := engine + " " + p.Kind + " " + p.Name + " " + o.Field + " " + o.Key
				if !shapes[o.Shape] || !types[o.Type] {
					t.Errorf("%s: shape %q, type %q", where, o.Shape, o.Type)
				}
				if o.Field == "" && o.Key == "" {
					t.Errorf("%s: neither field nor key", where)
				}
				if o.Field != "" && fields[o.Field] {
					t.Errorf("%s: the field is there twice", where)
				}
				fields[o.Field] = true
				if o.Group != "" && table.Groups[o.Group] == nil {
					t.Errorf("%s: no group %q", where, o.Group)
				}
				if o.Shape == "secret" && !o.Sensitive {
					t.Errorf("%s: a secret that is not sensitive", where)
				}
				if o.Default != "" && !o.Refused && o.Type != "text" {
					if err := o.Check(o.Default); err != nil && !strings.Contains(o.Default, "*") {
						t.Errorf("%s: default: %v", where, err)
					}
				}
			}
			for _, g := range p.Groups {
				if table.Groups[g] == nil {
					t.Errorf("%s %s: no group %q", engine, p.Name, g)
				}
			}
		}
	}
}

func TestOption(t *testing.T) {
	tail := FluentBit().Plugin("input", "TAIL")
	if tail == nil || tail.Field != "tail" {
		t.Fatal("no tail")
	}
	for key, want := range map[string]bool{"path": true, "PATH": true, "parser_1": true, "mem_buf_limit": true, "tls": false, "storage.path": true, "nonsense": false, "parser_": true} {
		o := tail.Option(key)
		if (o != nil) != want && key != "parser_" {
			t.Errorf("%s: %v", key, o)
		}
	}
	if o := tail.Option("storage.path"); o == nil || !o.Refused {
		t.Error("the engine has no storage.path of an input")
	}
	es := FluentBit().Plugin("output", "es")
	for _, key := range []string{"tls", "tls.verify", "net.keepalive", "host", "workers", "match"} {
		if es.Option(key) == nil {
			t.Errorf("es has no %s", key)
		}
	}
	if FluentBit().Plugin("output", "file").Option("tls") != nil {
		t.Error("file has tls")
	}
}

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		o     Option
		value string
		ok    bool
	}{
		{Option{Type: "int"}, "5", true}, {Option{Type: "int"}, "5s", false}, {Option{Type: "int"}, "${N}", true},
		{Option{Type: "bool"}, "On", true}, {Option{Type: "bool"}, "maybe", false},
		{Option{Type: "size"}, "5M", true}, {Option{Type: "size"}, "1TB", true}, {Option{Type: "size"}, "-1", true}, {Option{Type: "size"}, "big", false},
		{Option{Type: "time"}, "10s", true}, {Option{Type: "time"}, "soon", false},
		{Option{Type: "text", Enum: []string{"a", "b"}}, "A", true}, {Option{Type: "text", Enum: []string{"a", "b"}}, "c", false},
	} {
		if err := c.o.Check(c.value); (err == nil) != c.ok {
			t.Errorf("%s %q: %v", c.o.Type, c.value, err)
		}
	}
}
