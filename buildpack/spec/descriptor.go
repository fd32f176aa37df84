package spec

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// Descriptor is a buildpack.toml (buildpack.md, "buildpack.toml (TOML)"). A component buildpack has programs and targets, a
// composite one an order.
type Descriptor struct {
	API       string   `toml:"api"`
	Buildpack Info     `toml:"buildpack"`
	Order     Order    `toml:"order"`
	Targets   []Target `toml:"targets"`
	Stacks    []Stack  `toml:"stacks"`
	Metadata  any      `toml:"metadata"`
}

// Info identifies a buildpack.
type Info struct {
	ID          string    `toml:"id" json:"id"`
	Name        string    `toml:"name,omitempty" json:"name,omitempty"`
	Version     string    `toml:"version" json:"version"`
	Homepage    string    `toml:"homepage,omitempty" json:"homepage,omitempty"`
	ClearEnv    bool      `toml:"clear-env,omitempty" json:"clear-env,omitempty"`
	Description string    `toml:"description,omitempty" json:"description,omitempty"`
	Keywords    []string  `toml:"keywords,omitempty" json:"keywords,omitempty"`
	SBOMFormats []string  `toml:"sbom-formats,omitempty" json:"sbom-formats,omitempty"`
	ExecEnv     ExecEnvs  `toml:"exec-env,omitempty" json:"exec-env,omitempty"`
	Licenses    []License `toml:"licenses,omitempty" json:"licenses,omitempty"`
}

// License of a buildpack.
type License struct {
	Type string `toml:"type,omitempty" json:"type,omitempty"`
	URI  string `toml:"uri,omitempty" json:"uri,omitempty"`
}

// Stack is the older way to say where a buildpack runs.
type Stack struct {
	ID     string   `toml:"id" json:"id"`
	Mixins []string `toml:"mixins,omitempty" json:"mixins,omitempty"`
}

// Target is where a buildpack runs. An empty field matches anything.
type Target struct {
	OS          string   `toml:"os,omitempty" json:"os"`
	Arch        string   `toml:"arch,omitempty" json:"arch"`
	ArchVariant string   `toml:"arch-variant,omitempty" json:"arch-variant,omitempty"`
	Variant     string   `toml:"variant,omitempty" json:"-"` // the spelling of the specification; ArchVariant is upstream's
	Distros     []Distro `toml:"distros,omitempty" json:"distros,omitempty"`
}

// Distro is a distribution of an operating system.
type Distro struct {
	Name    string `toml:"name" json:"name"`
	Version string `toml:"version" json:"version"`
}

// ExecEnvs lists execution environments. The specification writes tables with a name, lifecycle reads strings: both are taken.
type ExecEnvs []string

// UnmarshalTOML reads either form.
func (e *ExecEnvs) UnmarshalTOML(v any) error {
	entries, ok := v.([]any)
	if tables, isTables := v.([]map[string]any); isTables {
		for _, t := range tables {
			entries = append(entries, t)
		}
		ok = true
	}
	if !ok {
		return errors.New("exec-env must be a list of strings")
	}
	for _, entry := range entries {
		switch entry := entry.(type) {
		case string:
			*e = append(*e, entry)
		case map[string]any:
			name, isString := entry["name"].(string)
			if !isString {
				return errors.New("an entry of exec-env has no name")
			}
			*e = append(*e, name)
		default:
			return errors.New("exec-env must be a list of strings")
		}
	}
	return nil
}

// Match reports whether env is among e; nothing listed and "*" mean all.
func (e ExecEnvs) Match(env string) bool {
	if len(e) == 0 || env == "" {
		return true
	}
	for _, one := range e {
		if one == "*" || one == env {
			return true
		}
	}
	return false
}

// Order is a list of groups; the first that detects wins.
type Order []Group

// Group is a list of buildpacks that are tried together. It is also the form of group.toml.
type Group struct {
	Group           []Element `toml:"group" json:"group"`
	GroupExtensions []Element `toml:"group-extensions,omitempty" json:"group-extensions,omitempty"`
}

// Element names a buildpack within a group.
type Element struct {
	ID       string `toml:"id" json:"id"`
	Version  string `toml:"version" json:"version"`
	API      string `toml:"api,omitempty" json:"-"`
	Homepage string `toml:"homepage,omitempty" json:"homepage,omitempty"`
	Optional bool   `toml:"optional,omitempty" json:"optional,omitempty"`
}

func (e Element) String() string { return e.ID + "@" + e.Version }

// idPattern: buildpack.md, "the buildpack ID ... MUST only contain numbers, letters, and the characters ., /, and -".
var idPattern = regexp.MustCompile(`^[A-Za-z0-9./_-]+$`)

// reserved IDs would collide with folders of the layers folder.
var reserved = map[string]bool{"app": true, "config": true, "sbom": true, "generated": true}

// ReadDescriptor reads and checks a buildpack.toml.
func ReadDescriptor(data []byte, file string) (*Descriptor, error) {
	var d Descriptor
	if _, err := Decode(data, file, &d); err != nil {
		return nil, err
	}
	if d.API == "" {
		return nil, fmt.Errorf(`%s: api is missing; write for example api = "0.10"`, file)
	}
	if _, err := ParseAPI(d.API); err != nil {
		return nil, fmt.Errorf("%s: api: %w", file, err)
	}
	if err := checkID(d.Buildpack.ID); err != nil {
		return nil, fmt.Errorf("%s: buildpack.id: %w", file, err)
	}
	if d.Buildpack.Version == "" {
		return nil, fmt.Errorf("%s: buildpack.version is missing", file)
	}
	if strings.ContainsAny(d.Buildpack.Version, "/\\") || d.Buildpack.Version == ".." {
		return nil, fmt.Errorf("%s: buildpack.version %q must not contain slashes", file, d.Buildpack.Version)
	}
	if len(d.Order) > 0 && (len(d.Stacks) > 0 || len(d.Targets) > 0) {
		return nil, fmt.Errorf("%s: a buildpack has either an order or targets and stacks, not both", file)
	}
	for i, g := range d.Order {
		for j, e := range g.Group {
			if e.ID == "" {
				return nil, fmt.Errorf("%s: order[%d].group[%d]: id is missing", file, i, j)
			}
		}
	}
	for i := range d.Targets {
		if d.Targets[i].ArchVariant == "" {
			d.Targets[i].ArchVariant = d.Targets[i].Variant
		}
		d.Targets[i].Variant = ""
	}
	d.inferTargets()
	return &d, nil
}

func checkID(id string) error {
	switch {
	case id == "":
		return errors.New("is missing")
	case !idPattern.MatchString(id):
		return fmt.Errorf("%q may only have letters, digits, and the characters . / _ -", id)
	case reserved[id]:
		return fmt.Errorf("%q is reserved", id)
	}
	for part := range strings.SplitSeq(id, "/") {
		if part == "" || part == "." || part == ".." {
			return fmt.Errorf("%q has an empty or relative part", id)
		}
	}
	return nil
}

// inferTargets translates stacks for buildpacks that name no target.
func (d *Descriptor) inferTargets() {
	if len(d.Targets) > 0 {
		return
	}
	at := API{}
	if a, err := ParseAPI(d.API); err == nil {
		at = a
	}
	for _, s := range d.Stacks {
		switch {
		case s.ID == "*":
			d.Targets = append(d.Targets, Target{})
		case s.ID == "io.buildpacks.stacks.bionic" && (at.AtLeast(API{0, 10}) || len(d.Stacks) == 1):
			d.Targets = append(d.Targets, Target{OS: "linux", Arch: "amd64", Distros: []Distro{{Name: "ubuntu", Version: "18.04"}}})
		}
	}
}

// Composite reports whether the buildpack only groups others.
func (d *Descriptor) Composite() bool { return len(d.Order) > 0 }
