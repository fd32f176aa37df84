package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/weft-dev/weft/buildpack/spec"
)

// An input is a value that a platform gives to a phase: a flag, else a variable, else the fallback. The table is that of platform.md,
// section "Usage", with the names and defaults that lifecycle v0.21.0 has where they differ.
type input struct {
	flag     string // "" has no flag
	env      string // "" has no variable
	fallback string // <layers> stands for the layers folder
	phases   string // that have the flag: letters of phaseLetters
	since    int    // minor version of the Platform API
	until    int    // the last minor version, 0 means it still holds
	boolean  bool
	help     string
}

// phaseLetters: Analyzer, Detector, Restorer, Builder, Exporter, Creator, reBaser (X).
var phaseLetters = map[string]string{"analyze": "A", "detect": "D", "restore": "R", "build": "B", "export": "E", "create": "C", "rebase": "X"}

const layersPlaceholder = "<layers>"

var inputs = []input{
	{"analyzed", "CNB_ANALYZED_PATH", "<layers>/analyzed.toml", "ADREB", 0, 0, false, "path to analyzed.toml"},
	{"app", "CNB_APP_DIR", "/workspace", "DBEC", 0, 0, false, "path to app directory"},
	{"build-config", "CNB_BUILD_CONFIG_DIR", "/cnb/build-config", "DBC", 11, 0, false, "path to build config directory"},
	{"build-image", "CNB_BUILD_IMAGE", "", "R", 10, 0, false, "build image tag name"},
	{"buildpacks", "CNB_BUILDPACKS_DIR", "/cnb/buildpacks", "DBC", 0, 0, false, "path to buildpacks directory"},
	{"cache-dir", "CNB_CACHE_DIR", "", "REC", 0, 0, false, "path to cache directory"},
	{"cache-image", "CNB_CACHE_IMAGE", "", "AREC", 0, 0, false, "cache image tag name"},
	{"containerd", "CNB_USE_CONTAINERD", "", "AREXC", 0, 0, true, "read and write images in containerd; run images that it does not have come from their registries"},
	{"containerd-address", "CONTAINERD_ADDRESS", "", "AREXC", 0, 0, false, "path to containerd's socket (default /run/containerd/containerd.sock)"},
	{"containerd-namespace", "CONTAINERD_NAMESPACE", "", "AREXC", 0, 0, false, "namespace of images in containerd (default k8s.io, which the kubelet sees)"},
	{"containerd-unpack", "CNB_CONTAINERD_UNPACK", "", "EXC", 0, 0, true, "let containerd unpack the layers at once"},
	{"daemon", "CNB_USE_DAEMON", "", "AREXC", 0, 0, true, "read and write images in a Docker daemon (DOCKER_HOST, else the usual socket)"},
	{"extended", "CNB_EXTENDED_DIR", "<layers>/extended", "E", 12, 0, false, "path to layers of image extensions"},
	{"extensions", "CNB_EXTENSIONS_DIR", "/cnb/extensions", "D", 10, 0, false, "path to extensions directory"},
	{"force", "CNB_FORCE_REBASE", "", "X", 12, 0, true, "execute rebase even if operation is unsafe"},
	{"generated", "CNB_GENERATED_DIR", "<layers>/generated", "DR", 10, 0, false, "path to output of image extensions"},
	{"gid", "CNB_GROUP_ID", "0", "AREXC", 0, 0, false, "GID of user's group in the stack's build and run images"},
	{"group", "CNB_GROUP_PATH", "<layers>/group.toml", "DRBE", 0, 0, false, "path to group.toml"},
	{"image", "", "", "EX", 0, 0, false, "[deprecated] reference to run image"},
	{"insecure-registry", "CNB_INSECURE_REGISTRIES", "", "AREXC", 13, 0, false, "registries that speak plain HTTP, may be given several times"},
	{"launch-cache", "CNB_LAUNCH_CACHE_DIR", "", "AEC", 0, 0, false, "path to launch cache directory, of use with a daemon only"},
	{"launcher", "", "/cnb/lifecycle/launcher", "EC", 0, 0, false, "path to launcher binary"},
	{"launcher-sbom", "", "/cnb/lifecycle", "EC", 11, 0, false, "path to launcher SBOM directory"},
	{"layers", "CNB_LAYERS_DIR", "/layers", "ADRBEC", 0, 0, false, "path to layers directory"},
	{"layout", "CNB_USE_LAYOUT", "", "AREC", 12, 0, true, "export to OCI layout format on disk"},
	{"layout-dir", "CNB_LAYOUT_DIR", "", "AREC", 12, 0, false, "path to output directory for images in OCI layout format"},
	{"log-level", "CNB_LOG_LEVEL", "info", "ADRBEXC", 0, 0, false, "logging level: debug, info, warn or error"},
	{"no-color", "CNB_NO_COLOR", "", "ADRBEXC", 0, 0, true, "disable color output"},
	{"order", "CNB_ORDER_PATH", "<layers>/order.toml", "DC", 0, 0, false, "path to order.toml"},
	{"parallel", "CNB_PARALLEL_EXPORT", "", "EC", 0, 0, true, "export app image and cache in parallel"},
	{"plan", "CNB_PLAN_PATH", "<layers>/plan.toml", "DB", 0, 0, false, "path to plan.toml"},
	{"platform", "CNB_PLATFORM_DIR", "/platform", "DBC", 0, 0, false, "path to platform directory"},
	{"previous-image", "CNB_PREVIOUS_IMAGE", "", "AC", 0, 0, false, "reference to previous image"},
	{"previous-image", "CNB_PREVIOUS_IMAGE", "", "X", 11, 0, false, "reference to previous image"},
	{"process-type", "CNB_PROCESS_TYPE", "", "EC", 0, 0, false, "default process type"},
	{"project-metadata", "CNB_PROJECT_METADATA_PATH", "<layers>/project-metadata.toml", "EC", 0, 0, false, "path to project-metadata.toml"},
	{"report", "CNB_REPORT_PATH", "<layers>/report.toml", "EXC", 0, 0, false, "path to report.toml"},
	{"run", "CNB_RUN_PATH", "/cnb/run.toml", "AEC", 12, 0, false, "path to run.toml"},
	{"run-image", "CNB_RUN_IMAGE", "", "AEXC", 0, 0, false, "reference to run image"},
	{"skip-layers", "CNB_SKIP_LAYERS", "", "AR", 9, 0, true, "do not provide layer metadata to buildpacks"},
	{"skip-restore", "CNB_SKIP_RESTORE", "", "C", 0, 0, true, "do not restore layers or layer metadata"},
	{"snapshotter", "CONTAINERD_SNAPSHOTTER", "", "EXC", 0, 0, false, "snapshotter that containerd unpacks layers with (default overlayfs)"},
	{"stack", "CNB_STACK_PATH", "/cnb/stack.toml", "AEC", 0, 11, false, "path to stack.toml"},
	{"stack", "CNB_STACK_PATH", "/cnb/stack.toml", "C", 12, 0, false, "path to stack.toml"},
	{"system", "CNB_SYSTEM_PATH", "/cnb/system.toml", "DC", 15, 0, false, "path to system.toml"},
	{"tag", "", "", "AC", 0, 0, false, "additional tag, may be given several times"},
	{"uid", "CNB_USER_ID", "0", "AREXC", 0, 0, false, "UID of user in the stack's build and run images"},
}

// repeated inputs are lists; their variable is separated by commas.
var repeated = map[string]bool{"tag": true, "insecure-registry": true}

// values are the inputs of one run.
type values struct {
	phase string
	api   spec.PlatformAPI
	one   map[string]string
	lists map[string][]string
	args  []string
}

// list is a flag that may be given several times.
type list struct{ to *[]string }

func (l list) String() string { return "" }
func (l list) Set(s string) error {
	*l.to = append(*l.to, s)
	return nil
}

// errUsage is wrapped by errors in flags and arguments.
var errUsage = errors.New("usage")

// parse reads the inputs of a phase.
func parse(phase string, api spec.PlatformAPI, args []string, getenv func(string) string, stderr io.Writer) (*values, error) {
	v := &values{phase: phase, api: api, one: map[string]string{}, lists: map[string][]string{}}
	flags := flag.NewFlagSet(phase, flag.ContinueOnError)
	flags.SetOutput(stderr)
	given := map[string]*string{}
	switches := map[string]*bool{}
	lists := map[string]*[]string{}
	for _, in := range inputs {
		value := in.fallback
		if in.env != "" && getenv(in.env) != "" {
			value = getenv(in.env)
		}
		if in.flag == "skip-restore" && getenv("CNB_SKIP_LAYERS") != "" {
			value = getenv("CNB_SKIP_LAYERS")
		}
		if repeated[in.flag] && value != "" {
			v.lists[in.flag] = strings.Split(value, ",")
		}
		if in.boolean {
			on, err := strconv.ParseBool(value)
			value = strconv.FormatBool(err == nil && on)
		}
		if _, known := v.one[in.flag]; !known {
			v.one[in.flag] = value
		}
		if !strings.Contains(in.phases, phaseLetters[phase]) || api.Minor < in.since || in.until != 0 && api.Minor > in.until {
			continue
		}
		switch {
		case repeated[in.flag]:
			lists[in.flag] = &[]string{}
			flags.Var(list{lists[in.flag]}, in.flag, in.help)
		case in.boolean:
			switches[in.flag] = flags.Bool(in.flag, value == "true", in.help)
		default:
			given[in.flag] = flags.String(in.flag, value, in.help)
		}
	}
	if err := flags.Parse(args); err != nil {
		return nil, fmt.Errorf("%w: %w", errUsage, err)
	}
	for name, value := range given {
		v.one[name] = *value
	}
	for name, value := range switches {
		v.one[name] = strconv.FormatBool(*value)
	}
	for name, value := range lists {
		if len(*value) > 0 {
			v.lists[name] = *value
		}
	}
	v.args = flags.Args()
	for _, name := range []string{"uid", "gid"} {
		if _, err := strconv.Atoi(v.one[name]); err != nil {
			return nil, fmt.Errorf("%w: -%s must be a number, not %q", errUsage, name, v.one[name])
		}
	}
	return v, v.paths()
}

// folders are made absolute.
var folders = []string{"app", "build-config", "buildpacks", "cache-dir", "layers", "platform", "launch-cache"}

func (v *values) paths() error {
	for _, name := range folders {
		if v.one[name] == "" {
			continue
		}
		abs, err := filepath.Abs(v.one[name])
		if err != nil {
			return err
		}
		v.one[name] = abs
	}
	for name, value := range v.one {
		if !strings.Contains(value, layersPlaceholder) {
			continue
		}
		if v.phase == "rebase" { // it has no layers folder
			v.one[name] = strings.TrimPrefix(value, layersPlaceholder+"/")
			continue
		}
		v.one[name] = strings.Replace(value, layersPlaceholder, v.one["layers"], 1)
		if name == "order" {
			if _, err := os.Stat(v.one[name]); err != nil {
				v.one[name] = "/cnb/order.toml"
			}
		}
	}
	return nil
}

func (v *values) get(name string) string { return v.one[name] }
func (v *values) is(name string) bool    { return v.one[name] == "true" }
func (v *values) number(name string) int {
	n, err := strconv.Atoi(v.one[name])
	if err != nil {
		panic(err) // parse has checked it
	}
	return n
}

// names gives the image names: the argument, other arguments and tags.
func (v *values) names() []string {
	var out []string
	for _, n := range append(slices.Clone(v.args), v.lists["tag"]...) {
		if n != "" && !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}
