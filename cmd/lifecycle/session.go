package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"golang.org/x/sync/errgroup"

	"github.com/weft-dev/weft/buildpack/lifecycle"
	"github.com/weft-dev/weft/buildpack/spec"
	"github.com/weft-dev/weft/buildpack/target"
	"github.com/weft-dev/weft/registry"
)

// session is one run of a phase.
type session struct {
	*values
	stdout, stderr  io.Writer
	level           int
	execEnv         string
	registryAuth    string
	sourceDateEpoch string
	experimental    string
	getenv          func(string) string

	log    *logger
	client *registry.Client
	cache  lifecycle.Cache
	mounts *mounts // nil: layers are copied
	daemon *daemon // nil: images are in registries or folders

	containerd *inContainerd // nil: the same

	couldMount bool // the next build will be able to
}

// begin checks what all phases with images have in common and gives up root's rights.
func (s *session) begin(ctx context.Context, images ...string) error {
	s.log = &logger{level: s.level, out: s.stdout}
	if btoi(s.is("daemon"))+btoi(s.is("layout"))+btoi(s.is("containerd")) > 1 {
		return &failure{code: codeArguments, verb: "parse arguments", err: errors.New("-daemon, -layout and -containerd exclude each other")}
	}
	if !s.is("daemon") && s.get("launch-cache") != "" {
		s.log.Warnf("Ignoring -launch-cache, only intended for use with -daemon")
	}
	if s.is("layout") {
		switch s.experimental {
		case "warn":
			s.log.Warnf("Platform requested experimental feature 'export OCI layout'")
		case "silent":
		default:
			return &failure{code: codeArguments, verb: "parse arguments", err: errors.New(
				"experimental features are disabled by CNB_EXPERIMENTAL_MODE=error: set it to warn or silent to use -layout")}
		}
		if s.get("layout-dir") == "" {
			return &failure{code: codeArguments, verb: "parse arguments", err: errors.New("-layout needs -layout-dir")}
		}
	}
	if s.is("daemon") {
		images = []string{s.get("cache-image")} // the others are in the daemon
		if err := s.openDaemon(ctx); err != nil {
			return &failure{codeFailed, "initialize docker client", err}
		}
	}
	if s.is("containerd") {
		if err := s.openContainerd(ctx); err != nil {
			return &failure{codeFailed, "use containerd", err}
		}
	}
	keychain, err := s.keychain(images)
	if err != nil {
		return &failure{codeFailed, "resolve keychain", err}
	}
	s.client = registry.New(registry.Options{Keychain: keychain, PlainHTTP: s.lists["insecure-registry"], UserAgent: "weft-lifecycle/" + version})
	return s.dropRights()
}

// keychain finds the credentials of all registries now: after root's rights are gone they might not be readable.
func (s *session) keychain(images []string) (authn.Keychain, error) {
	found := map[string]authn.AuthConfig{}
	if s.registryAuth != "" {
		var headers map[string]string
		if err := json.Unmarshal([]byte(s.registryAuth), &headers); err != nil {
			return nil, errors.New("CNB_REGISTRY_AUTH is not a JSON object of registries and authorization headers")
		}
		for host, header := range headers {
			kind, value, _ := strings.Cut(header, " ")
			switch strings.ToLower(kind) {
			case "basic":
				found[host] = authn.AuthConfig{Auth: value}
			case "bearer":
				found[host] = authn.AuthConfig{RegistryToken: value}
			case "x-identity":
				found[host] = authn.AuthConfig{IdentityToken: value}
			default:
				return nil, fmt.Errorf("CNB_REGISTRY_AUTH: the header of %s must begin with Basic, Bearer or X-Identity", host)
			}
		}
	}
	for _, image := range images {
		if image == "" {
			continue
		}
		ref, err := registry.ParseReference(image)
		if err != nil {
			return nil, err
		}
		if _, ok := found[ref.Host]; ok {
			continue
		}
		auth, err := registry.DockerCredentials("").Resolve(ref)
		if err != nil {
			return nil, fmt.Errorf("credentials of %s: %w", ref.Host, err)
		}
		config, err := auth.Authorization()
		if err != nil {
			return nil, fmt.Errorf("credentials of %s: %w", ref.Host, err)
		}
		if *config != (authn.AuthConfig{}) {
			found[ref.Host] = *config
		}
	}
	return registry.Explicit(found), nil
}

// dropRights makes a phase that root started the user of the build, who then owns the folders that are written.
func (s *session) dropRights() error {
	if os.Geteuid() != 0 || s.number("uid") == 0 {
		return nil
	}
	uid, gid := s.number("uid"), s.number("gid")
	for _, name := range []string{"layers", "cache-dir", "launch-cache"} {
		dir := s.get(name)
		if dir == "" || !strings.Contains(ownedFolders[s.phase], name) {
			continue
		}
		if err := giveTo(dir, uid, gid); err != nil {
			return &failure{codeFailed, "chown volumes", err}
		}
	}
	become := func() error { return becomeUser(uid, gid) }
	if s.mounts != nil {
		become = func() error { return keepMountRight(func() error { return becomeUser(uid, gid) }) }
	}
	if err := become(); err != nil {
		return &failure{codeFailed, fmt.Sprintf("exec as user %d:%d", uid, gid), err}
	}
	if s.phase != "create" {
		return nil
	}
	u, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		return &failure{codeFailed, fmt.Sprintf("set environment for user %d", uid), err}
	}
	return errors.Join(os.Setenv("HOME", u.HomeDir), os.Setenv("USER", u.Username))
}

var ownedFolders = map[string]string{"analyze": "layers cache-dir launch-cache", "create": "layers cache-dir launch-cache", "restore": "layers cache-dir",
	"export": "cache-dir launch-cache"}

func giveTo(dir string, uid, gid int) error {
	return filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		return os.Lchown(name, uid, gid)
	})
}

func (s *session) folders() lifecycle.Folders {
	return lifecycle.Folders{App: lifecycle.Same(s.get("app")), Layers: lifecycle.Same(s.get("layers")), Platform: lifecycle.Same(s.get("platform")),
		BuildConfig: lifecycle.Same(s.get("build-config")), Buildpacks: lifecycle.Same(s.get("buildpacks")), Scratch: lifecycle.Same(os.TempDir())}
}

// find gives the image of a name, nil if there is none.
func (s *session) find(ctx context.Context, name string) (*lifecycle.NamedImage, error) {
	if name == "" {
		return nil, nil
	}
	if s.daemon != nil {
		return s.daemon.find(ctx, name)
	}
	to, err := s.target(name)
	if err != nil {
		return nil, err
	}
	return s.findIn(ctx, to, name)
}

// findRunImage is find for images that applications stand on: containerd need not have them.
func (s *session) findRunImage(ctx context.Context, name string) (*lifecycle.NamedImage, error) {
	found, err := s.find(ctx, name)
	if err != nil || found != nil || s.containerd == nil {
		return found, err
	}
	to, err := target.NewRegistry(s.client, name)
	if err != nil {
		return nil, err
	}
	return s.findIn(ctx, to, name)
}

// findIn finds an image in a registry, a folder or containerd.
func (s *session) findIn(ctx context.Context, to target.Target, name string) (*lifecycle.NamedImage, error) {
	img, err := to.Previous(ctx, name)
	if err != nil || img == nil {
		return nil, err
	}
	digest, err := img.Digest()
	if err != nil {
		return nil, err
	}
	ref, err := registry.ParseReference(name)
	if err != nil {
		return nil, err
	}
	reference := ref.Repository.String() + "@" + digest.String()
	if s.is("layout") {
		at, err := target.LayoutPath(s.get("layout-dir"), name)
		if err != nil {
			return nil, err
		}
		reference = at + "@" + digest.String()
	}
	return &lifecycle.NamedImage{Name: name, Reference: reference, Image: img}, nil
}

func (s *session) target(name string) (target.Target, error) {
	if s.daemon != nil {
		return s.daemon.target(), nil
	}
	if s.containerd != nil {
		return s.containerd.target, nil
	}
	if s.is("layout") {
		return target.NewLayout(s.get("layout-dir"), name)
	}
	return target.NewRegistry(s.client, name)
}

// mayWrite makes sure that all names and the cache image can be written.
func (s *session) mayWrite(ctx context.Context) error {
	if s.is("layout") {
		return nil
	}
	names := s.names()
	if s.daemon != nil || s.containerd != nil {
		names = nil
	}
	if s.get("cache-image") != "" {
		names = append(names, s.get("cache-image"))
	}
	seen := map[string]bool{}
	var group errgroup.Group
	for _, n := range names {
		ref, err := registry.ParseReference(n)
		if err != nil {
			return err
		}
		if seen[ref.Repository.String()] {
			continue
		}
		seen[ref.Repository.String()] = true
		group.Go(func() error {
			if err := s.client.MayPush(ctx, ref.Repository); err != nil {
				return fmt.Errorf("validating registry write access: failed to ensure registry read/write access to %s: %w", n, err)
			}
			return nil
		})
	}
	return group.Wait()
}

// need is find for an application that must be there.
func (s *session) need(ctx context.Context, name string) (*lifecycle.NamedImage, error) {
	found, err := s.find(ctx, name)
	return there(found, err, "image to rebase", name)
}

// needRunImage is findRunImage for an image that must be there.
func (s *session) needRunImage(ctx context.Context, name string) (*lifecycle.NamedImage, error) {
	found, err := s.findRunImage(ctx, name)
	return there(found, err, "run image", name)
}

func there(found *lifecycle.NamedImage, err error, what, name string) (*lifecycle.NamedImage, error) {
	if err == nil && found == nil {
		err = fmt.Errorf("the %s %s was not found, or there is no right to read it", what, name)
	}
	return found, err
}

// sameRegistry checks the names to be written.
func (s *session) sameRegistry() error {
	host := ""
	for _, n := range s.names() {
		ref, err := registry.ParseReference(n)
		if err != nil {
			return &failure{codeArguments, "resolve inputs", err}
		}
		if host != "" && host != ref.Host && !s.is("daemon") && !s.is("containerd") {
			return &failure{code: codeArguments, verb: "resolve inputs", err: errors.New("writing to multiple registries is unsupported")}
		}
		host = ref.Host
	}
	return nil
}

// runTOML is run.toml: the run images that may be used.
type runTOML struct {
	Images []spec.RunImageName `toml:"images"`
}

// runImages reads run.toml or, before Platform API 0.12, stack.toml. A missing file has none.
func (s *session) runImages() ([]spec.RunImageName, error) {
	if s.api.RunTOML {
		var r runTOML
		err := readTOML(s.get("run"), &r)
		if errors.Is(err, fs.ErrNotExist) {
			s.log.Infof("No run metadata found at path %q", s.get("run"))
			return nil, nil
		}
		return r.Images, err
	}
	var stack spec.StackRef
	err := readTOML(s.get("stack"), &stack)
	if errors.Is(err, fs.ErrNotExist) {
		s.log.Infof("No stack metadata found at path %q", s.get("stack"))
		return nil, nil
	}
	if err != nil || stack.RunImage.Image == "" {
		return nil, err
	}
	return []spec.RunImageName{stack.RunImage}, nil
}

// chooseRunImage takes the run image that was asked for, or the first of the platform's that can be read, one in the registry of the
// output image before others.
func (s *session) chooseRunImage(ctx context.Context) (string, error) {
	if s.get("run-image") != "" {
		return s.get("run-image"), nil
	}
	if s.phase == "create" && s.get("image") != "" {
		return s.get("image"), nil
	}
	images, err := s.runImages()
	if err != nil {
		return "", err
	}
	if len(images) == 0 {
		if s.api.RunTOML {
			return "", &failure{code: codeArguments, verb: "resolve inputs", err: errors.New("-run-image is required when there is no run metadata available")}
		}
		return "", &failure{code: codeArguments, verb: "resolve inputs", err: errors.New("missing run image metadata (-run-image)")}
	}
	return s.bestMirror(ctx, images[0], s.args[0])
}

func (s *session) bestMirror(ctx context.Context, image spec.RunImageName, output string) (string, error) {
	out, err := registry.ParseReference(output)
	if err != nil && s.daemon == nil { // a daemon has images by their identity, too
		return "", err
	}
	all := append([]string{image.Image}, image.Mirrors...)
	local := func(name string) bool {
		ref, err := registry.ParseReference(name)
		return err == nil && ref.Host == out.Host
	}
	slices.SortStableFunc(all, func(a, b string) int {
		return btoi(local(b)) - btoi(local(a))
	})
	for _, name := range all {
		if found, err := s.findRunImage(ctx, name); err == nil && found != nil {
			return name, nil
		}
	}
	return "", errors.New("failed to find accessible run image")
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func readTOML(file string, v any) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	_, err = spec.Decode(data, file, v)
	return err
}

func writeTOML(file string, v any) error {
	data, err := spec.Encode(v)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
		return err
	}
	return os.WriteFile(file, data, 0o666)
}

// imageTarget is what the image is made for; what the run image does not say comes from the build image.
func (s *session) imageTarget(md spec.Analyzed) spec.ImageTarget {
	var t spec.ImageTarget
	if md.RunImage != nil && md.RunImage.Target != nil {
		t = *md.RunImage.Target
	}
	if t.OS == "" {
		t.OS = "linux"
	}
	if t.Arch == "" {
		t.Arch = runtime.GOARCH
	}
	if t.Distro == nil {
		t.Distro = lifecycle.DistroOf("/etc/os-release")
	}
	return t
}

// openCache opens the cache that the platform names, if it does.
func (s *session) openCache(ctx context.Context) error {
	if name := s.get("cache-image"); name != "" {
		to, err := target.NewRegistry(s.client, name) // also where the application's image becomes a folder
		if err != nil {
			return &failure{code: codeArguments, verb: "resolve inputs", err: err}
		}
		if s.cache, err = lifecycle.NewImageCache(ctx, to, name, s.log); err != nil {
			return &failure{code: codeFailed, verb: "create image cache", err: err}
		}
		return nil
	}
	if s.get("cache-dir") == "" {
		s.log.Warnf("No cached data will be used, no cache specified.")
		return nil
	}
	c, err := lifecycle.NewVolumeCache(s.get("cache-dir"))
	if err != nil {
		return &failure{codeFailed, "create volume cache", err}
	}
	if s.phase == "create" && (s.mounts != nil || s.couldMount) {
		c.TakeFrom(lifecycle.Same(s.get("layers")))
	}
	s.cache = c
	return nil
}

// nameOfLayoutPath turns HOST/REPOSITORY/TAG@DIGEST into a name.
func nameOfLayoutPath(rel string) string {
	rel, _, _ = strings.Cut(filepath.ToSlash(rel), "@")
	i := strings.LastIndexByte(rel, '/')
	if i < 0 {
		return rel
	}
	if dir, hex := rel[:i], rel[i+1:]; strings.HasSuffix(dir, "/sha256") {
		return strings.TrimSuffix(dir, "/sha256") + "@sha256:" + hex
	}
	return rel[:i] + ":" + rel[i+1:]
}
