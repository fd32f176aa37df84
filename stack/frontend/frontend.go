// Package frontend evaluates the configuration of a stack's applications, whatever language it is written in.
//
// It is pure: the caller finds the files and packages and lends the file system. It knows nothing of modules, workspaces or clusters.
package frontend

import (
	"context"

	"github.com/weft-dev/weft/kcl"
	"github.com/weft-dev/weft/stack/config"
)

// Frontend is a language.
type Frontend interface {
	// Apps returns the applications by name, each with the place of every field. The error holds all problems of the program.
	Apps(ctx context.Context, p Program) (*Apps, error)
}

// Program is what is evaluated.
type Program struct {
	// KCL are the options of a KCL program: its files, packages, arguments and file system. Other languages get fields of their own.
	KCL kcl.Options
}

// Apps are applications.
type Apps struct {
	ByName   *config.Tree // a map; nil if there are none
	Warnings []string
}
