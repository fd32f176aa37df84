package buildpack

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/weft-dev/weft/buildpack/builder"
	"github.com/weft-dev/weft/buildpack/bundled"
	"github.com/weft-dev/weft/buildpack/debian"
	"github.com/weft-dev/weft/buildpack/rootfs"
	"github.com/weft-dev/weft/buildpack/spec"
	"github.com/weft-dev/weft/buildpack/target"
)

// base is what a build stands on: the image that buildpacks run in and the one that the application is put on.
type base struct {
	builder  *builder.Builder // nil: weft's own
	language string           // of Debian packages; "" is this machine and an empty image
	chosen   bool             // the user chose the language; otherwise what is detected does
	root     string           // folder with the build image; "" is this machine
	env      []string         // of the build image
	uid, gid int
	run      runImage
}

// builderName is the builder that this build asks for, "" if none.
func (b *build) builderName() string {
	if b.opts.Builder != "" {
		return b.opts.Builder
	}
	return b.project.Builder
}

// openBase finds what the build stands on, as far as it is known before buildpacks have detected: language is that of the last build.
func (b *build) openBase(ctx context.Context, language string) error {
	b.base = base{uid: userID, gid: userID}
	name := b.builderName()
	var err error
	switch asked, isDebian := strings.CutPrefix(name, "debian:"); {
	case name == "host":
		b.base.chosen = true
	case isDebian:
		b.base.chosen = true
		err = b.useLanguage(ctx, asked)
	case name != "":
		err = b.openBuilder(ctx, name)
	case language != "":
		err = b.useLanguage(ctx, language)
	case len(b.morePackages("BP_DEBIAN_BUILD_PACKAGES"))+len(b.morePackages("BP_DEBIAN_RUN_PACKAGES")) > 0:
		err = b.useLanguage(ctx, debian.Base)
	}
	if err != nil {
		return err
	}
	if b.opts.UID > 0 {
		b.base.uid = b.opts.UID
	}
	if b.opts.GID > 0 {
		b.base.gid = b.opts.GID
	}
	return b.openRunImage(ctx)
}

// openBuilder reads and unpacks a builder image.
func (b *build) openBuilder(ctx context.Context, name string) error {
	img, ref, err := b.pull(ctx, name)
	if err != nil {
		return fmt.Errorf("the builder: %w", err)
	}
	read, err := builder.Read(img, name)
	if err != nil {
		return err
	}
	read.Ref = ref
	config, err := img.ConfigFile()
	if err != nil {
		return err
	}
	if config.OS != "linux" || config.Architecture != runtime.GOARCH {
		return fmt.Errorf("the builder %s is for %s/%s; this machine is linux/%s", name, config.OS, config.Architecture, runtime.GOARCH)
	}
	b.base.builder, b.base.env, b.base.uid, b.base.gid = read, read.Env, read.UID, read.GID
	b.base.root, err = b.unpack(ctx, img, read.UID)
	return err
}

// unpack gives the folder with the files of a build image. What belongs to the image's user belongs to the sandbox's.
func (b *build) unpack(ctx context.Context, img v1.Image, uid int) (string, error) {
	return rootfs.Once(ctx, img, filepath.Join(b.opts.State, "roots"), func(u, g int) (int, int) {
		if u == uid {
			return sandboxUser, sandboxUser
		}
		return 0, 0
	})
}

// pull reads an image of a registry or of a folder (oci:FOLDER) and gives its name by digest.
func (b *build) pull(ctx context.Context, name string) (v1.Image, string, error) {
	if folder, ok := strings.CutPrefix(name, "oci:"); ok {
		img, err := target.ReadLayout(folder)
		if err == nil && img == nil {
			err = fmt.Errorf("%s is no folder in the OCI layout", folder)
		}
		return img, "", err
	}
	remembered := filepath.Join(b.opts.State, "pulled", folderOf(name))
	asked := name
	if b.opts.PullPolicy == PullIfNotPresent || b.opts.PullPolicy == PullNever {
		data, err := os.ReadFile(remembered)
		switch {
		case err == nil:
			asked = strings.TrimSpace(string(data))
		case !errors.Is(err, fs.ErrNotExist):
			return nil, "", err
		case b.opts.PullPolicy == PullNever:
			return nil, "", fmt.Errorf("%s has never been used on this machine, and the pull policy is never", name)
		}
	}
	from, err := target.NewRegistry(b.opts.Registry, asked)
	if err != nil {
		return nil, "", err
	}
	img, err := from.Previous(ctx, asked)
	if err != nil {
		return nil, "", err
	}
	if img == nil {
		return nil, "", fmt.Errorf("%s was not found, or there is no right to read it", name)
	}
	digest, err := img.Digest()
	if err != nil {
		return nil, "", err
	}
	ref := from.Repository() + "@" + digest.String()
	if ref == asked {
		return img, ref, nil
	}
	if err := os.MkdirAll(filepath.Dir(remembered), 0o755); err != nil {
		return nil, "", err
	}
	return img, ref, os.WriteFile(remembered, []byte(ref+"\n"), 0o644)
}

// openRunImage finds the image that the application is put on.
func (b *build) openRunImage(ctx context.Context) error {
	var candidates []spec.RunImageName
	switch {
	case b.opts.RunImage != "":
		candidates = []spec.RunImageName{{Image: b.opts.RunImage}}
		if b.base.builder != nil { // the mirrors of an image that the builder knows stay known
			for _, r := range b.base.builder.RunImages() {
				if r.Image == b.opts.RunImage {
					candidates = []spec.RunImageName{r}
				}
			}
		}
	case b.base.builder != nil:
		if candidates = b.base.builder.RunImages(); len(candidates) == 0 {
			return fmt.Errorf("the builder %s names no run image; name one", b.base.builder.Name)
		}
		candidates = candidates[:1]
	case b.base.language != "":
		return nil // came with the language
	default:
		run, err := emptyRunImage()
		b.base.run = run
		return err
	}
	var failed []error
	for _, name := range b.mirrorsFirst(candidates[0]) {
		img, ref, err := b.pull(ctx, name)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		b.base.run = runImage{img, ref, candidates[0]}
		return nil
	}
	return fmt.Errorf("the run image: %w", errors.Join(failed...))
}

// mirrorsFirst lists an image and its mirrors, first those in the registry that the application goes to.
func (b *build) mirrorsFirst(r spec.RunImageName) []string {
	names := append([]string{r.Image}, r.Mirrors...)
	host, _, _ := strings.Cut(b.repository, "/")
	same := func(n string) bool { return strings.HasPrefix(n, host+"/") }
	slices.SortStableFunc(names, func(x, y string) int {
		switch {
		case same(x) == same(y):
			return 0
		case same(x):
			return -1
		}
		return 1
	})
	return names
}

// morePackages are Debian packages that a variable names, besides those of the language.
func (b *build) morePackages(variable string) []string {
	value := b.opts.Env[variable]
	for _, v := range b.project.Env {
		if v.Name == variable && value == "" {
			value = v.Value
		}
	}
	return strings.Fields(strings.ReplaceAll(value, ",", " "))
}

// useLanguage makes images of Debian packages what the build stands on.
func (b *build) useLanguage(ctx context.Context, language string) error {
	d := debian.Images{Dir: filepath.Join(b.opts.State, "debian"), Refresh: b.opts.PullPolicy == PullAlways, Offline: b.opts.PullPolicy == PullNever,
		Note: func(text string) { b.log.Infof("%s", text) }}
	build, run, err := d.Language(ctx, language, b.morePackages("BP_DEBIAN_BUILD_PACKAGES"), b.morePackages("BP_DEBIAN_RUN_PACKAGES"))
	if err != nil {
		return fmt.Errorf("the Debian packages for %s: %w", language, err)
	}
	config, err := build.ConfigFile()
	if err != nil {
		return err
	}
	b.base.language, b.base.env = language, config.Config.Env
	if b.base.root, err = b.unpack(ctx, build, debian.UserID); err != nil {
		return err
	}
	if b.opts.RunImage == "" {
		b.base.run = runImage{image: run}
	}
	return nil
}

// changeLanguage changes to other packages, or to none.
func (b *build) changeLanguage(ctx context.Context, language string) error {
	if language != "" {
		return b.useLanguage(ctx, language)
	}
	b.base.language, b.base.root, b.base.env = "", "", nil
	return b.openRunImage(ctx)
}

// languageOf gives what the buildpacks of a group want to stand on, the field base of their metadata: languages, joined in the order of
// their names; else none, if a buildpack says that what it makes needs nothing; else a shell, if one needs that.
func (b *build) languageOf(group spec.Group) (string, error) {
	var languages []string
	needsNothing, needsShell := false, len(b.morePackages("BP_DEBIAN_BUILD_PACKAGES"))+len(b.morePackages("BP_DEBIAN_RUN_PACKAGES")) > 0
	for _, e := range group.Group {
		m, ok := b.selection.module(e)
		if !ok {
			continue
		}
		name, err := bundled.BaseOf(m)
		if err != nil {
			return "", err
		}
		switch name {
		case "":
		case "none":
			needsNothing = true
		case debian.Base:
			needsShell = true
		default:
			if !slices.Contains(languages, name) {
				languages = append(languages, name)
			}
		}
	}
	slices.Sort(languages)
	switch {
	case len(languages) > 0:
		return strings.Join(languages, "+"), nil
	case needsShell && !needsNothing:
		return debian.Base, nil
	}
	return "", nil
}
