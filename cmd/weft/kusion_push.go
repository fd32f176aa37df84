package main

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/spf13/cobra"
	"golang.org/x/mod/semver"

	"github.com/weft-dev/weft/kcl/mod"
	"github.com/weft-dev/weft/kcl/mod/remote"
	"github.com/weft-dev/weft/registry"
	"github.com/weft-dev/weft/stack/module/artifact"
)

// moduleTemplate is what upstream's modules begin with.
const moduleTemplate = "https://github.com/KusionStack/kusion-module-scaffolding.git"

// modInit is the verb `kusion mod init`. Unlike upstream's it does not remove a folder that is there.
func (k *kusionTool) modInit() *cobra.Command {
	var template string
	c := &cobra.Command{Use: "init MODULE_NAME [PATH]", Short: "Create a kusion module along with common files and directories in the current directory",
		Long: "Copy the branch main of a Git repository, upstream's scaffolding by default, into a new folder for a module.",
		Example: `  kusion mod init my-module
  kusion mod init my-module ./modules
  kusion mod init my-module --template https://github.com/user/repo`,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 || args[0] == "" {
				return errors.New("module Name is empty")
			}
			if args[0] != filepath.Base(args[0]) || strings.HasPrefix(args[0], ".") {
				return fmt.Errorf("the module name %q is the name of a folder, so it must not lead elsewhere", args[0])
			}
			dir, err := maybeName(args[1:])
			if err != nil {
				return err
			}
			to := filepath.Join(dir, args[0])
			if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
				return errors.Join(err, fmt.Errorf("%s is there already; remove it or choose another name", to))
			}
			source := &remote.Source{Env: os.Environ()}
			if err := source.Fetch(c.Context(), mod.Dependency{Git: template, Branch: "main"}, to); err != nil {
				return errors.Join(fmt.Errorf("failed to clone git repo:%s, %w", template, err), os.RemoveAll(to))
			}
			_, err = fmt.Fprintf(k.app.out, "initialized module %s successfully\n", args[0])
			return err
		}}
	c.Flags().StringVar(&template, "template", moduleTemplate, "Initialize with specified `template`, a Git repository")
	return c
}

// modulePush is what `kusion mod push` was told.
type modulePush struct {
	dir, url, osArch, creds, sign, key string
	latest, insecure                   bool
	annotations                        []string
}

// modPush is the verb `kusion mod push`.
func (k *kusionTool) modPush() *cobra.Command {
	var p modulePush
	c := &cobra.Command{Use: "push MODULE_PATH OCI_REPOSITORY_URL [--creds CREDENTIALS]", Short: "Push a module to OCI registry",
		Long: "Compile the module's program, pack it with the module's KCL, and push both to a registry, with the version in kcl.mod as the tag.\n" +
			"What a registry has of the same version for other systems stays.",
		Example: `  kusion mod push /path/to/my-module oci://ghcr.io/org --creds <YOUR_TOKEN>
  kusion mod push /path/to/my-module oci://ghcr.io/org --os-arch=darwin/arm64 --creds <YOUR_USERNAME>:<YOUR_TOKEN>
  kusion mod push /path/to/my-module oci://ghcr.io/org --latest=false`,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) != 2 {
				return errors.New("path to module and OCI registry url are required")
			}
			p.dir, p.url = args[0], args[1]
			return p.run(c.Context(), k.app)
		}}
	f := c.Flags()
	f.StringVar(&p.osArch, "os-arch", runtime.GOOS+"/"+runtime.GOARCH, "The os arch of the module e.g. 'darwin/arm64', 'linux/amd64'.")
	f.BoolVar(&p.latest, "latest", true, "Tags the current version as the latest stable module version.")
	f.StringVar(&p.creds, "creds", "", "The credentials token for the OCI registry in <YOUR_TOKEN> or <YOUR_USERNAME>:<YOUR_TOKEN> format (default: those of Docker's configuration).")
	f.StringVar(&p.sign, "sign", "", "Signs the module with the specified `provider`, cosign.")
	f.StringVar(&p.key, "cosign-key", "", "The Cosign private `key` for signing the module.")
	f.BoolVar(&p.insecure, "insecure-registry", false, "If true, allows connecting to a OCI registry without TLS.")
	f.StringSliceVarP(&p.annotations, "annotations", "a", nil, "Set custom OCI annotations in '<KEY>=<VALUE>' format.")
	return c
}

func (p *modulePush) run(ctx context.Context, a *app) error {
	module, err := mod.Load(p.dir)
	if err != nil {
		return err
	}
	name, version := module.File.Package.Name, module.File.Package.Version
	system, arch, ok := strings.Cut(p.osArch, "/")
	switch {
	case name == "":
		return errors.New("module name is empty")
	case !semver.IsValid("v"+version) || semver.Canonical("v"+version)+semver.Build("v"+version) != "v"+version:
		return fmt.Errorf("version is not in semver format: kcl.mod says %q, and it must be like 1.2.3", version)
	case !ok || system == "" || arch == "":
		return fmt.Errorf("--os-arch is %q, and it must be like linux/amd64", p.osArch)
	case p.sign != "" && p.sign != "cosign":
		return fmt.Errorf("--sign is %q; cosign is what modules can be signed with", p.sign)
	}
	annotations, err := p.annotate(ctx, version)
	if err != nil {
		return err
	}
	repo, err := registry.ParseRepository(strings.TrimRight(p.url, "/") + "/" + name)
	if err != nil {
		return fmt.Errorf("illegal oci url:%s, %w", p.url, err)
	}
	staged, err := os.MkdirTemp("", "kusion-module-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(staged)
	program := filepath.Join(staged, "kusion-module-"+name+"_"+version)
	if system == "windows" {
		program += ".exe"
	}
	fmt.Fprintln(a.err, "building the module binary...")
	if err := artifact.Compile(ctx, filepath.Join(p.dir, "src"), program, system, arch, a.err); err != nil {
		return err
	}
	archive := filepath.Join(staged, "artifact.tgz")
	if err := artifact.Pack(archive, program, p.dir); err != nil {
		return err
	}
	image, err := artifact.Image(archive, annotations, system, arch)
	if err != nil {
		return err
	}
	fmt.Fprintln(a.err, "pushing the module...")
	client := registry.New(p.options(a, repo.Host))
	defer client.Close()
	pushed, err := artifact.Push(ctx, client, repo, version, p.latest, image)
	if err != nil {
		return err
	}
	if p.sign != "" {
		for _, ref := range pushed {
			if err := p.cosign(ctx, a.err, ref); err != nil {
				return err
			}
		}
	}
	_, err = fmt.Fprintln(a.out, "pushed successfully")
	return err
}

func (p *modulePush) options(a *app, host string) registry.Options {
	o := registry.Options{UserAgent: "kusion", Keychain: registry.DockerCredentials(a.getenv("DOCKER_CONFIG"))}
	if p.insecure {
		o.PlainHTTP = []string{host}
	}
	if p.creds != "" {
		user, password, pair := strings.Cut(p.creds, ":")
		config := authn.AuthConfig{Username: user, Password: password}
		if !pair {
			config = authn.AuthConfig{RegistryToken: base64.StdEncoding.EncodeToString([]byte(p.creds))}
		}
		o.Keychain = registry.Explicit(map[string]authn.AuthConfig{host: config})
	}
	return o
}

// annotate gives the annotations of a module: what the user says, and what Git knows where there is a repository.
func (p *modulePush) annotate(ctx context.Context, version string) (map[string]string, error) {
	git := func(args ...string) string {
		out, err := exec.CommandContext(ctx, "git", append([]string{"-C", p.dir}, args...)...).Output()
		if err != nil {
			return "" // no repository, or no git: nobody is told more than there is
		}
		return strings.TrimSpace(string(out))
	}
	const prefix = "org.opencontainers.image."
	all := map[string]string{prefix + "created": cmp.Or(git("log", "-1", "--format=%cI"), time.Now().UTC().Format(time.RFC3339)),
		prefix + "source": git("remote", "get-url", "origin"), prefix + "revision": git("log", "-1", "--format=%H")}
	for _, a := range p.annotations {
		key, value, ok := strings.Cut(a, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("invalid annotation %s, must be in the format key=value", a)
		}
		all[key] = value
	}
	all[prefix+"version"] = version
	return all, nil
}

func (p *modulePush) cosign(ctx context.Context, out io.Writer, ref string) error {
	args := []string{"sign"}
	if p.key != "" {
		args = append(args, "--key", p.key)
	}
	cmd := exec.CommandContext(ctx, "cosign", append(args, "--yes", ref)...)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("executing cosign failed: %w", err)
	}
	return nil
}
