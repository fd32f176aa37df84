package env_test

import (
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/weft-dev/weft/buildpack/env"
)

func files(entries ...string) fstest.MapFS {
	m := fstest.MapFS{}
	for i := 0; i < len(entries); i += 2 {
		m[entries[i]] = &fstest.MapFile{Data: []byte(entries[i+1])}
	}
	return m
}

func TestInherited(t *testing.T) {
	environ := []string{"PATH=/bin", "HOME=/root", "SECRET=x", "HTTP_PROXY=http://p", "CNB_LAYERS_DIR=/l", "CNB_REGISTRY_AUTH=y"}
	if got, want := strings.Join(env.ForBuild(environ).List(), " "), "HOME=/root HTTP_PROXY=http://p PATH=/bin"; got != want {
		t.Errorf("buildpacks get %q, want %q", got, want)
	}
	launch := env.ForLaunch([]string{"PATH=/cnb/process:/cnb/lifecycle:/bin", "A=1", "CNB_APP_DIR=/x", "CNB_PROCESS_TYPE=web"}, "/cnb/process", "/cnb/lifecycle")
	if got, want := strings.Join(launch.List(), " "), "A=1 PATH=/bin"; got != want {
		t.Errorf("processes get %q, want %q", got, want)
	}
}

func TestFolder(t *testing.T) {
	tests := []struct {
		name  string
		start string
		files fstest.MapFS
		want  string
	}{
		{"override without a suffix", "V=old", files("env/V", "new"), "V=new"},
		{"override", "V=old", files("env/V.override", "new"), "V=new"},
		{"default keeps", "V=old", files("env/V.default", "new"), "V=old"},
		{"default sets", "V=", files("env/V.default", "new"), "V=new"},
		{"prepend", "V=old", files("env/V.prepend", "new", "env/V.delim", ","), "V=new,old"},
		{"prepend without a delimiter", "V=old", files("env/V.prepend", "new"), "V=newold"},
		{"append", "V=old", files("env/V.append", "new", "env/V.delim", ", "), "V=old, new"},
		{"append to nothing", "V=", files("env/V.append", "new", "env/V.delim", ","), "V=new"},
		{"prepend to nothing", "V=", files("env/V.prepend", "new", "env/V.delim", ","), "V=new"},
		{"unknown suffix", "V=old", files("env/V.other", "new"), "V=old"},
		{"bytes as they are", "V=", files("env/V", "line\n"), "V=line\n"},
		{"folders are no variables", "V=old", files("env/V/inner", "new"), "V=old"},
		{"missing folder", "V=old", files(), "V=old"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := env.ForLaunch([]string{tt.start})
			if err := e.AddFolder(tt.files, "env"); err != nil {
				t.Fatal(err)
			}
			if got := e.List(); !slices.Contains(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestOperatorOnlyFillsIn(t *testing.T) {
	e := env.ForLaunch([]string{"SET=here"})
	if err := e.AddOperator(files("env/SET", "operator", "env/UNSET", "operator", "env/SET.append", "+"), "env"); err != nil {
		t.Fatal(err)
	}
	if e.Get("SET") != "here+" || e.Get("UNSET") != "operator" {
		t.Errorf("got %v", e.List())
	}
}

func TestUserVariables(t *testing.T) {
	e := env.ForBuild([]string{"PATH=/bin", "HOME=/h"})
	if err := e.AddUser(files("env/PATH", "/mine", "env/CPATH", "/inc", "env/HOME", "/other", "env/A.append", "kept whole"), "env"); err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(e.List(), " "), "A.append=kept whole CPATH=/inc HOME=/other PATH=/mine:/bin"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestLayersComeBeforeEarlierOnes(t *testing.T) {
	e := env.ForBuild([]string{"PATH=/bin"})
	tree := files("a/bin/x", "", "b/bin/x", "", "b/lib/y", "", "b/pkgconfig/z", "", "b/include/h", "")
	for _, layer := range []string{"a", "b"} {
		if err := e.AddRoot(tree, layer, "/layers/bp/"+layer); err != nil {
			t.Fatal(err)
		}
	}
	want := "CPATH=/layers/bp/b/include LD_LIBRARY_PATH=/layers/bp/b/lib LIBRARY_PATH=/layers/bp/b/lib PATH=/layers/bp/b/bin:/layers/bp/a/bin:/bin PKG_CONFIG_PATH=/layers/bp/b/pkgconfig"
	if got := strings.Join(e.List(), " "); got != want {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

func TestHugeVariableIsAnError(t *testing.T) {
	e := env.ForBuild(nil)
	if err := e.AddFolder(files("env/V", strings.Repeat("x", 200<<10)), "env"); err == nil || !strings.Contains(err.Error(), "env/V") {
		t.Errorf("got %v", err)
	}
}
