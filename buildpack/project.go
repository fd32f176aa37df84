package buildpack

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	ignore "github.com/sabhiram/go-gitignore"

	"github.com/weft-dev/weft/buildpack/spec"
)

// project is what project.toml and Options say about a build.
type project struct {
	spec.Project
	dir    string                // where relative paths begin
	ignore func(rel string) bool // paths that are no source
}

// readProject reads project.toml of the source, or the one that was named. None is no mistake unless it was named.
func readProject(source, descriptor, execEnv string) (project, error) {
	p := project{dir: source, ignore: func(rel string) bool { return rel == ".git" }}
	file := descriptor
	if file == "" {
		file = filepath.Join(source, "project.toml")
	}
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) && descriptor == "" {
		return p, nil
	}
	if err != nil {
		return p, err
	}
	if p.Project, err = spec.ReadProject(data, file); err != nil {
		return p, err
	}
	p.dir = filepath.Dir(file)
	here := func(list []string) bool { return spec.ExecEnvs(list).Match(execEnv) }
	for _, list := range []*[]spec.ProjectBuildpack{&p.Pre, &p.Group, &p.Post} {
		*list = slices.DeleteFunc(*list, func(b spec.ProjectBuildpack) bool { return !here(b.ExecEnv) })
	}
	p.Env = slices.DeleteFunc(p.Env, func(v spec.ProjectVariable) bool { return !here(v.ExecEnv) })
	switch {
	case len(p.Exclude) > 0:
		match := ignore.CompileIgnoreLines(p.Exclude...)
		p.ignore = func(rel string) bool { return rel == ".git" || match.MatchesPath(rel) }
	case len(p.Include) > 0:
		match := ignore.CompileIgnoreLines(p.Include...)
		p.ignore = func(rel string) bool { return rel == ".git" || !match.MatchesPath(rel) }
	}
	return p, nil
}

// includes reports whether only named files are source; then a folder is looked into although it is not named itself.
func (p project) includes() bool { return len(p.Include) > 0 }
