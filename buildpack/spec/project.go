package spec

import (
	"fmt"
	"strings"
)

// Project is a project.toml (extensions/project-descriptor.md, schema versions 0.1 to 0.3), what of it a build needs.
type Project struct {
	Builder string
	Include []string // patterns as in .gitignore: only what matches is source
	Exclude []string // the same: what matches is no source
	Group   []ProjectBuildpack
	Pre     []ProjectBuildpack
	Post    []ProjectBuildpack
	Env     []ProjectVariable
	Source  map[string]any // for the label about the project
}

// ProjectBuildpack names a buildpack or holds a script that is one.
type ProjectBuildpack struct {
	ID      string        `toml:"id"`
	Version string        `toml:"version"`
	URI     string        `toml:"uri"`
	ExecEnv []string      `toml:"exec-env"`
	Script  ProjectScript `toml:"script"`
}

// ProjectScript is an inline buildpack.
type ProjectScript struct {
	API    string `toml:"api"`
	Inline string `toml:"inline"`
	Shell  string `toml:"shell"`
}

// ProjectVariable is a variable for buildpacks.
type ProjectVariable struct {
	Name    string   `toml:"name"`
	Value   string   `toml:"value"`
	ExecEnv []string `toml:"exec-env"`
}

type projectGroups struct {
	Group []ProjectBuildpack `toml:"group"`
}

// projectV1 is schema version 0.1, which has no field that says so.
type projectV1 struct {
	Project struct {
		ID        string `toml:"id"`
		Name      string `toml:"name"`
		Version   string `toml:"version"`
		SourceURL string `toml:"source-url"`
	} `toml:"project"`
	Build struct {
		Builder    string             `toml:"builder"`
		Include    []string           `toml:"include"`
		Exclude    []string           `toml:"exclude"`
		Buildpacks []ProjectBuildpack `toml:"buildpacks"`
		Env        []ProjectVariable  `toml:"env"`
		Pre        struct {
			Buildpacks []ProjectBuildpack `toml:"buildpacks"`
		} `toml:"pre"`
		Post struct {
			Buildpacks []ProjectBuildpack `toml:"buildpacks"`
		} `toml:"post"`
	} `toml:"build"`
}

// projectV2 is schema versions 0.2 and 0.3.
type projectV2 struct {
	Project struct {
		SchemaVersion string `toml:"schema-version"`
		Version       string `toml:"version"`
		SourceURL     string `toml:"source-url"`
	} `toml:"_"`
	IO struct {
		Buildpacks struct {
			Builder string             `toml:"builder"`
			Include []string           `toml:"include"`
			Exclude []string           `toml:"exclude"`
			Group   []ProjectBuildpack `toml:"group"`
			Pre     projectGroups      `toml:"pre"`
			Post    projectGroups      `toml:"post"`
			Build   struct {
				Env []ProjectVariable `toml:"env"`
			} `toml:"build"`
			Env struct {
				Build []ProjectVariable `toml:"build"`
			} `toml:"env"`
		} `toml:"buildpacks"`
	} `toml:"io"`
}

// ReadProject reads a project.toml of any schema version.
func ReadProject(data []byte, file string) (Project, error) {
	var version struct {
		Project struct {
			SchemaVersion string `toml:"schema-version"`
		} `toml:"_"`
	}
	if _, err := Decode(data, file, &version); err != nil {
		return Project{}, err
	}
	var p Project
	var err error
	switch version.Project.SchemaVersion {
	case "", "0.1":
		var v projectV1
		_, err = Decode(data, file, &v)
		b := v.Build
		p = Project{Builder: b.Builder, Include: b.Include, Exclude: b.Exclude, Group: b.Buildpacks, Env: b.Env, Pre: b.Pre.Buildpacks,
			Post: b.Post.Buildpacks, Source: projectSource(v.Project.Version, v.Project.SourceURL)}
	case "0.2", "0.3":
		var v projectV2
		_, err = Decode(data, file, &v)
		b := v.IO.Buildpacks
		p = Project{Builder: b.Builder, Include: b.Include, Exclude: b.Exclude, Group: b.Group, Env: append(b.Build.Env, b.Env.Build...),
			Pre: b.Pre.Group, Post: b.Post.Group, Source: projectSource(v.Project.Version, v.Project.SourceURL)}
	default:
		return p, fmt.Errorf("%s: schema-version %q is not supported, only 0.1 to 0.3 are", file, version.Project.SchemaVersion)
	}
	if err != nil {
		return p, err
	}
	return p, p.check(file)
}

func projectSource(version, url string) map[string]any {
	if version == "" && url == "" {
		return nil
	}
	return map[string]any{"version": version, "url": url}
}

func (p Project) check(file string) error {
	if len(p.Include) > 0 && len(p.Exclude) > 0 {
		return fmt.Errorf("%s: include and exclude cannot be given together", file)
	}
	for _, list := range [][]ProjectBuildpack{p.Pre, p.Group, p.Post} {
		for i, b := range list {
			inline := b.Script.Inline != "" || b.Script.API != ""
			switch {
			case b.ID == "" && b.URI == "":
				return fmt.Errorf("%s: buildpack %d has neither id nor uri", file, i+1)
			case b.URI != "" && b.Version != "":
				return fmt.Errorf("%s: buildpack %s: uri and version cannot be given together", file, b.URI)
			case inline && b.URI != "":
				return fmt.Errorf("%s: buildpack %d: uri and an inline script cannot be given together", file, i+1)
			case inline && b.Script.Inline == "":
				return fmt.Errorf("%s: buildpack %s: script.inline is missing", file, b.ID)
			case inline && b.Script.API == "":
				return fmt.Errorf("%s: buildpack %s: script.api is missing", file, b.ID)
			}
			if b.ID != "" {
				if err := checkID(b.ID); err != nil {
					return fmt.Errorf("%s: buildpack %d: id %w", file, i+1, err)
				}
			}
		}
	}
	for _, v := range p.Env {
		if v.Name == "" || strings.ContainsAny(v.Name, "=/\x00") || strings.HasPrefix(v.Name, ".") {
			return fmt.Errorf("%s: the variable name %q cannot be used", file, v.Name)
		}
	}
	return nil
}
