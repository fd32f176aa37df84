package buildpack

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/weft-dev/weft/buildpack/bundled"
	"github.com/weft-dev/weft/buildpack/layer"
	"github.com/weft-dev/weft/buildpack/sandbox"
	"github.com/weft-dev/weft/buildpack/target"
	"github.com/weft-dev/weft/registry"
)

// Options of a build. Source, Image and State are required.
type Options struct {
	Source   string           // folder of the application
	Image    string           // name of the image, for example localhost:5000/guestbook
	Tags     []string         // more names in the same registry
	Registry *registry.Client // nil: one with the credentials of docker login

	State    string // folder for caches and what is known of earlier builds; may be shared by builds of different images
	Store    string // folder of the machine's content store, which takes the layers that are kept; "" is the folder store in State
	Programs Programs

	Builder        string   // image, oci:FOLDER, debian:LANGUAGE, or host; "": project.toml decides, else weft's own buildpacks
	Buildpacks     []string // locators, to be used together instead of the builder's order
	PreBuildpacks  []string // locators of buildpacks before each group of the order, instead of those of project.toml
	PostBuildpacks []string // the same, after each group
	NoSystem       bool     // leave out the builder's system buildpacks
	Descriptor     string   // file to read instead of project.toml of the source
	RunImage       string   // name of the image to put the application on; "": the builder's, or what the language needs
	PreviousImage  string   // name of the image to reuse layers of; "": Image
	PullPolicy     PullPolicy

	Layout string         // folder that becomes the image in the OCI layout, instead of a registry
	Daemon *target.Daemon // the image goes there instead of a registry; nil: it does not
	Target target.Target  // another place for the image, which the caller closes; nil: there is none

	Env            map[string]string // variables for buildpacks
	ExecEnv        string            // what the image is for; "" is production
	DefaultProcess string            // type of the process that the image starts, instead of what buildpacks say
	Compression    layer.Compression
	Workspace      string    // where the application lies in build and image; "" is /workspace
	UID, GID       int       // who buildpacks and application are; 0 is what the builder says
	Created        time.Time // zero: the time that all reproducible images have
	Volumes        []Volume  // of this machine, for buildpacks
	Cache          string    // folder for the layers that are kept, instead of the content store; see also Store
	CacheImage     string    // image in a registry for the layers that are kept, instead of a folder; other machines may use it, too
	SBOMDir        string    // folder that gets the bills of materials; "" is none
	ReportDir      string    // folder that gets report.toml; "" is none
	NoNetwork      bool      // buildpacks may not use the network
	ClearCache     bool      // forget what earlier builds kept
	Limits         sandbox.Limits

	Events func(Event) // told what happens; called from one goroutine at a time
}

// PullPolicy says when a name in a registry is looked up anew.
type PullPolicy string

// The policies of pack. With IfNotPresent and Never a name means what it meant when it was first used on this machine.
const (
	PullAlways       PullPolicy = "always"
	PullIfNotPresent PullPolicy = "if-not-present"
	PullNever        PullPolicy = "never"
)

// ParsePullPolicy reads a policy; "" is always.
func ParsePullPolicy(s string) (PullPolicy, error) {
	switch p := PullPolicy(s); p {
	case "", PullAlways, PullIfNotPresent, PullNever:
		return p, nil
	}
	return "", fmt.Errorf("the pull policy %q is unknown; use always, if-not-present or never", s)
}

// Volume is a folder or file of this machine that buildpacks see.
type Volume struct {
	Source   string
	Target   string // absolute path in the build
	Writable bool
}

// ParseVolume reads HOST:TARGET[:OPTIONS], options being ro (the default) and rw.
func ParseVolume(s string) (Volume, error) {
	parts := strings.Split(s, ":")
	if len(parts) < 2 || len(parts) > 3 || parts[0] == "" {
		return Volume{}, fmt.Errorf("the volume %q is not of the form HOST:TARGET[:ro|rw]", s)
	}
	v := Volume{Source: parts[0], Target: path.Clean(parts[1])}
	if !path.IsAbs(v.Target) || v.Target == "/" {
		return Volume{}, fmt.Errorf("the volume %q: the target must be an absolute path and not the root", s)
	}
	for _, reserved := range []string{"/cnb", "/layers", "/platform", "/proc", "/dev"} {
		if v.Target == reserved || strings.HasPrefix(v.Target, reserved+"/") && reserved != "/platform" {
			return Volume{}, fmt.Errorf("the volume %q: %s belongs to the build", s, reserved)
		}
	}
	if len(parts) == 3 {
		for option := range strings.SplitSeq(parts[2], ",") {
			switch option {
			case "ro", "z", "Z", "":
			case "rw":
				v.Writable = true
			default:
				return Volume{}, fmt.Errorf("the volume %q: the option %q is unknown; use ro or rw", s, option)
			}
		}
	}
	if !filepath.IsAbs(v.Source) {
		abs, err := filepath.Abs(v.Source)
		if err != nil {
			return Volume{}, err
		}
		v.Source = abs
	}
	if _, err := os.Stat(v.Source); err != nil {
		return Volume{}, fmt.Errorf("the volume %q: %w", s, err)
	}
	return v, nil
}

// Programs are the small programs that a build needs, as paths.
type Programs struct {
	Sandbox  string
	Launcher string
	bundled.Programs
}

// FindPrograms gives the programs that lie beside the running one.
func FindPrograms() (Programs, error) {
	self, err := os.Executable()
	if err != nil {
		return Programs{}, err
	}
	if real, err := filepath.EvalSymlinks(self); err == nil {
		self = real
	}
	dir := filepath.Dir(self)
	p := Programs{Sandbox: filepath.Join(dir, "sandbox"), Launcher: filepath.Join(dir, "launcher"),
		Programs: bundled.Programs{Web: filepath.Join(dir, "webfiles"), Certificates: filepath.Join(dir, "certificates")}}
	for _, file := range []string{p.Sandbox, p.Launcher} {
		if _, err := os.Stat(file); err != nil {
			return Programs{}, fmt.Errorf("the program %s is missing; `make build` makes it", file)
		}
	}
	for _, file := range []*string{&p.Web, &p.Certificates} {
		if _, err := os.Stat(*file); err != nil {
			*file = ""
		}
	}
	return p, nil
}

// execEnvPattern: platform.md, "execution environments".
var execEnvPattern = regexp.MustCompile(`^[a-zA-Z0-9.-]+$`)

// check completes the options.
func (o *Options) check() error {
	if o.Source == "" || o.Image == "" || o.State == "" {
		return errors.New("a build needs a source folder, an image name and a state folder")
	}
	var err error
	if o.Source, err = filepath.Abs(o.Source); err != nil {
		return err
	}
	info, err := os.Stat(o.Source)
	if err != nil {
		return fmt.Errorf("the source: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("the source %s is not a folder", o.Source)
	}
	if o.State, err = filepath.Abs(o.State); err != nil {
		return err
	}
	if o.Programs == (Programs{}) {
		if o.Programs, err = FindPrograms(); err != nil {
			return err
		}
	}
	if o.Compression == "" {
		o.Compression = layer.Gzip
	}
	if o.ExecEnv == "" {
		o.ExecEnv = "production"
	}
	if !execEnvPattern.MatchString(o.ExecEnv) {
		return fmt.Errorf("the execution environment %q may only have letters, digits, points and dashes", o.ExecEnv)
	}
	if o.Workspace == "" {
		o.Workspace = "/workspace"
	}
	if w := path.Clean(o.Workspace); !path.IsAbs(w) || w == "/" || slices.Contains([]string{"/cnb", "/layers", "/platform", "/tmp", "/proc", "/dev", "/usr", "/etc"}, w) {
		return fmt.Errorf("the workspace %q cannot be used: it must be an absolute path of its own", o.Workspace)
	}
	o.Workspace = path.Clean(o.Workspace)
	if o.UID < 0 || o.GID < 0 {
		return errors.New("the user and group of a build are positive numbers")
	}
	for name := range o.Env {
		if name == "" || strings.ContainsAny(name, "=/\x00") || strings.HasPrefix(name, ".") {
			return fmt.Errorf("the variable name %q cannot be used", name)
		}
	}
	if o.Registry == nil {
		o.Registry = registry.New(registry.Options{Keychain: registry.DockerCredentials("")})
	}
	if o.Store == "" {
		o.Store = filepath.Join(o.State, "store")
	}
	if o.Cache != "" && o.CacheImage != "" {
		return errors.New("layers are kept either in a folder or in an image, not in both")
	}
	if o.Cache != "" {
		o.Store = o.Cache
	}
	return nil
}
