package lifecycle

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/weft-dev/weft/buildpack/spec"
)

// sbomTypes are the media types of structured SBOM files by the end of their name.
var sbomTypes = map[string]string{
	"sbom.cdx.json":  "application/vnd.cyclonedx+json",
	"sbom.spdx.json": "application/spdx+json",
	"sbom.syft.json": "application/vnd.syft+json",
}

// sbomFile is an SBOM that a buildpack wrote and where it belongs.
type sbomFile struct {
	path string // below the layers folder
	to   string // below <layers>/sbom
}

// findSBOMs gives the SBOM files of a buildpack and refuses formats that it has not declared.
func findSBOMs(layers *os.Root, dir string, bp *Buildpack, contents map[string]spec.LayerContent) ([]sbomFile, error) {
	entries, err := fs.ReadDir(layers.FS(), dir)
	if err != nil {
		return nil, err
	}
	var out []sbomFile
	for _, e := range entries {
		if ok, err := path.Match("*.sbom.*.json", e.Name()); err != nil || !ok {
			continue
		}
		layerName, rest, _ := strings.Cut(e.Name(), ".")
		var kinds []string
		content, isLayer := contents[layerName]
		below := layerName
		switch {
		case layerName == "launch" || layerName == "build":
			kinds, below = []string{layerName}, ""
		case !isLayer:
			continue
		case content.Launch:
			kinds = []string{"launch"}
		default:
			kinds = []string{"build"}
		}
		if isLayer && below != "" && content.Cache {
			kinds = append(kinds, "cache")
		}
		suffix, err := sbomSuffix(bp, rest, path.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		for _, kind := range kinds {
			out = append(out, sbomFile{path.Join(dir, e.Name()), path.Join(kind, dir, below, suffix)})
		}
	}
	return out, nil
}

func sbomSuffix(bp *Buildpack, rest, file string) (string, error) {
	for suffix, mediaType := range sbomTypes {
		if rest != suffix && !strings.HasSuffix(rest, "."+suffix) {
			continue
		}
		if !slices.ContainsFunc(bp.Buildpack.SBOMFormats, func(declared string) bool {
			t, _, err := mime.ParseMediaType(declared)
			return err == nil && t == mediaType
		}) {
			return "", fmt.Errorf("validating SBOM file '%s' for buildpack: '%s@%s': undeclared SBOM media type: '%s'",
				file, bp.Buildpack.ID, bp.Buildpack.Version, mediaType)
		}
		return suffix, nil
	}
	return "", fmt.Errorf("unsupported SBOM file format: '%s'", file)
}

// collectSBOMs copies SBOM files to <layers>/sbom.
func collectSBOMs(layers *os.Root, files []sbomFile) error {
	for _, f := range files {
		if err := copyWithin(layers, f.path, path.Join("sbom", f.to)); err != nil {
			return err
		}
	}
	return nil
}

func copyWithin(layers *os.Root, from, to string) error {
	in, err := openFile(layers, from)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := layers.MkdirAll(path.Dir(to), 0o777); err != nil {
		return err
	}
	out, err := layers.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if closeErr := out.Close(); err == nil {
		err = closeErr
	}
	return err
}

// defaultSBOMs is where builders keep the SBOMs of lifecycle and launcher.
const defaultSBOMs = "/cnb/lifecycle"

// addOwnSBOMs puts the SBOMs of lifecycle and launcher beside those of the buildpacks. A platform that brings its own launcher brings
// its SBOMs in a folder, whose names are kept.
func (e *Exporter) addOwnSBOMs(layers *os.Root) error {
	const own = "buildpacksio_lifecycle"
	launcher := path.Join("sbom", "launch", own, "launcher")
	for suffix := range sbomTypes {
		from := filepath.Join(defaultSBOMs, "lifecycle."+suffix)
		if err := copyInto(layers, from, path.Join("sbom", "build", own, suffix)); err != nil {
			return err
		}
		if e.LauncherSBOM == defaultSBOMs {
			if err := copyInto(layers, filepath.Join(defaultSBOMs, "launcher."+suffix), path.Join(launcher, suffix)); err != nil {
				return err
			}
		}
	}
	if e.LauncherSBOM == defaultSBOMs {
		return nil
	}
	entries, err := os.ReadDir(e.LauncherSBOM)
	if err != nil {
		return err
	}
	for _, f := range entries {
		for suffix := range sbomTypes {
			if strings.HasSuffix(f.Name(), suffix) {
				if err := copyInto(layers, filepath.Join(e.LauncherSBOM, f.Name()), path.Join(launcher, f.Name())); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// copyInto copies a file of this machine into the layers folder; a missing one is left out.
func copyInto(layers *os.Root, from, to string) error {
	data, err := readFile(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return writeFile(layers, to, data)
}
