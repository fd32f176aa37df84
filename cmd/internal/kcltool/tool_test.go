package kcltool_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/weft-dev/weft/cmd/internal/kcltool"
	"github.com/weft-dev/weft/registry/registrytest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"kcl": func() {
		dir, err := os.Getwd()
		if err != nil {
			panic(err)
		}
		t := &kcltool.Tool{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.LookupEnv, Dir: dir, Version: "test"}
		os.Exit(t.Main(context.Background(), os.Args[1:]))
	}})
}

// TestScripts runs the command line as a user does. $REGISTRY is a registry on
// loopback, empty for each script, and $EXAMPLES the folder of examples.
func TestScripts(t *testing.T) {
	examples, err := filepath.Abs("../../../examples")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			reg := registrytest.New(e.T().(testing.TB), registrytest.Config{})
			e.Setenv("REGISTRY", reg.Host)
			e.Setenv("KPM_REG", reg.Host)
			e.Setenv("KPM_REPO", "team")
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("EXAMPLES", examples)
			e.Setenv("KCL_PKG_PATH", filepath.Join(e.WorkDir, "packages"))
			return nil
		},
	})
}
