// Package source turns what a user names on the command line (a project folder, files of manifests, a Kusion stack) into the
// resources that the engine plans and applies. Each form has a file of its own and is found by looking at the folder.
//
// A form reads files and evaluates configuration; it changes nothing. It must not plan, apply, or print.
package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/weft-dev/weft/cmd/internal/kusion"
	"github.com/weft-dev/weft/engine"
	"github.com/weft-dev/weft/kube"
)

// Options are what the user says about what to read. A form refuses those that mean nothing to it.
type Options struct {
	Path      string            // folder or file; "" if only Files are named
	Files     []string          // flag -f: files and folders of manifests, "-" is Stdin
	Stack     string            // flag --stack: one of a project's stacks, by name or folder; "" where Path names one or there is only one
	Workspace string            // flag --workspace; "" for the current one
	Arguments []string          // flag -D: NAME=VALUE, given to the configuration language
	Modules   map[string]string // flag --module: name of a module to the folder that it is read from
	Images    map[string]string // flag --image: name of an image as written to the one to use
	Stdin     io.Reader
	Getenv    func(string) string
}

// About is what is known before a cluster is chosen.
type About struct {
	Form      string // "project", "manifests", "kusion"
	Root      string // folder that sources of builds are relative to
	Name      string // of the owner: label of everything that is applied, and name of its state; a DNS label of at most 40 bytes
	Namespace string // of objects that name none; "": the cluster's context decides
	Registry  string // where images go for clusters other than the embedded one; may be empty
	Builds    bool   // images are built, so that a registry is needed
}

// Place is where the resources go.
type Place struct {
	Client    *kube.Client // nil where no cluster is reachable: what must be looked up there is then a problem
	Namespace string       // of objects that name none
	Registry  string       // host and path under which built images are pushed
}

// Set is what a source describes. Either Problems is empty or nothing may be applied.
type Set struct {
	// Resources have types "kubernetes" (see engine/kubernetes: inputs are the object, with its namespace filled in) and "build" (see
	// buildpack/driver). Each has an Origin, and Locate where its fields were written. Secrets are engine.Sensitive or engine.External.
	Resources []engine.Resource
	Problems  []error // each with file, line and column where there are any; those of package output, manifest and engine print well
	Warnings  []string
	// Outputs are values that the user asked to see when all is done: trees that may refer to resources.
	Outputs map[string]any
	// Done is told what came of an apply or a destroy, after the engine's state has it; may be nil. Kusion's release file is written there.
	Done func(ctx context.Context, run Run) error
}

// Run is what came of an apply.
type Run struct {
	Operation string // apply, destroy, rollback
	Revision  uint64 // 0 if there was nothing to do
	Err       error  // what failed, nil if all went well
	Records   map[engine.ID]*engine.Record
}

// Source is something that describes resources.
type Source interface {
	About() About
	// Load reads and evaluates all of it. The error is for what keeps it from being read at all; what is wrong inside is in Set.Problems.
	Load(ctx context.Context, place Place) (*Set, error)
}

// form is one way to describe resources.
type form struct {
	name string
	// claims says whether the path is of this form, by looking at its files.
	claims func(o Options) bool
	open   func(ctx context.Context, o Options) (Source, error)
}

// forms in the order in which they are asked.
var forms = []form{
	{"kusion", isKusion, openKusion},
	{"project", isProject, openProject},
	{"manifests", isManifests, openManifests},
}

// Open finds the form of what the options name, and reads as much as is needed to know its name.
func Open(ctx context.Context, o Options) (Source, error) {
	if o.Path != "" {
		if _, err := os.Stat(o.Path); err != nil {
			return nil, fmt.Errorf("there is no folder or file %s", o.Path)
		}
	}
	if o.Path == "" && len(o.Files) == 0 {
		return nil, errors.New("name a folder, or files with -f")
	}
	for _, f := range forms {
		if f.claims(o) {
			return f.open(ctx, o)
		}
	}
	var names []string
	for _, f := range forms {
		names = append(names, f.name)
	}
	return nil, fmt.Errorf("%s is none of %s", o.Path, strings.Join(names, ", "))
}

// Resolve reads a value that is kept elsewhere. It is called for what the resources of any form refer to, also when a saved plan is
// applied and its source is not there any more.
func Resolve(ctx context.Context, place Place, v engine.External) (any, error) {
	if kusion.Answers(v) {
		return kusion.Secrets{Client: place.Client, Getenv: os.Getenv}.Resolve(ctx, v)
	}
	return nil, fmt.Errorf("no store of secrets answers for %s", v.URL)
}
