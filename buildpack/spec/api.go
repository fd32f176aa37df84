// Package spec holds the data of the Cloud Native Buildpacks specifications: versions and what changes with them, the TOML files
// that platform, lifecycle and buildpacks exchange, and the labels of an image. It reads and writes bytes and knows neither
// file systems nor registries nor how a build runs.
//
// Sources: platform.md, buildpack.md and distribution.md of github.com/buildpacks/spec; where they are silent the spelling of the
// files that lifecycle v0.21.0 writes.
package spec

import (
	"fmt"
	"strconv"
	"strings"
)

// API is a version of the Platform or Buildpack API such as 0.12.
type API struct{ Major, Minor int }

// ParseAPI reads "0.12"; "1" means 1.0.
func ParseAPI(s string) (API, error) {
	major, minor, found := strings.Cut(s, ".")
	a, err := number(major)
	b := 0
	if err == nil && found {
		b, err = number(minor)
	}
	if err != nil {
		return API{}, fmt.Errorf("the API version %q is not of the form MAJOR.MINOR, for example 0.12", s)
	}
	return API{a, b}, nil
}

func number(s string) (int, error) {
	if s == "" || strings.Trim(s, "0123456789") != "" || len(s) > 6 {
		return 0, strconv.ErrSyntax
	}
	return strconv.Atoi(s)
}

func (a API) String() string { return fmt.Sprintf("%d.%d", a.Major, a.Minor) }

// AtLeast reports whether a is b or later.
func (a API) AtLeast(b API) bool {
	return a.Major > b.Major || a.Major == b.Major && a.Minor >= b.Minor
}

// PlatformAPI says what the lifecycle does differently from one version of the Platform API to the next. The newest is the rule;
// every field is true from the version on that its comment names.
type PlatformAPI struct {
	API
	SBOM               bool // 0.8: structured SBOM files are collected and exported
	LegacySBOMFiles    bool // 0.9: the unstructured bill of materials goes to sbom.legacy.json and not into labels and report
	CommandList        bool // 0.10: a process' command is a list, its arguments can be overridden
	LifecycleSBOM      bool // 0.11: the SBOMs of lifecycle and launcher are added
	RunTOML            bool // 0.12: run.toml instead of stack.toml; targets instead of stack IDs; build config instead of stacks
	ExtensionFolders   bool // 0.13: generated/ID/KIND.Dockerfile
	RestoreFromCache   bool // 0.14: launch and cache layers that the image lacks come from the cache
	ExecutionEnv       bool // 0.15: CNB_EXEC_ENV filters buildpacks and processes
	OrderInLayersDir   bool // 0.10: order.toml of the layers folder goes before /cnb/order.toml
	LayerHistory       bool // 0.12: the history of the image says who made each layer
	RunImageInAnalyzed bool // 0.12: analyzed.toml tells the name and target of the run image
}

// BuildpackAPI says the same about the Buildpack API.
type BuildpackAPI struct {
	API
	PathVariables    bool // 0.8: CNB_BUILD_PLAN_PATH, CNB_PLATFORM_DIR, CNB_BP_PLAN_PATH, CNB_LAYERS_DIR
	WorkingDirectory bool // 0.8: processes have a working-dir
	CommandList      bool // 0.9: command is a list, direct is gone, user arguments replace
	Targets          bool // 0.10: CNB_TARGET_* variables
	ExecutionEnv     bool // 0.12: CNB_EXEC_ENV and exec-env
}

// The versions that this lifecycle speaks.
var (
	OldestPlatform  = API{0, 7}
	NewestPlatform  = API{0, 15}
	OldestBuildpack = API{0, 7}
	NewestBuildpack = API{0, 12}
)

// Platform gives the behaviour for a Platform API version.
func Platform(version string) (PlatformAPI, error) {
	a, err := ParseAPI(version)
	if err != nil {
		return PlatformAPI{}, err
	}
	if !a.AtLeast(OldestPlatform) || !NewestPlatform.AtLeast(a) {
		return PlatformAPI{}, fmt.Errorf("the Platform API %s is not supported, only %s to %s are", a, OldestPlatform, NewestPlatform)
	}
	since := func(minor int) bool { return a.AtLeast(API{0, minor}) }
	return PlatformAPI{
		API: a, SBOM: since(8), LegacySBOMFiles: since(9), CommandList: since(10), LifecycleSBOM: since(11), RunTOML: since(12),
		ExtensionFolders: since(13), RestoreFromCache: since(14), ExecutionEnv: since(15), OrderInLayersDir: since(10),
		LayerHistory: since(12), RunImageInAnalyzed: since(12),
	}, nil
}

// Buildpack gives the behaviour for a Buildpack API version.
func Buildpack(version string) (BuildpackAPI, error) {
	a, err := ParseAPI(version)
	if err != nil {
		return BuildpackAPI{}, err
	}
	if !a.AtLeast(OldestBuildpack) || !NewestBuildpack.AtLeast(a) {
		return BuildpackAPI{}, fmt.Errorf("the Buildpack API %s is not supported, only %s to %s are", a, OldestBuildpack, NewestBuildpack)
	}
	since := func(minor int) bool { return a.AtLeast(API{0, minor}) }
	return BuildpackAPI{API: a, PathVariables: since(8), WorkingDirectory: since(8), CommandList: since(9), Targets: since(10),
		ExecutionEnv: since(12)}, nil
}

// EscapeID turns a buildpack ID into the name of its folders.
func EscapeID(id string) string { return strings.ReplaceAll(id, "/", "_") }
