package buildpackage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/weft-dev/weft/registry"
)

// Kind of a locator, how a user says which buildpack is meant.
type Kind int

// Kinds of locators.
const (
	FromBuilder Kind = iota // urn:cnb:builder:ID@VERSION, from=builder, or ID@VERSION of one that the builder has
	FromPath                // a folder, or an archive or package in a file
	FromWeb                 // the address of an archive or package
	FromImage               // a package in a registry: docker://NAME, or only its name
	FromIndex               // urn:cnb:registry:NAMESPACE/NAME@VERSION, in a registry of buildpacks
)

// Locator is a parsed locator.
type Locator struct {
	Kind    Kind
	ID      string // FromBuilder and FromIndex; "" with from=builder
	Version string
	Place   string // path, address or name of an image
}

var idOnly = regexp.MustCompile(`^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*(@[A-Za-z0-9._+-]+)?$`)

// ParseLocator reads a locator. Relative paths begin at base. has tells whether the builder has a buildpack (pack
// pkg/buildpack/locator_type.go).
func ParseLocator(s, base string, has func(id, version string) bool) (Locator, error) {
	byID := func(kind Kind, s string) Locator {
		id, version, _ := strings.Cut(s, "@")
		return Locator{Kind: kind, ID: id, Version: version}
	}
	switch {
	case s == "":
		return Locator{}, errors.New("the buildpack has no name")
	case s == "from=builder" || s == "urn:cnb:builder":
		return Locator{Kind: FromBuilder}, nil
	case strings.HasPrefix(s, "from=builder:"):
		return byID(FromBuilder, strings.TrimPrefix(s, "from=builder:")), nil
	case strings.HasPrefix(s, "urn:cnb:builder:"):
		return byID(FromBuilder, strings.TrimPrefix(s, "urn:cnb:builder:")), nil
	case strings.HasPrefix(s, "urn:cnb:registry:"):
		return byID(FromIndex, strings.TrimPrefix(s, "urn:cnb:registry:")), nil
	case strings.HasPrefix(s, "docker://"):
		return imageLocator(strings.TrimLeft(strings.TrimPrefix(s, "docker:"), "/"))
	case strings.HasPrefix(s, "file://"):
		u, err := url.Parse(s)
		if err != nil || u.Path == "" {
			return Locator{}, fmt.Errorf("the address %q names no file", s)
		}
		return Locator{Kind: FromPath, Place: u.Path}, nil
	case strings.HasPrefix(s, "http://") || strings.HasPrefix(s, "https://"):
		return Locator{Kind: FromWeb, Place: s}, nil
	}
	at := s
	if !filepath.IsAbs(at) {
		at = filepath.Join(base, at)
	}
	if _, err := os.Stat(at); err == nil {
		return Locator{Kind: FromPath, Place: at}, nil
	}
	if id, version, _ := strings.Cut(s, "@"); has != nil && idOnly.MatchString(s) && has(id, version) {
		return byID(FromBuilder, s), nil
	}
	if filepath.IsAbs(s) || strings.HasPrefix(s, ".") || isArchive(s) {
		return Locator{}, fmt.Errorf("the buildpack %s does not exist", at)
	}
	l, err := imageLocator(s)
	if err != nil {
		return Locator{}, fmt.Errorf("%q is no folder, no file, no buildpack of the builder and no name of an image", s)
	}
	return l, nil
}

func imageLocator(name string) (Locator, error) {
	if _, err := registry.ParseReference(name); err != nil {
		return Locator{}, err
	}
	return Locator{Kind: FromImage, Place: name}, nil
}

func isArchive(s string) bool {
	for _, ending := range []string{".cnb", ".tgz", ".tar", ".tar.gz"} {
		if strings.HasSuffix(s, ending) {
			return true
		}
	}
	return false
}

// Finder brings buildpacks to this machine.
type Finder struct {
	Registry *registry.Client
	Cache    string       // folder for what was unpacked, by digest
	Client   *http.Client // nil: the default one
}

// maxDownload bounds what is fetched from the web, in bytes.
const maxDownload = 4 << 30

// Find gives the package that a locator leads to. Locators of the builder are not for it.
func (f *Finder) Find(ctx context.Context, l Locator) (Package, error) {
	switch l.Kind {
	case FromPath:
		return f.path(ctx, l.Place)
	case FromWeb:
		file, err := f.download(ctx, l.Place)
		if err != nil {
			return Package{}, err
		}
		defer os.Remove(file)
		return f.file(ctx, file, l.Place)
	case FromImage:
		img, err := f.image(ctx, l.Place)
		if err != nil {
			return Package{}, err
		}
		return f.unpack(ctx, img, l.Place)
	case FromIndex:
		return Package{}, fmt.Errorf("the buildpack registry of urn:cnb:registry:%s is not read; name the package's image instead: docker://HOST/NAME", l.ID)
	}
	return Package{}, fmt.Errorf("the buildpack %s is one of the builder's", l.ID)
}

func (f *Finder) path(ctx context.Context, at string) (Package, error) {
	info, err := os.Stat(at)
	if err != nil {
		return Package{}, err
	}
	if info.IsDir() {
		abs, err := filepath.Abs(at)
		if err != nil {
			return Package{}, err
		}
		return folder(abs)
	}
	return f.file(ctx, at, at)
}

func (f *Finder) image(ctx context.Context, name string) (v1.Image, error) {
	ref, err := registry.ParseReference(name)
	if err != nil {
		return nil, err
	}
	img, err := f.Registry.Image(ctx, ref, &v1.Platform{OS: "linux", Architecture: runtime.GOARCH})
	if err != nil {
		return nil, fmt.Errorf("the buildpackage %s: %w", name, err)
	}
	return img, nil
}

func (f *Finder) download(ctx context.Context, address string) (string, error) {
	client := f.Client
	if client == nil {
		client = &http.Client{Timeout: time.Hour}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("fetch %s: the server answers %s", address, resp.Status)
	}
	if err := os.MkdirAll(f.Cache, 0o755); err != nil {
		return "", err
	}
	to, err := os.CreateTemp(f.Cache, ".download-")
	if err != nil {
		return "", err
	}
	n, err := io.Copy(to, io.LimitReader(resp.Body, maxDownload+1))
	if err = errors.Join(err, to.Close()); err == nil && n > maxDownload {
		err = fmt.Errorf("it is longer than %d bytes", int64(maxDownload))
	}
	if err != nil {
		os.Remove(to.Name())
		return "", fmt.Errorf("fetch %s: %w", address, err)
	}
	return to.Name(), nil
}
