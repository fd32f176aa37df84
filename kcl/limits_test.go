package kcl

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/weft-dev/weft/kcl/diag"
	"github.com/weft-dev/weft/kcl/eval"
)

// lines joins what f makes of 0 to n-1.
func lines(n int, f func(int) string) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(f(i))
	}
	return b.String()
}

// chain is a program of definitions each of which uses the one before.
func chain(first, next, last string, n int) string {
	return fmt.Sprintf(first+"\n", 0) + lines(n, func(i int) string {
		return strings.NewReplacer("NEXT", fmt.Sprint(i+1), "PREV", fmt.Sprint(i)).Replace(next) + "\n"
	}) + strings.ReplaceAll(last, "PREV", fmt.Sprint(n)) + "\n"
}

// TestLimits: what recurses, refers in a circle, is huge or nested too deep ends
// soon, in an error with a place. want is part of the short form.
func TestLimits(t *testing.T) {
	const tooMuch, tooDeep = "bytes of values", "nests more than 4000 levels deep, probably a recursion without end"
	for _, c := range []struct{ name, code, want string }{
		{"recursion of a function", "f = lambda n { f(n + 1) }\nx = f(0)\n", "main.k:1:1: error[E3M38]: evaluation " + tooDeep},
		{"recursion of two functions", "f = lambda n { g(n) }\ng = lambda n { f(n) }\nx = f(0)\n", tooDeep},
		{"recursion of a schema", "schema A:\n    a: A = A {}\nx = A {}\n", "main.k:2:1: error[E3M38]: evaluation " + tooDeep},
		{"recursion of two schemas", "schema A:\n    b: B = B {}\nschema B:\n    a: A = A {}\nx = A {}\n", tooDeep},
		{"cyclic inheritance", "schema A(B):\n    a: int\nschema B(A):\n    b: int\nx = A {}\n", "main.k:1:8: error[E2L23]: There is a circular reference between schemas"},
		{"cyclic rules", "rule A(B):\n    True\nrule B(A):\n    True\n", "main.k:1:6: error[E2L23]: There is a circular reference between rules"},
		{"cyclic types", "type A = B\ntype B = A\nx: A = 1\n", "main.k:1:6: error[E2L23]: name 'B' is not defined"},
		{"cyclic variables", "a = b\nb = c\nc = a\n", "is defined by itself"},
		{"cyclic attributes", "schema S:\n    a: int = b\n    b: int = a\nx = S {}\n", "main.k:4:1: error[E3M38]:"},
		{"a program that imports itself", "import .main\n", "main.k:1:1: error[E1001]: Could not compiles due to cyclic import statements"},
		{"a huge number", "a = 99999999999999999999999999\n", "main.k:1:5: error[E1001]"},
		{"a huge power", "a = 2 ** 100000000\n", "main.k:1:1: error[E3M38]:"},
		{"a huge shift", "a = 1 << 100000000\n", "main.k:1:1: error[E3M38]:"},
		{"a huge product", "a = 9223372036854775807 * 9223372036854775807\n", "64 bit integer overflow"},
		{"a huge factorial", "import math\na = math.factorial(1000000000)\n", "main.k:2:1: error[E3M38]:"},
		{"a huge text", "a = \"ab\" * 9000000000\n", tooMuch},
		{"a huge list", "a = [1, 2] * 9000000000\n", tooMuch},
		{"a huge range", "a = range(100000000000)\n", "main.k:1:1: error[E3M38]: range() of 100000000000 items is too long"},
		{"a huge text by replacing", "a = (\"a\" * 100000).replace(\"a\", \"b\" * 100000)\n", tooMuch},
		{"a huge text by joining", "a = (\"b\" * 100000).join([\"c\"] * 100000)\n", tooMuch},
		{"a huge text of base64", "import base64\na = base64.encode(base64.encode(\"x\" * 15000000))\n", tooMuch},
		{"a text that doubles", chain(`_x%d = "ab"`, `_xNEXT = _xPREV + _xPREV`, `a = _xPREV`, 60), tooMuch},
		{"an interpolation that doubles", chain(`_x%d = "ab"`, `_xNEXT = "${_xPREV}${_xPREV}"`, `a = _xPREV`, 60), tooMuch},
		{"a list that doubles", chain(`_x%d = [1]`, `_xNEXT = [*_xPREV, *_xPREV]`, `a = _xPREV`, 60), tooMuch},
		{"a configuration that doubles, written", chain(`_x%d = {a = 1}`, `_xNEXT = {a = _xPREV, b = _xPREV}`, `a = _xPREV`, 40), "main.k:42:1: error[E3M38]: the output takes more than"},
		{"a configuration that doubles, as a text", chain(`_x%d = {a = 1}`, `_xNEXT = {a = _xPREV, b = _xPREV}`, `a = len(str(_xPREV))`, 40), tooMuch},
		{"a configuration that doubles, interpolated", chain(`_x%d = {a = 1}`, `_xNEXT = {a = _xPREV, b = _xPREV}`, `a = "${_xPREV}"`, 40), tooMuch},
		{"a configuration that doubles, as JSON", "import json\n" + chain(`_x%d = {a = 1}`, `_xNEXT = {a = _xPREV, b = _xPREV}`, `a = json.encode(_xPREV)`, 40), tooMuch},
		{"a configuration that doubles, as YAML", "import yaml\n" + chain(`_x%d = {a = 1}`, `_xNEXT = {a = _xPREV, b = _xPREV}`, `a = yaml.encode(_xPREV)`, 40), tooMuch},
		{"a configuration that doubles, formatted", chain(`_x%d = {a = 1}`, `_xNEXT = {a = _xPREV, b = _xPREV}`, `a = "{}".format(_xPREV)`, 40), tooMuch},
		{"a type that doubles", chain(`type T%d = int`, `type TNEXT = [TPREV] | {str:TPREV}`, `a: TPREV = 1`, 60), "stands for a type of more than 100000 parts"},
		{"an endless comprehension of a list", "a = [x for x in range(10000) for y in range(10000) for z in range(10000)]\n", "main.k:1:1: error[E3M38]: evaluation makes more than"},
		{"an endless comprehension of a dict", "a = {\"${x}-${y}\": x for x in range(10000) for y in range(10000)}\n", "main.k:1:1: error[E3M38]: evaluation makes more than"},
		{"an endless comprehension of instances", "schema S:\n    a: int = 1\na = [S {} for x in range(10000) for y in range(10000)]\n", "evaluation makes more than"},
		{"an endless comprehension of nothing", "a = [x for x in range(10000) for y in range(10000) for z in range(10000) if z < 0]\n", "main.k:1:1: error[E3M38]: evaluation "},
		{"lists nested deep", "a = " + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000), "main.k:1:504: error[E1001]: nested more than 1000 levels deep"},
		{"parentheses nested deep", "a = " + strings.Repeat("(", 50_000) + "1" + strings.Repeat(")", 50_000), "nested more than 1000 levels deep"},
		{"configurations nested deep", "a = " + strings.Repeat("{a=", 50_000) + "1" + strings.Repeat("}", 50_000), "nested more than 1000 levels deep"},
		{"types nested deep", "a: " + strings.Repeat("[", 50_000) + "int" + strings.Repeat("]", 50_000) + " = []", "nested more than 1000 levels deep"},
		{"functions nested deep", "a = " + strings.Repeat("lambda {", 5000) + "1" + strings.Repeat("}", 5000), "nested more than 1000 levels deep"},
		{"conditions nested deep", lines(3000, func(i int) string { return strings.Repeat(" ", i) + "if True:\n" }) + strings.Repeat(" ", 3000) + "a = 1\n", "nested more than 1000 levels deep"},
		{"interpolations nested deep", "a = " + strings.Repeat(`"${`, 200) + "1" + strings.Repeat(`}"`, 200), "main.k:1:"},
		{"a long chain of operators", "a = " + strings.Repeat("1 + ", 100_000) + "1", "an expression of more than 20000 operators and calls in a row"},
		{"a long chain of calls", "f = lambda { f }\na = f" + strings.Repeat("()", 50_000), "an expression of more than 20000 operators and calls in a row"},
		{"chains within chains", "a = " + strings.Repeat("(", 3) + "1" + strings.Repeat(strings.Repeat(" + 1", 8000)+")", 3), "an expression of more than 20000 operators and calls in a row"},
		{"a long name", "a = {" + strings.Repeat("a.", 50_000) + "a = 1}", "a name of more than 1000 parts"},
		{"many branches", "_a = 1\nif _a == 0:\n    _a = 1\n" + lines(25_000, func(i int) string { return fmt.Sprintf("elif _a == %d:\n    _a = 2\n", i) }), "more than 20000 branches"},
		{"many errors on a long line", "a = " + strings.Repeat("not ", 20_000) + "True\n", "main.k:1:9: error[E2L23]: name 'not' is not defined"},
		{"no text", "\x00\x01\xff\n", "main.k:1:1: error[E1001]: unknown start of token"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			r, err := Run(ctx, Options{Files: []string{"main.k"}, Code: map[string]string{"main.k": c.code}, WorkDir: "/w", Root: "/w",
				FileSystem: memory{fstest.MapFS{"main.k": {Data: []byte(c.code)}}}, Limits: eval.Limits{Steps: 1 << 21, Bytes: 1 << 25}})
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("error %v, a result: %v", err, r != nil)
			}
			short := strings.ReplaceAll(e.Error(), "/w/", "")
			if !strings.Contains(short, c.want) {
				t.Errorf("got %.300s, want %s", short, c.want)
			}
			if !strings.HasPrefix(short, "main.k:") {
				t.Errorf("no place: %.300s", short)
			}
			if n := len(diag.Pretty(e.Diagnostics, false)); n > 4<<20 {
				t.Errorf("%d bytes of errors", n)
			}
		})
	}
}
