package spec

import "fmt"

// BuildPlan is what bin/detect writes: alternatives of what a buildpack provides and requires (buildpack.md, "Build Plan (TOML)").
type BuildPlan struct {
	PlanSections
	Or []PlanSections `toml:"or"`
}

// PlanSections is one alternative.
type PlanSections struct {
	Requires []Require `toml:"requires"`
	Provides []Provide `toml:"provides"`
}

// Require asks for a dependency.
type Require struct {
	Name     string         `toml:"name" json:"name"`
	Version  string         `toml:"version,omitempty" json:"version,omitempty"`
	Metadata map[string]any `toml:"metadata" json:"metadata"`
}

// Provide offers a dependency.
type Provide struct {
	Name string `toml:"name"`
}

// ReadBuildPlan reads what bin/detect wrote; an empty file is a plan that asks for nothing.
func ReadBuildPlan(data []byte, file, buildpackID string) (BuildPlan, error) {
	var p BuildPlan
	if _, err := Decode(data, file, &p); err != nil {
		return p, err
	}
	for _, sections := range append([]PlanSections{p.PlanSections}, p.Or...) {
		for _, r := range sections.Requires {
			if r.Version == "" {
				continue
			}
			if _, both := r.Metadata["version"]; both {
				return p, fmt.Errorf(`buildpack %s has a "version" key and a "metadata.version" which cannot be specified together. `+
					`"metadata.version" should be used instead`, buildpackID)
			}
			return p, fmt.Errorf(`buildpack %s has a "version" key which is not supported. "metadata.version" should be used instead`, buildpackID)
		}
	}
	return p, nil
}

// Plan is plan.toml: who provides what was required (platform.md, "plan.toml (TOML)").
type Plan struct {
	Entries []PlanEntry `toml:"entries"`
}

// PlanEntry is one dependency.
type PlanEntry struct {
	Providers []Element `toml:"providers"`
	Requires  []Require `toml:"requires"`
}

// For gives what the buildpack with this ID is asked to provide.
func (p Plan) For(id string) []Require {
	var out []Require
	for _, e := range p.Entries {
		for _, provider := range e.Providers {
			if provider.ID == id {
				out = append(out, e.Requires...)
				break
			}
		}
	}
	return out
}

// Without removes the entries that have been met.
func (p Plan) Without(met []string) Plan {
	gone := map[string]bool{}
	for _, name := range met {
		gone[name] = true
	}
	var out Plan
entries:
	for _, e := range p.Entries {
		for _, r := range e.Requires {
			if gone[r.Name] {
				continue entries
			}
		}
		out.Entries = append(out.Entries, e)
	}
	return out
}

// BuildpackPlan is the file that bin/build gets (buildpack.md, "Buildpack Plan (TOML)").
type BuildpackPlan struct {
	Entries []Require `toml:"entries"`
}
