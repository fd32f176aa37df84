package kcltool

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/kcl/mod"
	"github.com/weft-dev/weft/kcl/mod/remote"
	"github.com/weft-dev/weft/registry"
)

// place are the flags that say where a package comes from.
type place struct {
	git, oci, tag, commit, branch, path, rename string
	noSumCheck, insecure                        bool
}

func (p *place) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&p.git, "git", "", "git repository url")
	f.StringVar(&p.oci, "oci", "", "oci repository url")
	f.StringVar(&p.tag, "tag", "", "git or oci repository tag")
	f.StringVar(&p.commit, "commit", "", "git repository commit")
	f.StringVar(&p.branch, "branch", "", "git repository branch")
	f.BoolVar(&p.insecure, "insecure-skip-tls-verify", false, "speak to registries on other machines without TLS")
}

func (t *Tool) modCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "mod",
		Short: "KCL module management",
		Long: `This command manages kcl modules: kcl.mod names the packages that a program imports,
kcl.mod.lock the versions that were chosen and their checksums.

Only add, update, pull and push speak to registries and repositories; running a
program never does.`,
		Example: `  kcl mod init my-module
  kcl mod add k8s:1.31
  kcl mod update
  kcl mod graph`,
	}
	cmd.AddCommand(t.modInit(), t.modAdd(), t.modRemove(), t.modUpdate(), t.modPull(), t.modPush(), t.modPkg(), t.modMetadata(),
		t.modGraph(), t.modVendor())
	return cmd
}

// module loads the module of the working folder.
func (t *Tool) module() (*mod.Module, error) {
	root, ok := mod.Find(t.Dir)
	if !ok {
		return nil, fmt.Errorf("there is no %s in %s or above: run `kcl mod init` first", mod.FileName, t.Dir)
	}
	return mod.Load(root)
}

// source speaks to registries and repositories.
func (t *Tool) source(insecure bool, hosts ...string) *remote.Source {
	host, repo := remote.DefaultHost, remote.DefaultRepo
	if v, _ := t.Getenv("KPM_REG"); v != "" {
		host = v
	}
	if v, _ := t.Getenv("KPM_REPO"); v != "" {
		repo = v
	}
	o := registry.Options{UserAgent: "kcl/" + t.Version, Keychain: registry.DockerCredentials(t.dockerSetting())}
	if plain, _ := t.Getenv("OCI_REG_PLAIN_HTTP"); plain == "on" || insecure {
		o.PlainHTTP = append(hosts, host)
	}
	return &remote.Source{Client: registry.New(o), Host: host, Repo: repo, Env: os.Environ()}
}

// dockerSetting is $DOCKER_CONFIG or "", which stands for all usual places.
func (t *Tool) dockerSetting() string {
	dir, _ := t.Getenv("DOCKER_CONFIG")
	return dir
}

// dockerFolder is the folder of the Docker configuration that login changes.
func (t *Tool) dockerFolder() string {
	if dir := t.dockerSetting(); dir != "" {
		return dir
	}
	home, _ := t.Getenv("HOME")
	return filepath.Join(home, ".docker")
}

// fetching is a resolver that gets what is missing.
func (t *Tool) fetching(s mod.Source, vendor bool) (*mod.Resolver, error) {
	cache, err := mod.CacheDir(t.Getenv)
	if err != nil {
		return nil, err
	}
	return &mod.Resolver{Cache: cache, Vendor: vendor, Source: s, Log: t.say}, nil
}

func (t *Tool) say(format string, args ...any) { fmt.Fprintf(t.Err, format+"\n", args...) }

// lock resolves a module and writes its files.
func (t *Tool) lock(ctx context.Context, m *mod.Module, r *mod.Resolver) (*mod.Graph, error) {
	g, err := r.Resolve(ctx, m)
	if err != nil {
		return nil, err
	}
	if m.Lock, err = mod.LockGraph(g); err != nil {
		return nil, err
	}
	return g, m.Save()
}

func (t *Tool) modInit() *cobra.Command {
	version := ""
	cmd := &cobra.Command{
		Use:   "init [name]",
		Short: "initialize new module in current directory",
		Long: `This command initializes new kcl module in current directory, or in a new folder called
like the module.`,
		Example: `  # Init one kcl module with the current folder name
  kcl mod init

  # Init one kcl module with the name
  kcl mod init package-name

  # Init one kcl module with the name and version
  kcl mod init package-name --version 0.1.0`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			dir, name := t.Dir, filepath.Base(t.Dir)
			if len(args) == 1 {
				name = filepath.Base(args[0])
				dir = t.machine().path(args[0])
			}
			return t.initModule(dir, name, version)
		},
	}
	cmd.Flags().StringVar(&version, "version", "0.0.1", "init module version")
	return cmd
}

func (t *Tool) initModule(dir, name, version string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	file := filepath.Join(dir, mod.FileName)
	if _, err := os.Stat(file); err == nil {
		return fmt.Errorf("'%s' already exists", file)
	}
	f := &mod.File{Package: mod.Package{Name: name, Edition: "v0.12.0", Version: version}}
	if _, err := mod.Parse(file, f.String()); err != nil {
		return err
	}
	for path, text := range map[string]string{file: f.String(), filepath.Join(dir, "main.k"): "The_first_kcl_program = 'Hello World!'\n"} {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			t.say("creating new :%s", path)
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				return err
			}
		}
	}
	t.say("package '%s' init finished", name)
	return nil
}

func (t *Tool) modUpdate() *cobra.Command {
	p := &place{}
	cmd := &cobra.Command{
		Use:   "update [name[:version]]...",
		Short: "update dependency",
		Long: `This command fetches the packages that kcl.mod names and writes their versions and
checksums into kcl.mod.lock. A package that is named gets the version given, or the
latest one.`,
		Example: `  # Fetch what is missing and write kcl.mod.lock
  kcl mod update

  # Raise a package to its latest version, or to a given one
  kcl mod update k8s
  kcl mod update k8s:1.31`,
		RunE: func(cmd *cobra.Command, args []string) error { return t.update(cmd.Context(), p, args) },
	}
	cmd.Flags().BoolVar(&p.noSumCheck, "no_sum_check", false, "do not check the checksum of the package and update kcl.mod.lock")
	cmd.Flags().BoolVar(&p.insecure, "insecure-skip-tls-verify", false, "speak to registries on other machines without TLS")
	return cmd
}

func (t *Tool) update(ctx context.Context, p *place, args []string) error {
	m, err := t.module()
	if err != nil {
		return err
	}
	s := t.source(p.insecure)
	defer s.Client.Close()
	for _, arg := range args {
		if err := t.raise(ctx, s, m, arg); err != nil {
			return err
		}
	}
	r, err := t.fetching(s, false)
	if err != nil {
		return err
	}
	r.NoSum = true // the lock file is written anew
	g, err := t.lock(ctx, m, r)
	if err != nil {
		return err
	}
	for _, found := range g.Packages {
		t.say("%s %s  %s", found.Name, found.Ref(), found.Dir)
	}
	return nil
}

// raise changes the version of one dependency in kcl.mod.
func (t *Tool) raise(ctx context.Context, s mod.Source, m *mod.Module, arg string) error {
	name, version, _ := strings.Cut(arg, ":")
	for _, d := range m.File.Dependencies {
		if d.Name != name {
			continue
		}
		if d.Path != "" || d.Branch != "" || d.Commit != "" {
			return fmt.Errorf("%s comes from %s: only a version or tag can be raised", name, d)
		}
		if version == "" {
			tags, err := s.Versions(ctx, d)
			if err != nil {
				return err
			}
			if version = mod.Latest(tags); version == "" {
				return fmt.Errorf("%s has no version", d)
			}
		}
		if d.Tag != "" {
			d.Tag = version
		} else {
			d.Version = version
		}
		m.File.Set(d)
		return nil
	}
	return fmt.Errorf("%s has no dependency %s", filepath.Join(m.Dir, mod.FileName), name)
}

func (t *Tool) modMetadata() *cobra.Command {
	var vendor, update bool
	cmd := &cobra.Command{
		Use:   "metadata",
		Short: "output the resolved dependencies of a package",
		Example: `  # Where are the packages of this module?
  kcl mod metadata`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			m, err := t.module()
			if err != nil {
				return err
			}
			r := t.resolver(&runOptions{vendor: vendor})
			if update {
				s := t.source(false)
				defer s.Client.Close()
				r.Source, r.Log = s, t.say
			}
			g, err := r.Resolve(cmd.Context(), m)
			if err != nil {
				return err
			}
			type entry struct {
				Name string `json:"name"`
				Path string `json:"manifest_path"`
			}
			packages := map[string]entry{}
			for _, p := range g.Packages {
				packages[p.Import()] = entry{p.Import(), p.Dir}
			}
			data, err := json.Marshal(map[string]any{"packages": packages})
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(t.Out, string(data))
			return err
		},
	}
	cmd.Flags().BoolVar(&vendor, "vendor", false, "run in vendor mode (default: false)")
	cmd.Flags().BoolVar(&update, "update", false, "fetch packages that are not on this machine")
	return cmd
}

func (t *Tool) modGraph() *cobra.Command {
	return &cobra.Command{
		Use:     "graph",
		Short:   "prints the module dependency graph",
		Long:    `This command prints who needs whom, one pair a line.`,
		Example: `  kcl mod graph`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			m, err := t.module()
			if err != nil {
				return err
			}
			g, err := t.resolver(&runOptions{}).Resolve(cmd.Context(), m)
			if err != nil {
				return err
			}
			for _, e := range g.Edges {
				if _, err := fmt.Fprintln(t.Out, e[0], e[1]); err != nil {
					return err
				}
			}
			return nil
		},
	}
}
