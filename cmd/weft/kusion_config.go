package main

import (
	"bytes"
	"encoding/json"
	"errors"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/weft-dev/weft/cmd/internal/kusion"
)

// encodeAs is a value as json (indented by four) or yaml.
func encodeAs(v any, format string) (string, error) {
	if format == "json" {
		text, err := json.MarshalIndent(v, "", "    ")
		return string(text) + "\n", err
	}
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	err := e.Encode(v)
	return b.String(), errors.Join(err, e.Close())
}

func (k *kusionTool) configCommand() *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "Interact with the Kusion config", Long: "Read and change Kusion's configuration: the backends, where workspaces and releases are kept.",
		Example: "  kusion config list\n  kusion config set backends.pre.type local"}
	with := func(change bool, do func(*kusion.Config, []string) error) func(*cobra.Command, []string) error {
		return func(_ *cobra.Command, args []string) error {
			home, err := kusion.Home(k.app.getenv)
			if err != nil {
				return err
			}
			config, err := kusion.OpenConfig(home)
			if err != nil {
				return placed(err)
			}
			if err := do(config, args); err != nil || !change {
				return err
			}
			return config.Save()
		}
	}
	one := func(args []string) error {
		if len(args) != 1 {
			return errors.New("only one arg is accepted")
		}
		return nil
	}
	c.AddCommand(
		&cobra.Command{Use: "get", Short: "Get a config item", Example: "  kusion config get backends.current",
			RunE: with(false, func(config *kusion.Config, args []string) error {
				if err := one(args); err != nil {
					return err
				}
				v, err := config.Get(args[0])
				if err != nil {
					return err
				}
				if text, ok := v.(string); ok {
					k.print("%s", text)
					return nil
				}
				text, err := json.Marshal(v)
				k.print("%s", text)
				return err
			})},
		&cobra.Command{Use: "list", Short: "List all config items", Example: "  kusion config list",
			RunE: with(false, func(config *kusion.Config, args []string) error {
				if len(args) > 0 {
					return errors.New("no arg is accepted")
				}
				text, err := config.YAML()
				k.print("%s", text)
				return err
			})},
		&cobra.Command{Use: "set", Short: "Set a config item", Example: "  kusion config set backends.current pre\n  kusion config set backends.pre '{\"type\":\"local\",\"configs\":{\"path\":\"/srv/kusion\"}}'",
			RunE: with(true, func(config *kusion.Config, args []string) error {
				if len(args) != 2 {
					return errors.New("only two args are accepted")
				}
				if err := config.Set(args[0], args[1]); err != nil {
					return placed(err)
				}
				k.print("set config item %s successfully", args[0])
				return nil
			})},
		&cobra.Command{Use: "unset", Short: "Unset a config item", Example: "  kusion config unset backends.pre",
			RunE: with(true, func(config *kusion.Config, args []string) error {
				if err := one(args); err != nil {
					return err
				}
				if err := config.Unset(args[0]); err != nil {
					return err
				}
				k.print("unset config item %s successfully", args[0])
				return nil
			})},
	)
	return c
}
