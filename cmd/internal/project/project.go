// Package project reads what a folder wants: its configuration weft.yaml, and the Kubernetes manifests with the images that are built from
// the folder's source.
//
// It must not know a cluster, a registry, or how images are built.
package project

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/weft-dev/weft/kube/manifest"
)

// ConfigName is the name of the configuration in a project's folder.
const ConfigName = "weft.yaml"

// Version is the version of the configuration's format. A reader accepts this one and the one before and refuses newer ones.
const Version = 1

// Project is what a folder wants.
type Project struct {
	Dir       string // as it was named, so that errors name files as the user would
	Name      string // owner of everything that is applied
	Namespace string // of objects that name none; empty: the cluster's default
	Registry  string // host and path under which images are pushed for clusters other than the embedded one; may be empty
	Manifests []string
	Images    []Image
	Objects   []manifest.Object
}

// Image is an image that is built from source.
type Image struct {
	Name    string // what manifests say in the field image
	Source  string // folder
	Env     map[string]string
	Process string // type of the process that it starts; empty: what the buildpacks say
	At      Place  // where the configuration names it
}

// manifestFolders are looked for where the configuration names none.
var manifestFolders = []string{"k8s", "kubernetes", "manifests", "deploy"}

// Load reads a project. Either all of it is good, or the error joins everything that is wrong.
func Load(ctx context.Context, dir string) (*Project, error) {
	switch info, err := os.Stat(dir); {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("there is no folder %s: name the folder of a project, with its Kubernetes manifests in %s", dir, strings.Join(manifestFolders, ", "))
	case err != nil:
		return nil, fmt.Errorf("the project folder: %w", err)
	case !info.IsDir():
		return nil, fmt.Errorf("%s is a file; name the folder of a project", dir)
	}
	p := &Project{Dir: filepath.Clean(dir)}
	configured, err := p.loadConfig(filepath.Join(p.Dir, ConfigName))
	if err != nil {
		return nil, err
	}
	if err := p.setDefaults(configured); err != nil {
		return nil, err
	}
	if p.Objects, err = (manifest.Reader{Recursive: true}).Read(ctx, p.Manifests...); err != nil {
		return nil, err
	}
	if len(p.Objects) == 0 {
		return nil, fmt.Errorf("there are no Kubernetes objects in %s", strings.Join(p.Manifests, ", "))
	}
	return p, p.checkImages(configured)
}

// maxConfig bounds the configuration, in bytes.
const maxConfig = 1 << 20

func (p *Project) loadConfig(path string) (found bool, err error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return false, fmt.Errorf("read %s: %w", path, err)
	}
	if len(content) > maxConfig {
		return false, &Error{Place: Place{File: path}, What: fmt.Sprintf("is larger than %d bytes", maxConfig)}
	}
	return true, p.parse(path, content)
}

// Is says whether a folder is a project: it has a weft.yaml, or a subfolder of manifests.
func Is(dir string) bool {
	for _, name := range append([]string{ConfigName}, manifestFolders...) {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return true
		}
	}
	return false
}

// setDefaults fills in what the configuration does not say, and makes paths absolute.
func (p *Project) setDefaults(configured bool) error {
	if p.Name == "" {
		absolute, err := filepath.Abs(p.Dir)
		if err != nil {
			return err
		}
		if p.Name = NameOf(absolute); p.Name == "" {
			return fmt.Errorf("the folder's name %q makes no name for a project: write name: NAME into %s", filepath.Base(absolute), filepath.Join(p.Dir, ConfigName))
		}
	}
	if len(p.Manifests) == 0 {
		for _, name := range manifestFolders {
			if info, err := os.Stat(filepath.Join(p.Dir, name)); err == nil && info.IsDir() {
				p.Manifests = []string{filepath.Join(p.Dir, name)}
				break
			}
		}
	}
	if len(p.Manifests) == 0 {
		return fmt.Errorf("%s has no Kubernetes manifests: put them into a folder k8s, or name their place in %s with manifests: [PATH]", p.Dir, ConfigName)
	}
	if !configured {
		p.Images = []Image{{Name: p.Name, Source: p.Dir}}
	}
	return nil
}

// NameOf makes of a folder's name one that Kubernetes accepts, or "" where nothing is left of it.
func NameOf(dir string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
			return r
		case r == '_' || r == '.' || r == ' ' || r == '-':
			return '-'
		}
		return -1
	}, strings.ToLower(filepath.Base(dir)))
	name = strings.Trim(name, "-")
	if len(name) > maxName {
		name = strings.Trim(name[:maxName], "-")
	}
	return name
}

// maxName keeps names that begin with the project's within the limits of Kubernetes, in bytes.
const maxName = 40

func checkName(name string) string {
	if problems := validation.IsDNS1123Label(name); len(problems) > 0 {
		return "must be lower-case letters, digits and hyphens, and begin and end with a letter or digit, got " + fmt.Sprintf("%q", name)
	}
	if len(name) > maxName {
		return fmt.Sprintf("must have at most %d characters, got %d", maxName, len(name))
	}
	return ""
}
