package builder

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/weft-dev/weft/buildpack/buildpackage"
	"github.com/weft-dev/weft/buildpack/spec"
)

// Labels of a builder image (pack internal/builder/metadata.go).
const (
	LabelMetadata = "io.buildpacks.builder.metadata"
	LabelOrder    = "io.buildpacks.buildpack.order"
	LabelSystem   = "io.buildpacks.buildpack.system"
)

// Metadata is the label io.buildpacks.builder.metadata.
type Metadata struct {
	Description string              `json:"description"`
	Buildpacks  []spec.Info         `json:"buildpacks"`
	Extensions  []spec.Info         `json:"extensions"`
	Stack       spec.StackRef       `json:"stack"`
	Lifecycle   Lifecycle           `json:"lifecycle"`
	CreatedBy   Creator             `json:"createdBy"`
	RunImages   []spec.RunImageName `json:"images"`
}

// Creator is the program that made a builder.
type Creator struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// Lifecycle describes the lifecycle of a builder, also the form of lifecycle.toml.
type Lifecycle struct {
	Version string `json:"version"`
	API     struct {
		Buildpack string `json:"buildpack,omitempty" toml:"buildpack"`
		Platform  string `json:"platform,omitempty" toml:"platform"`
	} `json:"api" toml:"api"` // the older form
	APIs struct {
		Buildpack APIs `json:"buildpack" toml:"buildpack"`
		Platform  APIs `json:"platform" toml:"platform"`
	} `json:"apis" toml:"apis"`
}

// APIs are versions of an interface.
type APIs struct {
	Deprecated []string `json:"deprecated" toml:"deprecated"`
	Supported  []string `json:"supported" toml:"supported"`
}

// Builder is a builder image.
type Builder struct {
	Name     string
	Ref      string // name by digest
	Image    v1.Image
	Metadata Metadata
	Order    spec.Order
	System   System
	Layers   buildpackage.Layers
	UID, GID int
	StackID  string
	Env      []string // of the image
}

// Read reads what the labels and the environment of a builder image say.
func Read(img v1.Image, name string) (*Builder, error) {
	b := &Builder{Name: name, Image: img}
	ok, err := buildpackage.ReadLabel(img, name, LabelMetadata, &b.Metadata)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("%s is no builder: it has no label %s", name, LabelMetadata)
	}
	if _, err := buildpackage.ReadLabel(img, name, LabelOrder, &b.Order); err != nil {
		return nil, err
	}
	if _, err := buildpackage.ReadLabel(img, name, LabelSystem, &b.System); err != nil {
		return nil, err
	}
	if _, err := buildpackage.ReadLabel(img, name, buildpackage.LabelLayers, &b.Layers); err != nil {
		return nil, err
	}
	if b.UID, b.GID, err = users(img); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	b.Env, b.StackID = config.Config.Env, config.Config.Labels[spec.LabelStackID]
	return b, nil
}

// users gives the user and group that buildpacks run as.
func users(img v1.Image) (uid, gid int, err error) {
	config, err := img.ConfigFile()
	if err != nil {
		return 0, 0, err
	}
	number := func(name string) (int, error) {
		for _, kv := range config.Config.Env {
			if v, ok := strings.CutPrefix(kv, name+"="); ok {
				n, err := strconv.Atoi(v)
				if err != nil || n <= 0 {
					return 0, fmt.Errorf("the build image sets %s to %q, expected the number of an ordinary user", name, v)
				}
				return n, nil
			}
		}
		return 0, fmt.Errorf("the build image does not set %s, so it is not known who buildpacks are", name)
	}
	uid, errUser := number("CNB_USER_ID")
	gid, errGroup := number("CNB_GROUP_ID")
	return uid, gid, errors.Join(errUser, errGroup)
}

// Has tells whether the builder has a buildpack; version "" is any.
func (b *Builder) Has(id, version string) bool {
	versions := b.Layers[id]
	if version == "" {
		return len(versions) > 0
	}
	_, ok := versions[version]
	return ok
}

// Element gives a buildpack of the builder, its version filled in.
func (b *Builder) Element(id, version string) (spec.Element, error) {
	if version != "" {
		if !b.Has(id, version) {
			return spec.Element{}, fmt.Errorf("the builder %s has no buildpack %s@%s", b.Name, id, version)
		}
		return spec.Element{ID: id, Version: version}, nil
	}
	var only []string
	for v := range b.Layers[id] {
		only = append(only, v)
	}
	switch len(only) {
	case 0:
		return spec.Element{}, fmt.Errorf("the builder %s has no buildpack %s", b.Name, id)
	case 1:
		return spec.Element{ID: id, Version: only[0]}, nil
	}
	return spec.Element{}, fmt.Errorf("the builder %s has %d versions of the buildpack %s; name one", b.Name, len(only), id)
}

// RunImages gives the images that applications may stand on; the first is the usual one.
func (b *Builder) RunImages() []spec.RunImageName {
	if len(b.Metadata.RunImages) > 0 {
		return b.Metadata.RunImages
	}
	if b.Metadata.Stack.RunImage.Image == "" {
		return nil
	}
	return []spec.RunImageName{b.Metadata.Stack.RunImage}
}
