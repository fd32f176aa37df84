//go:build !linux

package main

import "github.com/spf13/cobra"

func keeperCommand() *cobra.Command { return &cobra.Command{Use: "keeper", Hidden: true} }
