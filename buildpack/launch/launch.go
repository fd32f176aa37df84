//go:build unix

// Package launch starts a process of an image that buildpacks made (platform.md, "Launcher"; buildpack.md, "Launch"). It is linked
// into the small program cmd/launcher, which is in every image: it must not grow.
package launch

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/weft-dev/weft/buildpack/env"
	"github.com/weft-dev/weft/buildpack/spec"
)

// Exit codes of the launcher.
const (
	exitUsage        = 3
	exitPlatformAPI  = 11
	exitBuildpackAPI = 12
	exitLaunch       = 82
)

const (
	processDir   = "/cnb/process"
	lifecycleDir = "/cnb/lifecycle"
	appProfile   = ".profile"
)

// failure is an error with an exit code.
type failure struct {
	code int
	verb string
	err  error
}

func (f *failure) Error() string { return fmt.Sprintf("failed to %s: %v", f.verb, f.err) }
func (f *failure) Unwrap() error { return f.err }

// Main starts the process that args and environment ask for; it returns only if that is impossible, with the exit code.
func Main(args, environ []string, stderr io.Writer) int {
	err := launch(args, environ, stderr)
	fmt.Fprintf(stderr, "ERROR: %v\n", err)
	var f *failure
	if errors.As(err, &f) {
		return f.code
	}
	return exitUsage
}

// launcher has what is needed to start a process.
type launcher struct {
	api        spec.PlatformAPI
	layers     string
	app        string
	execEnv    string
	processes  []spec.Process
	buildpacks []spec.Element
	behaviour  map[string]spec.BuildpackAPI
	env        *env.Env
	self       string
	stderr     io.Writer
}

func launch(args, environ []string, stderr io.Writer) error {
	get := func(name, fallback string) string {
		for _, kv := range environ {
			if k, v, ok := strings.Cut(kv, "="); ok && k == name && v != "" {
				return v
			}
		}
		return fallback
	}
	version := get("CNB_PLATFORM_API", "")
	if version == "" {
		return &failure{exitPlatformAPI, "get platform API version", errors.New("please set 'CNB_PLATFORM_API'")}
	}
	api, err := spec.Platform(version)
	if err != nil {
		return &failure{exitPlatformAPI, "set platform API", err}
	}
	l := &launcher{api: api, layers: get("CNB_LAYERS_DIR", "/layers"), app: get("CNB_APP_DIR", "/workspace"),
		execEnv: get("CNB_EXEC_ENV", ""), env: env.ForLaunch(environ, processDir, lifecycleDir), self: args[0], stderr: stderr}
	if l.execEnv == "" && api.ExecutionEnv {
		l.execEnv = "production"
	}
	if err := l.readMetadata(); err != nil {
		return err
	}
	if t := get("CNB_PROCESS_TYPE", ""); t != "" {
		fmt.Fprintf(stderr, "Warning: CNB_PROCESS_TYPE is not supported in Platform API %s\n", api)
		fmt.Fprintf(stderr, "Warning: Run with ENTRYPOINT '%s' to invoke the '%s' process type\n", t, t)
	}
	process, err := l.choose(filepath.Base(args[0]), args[1:])
	if err != nil {
		return &failure{exitLaunch, "launch", fmt.Errorf("determine start command: %w", err)}
	}
	return &failure{exitLaunch, "launch", l.start(process)}
}

func (l *launcher) readMetadata() error {
	file := filepath.Join(l.layers, "config", "metadata.toml")
	data, err := os.ReadFile(file)
	if err != nil {
		return &failure{1, "read metadata", err}
	}
	var md spec.LaunchMetadata
	if _, err := spec.Decode(data, file, &md); err != nil {
		return &failure{1, "read metadata", err}
	}
	l.processes, l.buildpacks, l.behaviour = md.Processes, md.Buildpacks, map[string]spec.BuildpackAPI{}
	for _, b := range md.Buildpacks {
		behaviour, err := spec.Buildpack(b.API)
		if err != nil {
			return &failure{exitBuildpackAPI, "set API for buildpack '" + b.ID + "'", err}
		}
		l.behaviour[b.ID] = behaviour
	}
	return nil
}

// choose finds the process: the name that the launcher was called by is a type, or the arguments are a command.
func (l *launcher) choose(name string, args []string) (spec.Process, error) {
	known := func(p spec.Process) bool {
		return p.Type == name && (!l.api.ExecutionEnv || spec.ExecEnvs(p.ExecEnv).Match(l.execEnv))
	}
	if i := slices.IndexFunc(l.processes, known); i >= 0 {
		return l.withArguments(l.processes[i], args)
	}
	if slices.ContainsFunc(l.processes, func(p spec.Process) bool { return p.Type == name }) {
		return spec.Process{}, fmt.Errorf("process type %s was not found", name)
	}
	switch {
	case len(args) == 0:
		return spec.Process{}, errors.New("when there is no default process a command is required")
	case len(args) > 1 && args[0] == "--":
		return spec.Process{Command: spec.Command{Entries: args[1:2]}, Args: args[2:], Direct: true}, nil
	}
	return spec.Process{Command: spec.Command{Entries: args[:1]}, Args: args[1:]}, nil
}

// withArguments adds what the user gave: to a command list instead of the arguments that may be overridden.
func (l *launcher) withArguments(p spec.Process, args []string) (spec.Process, error) {
	if len(p.Command.Entries) == 0 {
		return p, fmt.Errorf("process type %s has no command", p.Type)
	}
	if !l.api.CommandList {
		p.Args = append(slices.Clone(p.Args), args...)
		return p, nil
	}
	if len(p.Command.Entries) > 1 {
		fixed, given := p.Command.Entries[1:], p.Args
		if len(args) > 0 {
			given = args
		}
		p.Command.Entries, p.Args = p.Command.Entries[:1], append(slices.Clone(fixed), given...)
		return p, nil
	}
	if len(args) == 0 {
		return p, nil
	}
	behaviour, ok := l.behaviour[p.BuildpackID]
	if !ok {
		return p, fmt.Errorf("failed to find buildpack for process %s with buildpack ID %s", p.Type, p.BuildpackID)
	}
	if behaviour.CommandList {
		p.Args = args
	} else {
		p.Args = append(slices.Clone(p.Args), args...)
	}
	return p, nil
}

// start prepares the environment and becomes the process.
func (l *launcher) start(p spec.Process) error {
	if err := os.Chdir(l.app); err != nil {
		return fmt.Errorf("change to app directory: %w", err)
	}
	if err := l.environment(p.Type); err != nil {
		return fmt.Errorf("modify env: %w", err)
	}
	if err := l.execD(p.Type); err != nil {
		return fmt.Errorf("exec.d: %w", err)
	}
	if p.WorkingDirectory == "" {
		p.WorkingDirectory = l.app
	}
	if p.Direct {
		return l.direct(p)
	}
	return l.shell(p)
}

func (l *launcher) direct(p spec.Process) error {
	if err := os.Setenv("PATH", l.env.Get("PATH")); err != nil {
		return err
	}
	binary, err := exec.LookPath(p.Command.Entries[0])
	if err != nil {
		return fmt.Errorf("path lookup: %w", err)
	}
	if err := os.Chdir(p.WorkingDirectory); err != nil {
		return fmt.Errorf("change directory: %w", err)
	}
	if err := syscall.Exec(binary, append(slices.Clone(p.Command.Entries), p.Args...), l.env.List()); err != nil {
		return fmt.Errorf("direct exec: %w", err)
	}
	return nil
}

// eachBuildpack calls do for the layers of each buildpack, sorted by name.
func (l *launcher) eachBuildpack(do func(layers []string) error) error {
	for _, b := range l.buildpacks {
		dir := filepath.Join(l.layers, spec.EscapeID(b.ID))
		entries, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		var layers []string
		for _, e := range entries {
			if e.IsDir() {
				layers = append(layers, filepath.Join(dir, e.Name()))
			}
		}
		if err := do(layers); err != nil {
			return err
		}
	}
	return nil
}

// environment applies first the folders and then the variable files of the layers of each buildpack.
func (l *launcher) environment(processType string) error {
	return l.eachBuildpack(func(layers []string) error {
		for _, dir := range layers {
			if err := l.env.AddRoot(os.DirFS(dir), ".", dir); err != nil {
				return fmt.Errorf("add layer root: %w", err)
			}
		}
		for _, dir := range layers {
			folders := []string{"env", "env.launch"}
			if processType != "" {
				folders = append(folders, path.Join("env.launch", processType))
			}
			for _, sub := range folders {
				if err := l.env.AddFolder(os.DirFS(dir), sub); err != nil {
					return fmt.Errorf("add layer env: %w", err)
				}
			}
		}
		return nil
	})
}

// files gives the files of dir/sub and of its folder for the process type.
func files(dir, sub, processType string) ([]string, error) {
	folders := []string{filepath.Join(dir, sub)}
	if processType != "" {
		folders = append(folders, filepath.Join(dir, sub, processType))
	}
	var out []string
	for _, folder := range folders {
		entries, err := os.ReadDir(folder)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if !e.IsDir() {
				out = append(out, filepath.Join(folder, e.Name()))
			}
		}
	}
	return out, nil
}

// execD runs the programs of exec.d; each prints variables as TOML to its file descriptor 3.
func (l *launcher) execD(processType string) error {
	return l.eachBuildpack(func(layers []string) error {
		for _, dir := range layers {
			programs, err := files(dir, "exec.d", processType)
			if err != nil {
				return err
			}
			for _, program := range programs {
				if err := l.runExecD(program); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

func (l *launcher) runExecD(program string) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	cmd := exec.Command(program)
	cmd.Stdout, cmd.Stderr, cmd.Env, cmd.ExtraFiles = os.Stdout, l.stderr, l.env.List(), []*os.File{w}
	err = cmd.Start()
	w.Close()
	if err != nil {
		return fmt.Errorf("failed to execute exec.d file at path '%s': %w", program, err)
	}
	out, readErr := io.ReadAll(io.LimitReader(r, spec.MaxFile+1))
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("failed to execute exec.d file at path '%s': %w", program, err)
	}
	if readErr != nil {
		return fmt.Errorf("failed to read output from exec.d file at path '%s': %w", program, readErr)
	}
	vars := map[string]string{}
	if _, err := spec.Decode(out, "output", &vars); err != nil {
		return fmt.Errorf("failed to decode output from exec.d file at path '%s': %w", program, err)
	}
	for k, v := range vars {
		l.env.Set(k, v)
	}
	return nil
}

// shell runs the process below bash, which first sources the profile scripts.
func (l *launcher) shell(p spec.Process) error {
	var script strings.Builder
	err := l.eachBuildpack(func(layers []string) error {
		for _, dir := range layers {
			profiles, err := files(dir, "profile.d", p.Type)
			if err != nil {
				return err
			}
			for _, f := range profiles {
				fmt.Fprintf(&script, "source \"%s\"\n", f)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("find profiles: %w", err)
	}
	if info, err := os.Stat(filepath.Join(l.app, appProfile)); err == nil && !info.IsDir() {
		fmt.Fprintf(&script, "source \"%s\"\n", appProfile)
	}
	if len(p.Args) > 0 && p.BuildpackID != "" {
		if _, ok := l.behaviour[p.BuildpackID]; !ok {
			return fmt.Errorf("process type '%s' provided by unknown buildpack '%s'", p.Type, p.BuildpackID)
		}
	}
	fmt.Fprintf(&script, "cd \"%s\"\n", p.WorkingDirectory)
	if len(p.Args) == 0 {
		script.WriteString(`exec bash -c "$@"`)
	} else {
		script.WriteString(tokens(len(p.Args)))
	}
	argv := append([]string{"bash", "-c", script.String(), l.self, strings.Join(p.Command.Entries, " ")}, p.Args...)
	if err := syscall.Exec("/bin/bash", argv, l.env.List()); err != nil {
		return fmt.Errorf("bash exec: %w; this image may have no bash, then only direct processes can run", err)
	}
	return nil
}

// tokens gives a script that has the shell evaluate the command and each of n arguments to one token.
func tokens(n int) string {
	var b strings.Builder
	b.WriteString(`"$(eval echo \"$0\")"`)
	for i := 1; i <= n; i++ {
		fmt.Fprintf(&b, ` "$(eval echo \"${%d}\")"`, i)
	}
	return fmt.Sprintf(`exec bash -c '%s' "${@:1}"`, b.String())
}
