// Package lifecycle runs the phases of a build by buildpacks: detect, build, export and what belongs to them (platform.md and
// buildpack.md of github.com/buildpacks/spec). Programs of buildpacks are run by an Executor, which isolates them or not; everything
// else happens in this process, which trusts nothing that buildpacks leave behind. Images go to a target.Target.
//
// The package does not know where buildpacks come from nor who asks for a build.
package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"github.com/weft-dev/weft/buildpack/spec"
)

// Logger takes what the phases have to say.
type Logger interface {
	Debugf(format string, args ...any)
	Infof(format string, args ...any)
	Warnf(format string, args ...any)
}

// Silent is a Logger that keeps nothing.
type Silent struct{}

// Debugf drops the message.
func (Silent) Debugf(string, ...any) {}

// Infof drops the message.
func (Silent) Infof(string, ...any) {}

// Warnf drops the message.
func (Silent) Warnf(string, ...any) {}

// A Folder is the same folder as this process and as the programs of buildpacks see it.
type Folder struct {
	Host   string
	Inside string
}

// Same is a folder that is called alike by all.
func Same(path string) Folder { return Folder{path, path} }

// Join gives a folder or file below.
func (f Folder) Join(elem ...string) Folder {
	in := append([]string{f.Inside}, elem...)
	out := append([]string{f.Host}, elem...)
	return Folder{path.Join(out...), path.Join(in...)}
}

// Folders of a build (platform.md, "Inputs").
type Folders struct {
	App         Folder
	Layers      Folder
	Platform    Folder
	BuildConfig Folder
	Buildpacks  Folder // ID/VERSION/buildpack.toml
	Scratch     Folder // for plans; programs may write to files that this process makes there
	Below       Below  // layers that are mounted below Layers; phases take out what is no longer wanted
}

// Execution is a program of a buildpack to be run.
type Execution struct {
	Program string // path as programs see it
	Args    []string
	Env     []string
	Dir     string
	Output  io.Writer // standard output and error
}

// Executor runs programs of buildpacks.
type Executor interface {
	// Run gives the exit code. An error means that the program did not run or did not end by itself.
	Run(ctx context.Context, e Execution) (int, error)
}

// Buildpack is a buildpack that is there to run.
type Buildpack struct {
	spec.Descriptor
	Behaviour spec.BuildpackAPI
	Dir       Folder
}

// Lookup finds a buildpack in the folder of buildpacks.
func (f Folders) Lookup(id, version string) (*Buildpack, error) {
	dir := f.Buildpacks.Join(spec.EscapeID(id), version)
	file := path.Join(dir.Host, "buildpack.toml")
	data, err := readFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the buildpack %s@%s is not there: %s does not exist", id, version, file)
	}
	if err != nil {
		return nil, err
	}
	d, err := spec.ReadDescriptor(data, file)
	if err != nil {
		return nil, err
	}
	behaviour, err := spec.Buildpack(d.API)
	if err != nil {
		return nil, &Error{Kind: KindBuildpackAPI, Err: fmt.Errorf("buildpack %s@%s: %w", id, version, err)}
	}
	if !d.Composite() && len(d.Targets) == 0 {
		if _, err := os.Stat(path.Join(dir.Host, "bin", "build")); err == nil {
			d.Targets = []spec.Target{{OS: "linux"}}
		}
	}
	return &Buildpack{Descriptor: *d, Behaviour: behaviour, Dir: dir}, nil
}

// readFile reads a file of bounded size.
func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readBounded(f, name)
}

func readBounded(r io.Reader, name string) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, spec.MaxFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > spec.MaxFile {
		return nil, fmt.Errorf("%s is longer than %d bytes", name, spec.MaxFile)
	}
	return data, nil
}

// Kind of an Error decides the exit code of a phase.
type Kind int

// Kinds of errors (platform.md, the tables of exit codes).
const (
	KindOther        Kind = iota
	KindNotDetected       // no group detected
	KindDetectFailed      // no group detected and a bin/detect failed
	KindBuildFailed       // a bin/build failed
	KindBuildpackAPI      // a buildpack speaks an API that this lifecycle does not
)

// Error is an error that has an exit code of its own.
type Error struct {
	Kind Kind
	Err  error
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// KindOf gives the kind of an error.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return KindOther
}
