package kcltool

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/weft-dev/weft/kcl/mod"
)

func (t *Tool) modPull() *cobra.Command {
	p := &place{}
	cmd := &cobra.Command{
		Use:   "pull <name[:version] | url> [folder]",
		Short: "pull kcl package from the registry",
		Example: `  # Pull the the module named "k8s" to the local path from the registry
  kcl mod pull k8s

  # Pull the module from the OCI Registry by oci url, into a folder
  kcl mod pull oci://ghcr.io/kcl-lang/helloworld ./modules --tag 0.1.0`,
		Args: cobra.MaximumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			into := t.Dir
			if len(args) == 2 {
				into = t.machine().path(args[1])
				args = args[:1]
			}
			d, err := t.dependency(p, args)
			if err != nil {
				return err
			}
			dir, err := t.pull(cmd.Context(), p, d, into)
			if err != nil {
				return err
			}
			t.say("pulled '%s' in '%s' successfully", d, dir)
			return nil
		},
	}
	p.flags(cmd)
	return cmd
}

// pull fetches a package into a folder of its own below into.
func (t *Tool) pull(ctx context.Context, p *place, d mod.Dependency, into string) (string, error) {
	s := t.source(p.insecure)
	defer s.Client.Close()
	d, err := t.complete(ctx, s, d, &mod.Module{Dir: "", File: &mod.File{}})
	if err != nil {
		return "", err
	}
	dir := filepath.Join(into, d.Folder())
	if _, err := os.Stat(dir); err == nil {
		return "", fmt.Errorf("%s exists already", dir)
	}
	if err := os.MkdirAll(into, 0o755); err != nil {
		return "", err
	}
	temp, err := os.MkdirTemp(into, ".pull-*")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(temp)
	if err := s.Fetch(ctx, d, temp); err != nil {
		return "", err
	}
	if err := os.Chmod(temp, 0o755); err != nil {
		return "", err
	}
	return dir, os.Rename(temp, dir)
}

func (t *Tool) modPush() *cobra.Command {
	var force, vendor, insecure bool
	cmd := &cobra.Command{
		Use:   "push [oci://host/repository]",
		Short: "push kcl package to the registry",
		Example: `  # Push the current module to the registry
  kcl mod push

  # Push the current module to the specified registry
  kcl mod push oci://ghcr.io/<some_repo>/<some_package>

  # Push the current module to the registry to override the existing artifact
  kcl mod push --force`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := t.module()
			if err != nil {
				return err
			}
			target := ""
			if len(args) == 1 {
				target = args[0]
			}
			if vendor {
				if err := t.vendor(cmd.Context(), m); err != nil {
					return err
				}
			}
			host, _, _ := strings.Cut(strings.TrimPrefix(target, "oci://"), "/")
			s := t.source(insecure, host)
			defer s.Client.Close()
			shown, err := s.Push(cmd.Context(), m.Dir, m.File.Package, target, force)
			if err != nil {
				return err
			}
			t.say("pushed '%s' successfully", shown)
			return nil
		},
	}
	f := cmd.Flags()
	f.BoolVar(&force, "force", false, "force push the package to the registry")
	f.BoolVar(&vendor, "vendor", false, "push the packages that it needs with it (default: false)")
	f.BoolVar(&insecure, "insecure-skip-tls-verify", false, "speak to a registry on another machine without TLS")
	return cmd
}

func (t *Tool) modPkg() *cobra.Command {
	target := ""
	cmd := &cobra.Command{
		Use:     "pkg",
		Short:   "package a kcl package into tar",
		Example: `  kcl mod pkg --target ./dist`,
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			m, err := t.module()
			if err != nil {
				return err
			}
			dir := m.Dir
			if target != "" {
				dir = t.machine().path(target)
			}
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
			name := filepath.Join(dir, m.File.Package.Name+"_"+m.File.Package.Version+".tar")
			f, err := os.Create(name)
			if err != nil {
				return err
			}
			err = mod.Pack(f, m.Dir, m.File.Package)
			if e := f.Close(); err == nil {
				err = e
			}
			if err != nil {
				return errors.Join(err, os.Remove(name))
			}
			t.say("packaged '%s' into '%s'", m.File.Package.Name, name)
			return nil
		},
	}
	cmd.Flags().StringVar(&target, "target", "", "packaged target `folder`")
	return cmd
}

func (t *Tool) modVendor() *cobra.Command {
	return &cobra.Command{
		Use:   "vendor",
		Short: "copy the packages of a module into its folder vendor",
		Long: `This command copies the packages that the module needs into its folder vendor, where
'kcl run --vendor' looks first. Packages that are named by a path stay there.`,
		Example: `  kcl mod vendor && kcl run --vendor`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			m, err := t.module()
			if err != nil {
				return err
			}
			return t.vendor(cmd.Context(), m)
		},
	}
}

func (t *Tool) vendor(ctx context.Context, m *mod.Module) error {
	g, err := t.resolver(&runOptions{}).Resolve(ctx, m)
	if err != nil {
		return err
	}
	for _, p := range g.Packages {
		dir := filepath.Join(m.Dir, "vendor", p.Folder())
		if p.Path != "" || p.Dir == dir {
			continue
		}
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
		if err := os.CopyFS(dir, os.DirFS(p.Dir)); err != nil {
			return err
		}
		t.say("%s -> %s", p.Name, dir)
	}
	return nil
}

// remoteEntries replaces entries that are packages of a registry or repository
// (--oci, --git, oci://..., git://...) by their folders in the cache.
func (t *Tool) remoteEntries(ctx context.Context, o *runOptions, entries []string) ([]string, error) {
	isRemote := func(s string) bool { return strings.HasPrefix(s, "oci://") || strings.HasPrefix(s, "git://") }
	p := &place{git: o.git, oci: o.oci, tag: o.tag, commit: o.commit, branch: o.branch, insecure: o.insecure}
	var remotes [][]string
	var kept []string
	if o.git != "" || o.oci != "" {
		remotes = append(remotes, entries) // the entry names a package of the repository
	} else {
		for _, e := range entries {
			if isRemote(e) {
				remotes = append(remotes, []string{e})
			} else {
				kept = append(kept, e)
			}
		}
	}
	if len(remotes) == 0 {
		if o.tag != "" || o.commit != "" || o.branch != "" {
			return nil, errors.New("cannot specify tag, commit, or branch without modules")
		}
		return entries, nil
	}
	if len(remotes)+len(kept) > 1 {
		return nil, fmt.Errorf("cannot specify multiple KCL modules %v", entries)
	}
	d, err := t.dependency(p, remotes[0])
	if err != nil {
		return nil, err
	}
	dir, err := t.cached(ctx, p, d)
	if err != nil {
		return nil, err
	}
	return []string{dir}, nil
}

// cached is the folder of a package in the cache, where it is fetched to if it
// is not there.
func (t *Tool) cached(ctx context.Context, p *place, d mod.Dependency) (string, error) {
	s := t.source(p.insecure)
	defer s.Client.Close()
	name := d.Name
	d, err := t.complete(ctx, s, d, &mod.Module{File: &mod.File{}})
	if err != nil {
		return "", err
	}
	r, err := t.fetching(s, false)
	if err != nil {
		return "", err
	}
	if name == "" {
		d.Package = ""
	}
	g, err := r.Resolve(ctx, &mod.Module{Dir: t.Dir, File: &mod.File{Dependencies: []mod.Dependency{d}}, Lock: &mod.Lock{}})
	if err != nil {
		return "", err
	}
	for _, found := range g.Packages {
		if found.Name == d.Name {
			return found.Dir, nil
		}
	}
	return "", fmt.Errorf("package %s was not found", d.Name)
}

func (t *Tool) cleanCommand() *cobra.Command {
	yes := false
	cmd := &cobra.Command{
		Use:   "clean",
		Short: "KCL clean tool",
		Long: `This command removes the packages that were fetched, and what is remembered of
packages that were checked.`,
		Example: `  kcl clean --yes`,
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			cache, err := mod.CacheDir(t.Getenv)
			if err != nil {
				return err
			}
			if dir := t.cacheDir(); dir != "" {
				if err := os.RemoveAll(dir); err != nil {
					return err
				}
			}
			entries, err := os.ReadDir(cache)
			if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
				t.say("%s is empty", cache)
				return nil
			}
			if err != nil {
				return err
			}
			if !yes {
				return fmt.Errorf("this removes %d packages from %s: say --yes", len(entries), cache)
			}
			return os.RemoveAll(cache)
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "remove without asking")
	return cmd
}

func (t *Tool) registryCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "registry",
		Short: "KCL registry management",
		Long:  `This command keeps the credentials of registries in the Docker configuration, where other tools find them, too.`,
		Example: `  kcl registry login ghcr.io -u NAME --password-stdin < token
  kcl registry logout ghcr.io`,
	}
	var user, password string
	var fromStdin bool
	login := &cobra.Command{
		Use: "login <host>", Short: "login to a registry", Args: cobra.ExactArgs(1),
		Example: `  kcl registry login ghcr.io -u NAME --password-stdin < token`,
		RunE: func(_ *cobra.Command, args []string) error {
			secret, err := t.password(password, fromStdin)
			if err != nil {
				return err
			}
			if user == "" {
				return errors.New("whose credentials? Give --username")
			}
			if err := t.credential(args[0], base64.StdEncoding.EncodeToString([]byte(user+":"+secret))); err != nil {
				return err
			}
			t.say("Login Succeeded")
			return nil
		},
	}
	login.Flags().StringVarP(&user, "username", "u", "", "registry username")
	login.Flags().StringVarP(&password, "password", "p", "", "registry password; others on this machine can see it, so rather use --password-stdin")
	login.Flags().BoolVar(&fromStdin, "password-stdin", false, "read the password from standard input")
	logout := &cobra.Command{
		Use: "logout <host>", Short: "logout from a registry", Args: cobra.ExactArgs(1),
		Example: `  kcl registry logout ghcr.io`,
		RunE: func(_ *cobra.Command, args []string) error {
			if err := t.credential(args[0], ""); err != nil {
				return err
			}
			t.say("Logout Succeeded")
			return nil
		},
	}
	cmd.AddCommand(login, logout)
	return cmd
}

func (t *Tool) password(given string, fromStdin bool) (string, error) {
	if given != "" && !fromStdin {
		return given, nil
	}
	if f, ok := t.In.(*os.File); ok && !fromStdin && term.IsTerminal(int(f.Fd())) {
		fmt.Fprint(t.Err, "Password: ")
		secret, err := term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(t.Err)
		return string(secret), err
	}
	line, err := bufio.NewReader(io.LimitReader(t.In, 1<<16)).ReadString('\n')
	if line = strings.TrimRight(line, "\r\n"); line == "" {
		return "", errors.Join(errors.New("no password on standard input"), ignoreEOF(err))
	}
	return line, nil
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// credential sets or, with an empty auth, removes the entry of a host in the
// Docker configuration and keeps everything else in it.
func (t *Tool) credential(host, auth string) error {
	name := filepath.Join(t.dockerFolder(), "config.json")
	config := map[string]json.RawMessage{}
	data, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err == nil {
		if err := json.Unmarshal(data, &config); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	auths := map[string]json.RawMessage{}
	if raw, ok := config["auths"]; ok {
		if err := json.Unmarshal(raw, &auths); err != nil {
			return fmt.Errorf("%s: auths: %w", name, err)
		}
	}
	delete(auths, host)
	if auth != "" {
		if auths[host], err = json.Marshal(map[string]string{"auth": auth}); err != nil {
			return err
		}
	}
	if config["auths"], err = json.Marshal(auths); err != nil {
		return err
	}
	if data, err = json.MarshalIndent(config, "", "\t"); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	temp := name + ".new"
	if err := os.WriteFile(temp, append(data, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(temp, name)
}
