// Package logtool is `weft log`: verbs that render, check, explain, compare and convert log pipelines without a cluster. It must not know
// what a plugin means: that is told by the packages below logging.
package logtool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/kube/manifest"
	"github.com/weft-dev/weft/logging"
	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/resource"
)

// source is what the paths of a command hold: resources, or configuration files of an engine.
type source struct {
	documents *resource.Set
	files     []*config.File
	assumed   []resource.Reference // references that are not among the files
}

type loader struct {
	stdin     io.Reader
	namespace string
	reveal    bool // show the values of Secrets
	strict    bool // what is not among the files does not exist
}

var apiVersion = regexp.MustCompile(`(?m)^\s*"?apiVersion"?\s*:`)

// load reads files and folders. A file without apiVersion is a configuration of an engine.
func (l loader) load(ctx context.Context, paths []string) (*source, error) {
	s := &source{}
	var manifests []string
	for _, path := range paths {
		configuration, err := l.isConfiguration(path)
		if err != nil {
			return nil, err
		}
		if !configuration {
			inside, err := withoutRecipes(path)
			if err != nil {
				return nil, err
			}
			manifests = append(manifests, inside...)
			continue
		}
		f, err := l.configuration(path)
		if err != nil {
			return nil, err
		}
		s.files = append(s.files, f)
	}
	if len(manifests) > 0 && len(s.files) > 0 {
		return nil, output.Usagef("%s holds resources and %s a configuration of an engine; give one kind", manifests[0], s.files[0].Read[0])
	}
	if len(manifests) > 0 {
		objects, err := manifest.Reader{Stdin: l.stdin}.Read(ctx, manifests...)
		if err != nil {
			return nil, err
		}
		s.documents = documents(objects)
	}
	return s, nil
}

// withoutRecipes are the files of a folder that hold resources: kustomize's recipes, which often lie beside them, are passed over.
func withoutRecipes(path string) ([]string, error) {
	entries, err := os.ReadDir(path)
	if err != nil {
		return []string{path}, nil // a file, or "-"
	}
	var files []string
	for _, e := range entries {
		name := strings.ToLower(e.Name())
		if e.IsDir() || !slices.Contains(manifest.Extensions, filepath.Ext(name)) || strings.HasPrefix(name, "kustomization.") {
			continue
		}
		files = append(files, filepath.Join(path, e.Name()))
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s: no .yaml, .yml or .json file in this folder", path)
	}
	return files, nil
}

func (l loader) isConfiguration(path string) (bool, error) {
	if path == "-" {
		return false, nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return false, err
	}
	if info.IsDir() {
		return false, nil
	}
	switch strings.ToLower(filepath.Ext(path)) {
	case ".json":
		return false, nil
	case ".yaml", ".yml":
		data, err := os.ReadFile(path)
		return err == nil && !apiVersion.Match(data), err
	}
	return true, nil
}

func (l loader) configuration(path string) (*config.File, error) {
	f, err := config.Load(path, config.Options{Parsers: true, MissingParsers: func(string) bool { return true }})
	if err == nil {
		return f, nil
	}
	var joined interface{ Unwrap() []error }
	if !errors.As(err, &joined) {
		return nil, err
	}
	var all []error
	for _, e := range joined.Unwrap() {
		var fault *config.Error
		if errors.As(e, &fault) {
			e = &output.Problem{What: fault.Message, File: fault.Pos.File, Line: fault.Pos.Line, Column: fault.Pos.Column}
		}
		all = append(all, e)
	}
	return nil, errors.Join(all...)
}

func documents(objects []manifest.Object) *resource.Set {
	var all []*resource.Document
	for _, o := range objects {
		all = append(all, resource.New(o.Object, func(field string) string {
			return o.ErrorAt(field, "", "").Pos.String()
		}))
	}
	return resource.NewSet(all)
}

// plan plans the resources. Secrets that are not among the files are taken to exist, and their values are not shown.
func (l loader) plan(s *source) *logging.Result {
	known := resource.FoundIn(s.documents)
	found := lookup(func(r resource.Reference) (string, bool) {
		value, ok := known.Lookup(r)
		switch {
		case ok && (l.reveal || r.Kind != "Secret"):
			return value, true
		case !ok && l.strict:
			return "", false
		case !ok && !slices.Contains(s.assumed, r):
			s.assumed = append(s.assumed, r)
		}
		if r.Kind == "Secret" {
			return fmt.Sprintf("<%s/%s:%s>", r.Namespace, r.Name, r.Key), true
		}
		return fmt.Sprintf("-- %s\n", r), true
	})
	planner := logging.Planner{Namespace: l.namespace}
	return planner.Plan(s.documents, found)
}

type lookup func(resource.Reference) (string, bool)

func (f lookup) Lookup(r resource.Reference) (string, bool) { return f(r) }

func (s *source) remark(p *output.Printer) {
	for _, r := range s.assumed {
		p.Remark("%s is not among the files; it is taken to exist", r)
	}
}
