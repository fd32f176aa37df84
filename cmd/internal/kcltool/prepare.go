package kcltool

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/weft-dev/weft/kcl"
	"github.com/weft-dev/weft/kcl/mod"
	"github.com/weft-dev/weft/kcl/settings"
)

// prepared is a run with all that flags, settings files and kcl.mod say.
type prepared struct {
	options        kcl.Options
	output, format string
}

// prepare puts together the options of a run.
func (t *Tool) prepare(ctx context.Context, o *runOptions, args []string, files *machine) (*prepared, error) {
	format, err := checkFormat(o.format)
	if err != nil {
		return nil, err
	}
	entries, code, err := t.entries(o, args)
	if err != nil {
		return nil, err
	}
	if entries, err = t.remoteEntries(ctx, o, entries); err != nil {
		return nil, err
	}
	file, base, err := t.settings(o.settings, files)
	if err != nil {
		return nil, err
	}
	p := &prepared{format: format, output: file.Output, options: t.options(files)}
	if o.output != "" {
		p.output = o.output
	}
	p.options.Code = code
	if len(entries) == 0 {
		for _, name := range file.Files {
			entries = append(entries, within(base, name))
		}
	}
	if err := p.apply(o, file); err != nil {
		return nil, err
	}
	if err := t.packages(ctx, o, p, entries, files); err != nil {
		return nil, err
	}
	return p, nil
}

func within(base, name string) string {
	if filepath.IsAbs(name) || base == "" || strings.HasPrefix(name, "${") {
		return name
	}
	return filepath.Join(base, name)
}

// options lend the program this machine.
func (t *Tool) options(files *machine) kcl.Options {
	return kcl.Options{
		WorkDir: t.Dir, FileSystem: files, Getenv: t.Getenv, Now: time.Now, Random: rand.Reader, Print: t.Out, FQDN: fqdn,
		Cache: t.packageCache(),
	}
}

// fqdn asks the resolver for the full name of a host, this one for "".
func fqdn(ctx context.Context, name string) (string, error) {
	if name == "" {
		var err error
		if name, err = os.Hostname(); err != nil {
			return "", err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupHost(ctx, name)
	if err != nil {
		return name, nil
	}
	names, err := net.DefaultResolver.LookupAddr(ctx, addrs[0])
	if err != nil || len(names) == 0 {
		return name, nil
	}
	return strings.TrimSuffix(names[0], "."), nil
}

// settings reads the files of -Y or, without any, kcl.yaml. base is the folder
// that names in them are relative to.
func (t *Tool) settings(names []string, files *machine) (merged *settings.Settings, base string, err error) {
	merged = &settings.Settings{}
	given := len(names) > 0
	if !given {
		names = []string{settings.DefaultName}
	}
	for _, name := range names {
		text, err := files.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) && !given {
			continue
		}
		if err != nil {
			return nil, "", fmt.Errorf("Failed to load '%s', no such file or directory", name)
		}
		s, err := settings.Parse(name, string(text))
		if err != nil {
			return nil, "", err
		}
		if len(s.Files) > 0 {
			base = filepath.Dir(files.path(name))
		}
		merged.Merge(s)
	}
	return merged, base, nil
}

// apply lays the flags over the settings.
func (p *prepared) apply(o *runOptions, s *settings.Settings) error {
	on := func(flag bool, setting *bool) bool { return flag || setting != nil && *setting }
	p.options.DisableNone = on(o.disableNone, s.DisableNone)
	p.options.SortKeys = on(o.sortKeys, s.SortKeys)
	p.options.ShowHidden = on(o.showHidden, s.ShowHidden)
	p.options.SchemaTypes = on(o.schemaTypes, s.SchemaTypes)
	p.options.Strict32 = on(o.strict, s.StrictRangeCheck)
	p.options.Strict64 = on(o.debug, s.Debug)
	p.options.Overrides = append(append([]string(nil), s.Overrides...), o.overrides...)
	p.options.Select = s.PathSelectors
	if len(o.selectors) > 0 {
		p.options.Select = nil
		for _, text := range o.selectors {
			if strings.ContainsAny(text, "[{") {
				p.options.Select = append(p.options.Select, text)
				continue
			}
			p.options.Select = append(p.options.Select, strings.Split(text, ",")...)
		}
	}
	for _, a := range s.Arguments {
		p.options.Arguments = append(p.options.Arguments, kcl.Argument{Name: a.Key, Value: a.Value})
	}
	for _, text := range o.arguments {
		a, err := argument(text)
		if err != nil {
			return err
		}
		p.options.Arguments = append(p.options.Arguments, a)
	}
	p.options.Externals = map[string]string{}
	for name, dir := range s.PackageMaps {
		p.options.Externals[name] = dir
	}
	return nil
}

// packages finds the module of the entries and the folders of its packages,
// and sets the files to run: the entries, else those of the module's profile,
// else the folder itself.
func (t *Tool) packages(ctx context.Context, o *runOptions, p *prepared, entries []string, files *machine) error {
	start := t.Dir
	if len(entries) > 0 && !strings.HasPrefix(entries[0], "${") {
		start = files.path(entries[0])
		if info, err := os.Stat(start); err != nil || !info.IsDir() {
			start = filepath.Dir(start)
		}
	}
	for _, text := range o.externals {
		name, dir, ok := strings.Cut(text, "=")
		if !ok || name == "" || dir == "" {
			return fmt.Errorf("invalid --external value %q, expected '<pkg_name>=<pkg_path>'", text)
		}
		p.options.Externals[strings.TrimSpace(name)] = strings.TrimSpace(dir)
	}
	if root, ok := mod.Find(start); ok {
		m, err := mod.Load(root)
		if err != nil {
			return err
		}
		p.options.Root = root
		resolver := t.resolver(o)
		resolver.Given, resolver.Missing = p.options.Externals, o.missing
		graph, err := resolver.Resolve(ctx, m)
		if err != nil {
			return err
		}
		for name, dir := range graph.Folders() {
			p.options.Externals[name] = dir
		}
		if entries, err = t.profile(p, m, entries, files); err != nil {
			return err
		}
	}
	for name, dir := range p.options.Externals {
		p.options.Externals[name] = files.path(dir)
	}
	if len(entries) == 0 {
		entries = []string{"."}
	}
	for _, name := range entries {
		full, err := expand(name, p.options.Root, p.options.Externals)
		if err != nil {
			return err
		}
		p.options.Files = append(p.options.Files, full)
	}
	return nil
}

// profile applies the section [profile] of kcl.mod when no entry was given.
func (t *Tool) profile(p *prepared, m *mod.Module, entries []string, files *machine) ([]string, error) {
	profile := m.File.Profile
	if profile == nil || len(entries) > 0 {
		return entries, nil
	}
	for _, name := range profile.Entries {
		if ext := filepath.Ext(name); ext != ".yaml" && ext != ".yml" {
			entries = append(entries, within(m.Dir, name))
			continue
		}
		s, base, err := t.settings([]string{within(m.Dir, name)}, files)
		if err != nil {
			return nil, err
		}
		for _, name := range s.Files {
			entries = append(entries, within(base, name))
		}
		if err := p.apply(&runOptions{}, s); err != nil {
			return nil, err
		}
	}
	p.options.DisableNone = p.options.DisableNone || profile.DisableNone != nil && *profile.DisableNone
	p.options.SortKeys = p.options.SortKeys || profile.SortKeys != nil && *profile.SortKeys
	if len(p.options.Select) == 0 {
		p.options.Select = profile.Selectors
	}
	p.options.Overrides = append(append([]string(nil), profile.Overrides...), p.options.Overrides...)
	for i, text := range profile.Arguments {
		a, err := argument(text)
		if err != nil {
			return nil, fmt.Errorf("%s: profile.arguments[%d]: %w", filepath.Join(m.Dir, mod.FileName), i, err)
		}
		p.options.Arguments = append([]kcl.Argument{a}, p.options.Arguments...)
	}
	if len(entries) == 0 {
		entries = []string{m.Dir}
	}
	return entries, nil
}

// expand replaces ${KCL_MOD} and ${name:KCL_MOD} by the folder of the module
// or of one of its packages.
func expand(name, root string, externals map[string]string) (string, error) {
	inner, ok := strings.CutPrefix(name, "${")
	if !ok {
		return name, nil
	}
	what, rest, ok := strings.Cut(inner, "}")
	pkg, isMod := strings.CutSuffix(what, "KCL_MOD")
	pkg = strings.TrimSuffix(pkg, ":")
	if !ok || !isMod {
		return "", fmt.Errorf("%s: expected ${KCL_MOD} or ${name:KCL_MOD}", name)
	}
	dir := root
	if pkg != "" {
		dir = externals[pkg]
	}
	if dir == "" {
		return "", fmt.Errorf("%s: there is no kcl.mod for it", name)
	}
	return filepath.Join(dir, rest), nil
}

// resolver never fetches: a run does not touch the network.
func (t *Tool) resolver(o *runOptions) *mod.Resolver {
	cache, err := mod.CacheDir(t.Getenv)
	if err != nil {
		cache = filepath.Join(t.Dir, ".kcl-packages") // nothing is there: a missing package is reported with this folder
	}
	noSum, _ := t.Getenv("KPM_NO_SUM")
	return &mod.Resolver{Cache: cache, Vendor: o.vendor, NoSum: noSum == "*" || noSum == "on" || noSum == "true"}
}
