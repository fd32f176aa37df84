package lifecycle

import (
	"errors"
	"os"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/weft-dev/weft/buildpack/spec"
)

// NamedImage is an image that was found under a name.
type NamedImage struct {
	Name      string // as the user gave it
	Reference string // by digest
	Image     v1.Image
}

// Analyze says what is known of the previous image (nil if there is none) and the run image.
func Analyze(api spec.PlatformAPI, logger Logger, previous *NamedImage, run *NamedImage) (spec.Analyzed, error) {
	out := spec.Analyzed{Image: &spec.ImageRef{}, RunImage: &spec.AnalyzedRunImage{}}
	if previous != nil {
		md, err := LayersLabel(previous.Image)
		if err != nil {
			logger.Warnf("ignoring image %q: %v", previous.Name, err) // upstream goes on as without an image, too
		} else {
			out.Metadata, out.Image.Reference = md, previous.Reference
		}
	}
	if run == nil {
		return out, nil
	}
	out.RunImage.Reference = run.Reference
	if api.RunImageInAnalyzed {
		target, err := TargetOf(run.Image)
		if err != nil {
			return out, err
		}
		if target.OS == "" {
			return out, errors.New("failed to find OS in run image config")
		}
		out.RunImage.Image, out.RunImage.Target = run.Name, &target
	}
	return out, nil
}

// TargetOf says what an image is made for.
func TargetOf(img v1.Image) (spec.ImageTarget, error) {
	config, err := img.ConfigFile()
	if err != nil {
		return spec.ImageTarget{}, err
	}
	t := spec.ImageTarget{ID: config.Config.Labels[spec.LabelTargetID], OS: config.OS, Arch: config.Architecture, ArchVariant: config.Variant}
	name, hasName := config.Config.Labels[spec.LabelDistro]
	version, hasVersion := config.Config.Labels[spec.LabelDistroVer]
	if hasName || hasVersion {
		t.Distro = &spec.Distro{Name: name, Version: version}
	}
	return t, nil
}

// DistroOf reads the distribution from an os-release file, nil if it does not tell.
func DistroOf(file string) *spec.Distro {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	var d spec.Distro
	for line := range strings.Lines(string(data)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch key {
		case "ID":
			d.Name = strings.Trim(value, `" `)
		case "VERSION_ID":
			d.Version = strings.Trim(value, `" `)
		}
	}
	if d == (spec.Distro{}) {
		return nil
	}
	return &d
}
