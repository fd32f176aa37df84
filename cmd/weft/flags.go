package main

import (
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/cmd/internal/source"
)

// sourceFlags say what is read.
type sourceFlags struct {
	files     []string
	stack     string
	workspace string
	arguments []string
	modules   []string
	images    []string
	name      string
	namespace string
	registry  string
}

func (f *sourceFlags) add(c *cobra.Command) {
	c.Flags().StringArrayVarP(&f.files, "filename", "f", nil, "`file` or folder of manifests, - for standard input; may be given again")
	c.Flags().StringVar(&f.stack, "stack", "", "`name` of the stack, where a project has several")
	c.Flags().StringVar(&f.workspace, "workspace", "", "`name` of the workspace of a Kusion project")
	c.Flags().StringArrayVarP(&f.arguments, "argument", "D", nil, "`NAME=VALUE` for option() in KCL; may be given again")
	c.Flags().StringArrayVar(&f.modules, "module", nil, "`NAME=FOLDER` that a module is read from; may be given again")
	c.Flags().StringArrayVar(&f.images, "image", nil, "`OLD=NEW`: use another image than the one that is written; may be given again")
	c.Flags().StringVar(&f.name, "name", "", "`name` of the owner of everything, and of its state (default: what the source says)")
	c.Flags().StringVarP(&f.namespace, "namespace", "n", "", "`namespace` of objects that name none (default: what the source says, else the context's)")
	c.Flags().StringVar(&f.registry, "registry", "", "`host/path` where built images go for another cluster than the embedded one")
}

// options makes of the flags what a source is opened with. Without a path and files it is the folder that one is in.
func (f *sourceFlags) options(a *app, path string) (source.Options, error) {
	if path == "" && len(f.files) == 0 {
		path = "."
	}
	if wrong := validation.IsDNS1123Label(f.namespace); f.namespace != "" && len(wrong) > 0 {
		return source.Options{}, output.Usagef("--namespace: %q is no name of a namespace: at most 63 lower case letters, digits and '-', which neither begins nor ends it", f.namespace)
	}
	o := source.Options{Path: path, Files: f.files, Stack: f.stack, Workspace: f.workspace, Arguments: f.arguments, Stdin: a.in, Getenv: a.getenv}
	var err error
	if o.Images, err = pairs("--image", f.images); err != nil {
		return o, err
	}
	o.Modules, err = pairs("--module", f.modules)
	return o, err
}

func pairs(flag string, list []string) (map[string]string, error) {
	m := map[string]string{}
	for _, item := range list {
		key, value, ok := strings.Cut(item, "=")
		if !ok || key == "" || value == "" {
			return nil, output.Usagef("%s: expected OLD=NEW, got %q", flag, item)
		}
		m[key] = value
	}
	return m, nil
}

// stateFlags say where the state is kept and how it is read.
type stateFlags struct {
	backend    string
	identity   string
	recipients []string
	lockWait   time.Duration
}

func (f *stateFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.backend, "backend", "", "where the state is kept: a `folder`, or \"kubernetes\" for the cluster itself (default: the state folder of the embedded cluster; other clusters keep their own)")
	c.Flags().StringVar(&f.identity, "identity", "", "`file` with the age key that reads the state (default $WEFT_IDENTITY, else identity in the user's configuration folder, made on first use)")
	c.Flags().StringArrayVar(&f.recipients, "recipient", nil, "age public `key` that secrets in a new state and in plan files are encrypted to; may be given again")
	c.Flags().DurationVar(&f.lockWait, "lock-wait", 0, "how long to wait while somebody else works on the state (default: not at all)")
}

// runFlags are for planning and applying.
type runFlags struct {
	refresh          string
	targets          []string
	force            bool
	adopt            bool
	allowDelete      []string
	createNamespaces bool
	parallel         int
}

func (f *runFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.refresh, "refresh", "all", "what is read before it is planned: `all|changed|none`")
	c.Flags().StringArrayVar(&f.targets, "target", nil, "only this resource `id` and what it needs; may be given again")
	c.Flags().BoolVar(&f.force, "force-conflicts", false, "take over fields that other managers have set")
	c.Flags().BoolVar(&f.adopt, "adopt", false, "take over objects that belong to another owner")
	c.Flags().StringArrayVar(&f.allowDelete, "allow-delete", nil, "`kind` that may be deleted although data or other objects go with it: Namespace, PersistentVolume, PersistentVolumeClaim, CustomResourceDefinition")
	c.Flags().BoolVar(&f.createNamespaces, "create-namespaces", false, "make the namespaces that are named and do not exist (always for a folder with a weft.yaml)")
	c.Flags().IntVar(&f.parallel, "parallel", 24, "how many `operations` run at once")
}

// applyFlags are for applying.
type applyFlags struct {
	onFailure string
	wait      string
	timeout   time.Duration
	retries   int
	yes       bool
}

func (f *applyFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.onFailure, "on-failure", "stop", "what happens when something fails: `stop|continue|rollback`")
	c.Flags().StringVar(&f.wait, "wait", "all", "wait until everything is ready before anything is deleted: `all|none`")
	c.Flags().DurationVar(&f.timeout, "timeout", 5*time.Minute, "how long one operation, and waiting at the end, may take")
	c.Flags().IntVar(&f.retries, "retries", 4, "how often an operation that failed for a passing reason is tried again")
	c.Flags().BoolVarP(&f.yes, "yes", "y", false, "do not ask")
}

// deployFlags are all that a verb that changes things takes.
type deployFlags struct {
	source sourceFlags
	state  stateFlags
	run    runFlags
	apply  applyFlags
}

func (f *deployFlags) add(c *cobra.Command) {
	f.source.add(c)
	f.state.add(c)
	f.run.add(c)
	f.apply.add(c)
}
