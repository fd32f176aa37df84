// Command lifecycle is a lifecycle of Cloud Native Buildpacks (platform.md of github.com/buildpacks/spec), to be used in place of
// the programs of /cnb/lifecycle: under the names analyzer, detector, restorer, builder, exporter, creator, rebaser and launcher it is
// that phase; otherwise its first argument names the phase.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/weft-dev/weft/buildpack/launch"
	"github.com/weft-dev/weft/buildpack/lifecycle"
	"github.com/weft-dev/weft/buildpack/spec"
)

// version of the lifecycle, set when it is built.
var version = "dev"

// Exit codes (platform.md).
const (
	codeFailed      = 1
	codeArguments   = 3
	codePlatformAPI = 11
	codeBuildpack   = 12
)

// phaseCodes are the codes of errors of a phase that have no code of their own.
var phaseCodes = map[string]int{"detect": 22, "analyze": 32, "restore": 42, "build": 52, "export": 62, "rebase": 72}

// programs are the names that the lifecycle answers to.
var programs = map[string]string{"detector": "detect", "analyzer": "analyze", "restorer": "restore", "builder": "build", "exporter": "export",
	"creator": "create", "rebaser": "rebase"}

var run = map[string]func(context.Context, *session) error{"detect": detect, "analyze": analyze, "restore": restore, "build": build,
	"export": export, "create": create, "rebase": rebase}

// failure is an error with its exit code and the verb that upstream's messages have.
type failure struct {
	code int
	verb string
	err  error
}

func (f *failure) Error() string {
	if f.err == nil {
		return "failed to " + f.verb
	}
	return fmt.Sprintf("failed to %s: %v", f.verb, f.err)
}
func (f *failure) Unwrap() error { return f.err }

func main() {
	if filepath.Base(os.Args[0]) == "launcher" {
		os.Exit(launch.Main(os.Args, os.Environ(), os.Stderr))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(start(ctx, os.Args, os.Getenv, os.Stdout, os.Stderr))
}

func start(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	err := dispatch(ctx, args, getenv, stdout, stderr)
	if err == nil {
		return 0
	}
	var e ended
	if errors.As(err, &e) {
		return int(e)
	}
	var f *failure
	if !errors.As(err, &f) {
		f = &failure{code: codeFailed}
	}
	fmt.Fprintf(stderr, "ERROR: %v\n", err)
	return f.code
}

func dispatch(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	phase, rest := programs[strings.TrimSuffix(filepath.Base(args[0]), filepath.Ext(args[0]))], args[1:]
	if phase == "" {
		if len(rest) == 0 {
			return &failure{code: codeArguments, verb: "parse arguments: name a phase: analyze, detect, restore, build, export, rebase or create"}
		}
		phase, rest = rest[0], rest[1:]
	}
	if phase == "-version" || phase == "--version" || len(rest) > 0 && (rest[0] == "-version" || rest[0] == "--version") {
		fmt.Fprintln(stdout, version)
		return nil
	}
	do := run[phase]
	if do == nil {
		return &failure{code: codeArguments, verb: "recognize phase: " + phase + "; valid phases: analyze, detect, restore, build, export, rebase, create"}
	}
	api, err := platformAPI(getenv("CNB_PLATFORM_API"))
	if err != nil {
		return err
	}
	v, err := parse(phase, api, rest, getenv, stderr)
	if err != nil {
		return &failure{codeArguments, "parse arguments", err}
	}
	s := &session{values: v, stdout: stdout, stderr: stderr, execEnv: orElse(getenv("CNB_EXEC_ENV"), "production"), registryAuth: getenv("CNB_REGISTRY_AUTH"),
		sourceDateEpoch: getenv("SOURCE_DATE_EPOCH"), experimental: getenv("CNB_EXPERIMENTAL_MODE"), getenv: getenv}
	if s.level, err = parseLevel(v.get("log-level")); err != nil {
		return &failure{codeArguments, "parse arguments", err}
	}
	if strings.Contains(s.execEnv, "/") { // platform.md, "Terminology"
		return &failure{codeArguments, "parse arguments", fmt.Errorf("CNB_EXEC_ENV is %q, and an execution environment has no slash", s.execEnv)}
	}
	if phase == "create" {
		if s.mounts = newMounts(s.get("layers")); s.mounts == nil {
			if code, ok := isolate(ctx, s, args); ok {
				return exitCode(code)
			}
			s.couldMount = mayMount()
		}
	}
	err = do(ctx, s)
	return errors.Join(err, s.closeDaemon(), s.closeContainerd())
}

// exitCode is what another process of this program has ended with, after it said why. 0 is nil.
func exitCode(code int) error {
	if code == 0 {
		return nil
	}
	return ended(code)
}

// ended is the exit code of a process that has told its error itself.
type ended int

func (e ended) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

func orElse(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}

func platformAPI(text string) (spec.PlatformAPI, error) {
	if strings.TrimSpace(text) == "" {
		return spec.PlatformAPI{}, &failure{code: codePlatformAPI,
			verb: "get platform API version; please set 'CNB_PLATFORM_API' to specify the desired platform API version"}
	}
	if _, err := spec.ParseAPI(text); err != nil {
		return spec.PlatformAPI{}, &failure{codePlatformAPI, "parse platform API '" + text + "'", err}
	}
	api, err := spec.Platform(text)
	if err != nil {
		return api, &failure{codePlatformAPI, "set platform API", fmt.Errorf("platform API version '%s' is incompatible with the lifecycle: %w", text, err)}
	}
	return api, nil
}

// fail gives an error of a phase its exit code.
func fail(phase string, err error) error {
	if err == nil {
		return nil
	}
	var f *failure
	if errors.As(err, &f) {
		return err
	}
	code := phaseCodes[phase]
	switch lifecycle.KindOf(err) {
	case lifecycle.KindNotDetected:
		code = 20
	case lifecycle.KindDetectFailed:
		code = 21
	case lifecycle.KindBuildFailed:
		code = 51
	case lifecycle.KindBuildpackAPI:
		code = codeBuildpack
	}
	return &failure{code, phase, err}
}
