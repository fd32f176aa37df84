package spec_test

import (
	"strings"
	"testing"

	"github.com/weft-dev/weft/buildpack/spec"
)

func TestVersions(t *testing.T) {
	for _, good := range []string{"0.7", "0.12", "0.15"} {
		if _, err := spec.Platform(good); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", "x", "0.6", "0.16", "1.0", "0.-1", "0.7.1", "0.99999999999999999999"} {
		if _, err := spec.Platform(bad); err == nil {
			t.Errorf("Platform API %q was accepted", bad)
		}
	}
	if _, err := spec.Buildpack("0.13"); err == nil {
		t.Error("Buildpack API 0.13 was accepted")
	}
}

func TestDescriptorErrors(t *testing.T) {
	tests := map[string]string{
		"":               "api is missing",
		"api = 1":        "buildpack.toml:1: api: TOML value has type",
		"api = \"0.10\"": "buildpack.id: is missing",
		"api = \"0.10\"\n[buildpack]\nid = \"a b\"":                                                             "may only have letters",
		"api = \"0.10\"\n[buildpack]\nid = \"../x\"":                                                            "relative part",
		"api = \"0.10\"\n[buildpack]\nid = \"a//b\"":                                                            "empty or relative",
		"api = \"0.10\"\n[buildpack]\nid = \"sbom\"":                                                            "is reserved",
		"api = \"0.10\"\n[buildpack]\nid = \"a\"":                                                               "version is missing",
		"api = \"0.10\"\n[buildpack]\nid = \"a\"\nversion = \"../..\"":                                          "must not contain slashes",
		"api = \"0.10\"\n[buildpack]\nid = \"a\"\nversion = \"1\"\n[[order]]\n[[order.group]]\nversion = \"1\"": "order[0].group[0]: id is missing",
		"api = \"0.10\"\n[buildpack]\nid = \"a\"\nversion = \"1\"\n[[targets]]\n[[order]]\n":                    "not both",
		"api = \"0.10\"\n[buildpack\n":                                                                          "buildpack.toml:2:11:",
		"x = " + strings.Repeat("[", 5000):                                                                      "nested brackets",
		"# " + strings.Repeat("x", spec.MaxFile):                                                                "bytes long, at most",
	}
	for text, want := range tests {
		_, err := spec.ReadDescriptor([]byte(text), "buildpack.toml")
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "buildpack.toml") {
			t.Errorf("%.80q: got %v, want %q", text, err, want)
		}
	}
}

// TestLaunchTOML: buildpack.md, "launch.toml": what a process may be called, and the form of its command by API version.
func TestLaunchTOML(t *testing.T) {
	for name, tt := range map[string]struct{ api, text, want string }{
		"a list":                   {"0.9", "type = \"web-1.a_b\"\ncommand = [\"a\", \"b\"]", ""},
		"a string":                 {"0.8", "type = \"web\"\ncommand = \"a\"\ndirect = true", ""},
		"no type":                  {"0.9", "command = [\"a\"]", "type is required"},
		"a path":                   {"0.9", "type = \"../../../etc/passwd\"\ncommand = [\"a\"]", "may not contain"},
		"the folder itself":        {"0.9", "type = \".\"\ncommand = [\"a\"]", "invalid process type"},
		"the folder above":         {"0.9", "type = \"..\"\ncommand = [\"a\"]", "invalid process type"},
		"no command":               {"0.9", "type = \"web\"\ncommand = []", "process web has no command"},
		"a string since 0.9":       {"0.9", "type = \"web\"\ncommand = \"a\"", "must be a list of strings"},
		"a list before 0.9":        {"0.8", "type = \"web\"\ncommand = [\"a\"]", "must be a string"},
		"direct since 0.9":         {"0.9", "type = \"web\"\ncommand = [\"a\"]\ndirect = true", "direct is not supported"},
		"two defaults in one file": {"0.9", "type = \"a\"\ncommand = [\"a\"]\ndefault = true\n[[processes]]\ntype = \"b\"\ncommand = [\"b\"]\ndefault = true", "multiple default"},
	} {
		t.Run(name, func(t *testing.T) {
			api, err := spec.Buildpack(tt.api)
			if err != nil {
				t.Fatal(err)
			}
			_, err = spec.ReadLaunchTOML([]byte("[[processes]]\n"+tt.text), "launch.toml", api, "a")
			if tt.want == "" && err != nil {
				t.Error(err)
			}
			if tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "launch.toml: ")) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestExecEnvForms(t *testing.T) {
	for _, form := range []string{"exec-env = [\"test\"]", "[[buildpack.exec-env]]\nname = \"test\""} {
		d, err := spec.ReadDescriptor([]byte("api = \"0.12\"\n[buildpack]\nid = \"a\"\nversion = \"1\"\n"+form), "buildpack.toml")
		if err != nil {
			t.Fatal(err)
		}
		if !d.Buildpack.ExecEnv.Match("test") || d.Buildpack.ExecEnv.Match("production") {
			t.Errorf("%s: %v", form, d.Buildpack.ExecEnv)
		}
	}
}

func TestProject(t *testing.T) {
	v1 := "[project]\nversion = \"1\"\n[build]\nbuilder = \"b\"\nexclude = [\"*.md\"]\n[[build.buildpacks]]\nuri = \"x/\"\n[[build.env]]\nname = \"A\"\nvalue = \"1\"\n"
	v2 := "[_]\nschema-version = \"0.2\"\nversion = \"1\"\n[io.buildpacks]\nbuilder = \"b\"\nexclude = [\"*.md\"]\n[[io.buildpacks.group]]\nuri = \"x/\"\n[[io.buildpacks.build.env]]\nname = \"A\"\nvalue = \"1\"\n"
	for _, text := range []string{v1, v2} {
		p, err := spec.ReadProject([]byte(text), "project.toml")
		if err != nil {
			t.Fatal(err)
		}
		if p.Builder != "b" || len(p.Exclude) != 1 || len(p.Group) != 1 || p.Group[0].URI != "x/" || len(p.Env) != 1 || p.Env[0].Value != "1" {
			t.Errorf("got %+v", p)
		}
	}
	bad := map[string]string{
		"[_]\nschema-version = \"9\"":                                                    "schema-version \"9\" is not supported",
		"[build]\ninclude = [\"a\"]\nexclude = [\"b\"]":                                  "include and exclude",
		"[[build.buildpacks]]\nversion = \"1\"":                                          "neither id nor uri",
		"[[build.buildpacks]]\nuri = \"x\"\nversion = \"1\"":                             "uri and version",
		"[[build.buildpacks]]\nid = \"x\"\n[build.buildpacks.script]\ninline = \"true\"": "script.api is missing",
		"[[build.env]]\nname = \"A/B\"\nvalue = \"\"":                                    "cannot be used",
	}
	for text, want := range bad {
		if _, err := spec.ReadProject([]byte(text), "project.toml"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}

// FuzzTOML gives all readers the same bytes: none may panic or take for ever.
func FuzzTOML(f *testing.F) {
	for _, seed := range []string{
		"api = \"0.10\"\n[buildpack]\nid = \"a\"\nversion = \"1\"\n[[order]]\n[[order.group]]\nid = \"b\"\n[[targets]]\nos = \"linux\"\n[[targets.distros]]\nname = \"d\"\n",
		"[types]\nlaunch = true\n[metadata]\na = [1, {b = 2}]\n",
		"[[processes]]\ntype = \"web\"\ncommand = [\"a\"]\nargs = [\"b\"]\n[[labels]]\nkey = \"k\"\n[[slices]]\npaths = [\"*\"]\n",
		"[[provides]]\nname = \"x\"\n[[or]]\n[[or.requires]]\nname = \"y\"\nversion = \"1\"\n",
		"[_]\nschema-version = \"0.2\"\n[io.buildpacks]\ninclude = [\"x\"]\n[[io.buildpacks.group]]\nid = \"a\"\n[io.buildpacks.group.script]\napi = \"0.9\"\ninline = \"x\"\n",
		"[[buildpack.exec-env]]\nname = 1\n", "launch = true\n", "a = [[[[[[[[[[[[", "x = 1979-05-27T07:32:00Z\n", "\x00\xff",
	} {
		f.Add([]byte(seed))
	}
	old, err := spec.Buildpack("0.8")
	if err != nil {
		f.Fatal(err)
	}
	current, err := spec.Buildpack("0.12")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if d, err := spec.ReadDescriptor(data, "f"); err == nil && (d.Buildpack.ID == "" || strings.Contains(d.Buildpack.ID, "..")) {
			t.Errorf("accepted the ID %q", d.Buildpack.ID)
		}
		if c, err := spec.ReadLayerContent(data, "f"); err == nil {
			if _, err := spec.EncodeLayerContent(c.Data); err != nil {
				t.Logf("metadata that cannot be written again: %v", err)
			}
		}
		for _, api := range []spec.BuildpackAPI{old, current} {
			l, err := spec.ReadLaunchTOML(data, "f", api, "bp")
			if err != nil {
				continue
			}
			for _, p := range l.Processes {
				if len(p.Command.Entries) == 0 || spec.CheckProcessType(p.Type) != nil {
					t.Errorf("accepted the process %+v", p)
				}
			}
		}
		_, _ = spec.ReadBuildPlan(data, "f", "bp")
		_, _ = spec.ReadProject(data, "f")
		var md spec.BuildMetadata
		_, _ = spec.Decode(data, "f", &md)
	})
}
