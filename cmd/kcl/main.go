// Command kcl runs KCL programs. It links nothing but package kcl.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/weft-dev/weft/kcl"
	"github.com/weft-dev/weft/kcl/diag"
)

func main() { os.Exit(run(os.Args[1:])) }

type osFiles struct{}

func run(args []string) int {
	if len(args) > 0 && args[0] == "run" {
		args = args[1:]
	}
	wd, _ := os.Getwd()
	o := kcl.Options{WorkDir: wd, FileSystem: osFiles{}, Print: os.Stdout, Getenv: os.LookupEnv}
	for i := 0; i < len(args); i++ {
		a := args[i]
		val := func() string {
			if len(a) > 2 {
				return a[2:]
			}
			i++
			if i < len(args) {
				return args[i]
			}
			return ""
		}
		switch {
		case len(a) > 1 && a[:2] == "-D":
			v := val()
			for k := range v {
				if v[k] == '=' {
					o.Arguments = append(o.Arguments, kcl.Argument{Name: v[:k], Value: v[k+1:]})
					break
				}
			}
		case len(a) > 1 && a[:2] == "-S":
			o.Select = append(o.Select, val())
		case len(a) > 1 && a[:2] == "-O":
			o.Overrides = append(o.Overrides, val())
		case a == "-n":
			o.DisableNone = true
		case a == "-k":
			o.SortKeys = true
		case a == "-H":
			o.ShowHidden = true
		case a == "-r":
			o.Strict32 = true
		case a == "-d":
			o.Strict64 = true
		case a[0] == '-':
		default:
			o.Files = append(o.Files, a)
		}
	}
	r, err := kcl.Run(context.Background(), o)
	if err != nil {
		var e *kcl.Error
		if errors.As(err, &e) {
			fmt.Fprint(os.Stderr, diag.Pretty(e.Diagnostics, false))
		} else {
			fmt.Fprintln(os.Stderr, err)
		}
		return 1
	}
	fmt.Println(r.YAML())
	return 0
}
