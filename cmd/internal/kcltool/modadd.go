package kcltool

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weft-dev/weft/kcl/mod"
)

func (t *Tool) modAdd() *cobra.Command {
	p := &place{}
	cmd := &cobra.Command{
		Use:   "add [name[:version] | folder | url]",
		Short: "add new dependency",
		Example: `  # Add the module dependency named "k8s" from the default OCI registry
  kcl mod add k8s

  # Add the module dependency named "k8s" with the version "1.28" from the default OCI registry
  kcl mod add k8s:1.28

  # Add the module dependency from the GitHub by git url
  kcl mod add git://github.com/kcl-lang/konfig --tag v0.4.0

  # Add the module dependency from the OCI Registry by oci url
  kcl mod add oci://ghcr.io/kcl-lang/helloworld --tag 0.1.0

  # Add the module dependency from the local file system by file url
  kcl mod add /path/to/another_module

  # Add the sub module dependency named "helloworld" from the Git repo by the tag flag
  kcl mod add helloworld --git https://github.com/kcl-lang/modules --tag v0.1.0`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return t.addDependency(cmd.Context(), p, args) },
	}
	p.flags(cmd)
	cmd.Flags().StringVar(&p.path, "path", "", "filesystem path to local dependency to add")
	cmd.Flags().StringVar(&p.rename, "rename", "", "rename the dependency")
	cmd.Flags().BoolVar(&p.noSumCheck, "no_sum_check", false, "do not check the checksum of the package and update kcl.mod.lock")
	return cmd
}

func (t *Tool) addDependency(ctx context.Context, p *place, args []string) error {
	m, err := t.module()
	if err != nil {
		return err
	}
	d, err := t.dependency(p, args)
	if err != nil {
		return err
	}
	s := t.source(p.insecure)
	defer s.Client.Close()
	if d, err = t.complete(ctx, s, d, m); err != nil {
		return err
	}
	if p.rename != "" {
		if d.Package == "" {
			d.Package = d.Name
		}
		d.Name = p.rename
	}
	if d.Name == m.File.Package.Name {
		return fmt.Errorf("cannot add '%s' as a dependency to itself", d.Name)
	}
	m.File.Set(d)
	if _, err := mod.Parse(mod.FileName, m.File.String()); err != nil {
		return err
	}
	t.say("adding dependency '%s'", d.Name)
	r, err := t.fetching(s, false)
	if err != nil {
		return err
	}
	r.NoSum = p.noSumCheck
	if l := m.Lock.Find(d.Name); l != nil {
		l.Sum = "" // what is added now may differ from what was locked
	}
	if _, err := t.lock(ctx, m, r); err != nil {
		return err
	}
	t.say("add dependency '%s' successfully", d)
	return nil
}

// dependency reads the package that flags and argument mean; its name or
// version may still be missing.
func (t *Tool) dependency(p *place, args []string) (mod.Dependency, error) {
	d := mod.Dependency{Tag: p.tag, Commit: p.commit, Branch: p.branch, Git: p.git, OCI: p.oci, Path: p.path}
	arg := ""
	if len(args) > 0 {
		arg = args[0]
	}
	given := d.Git != "" || d.OCI != "" || d.Path != ""
	switch {
	case given && arg != "":
		d.Name, d.Version, _ = strings.Cut(arg, ":")
		d.Package = d.Name
	case given:
	case arg == "":
		return d, errors.New("which package? Name it, or give --git, --oci or --path")
	case strings.HasPrefix(arg, "oci://"):
		d.OCI = arg
	case strings.HasPrefix(arg, "git://"), strings.HasPrefix(arg, "ssh://"), strings.HasPrefix(arg, "https://"), strings.HasPrefix(arg, "http://"),
		strings.HasPrefix(arg, "git@"), strings.HasSuffix(arg, ".git"):
		d.Git = arg
	case t.exists(arg) || strings.HasPrefix(arg, "."), filepath.IsAbs(arg):
		d.Path = arg
	default:
		d.Name, d.Version, _ = strings.Cut(arg, ":")
		if d.Version == "" {
			d.Version, d.Tag = d.Tag, ""
		}
	}
	if d.OCI != "" && !strings.Contains(d.OCI, "://") { // without a host: of the registry that is set when it is pulled
		d.Repo, d.OCI = d.OCI, ""
	}
	if _, rest, ok := strings.Cut(d.OCI, "://"); ok {
		d.OCI = "oci://" + rest
	}
	return d, nil
}

// complete finds out the name and, for a registry, the latest version.
func (t *Tool) complete(ctx context.Context, s mod.Source, d mod.Dependency, m *mod.Module) (mod.Dependency, error) {
	base := strings.TrimSuffix(filepath.Base(strings.TrimRight(d.Git+d.OCI+d.Repo+d.Path, "/")), ".git")
	if d.Path != "" {
		full := t.machine().path(d.Path)
		other, err := mod.Load(full)
		if errors.Is(err, fs.ErrNotExist) {
			return d, fmt.Errorf("%s is no package: it has no %s", d.Path, mod.FileName)
		}
		if err != nil {
			return d, err
		}
		if d.Name == "" {
			d.Name = other.File.Package.Name
		}
		if full == m.Dir {
			return d, fmt.Errorf("cannot add '%s' as a dependency to itself", m.File.Package.Name)
		}
		if d.Package == d.Name {
			d.Package = ""
		}
		return d, nil
	}
	if d.Name == "" {
		d.Name = base
	}
	if d.Package == d.Name && (d.Git == "" || d.Version == "") && d.OCI == "" && d.Repo == "" && d.Git == "" {
		d.Package = ""
	}
	if d.Ref() != "" {
		return d, nil
	}
	tags, err := s.Versions(ctx, d)
	if err != nil {
		return d, err
	}
	latest := mod.Latest(tags)
	if latest == "" {
		return d, fmt.Errorf("%s has no version", d)
	}
	if d.Git != "" || d.OCI != "" || d.Repo != "" {
		d.Tag = latest
	} else {
		d.Version = latest
	}
	t.say("the latest version '%s' will be added", latest)
	return d, nil
}

func (t *Tool) modRemove() *cobra.Command {
	return &cobra.Command{
		Use:     "remove <name>...",
		Short:   "remove dependency",
		Example: `  kcl mod remove k8s`,
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := t.module()
			if err != nil {
				return err
			}
			for _, name := range args {
				if !m.File.Remove(name) {
					return fmt.Errorf("%s has no dependency %s", filepath.Join(m.Dir, mod.FileName), name)
				}
			}
			_, err = t.lock(cmd.Context(), m, t.resolver(&runOptions{}))
			return err
		},
	}
}
