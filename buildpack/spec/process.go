package spec

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// Process is something that the image can run.
type Process struct {
	Type             string   `toml:"type" json:"type"`
	Command          Command  `toml:"command" json:"command"`
	Args             []string `toml:"args" json:"args"`
	Direct           bool     `toml:"direct" json:"direct"`
	Default          bool     `toml:"default,omitempty" json:"default,omitempty"`
	BuildpackID      string   `toml:"buildpack-id" json:"buildpackID"`
	WorkingDirectory string   `toml:"working-dir,omitempty" json:"working-dir,omitempty"`
	ExecEnv          []string `toml:"exec-env,omitempty" json:"exec-env,omitempty"`
}

// Command is a program with the arguments that the user cannot override. Before Platform API 0.10 it is written as one string.
type Command struct {
	Entries []string
	Single  bool
}

// For spells the process as the Platform API wants it.
func (p Process) For(api PlatformAPI) Process {
	p.Command.Single = !api.CommandList
	if p.Command.Single && len(p.Command.Entries) > 0 {
		p.Args = append(append([]string{}, p.Command.Entries[1:]...), p.Args...)
		p.Command.Entries = p.Command.Entries[:1]
	}
	return p
}

// MarshalTOML writes a string or a list.
func (c Command) MarshalTOML() ([]byte, error) {
	if c.Single {
		return json.Marshal(c.first())
	}
	var parts []string
	for _, e := range c.Entries {
		quoted, err := json.Marshal(e)
		if err != nil {
			return nil, err
		}
		parts = append(parts, string(quoted))
	}
	return []byte("[" + strings.Join(parts, ", ") + "]"), nil
}

// MarshalJSON writes a string or a list.
func (c Command) MarshalJSON() ([]byte, error) {
	if c.Single {
		return json.Marshal(c.first())
	}
	return json.Marshal(c.Entries)
}

func (c Command) first() string {
	if len(c.Entries) == 0 {
		return ""
	}
	return c.Entries[0]
}

// UnmarshalTOML reads either form.
func (c *Command) UnmarshalTOML(v any) error {
	switch v := v.(type) {
	case string:
		c.Entries = []string{v}
		return nil
	case []any:
		c.Entries = nil
		for _, e := range v {
			s, ok := e.(string)
			if !ok {
				return fmt.Errorf("a command is a string or a list of strings, not a list with %v", e)
			}
			c.Entries = append(c.Entries, s)
		}
		return nil
	}
	return errors.New("a command is a string or a list of strings")
}

// UnmarshalJSON reads either form.
func (c *Command) UnmarshalJSON(data []byte) error {
	if err := json.Unmarshal(data, &c.Entries); err == nil {
		return nil
	}
	var s string
	if err := json.Unmarshal(data, &s); err != nil {
		return errors.New("a command is a string or a list of strings")
	}
	c.Entries = []string{s}
	return nil
}

// LaunchMetadata is the part of <layers>/config/metadata.toml that the launcher reads.
type LaunchMetadata struct {
	Processes  []Process `toml:"processes"`
	Buildpacks []Element `toml:"buildpacks"`
}
