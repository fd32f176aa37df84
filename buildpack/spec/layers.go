package spec

import (
	"errors"
	"fmt"
	"strings"

	"github.com/BurntSushi/toml"
)

// LayerContent is a <layer>.toml (buildpack.md, "Layer Content Metadata (TOML)").
type LayerContent struct {
	Data   any  `json:"data"`
	Build  bool `json:"build"`
	Launch bool `json:"launch"`
	Cache  bool `json:"cache"`
}

type layerTypes struct {
	Build  bool `toml:"build"`
	Launch bool `toml:"launch"`
	Cache  bool `toml:"cache"`
}

// ReadLayerContent reads a <layer>.toml. All types false means that the layer is neither kept nor exported.
func ReadLayerContent(data []byte, file string) (LayerContent, error) {
	var raw struct {
		Data  any        `toml:"metadata"`
		Types layerTypes `toml:"types"`
	}
	md, err := Decode(data, file, &raw)
	if err != nil {
		return LayerContent{}, err
	}
	if md.IsDefined("build") || md.IsDefined("launch") || md.IsDefined("cache") {
		return LayerContent{}, fmt.Errorf("the launch, cache and build flags should be in the types table of %s", file)
	}
	return LayerContent{Data: raw.Data, Build: raw.Types.Build, Launch: raw.Types.Launch, Cache: raw.Types.Cache}, nil
}

// EncodeLayerContent writes the file that a buildpack finds when a layer is restored: its metadata without types, for the
// buildpack must opt in again.
func EncodeLayerContent(data any) ([]byte, error) {
	return Encode(struct {
		Data any `toml:"metadata"`
	}{data})
}

// LaunchTOML is launch.toml of a buildpack.
type LaunchTOML struct {
	BOM       []BOMEntry
	Labels    []Label
	Processes []Process
	Slices    []Slice
}

// Label of the image.
type Label struct {
	Key   string `toml:"key"`
	Value string `toml:"value"`
}

// Slice is a list of patterns relative to the application folder; files that match get a layer of their own.
type Slice struct {
	Paths []string `toml:"paths"`
}

// ReadLaunchTOML reads launch.toml as the buildpack's API spells it.
func ReadLaunchTOML(data []byte, file string, api BuildpackAPI, buildpackID string) (LaunchTOML, error) {
	var raw struct {
		BOM       []BOMEntry `toml:"bom"`
		Labels    []Label    `toml:"labels"`
		Slices    []Slice    `toml:"slices"`
		Processes []struct {
			Type             string         `toml:"type"`
			Command          toml.Primitive `toml:"command"`
			Args             []string       `toml:"args"`
			Direct           *bool          `toml:"direct"`
			Default          bool           `toml:"default"`
			WorkingDirectory string         `toml:"working-dir"`
			ExecEnv          []string       `toml:"exec-env"`
		} `toml:"processes"`
	}
	md, err := Decode(data, file, &raw)
	if err != nil {
		return LaunchTOML{}, err
	}
	out := LaunchTOML{BOM: raw.BOM, Labels: raw.Labels, Slices: raw.Slices}
	defaults := 0
	for _, r := range raw.Processes {
		p := Process{Type: r.Type, Args: r.Args, Default: r.Default, BuildpackID: buildpackID, ExecEnv: r.ExecEnv}
		if api.WorkingDirectory {
			p.WorkingDirectory = r.WorkingDirectory
		}
		if err := CheckProcessType(p.Type); err != nil {
			return LaunchTOML{}, fmt.Errorf("%s: %w", file, err)
		}
		if api.CommandList {
			if r.Direct != nil {
				return LaunchTOML{}, fmt.Errorf("%s: process %s: process.direct is not supported on this buildpack version (%s)", file, r.Type, api)
			}
			p.Direct = true
			if err := md.PrimitiveDecode(r.Command, &p.Command.Entries); err != nil {
				return LaunchTOML{}, fmt.Errorf("%s: process %s: command must be a list of strings in Buildpack API %s: %w", file, r.Type, api, err)
			}
		} else {
			var command string
			if err := md.PrimitiveDecode(r.Command, &command); err != nil {
				return LaunchTOML{}, fmt.Errorf("%s: process %s: command must be a string in Buildpack API %s: %w", file, r.Type, api, err)
			}
			p.Command.Entries = []string{command}
			p.Direct = r.Direct != nil && *r.Direct
		}
		if len(p.Command.Entries) == 0 {
			return LaunchTOML{}, fmt.Errorf("%s: process %s has no command", file, r.Type)
		}
		if p.Default {
			defaults++
		}
		out.Processes = append(out.Processes, p)
	}
	if defaults > 1 {
		return LaunchTOML{}, fmt.Errorf("%s: multiple default process types aren't allowed", file)
	}
	return out, nil
}

// CheckProcessType refuses names that cannot be a link in /cnb/process.
func CheckProcessType(name string) error {
	if name == "" {
		return errors.New("type is required for all processes")
	}
	if strings.ContainsAny(name, `/><:|&\`) || name == "." || name == ".." || strings.ContainsRune(name, 0) {
		return fmt.Errorf("invalid process type '%s': type may not contain characters '%s'", name, `/><:|&\`)
	}
	return nil
}

// BuildTOML is build.toml of a buildpack.
type BuildTOML struct {
	BOM   []BOMEntry `toml:"bom"`
	Unmet []Provide  `toml:"unmet"`
}

// BOMEntry is an entry of the older, unstructured bill of materials.
type BOMEntry struct {
	Require
	Buildpack Element `toml:"buildpack" json:"buildpack"`
}

// Store is store.toml: what a buildpack wants to find in the next build.
type Store struct {
	Data map[string]any `json:"metadata" toml:"metadata"`
}
