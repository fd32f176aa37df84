//go:build unix

package launch_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/weft-dev/weft/buildpack/sandbox/sandboxtest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	sandboxtest.Clean()
	os.Exit(code)
}

// image is the files that an image has; @ stands for its folder.
const image = `
-- layers/config/metadata.toml --
[[buildpacks]]
id = "some/bp"
api = "0.10"
[[buildpacks]]
id = "old"
api = "0.8"
[[processes]]
type = "list"
command = ["show", "always"]
args = ["default"]
direct = true
buildpack-id = "some/bp"
[[processes]]
type = "single"
command = ["show"]
args = ["default"]
direct = true
buildpack-id = "some/bp"
[[processes]]
type = "appended"
command = ["show"]
args = ["default"]
direct = true
buildpack-id = "old"
[[processes]]
type = "shell"
command = ["echo $FROM_PROFILE $(basename $PWD) \"two  words\""]
args = []
direct = false
buildpack-id = "old"
[[processes]]
type = "tokens"
command = ["echo"]
args = ["$FROM_PROFILE", "a b"]
direct = false
buildpack-id = "old"
[[processes]]
type = "elsewhere"
command = ["pwd"]
args = []
direct = true
working-dir = "/"
buildpack-id = "some/bp"
[[processes]]
type = "environment"
command = ["env"]
args = []
direct = true
buildpack-id = "some/bp"
[[processes]]
type = "tests-only"
command = ["show"]
args = []
direct = true
exec-env = ["test"]
buildpack-id = "some/bp"
[[processes]]
type = "gone"
command = ["nonesuch-program"]
args = []
direct = true
buildpack-id = "some/bp"
-- layers/some_bp/a/bin/show --
#!/bin/sh
echo "$@"
-- layers/some_bp/a/env/BOTH --
all
-- layers/some_bp/a/env.launch/LAUNCH --
yes
-- layers/some_bp/a/env.build/BUILD --
no
-- layers/some_bp/a/env.launch/environment/ONLY --
here
-- layers/some_bp/a/env.launch/BOTH.append --
-more
-- layers/some_bp/a/exec.d/helper --
#!/bin/sh
printf 'FROM_EXECD = "%s"\n' "$LAUNCH" >&3
-- layers/some_bp/a/profile.d/one.sh --
export FROM_PROFILE=profile
-- layers/old/b/lib/libx.so --
-- app/.profile --
export FROM_PROFILE="$FROM_PROFILE+app"
-- app/file --
`

// run starts the launcher under a name, as an image's entry point does.
func run(t *testing.T, dir, name string, environ []string, args ...string) (int, string) {
	t.Helper()
	cmd := exec.Command(sandboxtest.Program(t, "github.com/weft-dev/weft/cmd/launcher"))
	cmd.Args = append([]string{"/cnb/process/" + name}, args...)
	cmd.Env = append([]string{"PATH=/cnb/process:/cnb/lifecycle:/usr/bin:/bin", "CNB_PLATFORM_API=0.15", "CNB_LAYERS_DIR=" + dir + "/layers", "CNB_APP_DIR=" + dir + "/app"}, environ...)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), strings.ReplaceAll(string(out), dir, "@")
}

func unpack(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, f := range txtar.Parse([]byte(image)).Files {
		file := filepath.Join(dir, f.Name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, f.Data, 0o755)); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(f.Name, "/env") { // variables are the bytes of their files
			if err := os.WriteFile(file, []byte(strings.TrimSuffix(string(f.Data), "\n")), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

func TestProcesses(t *testing.T) {
	dir := unpack(t)
	tests := []struct {
		name, process string
		environ, args []string
		code          int
		want          string
	}{
		{"arguments of a list", "list", nil, nil, 0, "always default\n"},
		{"are overridden", "list", nil, []string{"mine"}, 0, "always mine\n"},
		{"arguments of a single command", "single", nil, nil, 0, "default\n"},
		{"are replaced", "single", nil, []string{"mine", "x"}, 0, "mine x\n"},
		{"older buildpacks get more", "appended", nil, []string{"mine"}, 0, "default mine\n"},
		{"older platforms too", "single", []string{"CNB_PLATFORM_API=0.9"}, []string{"mine"}, 0, "default mine\n"},
		{"shell with profiles", "shell", nil, nil, 0, "profile+app app two  words\n"},
		{"tokens are evaluated", "tokens", nil, nil, 0, "profile+app a b\n"},
		{"working folder", "elsewhere", nil, nil, 0, "/\n"},
		{"command of the user", "launcher", nil, []string{"echo $FROM_PROFILE"}, 0, "profile+app\n"},
		{"direct command of the user", "launcher", nil, []string{"--", "show", "$FROM_PROFILE"}, 0, "$FROM_PROFILE\n"},
		{"no command", "launcher", nil, nil, 82, "when there is no default process a command is required"},
		{"unknown program", "gone", nil, nil, 82, "nonesuch-program"},
		{"not in this environment", "tests-only", nil, nil, 82, "process type tests-only was not found"},
		{"in that environment", "tests-only", []string{"CNB_EXEC_ENV=test"}, []string{"ok"}, 0, "ok\n"},
		{"older platforms know no environments", "tests-only", []string{"CNB_PLATFORM_API=0.14"}, []string{"ok"}, 0, "ok\n"},
		{"process type by variable", "list", []string{"CNB_PROCESS_TYPE=single"}, nil, 0, "Warning: CNB_PROCESS_TYPE is not supported"},
		{"no platform API", "list", []string{"CNB_PLATFORM_API="}, nil, 11, "please set 'CNB_PLATFORM_API'"},
		{"unsupported platform API", "list", []string{"CNB_PLATFORM_API=0.3"}, nil, 11, "0.3 is not supported"},
		{"no metadata", "list", []string{"CNB_LAYERS_DIR=/nonesuch"}, nil, 1, "read metadata"},
		{"no app", "list", []string{"CNB_APP_DIR=/nonesuch"}, nil, 82, "change to app directory"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			code, out := run(t, dir, tt.process, tt.environ, tt.args...)
			if code != tt.code || tt.code == 0 && tt.want[0] != 'W' && out != tt.want || !strings.Contains(out, tt.want) {
				t.Errorf("exit code %d and %q, want %d and %q", code, out, tt.code, tt.want)
			}
		})
	}
}

func TestEnvironment(t *testing.T) {
	_, out := run(t, unpack(t), "environment", []string{"KEPT=1"})
	have := map[string]string{}
	for line := range strings.Lines(out) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		have[name] = value
	}
	want := map[string]string{"BOTH": "all-more", "LAUNCH": "yes", "ONLY": "here", "FROM_EXECD": "yes", "KEPT": "1", "BUILD": "", "CNB_APP_DIR": "",
		"PATH": "@/layers/some_bp/a/bin:/usr/bin:/bin", "LD_LIBRARY_PATH": "@/layers/old/b/lib"}
	for name, value := range want {
		if have[name] != value {
			t.Errorf("%s is %q, want %q", name, have[name], value)
		}
	}
}

func TestExecDFailure(t *testing.T) {
	for script, want := range map[string]string{"#!/bin/sh\nexit 3\n": "exit status 3", "#!/bin/sh\necho 'x = [' >&3\n": "failed to decode output"} {
		dir := unpack(t)
		if err := os.WriteFile(filepath.Join(dir, "layers/some_bp/a/exec.d/helper"), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
		if code, out := run(t, dir, "list", nil); code != 82 || !strings.Contains(out, want) {
			t.Errorf("exit code %d and %q, want 82 and %q", code, out, want)
		}
	}
}

func TestSizeOfTheLauncher(t *testing.T) {
	info, err := os.Stat(sandboxtest.Program(t, "github.com/weft-dev/weft/cmd/launcher"))
	if err != nil {
		t.Fatal(err)
	}
	if limit := int64(3_000_000); info.Size() >= limit {
		t.Errorf("the launcher has %d bytes, in every image there is room for %d", info.Size(), limit)
	}
}
