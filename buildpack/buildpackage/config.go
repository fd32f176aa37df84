package buildpackage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/BurntSushi/toml"

	"github.com/weft-dev/weft/buildpack/spec"
)

// Config is a package.toml (pack buildpackage/config_reader.go): what goes into a package.
type Config struct {
	Buildpack    URI           `toml:"buildpack"`
	Extension    URI           `toml:"extension"`
	Dependencies []Reference   `toml:"dependencies"`
	Platform     Platform      `toml:"platform"` // the older way to say for which system
	Targets      []spec.Target `toml:"targets"`

	Dir string `toml:"-"` // where relative paths begin
}

// URI is where a buildpack is.
type URI struct {
	URI string `toml:"uri"`
}

// Reference names a buildpack by a locator, or by the name of an image.
type Reference struct {
	URI   string `toml:"uri"`
	Image string `toml:"image"`
}

// Locator gives what the reference says as a locator.
func (r Reference) Locator() string {
	if r.Image != "" {
		return "docker://" + strings.TrimPrefix(r.Image, "docker://")
	}
	return r.URI
}

// Platform is the system that a package is for.
type Platform struct {
	OS string `toml:"os"`
}

// ReadConfig reads a package.toml. Keys that nobody knows become warnings.
func ReadConfig(data []byte, file string) (Config, []string, error) {
	var c Config
	md, err := spec.Decode(data, file, &c)
	if err != nil {
		return c, nil, err
	}
	c.Dir = filepath.Dir(file)
	switch {
	case c.Extension.URI != "":
		return c, nil, fmt.Errorf("%s: extension.uri: packages of image extensions are not supported", file)
	case c.Buildpack.URI == "":
		return c, nil, fmt.Errorf("%s: buildpack.uri is missing; write for example\n[buildpack]\nuri = \".\"", file)
	case c.Platform.OS != "" && c.Platform.OS != "linux":
		return c, nil, fmt.Errorf("%s: platform.os is %q, only linux is supported", file, c.Platform.OS)
	}
	for i, d := range c.Dependencies {
		if (d.URI == "") == (d.Image == "") {
			return c, nil, fmt.Errorf("%s: dependencies[%d]: expected either uri or image", file, i)
		}
	}
	return c, UnknownKeys(md, file), nil
}

// UnknownKeys tells of keys that were not read.
func UnknownKeys(md toml.MetaData, file string) []string {
	var out []string
	for _, key := range md.Undecoded() {
		out = append(out, fmt.Sprintf("%s: the key %s is not known", file, key))
	}
	return out
}

// Assemble finds all buildpacks of a package.
func (f *Finder) Assemble(ctx context.Context, c Config) (Package, error) {
	p, err := f.locate(ctx, c.Buildpack.URI, c.Dir)
	if err != nil {
		return p, err
	}
	for _, d := range c.Dependencies {
		more, err := f.locate(ctx, d.Locator(), c.Dir)
		if err != nil {
			return p, err
		}
		for _, m := range more.Modules {
			if !p.has(m.Element()) {
				p.Modules = append(p.Modules, m)
			}
		}
	}
	p.sort()
	return p, nil
}

func (f *Finder) locate(ctx context.Context, uri, base string) (Package, error) {
	l, err := ParseLocator(uri, base, nil)
	if err != nil {
		return Package{}, err
	}
	if l.Kind == FromBuilder {
		return Package{}, fmt.Errorf("%s: there is no builder that a package could take buildpacks from", uri)
	}
	return f.Find(ctx, l)
}

// TargetArch gives the architecture of the only target os/arch[/variant] of a list; "" lists none and is this machine's.
func TargetArch(targets []string) (string, error) {
	arch := runtime.GOARCH
	if len(targets) > 1 {
		return "", errors.New("one target at a time can be made")
	}
	for _, t := range targets {
		parts := strings.Split(strings.SplitN(t, ":", 2)[0], "/")
		if parts[0] != "linux" {
			return "", fmt.Errorf("the target %q: only linux is supported", t)
		}
		if len(parts) > 1 && parts[1] != "" {
			arch = parts[1]
		}
	}
	return arch, nil
}

// New describes a buildpack to be made by Scaffold.
type New struct {
	ID, Version, API string
	Targets          []spec.Target
	Stacks           []string
}

// Scaffold writes a folder with a buildpack that always detects and does nothing, to begin with.
func Scaffold(dir string, n New) error {
	if _, err := os.Stat(dir); err == nil {
		return fmt.Errorf("the folder %s exists", dir)
	}
	descriptor := struct {
		API       string        `toml:"api"`
		Buildpack any           `toml:"buildpack"`
		Targets   []spec.Target `toml:"targets,omitempty"`
		Stacks    []spec.Stack  `toml:"stacks,omitempty"`
	}{API: n.API, Targets: n.Targets, Buildpack: struct {
		ID      string `toml:"id"`
		Version string `toml:"version"`
	}{n.ID, n.Version}}
	for _, s := range n.Stacks {
		descriptor.Stacks = append(descriptor.Stacks, spec.Stack{ID: s})
	}
	data, err := spec.Encode(descriptor)
	if err != nil {
		return err
	}
	if _, err := spec.ReadDescriptor(data, "buildpack.toml"); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(dir, "bin"), 0o755); err != nil {
		return err
	}
	return errors.Join(os.WriteFile(filepath.Join(dir, "buildpack.toml"), data, 0o644),
		os.WriteFile(filepath.Join(dir, "bin", "detect"), []byte(detectScript), 0o755),
		os.WriteFile(filepath.Join(dir, "bin", "build"), []byte(buildScript), 0o755))
}

const detectScript = `#!/usr/bin/env bash
# Says whether this buildpack is for the application in the working folder: exit 0 for yes, 100 for no.
# CNB_PLATFORM_DIR has the user's variables in env/, CNB_BUILD_PLAN_PATH takes what is provided and required.
set -euo pipefail

exit 0
`

const buildScript = `#!/usr/bin/env bash
# Builds the application in the working folder. Layers are folders below CNB_LAYERS_DIR, each with a file NAME.toml beside it:
#
#   mkdir "$CNB_LAYERS_DIR/tools"
#   printf '[types]\nlaunch = true\ncache = true\n' >"$CNB_LAYERS_DIR/tools.toml"
#
# and processes are told in launch.toml:
#
#   printf '[[processes]]\ntype = "web"\ncommand = ["./start"]\ndefault = true\n' >"$CNB_LAYERS_DIR/launch.toml"
set -euo pipefail

exit 0
`
