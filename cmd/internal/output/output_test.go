package output

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// newPrinter writes to buffers, which are no terminals.
func newPrinter(options Options, env ...string) (p *Printer, out, errs *bytes.Buffer) {
	out, errs = new(bytes.Buffer), new(bytes.Buffer)
	getenv := func(name string) string {
		for _, e := range env {
			if k, v, _ := strings.Cut(e, "="); k == name {
				return v
			}
		}
		return ""
	}
	return New(out, errs, options, getenv), out, errs
}

type fruit struct {
	Name  string `json:"name"`
	Count int    `json:"count"`
}

func TestResultInEachFormat(t *testing.T) {
	for format, want := range map[Format]string{
		Text: "NAME  COUNT\npear  2\n",
		JSON: "{\n  \"name\": \"pear\",\n  \"count\": 2\n}\n",
		YAML: "count: 2\nname: pear\n",
	} {
		p, out, errs := newPrinter(Options{Format: format, Quiet: true})
		err := p.Result(fruit{"pear", 2}, func(page *Page) {
			page.Table([]string{"name", "count"}, [][]Cell{Row("pear", "2")})
		})
		if err != nil || out.String() != want || errs.Len() > 0 {
			t.Errorf("%s: got %q, %v, want %q; on standard error %q", format, out, err, want, errs)
		}
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

func TestAResultThatCannotBeWrittenIsAnError(t *testing.T) {
	p := New(brokenWriter{}, brokenWriter{}, Options{}, func(string) string { return "" })
	if err := p.Result(1, func(page *Page) { page.Line("1") }); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("got %v", err)
	}
}

func TestTableKeepsItsColumnsWithWideAndHostileCells(t *testing.T) {
	page := &Page{style: true}
	page.Table(nil, [][]Cell{{{"ä", Green}, {Text: "x"}}, {{Text: "two\nlines\x1b[2J"}, {Text: "y"}}})
	want := "\x1b[32mä\x1b[0m             x\ntwo lines[2J  y\n"
	if page.b.String() != want {
		t.Errorf("got\n%q, want\n%q", page.b.String(), want)
	}
}

func TestFlags(t *testing.T) {
	for _, test := range []struct {
		args []string
		want Options
		err  string
	}{
		{nil, Options{Format: Text}, ""},
		{[]string{"-o", "json", "-q"}, Options{Format: JSON, Quiet: true}, ""},
		{[]string{"--output=YAML", "--no-color"}, Options{Format: YAML, NoColor: true}, ""},
		{[]string{"-o", "xml"}, Options{}, "must be text, json or yaml"},
	} {
		var got Options
		flags := pflag.NewFlagSet("", pflag.ContinueOnError)
		got.AddFlags(flags)
		err := flags.Parse(test.args)
		if test.err != "" {
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%q: error %v", test.args, err)
			}
		} else if err != nil || got != test.want {
			t.Errorf("%q: got %+v, %v", test.args, got, err)
		}
	}
}

func TestErrors(t *testing.T) {
	located := &Problem{What: "must be a number", File: "weft.yaml", Line: 3, Column: 7, Path: "spec.replicas", Fix: "Write for example: replicas: 2"}
	selfLocated := &Problem{What: "weft.yaml:3: expected a list", File: "weft.yaml", Line: 3}
	for _, test := range []struct {
		name string
		err  error
		want string
		code int
	}{
		{"plain", errors.New("the disk is full"), "error: the disk is full\n", 1},
		{"located", located, "error: weft.yaml:3:7: spec.replicas: must be a number\n  Write for example: replicas: 2\n", 1},
		{"located inside", fmt.Errorf("read: %w", located), "error: weft.yaml:3:7: spec.replicas: read: must be a number\n  Write for example: replicas: 2\n", 1},
		{"says its place itself", selfLocated, "error: weft.yaml:3: expected a list\n", 1},
		{"advised", Advise(errors.New("port 80 is taken"), "Stop the other program."), "error: port 80 is taken\n  Stop the other program.\n", 1},
		{"advised twice alike", Advise(Advise(errors.New("x"), "Try again."), "Try again."), "error: x\n  Try again.\n", 1},
		{"joined", errors.Join(errors.New("one"), errors.New("two")), "error: one\nerror: two\n", 1},
		{"wraps joined", fmt.Errorf("both: %w", errors.Join(errors.New("one"), errors.New("two"))), "error: both: one\ntwo\n", 1},
		{"usage", Usagef("unknown flag: --x"), "error: unknown flag: --x\n", 2},
		{"said already", Exit{5}, "", 5},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, out, errs := newPrinter(Options{Quiet: true})
			p.Error(test.err)
			if errs.String() != test.want || out.Len() > 0 {
				t.Errorf("got %q, want %q", errs, test.want)
			}
			if code := Code(test.err); code != test.code {
				t.Errorf("code %d, want %d", code, test.code)
			}
		})
	}
	if Code(nil) != 0 {
		t.Error("no error must be exit code 0")
	}
}

func TestQuiet(t *testing.T) {
	p, _, errs := newPrinter(Options{Quiet: true})
	p.Remark("a remark")
	g := p.Progress()
	g.Start("item").Done("")
	g.Close()
	if errs.Len() > 0 {
		t.Errorf("--quiet printed %q", errs)
	}
	p.Warn("attention")
	if errs.String() != "warning: attention\n" {
		t.Errorf("warning: %q", errs)
	}
}

func TestProgressElsewhereIsPlainLines(t *testing.T) {
	p, out, errs := newPrinter(Options{})
	g := p.Progress()
	a, b := g.Start("etcd"), g.Start("image")
	a.Note("starting")
	a.Note("starting")
	b.Count(1, 2)
	a.Done("ready")
	a.Done("twice")
	b.Fail("refused")
	g.Start("forgotten")
	g.Close()
	g.Close()
	got := errs.String()
	if strings.ContainsAny(got, "\x1b\r") {
		t.Errorf("control characters outside a terminal: %q", got)
	}
	lines := strings.Split(strings.TrimSpace(got), "\n")
	if len(lines) != 3 || lines[0] != "etcd: starting" || !strings.HasPrefix(lines[1], "✓ etcd  ready  ") || !strings.HasPrefix(lines[2], "✗ image  refused  ") {
		t.Errorf("lines %q", lines)
	}
	if out.Len() > 0 {
		t.Errorf("progress on standard output: %q", out)
	}
}

func TestBytes(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536 << 10: "1.5 MiB", 1 << 62: "4.0 EiB"} {
		if got := Bytes(n); got != want {
			t.Errorf("Bytes(%d) = %q, want %q", n, got, want)
		}
	}
}
