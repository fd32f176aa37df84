package kcl

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/weft-dev/weft/kcl/diag"
	"github.com/weft-dev/weft/kcl/eval"
)

// FuzzRun checks and evaluates anything within small limits: it must end, with
// a document or with diagnostics that have a text and, for errors of the
// program, a place.
func FuzzRun(f *testing.F) {
	for _, s := range fuzzSeeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, src string) {
		if len(src) > 1<<14 {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		r, err := Run(ctx, Options{
			Files: []string{"main.k"}, Code: map[string]string{"main.k": src}, WorkDir: "/fuzz", Trace: true,
			Limits: eval.Limits{Steps: 50_000, Depth: 300, Bytes: 32 << 20},
		})
		if ctx.Err() != nil {
			t.Fatal("no end within the limits")
		}
		if err == nil {
			r.YAML()
			r.JSON()
			return
		}
		var e *Error
		if !errors.As(err, &e) {
			t.Fatalf("error of another kind: %v", err)
		}
		if diag.Pretty(e.Diagnostics, true) == "" || diag.SARIF(e.Diagnostics) == "" {
			t.Fatal("diagnostics without text")
		}
		for _, d := range e.Diagnostics {
			if m := d.Messages[0]; d.Level == diag.Error && m.Line < 1 {
				t.Fatalf("%q has no place", m.Text)
			}
		}
	})
}

var fuzzSeeds = []string{
	"a = 1\nb = a + c\nc = 2\n",
	"schema P:\n    name: str\n    age?: int = 3\n    check:\n        age > 1, \"m\"\np = P {name: \"x\"}\nq = p | {age = 5}\nq2: P {name: \"y\"}\n",
	"f = lambda n: int -> int {\n    1 if n < 2 else n * f(n - 1)\n}\nx = f(5)\n",
	"f = lambda n {\n    f(n)\n}\nx = f(1)\n",
	"x = {str(k): [v * 2] for k, v in [1, 2] if v}\ny = [a for a in x for b in x[a]]\n",
	"schema A(B):\n    a: int\nschema B(A):\n    b: A\nx = A {a: 1}\n",
	"_a = [1]\n_a += [2]\n_a |= [3]\nb = _a[0:2:1] + _a[-1:]\n",
	"x = {a.b.c: 1, l = [1], l[0]: 1, l += [2], **{z = 1}, if True: {q = 1}}\n",
	"protocol P:\n    a: int\nmixin XMixin for P:\n    a += 1\nschema S:\n    mixin [XMixin]\n    a: int = 0\nx = S()\n",
	"schema S[n: int, m = n]:\n    [k: str]: int = m\n    a: int = n\n    if n > 1:\n        b = n\n    elif n: c = 1\n    else:\n        d = 2\nx = S(2) {z: 1}\n",
	"rule R for P:\n    a > 1, \"x\"\nprotocol P:\n    a: int\n",
	"type T = int | \"a\" | [str] | {str:T2}\ntype T2 = T\na: T = 1\nb = \"${a: #json} {}\".format(1)\n",
	"import math\nimport units\na = math.pow(2, 3) + 1Ki\nb = all x in [1, 2] {x > 0}\nc = filter k, v in {a = 1} {v}\n",
	"a = b\nb = a\n", "a = {b = a}\n", "x = 9223372036854775807 + 1\n", "x = \"a\" * 999999999999\n", "x = [0] * 99999999 * 99999999\n",
	"x = 1 << 9999999\ny = 2 ** 9999999\nz = 1 // 0\n", "@deprecated(strict=False)\nschema A:\n    a: int\nx = A {a: 1}\n",
	"x = option(\"a\", type=\"int\") or 3\nassert x == 3 if True, \"no\"\n", "x?.a\nx?[0]\n1\n{a = 1}\n",
}
