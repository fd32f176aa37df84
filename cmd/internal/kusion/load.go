package kusion

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/weft-dev/weft/cmd/internal/kcltool"
	"github.com/weft-dev/weft/kcl/mod"
	"github.com/weft-dev/weft/kube/manifest"
	"github.com/weft-dev/weft/stack"
	"github.com/weft-dev/weft/stack/config"
	"github.com/weft-dev/weft/stack/frontend"
	"github.com/weft-dev/weft/stack/module"
	"github.com/weft-dev/weft/stack/schema"
	"github.com/weft-dev/weft/stack/spec"
)

// Place is a stack in a folder, with its project.
type Place struct {
	Project  *stack.Project
	Stack    *stack.Stack
	Warnings []string
}

// Is says whether a folder is a stack, or a project with stacks.
func Is(dir string) bool {
	for _, name := range []string{stack.StackFile, stack.ProjectFile} {
		if info, err := os.Stat(filepath.Join(dir, name)); err == nil && info.Mode().IsRegular() {
			return true
		}
	}
	return false
}

// Find returns the stack that a folder means: the folder itself, or the nearest one above it that is a stack; in a project's folder
// the stack of the name, or its only one.
func Find(dir, name string) (*Place, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("%s is no folder of a project or stack", dir)
	}
	root, err := projectFolder(dir)
	if err != nil {
		return nil, err
	}
	at := dir
	for !isFile(filepath.Join(at, stack.StackFile)) && at != root {
		at = filepath.Dir(at)
	}
	if name != "" || !isFile(filepath.Join(at, stack.StackFile)) {
		if at, err = stackFolder(root, name); err != nil {
			return nil, err
		}
	}
	return read(root, at)
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

func projectFolder(dir string) (string, error) {
	for at := dir; ; at = filepath.Dir(at) {
		if isFile(filepath.Join(at, stack.ProjectFile)) {
			return at, nil
		}
		if at == filepath.Dir(at) {
			return "", fmt.Errorf("there is no %s in %s nor above it: a project's folder has one, with its name", stack.ProjectFile, dir)
		}
	}
}

// Stacks are the folders of a project's stacks, by name.
func Stacks(root string) (map[string]string, error) {
	found := map[string]string{}
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && path != root && (strings.HasPrefix(e.Name(), ".") || isFile(filepath.Join(path, stack.ProjectFile))):
			return fs.SkipDir
		case e.Name() != stack.StackFile || !e.Type().IsRegular():
			return nil
		}
		p, err := read(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		if other, twice := found[p.Stack.Name]; twice {
			return fmt.Errorf("two stacks of the project are called %s: %s and %s", p.Stack.Name, other, filepath.Dir(path))
		}
		found[p.Stack.Name] = filepath.Dir(path)
		return nil
	})
	return found, err
}

func stackFolder(root, name string) (string, error) {
	if dir := filepath.Join(root, name); name != "" && isFile(filepath.Join(dir, stack.StackFile)) {
		return dir, nil
	}
	found, err := Stacks(root)
	if err != nil {
		return "", err
	}
	var names []string
	for n := range found {
		names = append(names, n)
	}
	slices.Sort(names)
	switch {
	case len(names) == 0:
		return "", fmt.Errorf("the project in %s has no stack: a stack's folder has a %s with its name", root, stack.StackFile)
	case name == "" && len(names) == 1:
		return found[names[0]], nil
	case name == "":
		return "", fmt.Errorf("the project in %s has the stacks %s: name one with --stack, or its folder", root, strings.Join(names, ", "))
	case found[name] == "":
		return "", fmt.Errorf("the project in %s has no stack %s; there are %s", root, name, strings.Join(names, ", "))
	}
	return found[name], nil
}

func read(root, dir string) (*Place, error) {
	text, err := readFile(filepath.Join(root, stack.ProjectFile))
	if err != nil {
		return nil, err
	}
	p := &Place{}
	if p.Project, p.Warnings, err = stack.ParseProject(filepath.Join(root, stack.ProjectFile), text); err != nil {
		return nil, err
	}
	if text, err = readFile(filepath.Join(dir, stack.StackFile)); err != nil {
		return nil, err
	}
	var more []string
	if p.Stack, more, err = stack.ParseStack(filepath.Join(dir, stack.StackFile), text); err != nil {
		return nil, err
	}
	p.Warnings = append(p.Warnings, more...)
	p.Project.Dir, p.Stack.Dir = root, dir
	return p, nil
}

// Owner names who owns what a stack applies in a workspace, a label of at most 40 bytes.
func (p *Place) Owner(workspace string) string {
	name := p.Project.Name + "-" + p.Stack.Name
	if workspace != "" && workspace != stack.DefaultWorkspace && workspace != p.Stack.Name {
		name += "-" + workspace
	}
	clean := strings.Trim(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(name)), "-")
	if clean != name || len(clean) > 40 { // so that two never share one
		sum := sha256.Sum256([]byte(name))
		clean = strings.Trim(clean[:min(len(clean), 31)], "-") + "-" + hex.EncodeToString(sum[:4])
	}
	return clean
}

// Options are how a stack is evaluated.
type Options struct {
	Workspace *stack.Workspace
	Arguments []string          // NAME=VALUE
	Modules   map[string]string // folders of modules, by name
	Getenv    func(string) string
	Errs      io.Writer // for what the language warns of
}

// Evaluate makes the Spec of a stack.
func (p *Place) Evaluate(ctx context.Context, o Options) (*spec.Spec, []string, error) {
	apps, err := p.apps(ctx, o)
	if err != nil {
		return nil, nil, err
	}
	s, warnings, err := stack.Generate(stack.Input{
		Project: p.Project, Stack: p.Stack, Workspace: o.Workspace, Apps: apps.ByName, Getenv: o.Getenv, Random: randomText,
		Manifests: func(path string) ([]module.Manifest, error) { return readManifests(ctx, p.Stack.Dir, path) },
	})
	return s, slices.Concat(p.Warnings, apps.Warnings, warnings), err
}

// apps evaluates the program in the stack's folder. Schemas of the modules that are built in are there also where the modules were
// never fetched.
func (p *Place) apps(ctx context.Context, o Options) (*frontend.Apps, error) {
	tool := &kcltool.Tool{Dir: p.Stack.Dir, Out: io.Discard, Err: io.Discard, Getenv: func(name string) (string, bool) {
		v := o.Getenv(name)
		return v, v != ""
	}}
	given := map[string]string{}
	for name, dir := range o.Workspace.Paths() {
		given[name] = dir
	}
	for name, dir := range o.Modules {
		given[name] = dir
	}
	for name, dir := range given {
		full, err := filepath.Abs(dir)
		if err != nil {
			return nil, err
		}
		if info, err := os.Stat(full); err != nil || !info.IsDir() {
			return nil, fmt.Errorf("the module %s is to be read from %s, which is no folder", name, dir)
		}
		given[name] = full
	}
	options, err := tool.Program(ctx, o.Arguments, kcltool.Packages{Given: given, Missing: func(d mod.Dependency) (string, bool) {
		return schema.Folder(d.Import()), schema.Has(d.Import())
	}})
	if err != nil {
		return nil, err
	}
	if options.Externals == nil {
		options.Externals = map[string]string{}
	}
	if options.Externals["kam"] == "" { // modules inherit from it
		options.Externals["kam"] = schema.Folder("kam")
	}
	options.FileSystem = schema.Over(options.FileSystem)
	return frontend.KCL{}.Apps(ctx, frontend.Program{KCL: options})
}

// readManifests reads the objects of a file or folder, relative to the stack.
func readManifests(ctx context.Context, dir, path string) ([]module.Manifest, error) {
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	objects, err := manifest.Reader{Recursive: true}.Read(ctx, path)
	if err != nil {
		return nil, err
	}
	list := make([]module.Manifest, len(objects))
	for i, o := range objects {
		at := o.Start()
		list[i] = module.Manifest{Object: o.Object, At: config.Place{File: at.File, Line: at.Line, Column: at.Column}}
	}
	return list, nil
}

// letters are what made-up secrets are made of: without vowels, so that they make no words.
const letters = "bcdfghjklmnpqrstvwxzBCDFGHJKLMNPQRSTVWXZ2456789"

// randomText makes up n letters and digits.
func randomText(n int) string {
	seed := make([]byte, 32)
	_, _ = rand.Read(seed) // never fails
	return spell(seed, "", n)
}

// spell makes n letters and digits out of a key and a name: always the same, and nothing to be guessed without the key.
func spell(key []byte, name string, n int) string {
	text := make([]byte, 0, n)
	for block := 0; len(text) < n; block++ {
		h := hmac.New(sha256.New, key)
		fmt.Fprintf(h, "weft generated secret\x00%s\x00%d", name, block)
		for _, b := range h.Sum(nil) {
			if int(b) < 256/len(letters)*len(letters) && len(text) < n { // all letters are equally likely
				text = append(text, letters[int(b)%len(letters)])
			}
		}
	}
	return string(text)
}
