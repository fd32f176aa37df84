//go:build !linux

// Package lazytool is the commands around package lazy that several programs have.
package lazytool

import (
	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/lazy"
)

// KeeperCommand runs on Linux only.
func KeeperCommand() *cobra.Command {
	return &cobra.Command{Use: "keeper FOLDER", Hidden: true, Short: "Hold descriptors (Linux only)", RunE: func(*cobra.Command, []string) error { return lazy.ErrCannot }}
}

// KeeperProgram is a program on Linux only.
func KeeperProgram(...string) ([]string, error) { return nil, lazy.ErrCannot }
