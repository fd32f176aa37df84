// Package bundled holds the buildpacks that come with weft. They are ordinary buildpacks: folders with a buildpack.toml and programs
// in bin, run like any other.
package bundled

import (
	"crypto/sha256"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/weft-dev/weft/buildpack/buildpackage"
	"github.com/weft-dev/weft/buildpack/spec"
)

//go:embed ca-certificates go java node python static procfile env
var files embed.FS

// Order says which of the bundled buildpacks are tried together.
func Order() spec.Order {
	group := func(ids ...string) spec.Group {
		var g spec.Group
		for _, id := range ids {
			name, optional := strings.CutSuffix(id, "?")
			g.Group = append(g.Group, spec.Element{ID: "weft/" + name, Version: Version, Optional: optional})
		}
		return g
	}
	return spec.Order{
		group("ca-certificates?", "go", "procfile?", "env?"),
		group("ca-certificates?", "java", "procfile?", "env?"),
		group("ca-certificates?", "node", "procfile?", "env?"),
		group("ca-certificates?", "python", "procfile?", "env?"),
		group("ca-certificates?", "static", "procfile?", "env?"),
		group("ca-certificates?", "procfile", "env?"),
	}
}

// BaseOf gives the layers of Debian packages that a buildpack stands on: base in the table weft of its metadata. "" is none.
func BaseOf(m buildpackage.Module) (string, error) {
	metadata, ok := m.Metadata.(map[string]any)
	if !ok {
		return "", nil
	}
	table, ok := metadata["weft"].(map[string]any)
	if !ok {
		return "", nil
	}
	name, ok := table["base"].(string)
	if !ok {
		return "", fmt.Errorf("the buildpack %s: metadata.weft.base must be the name of a language", m)
	}
	return name, nil
}

// Version of all bundled buildpacks.
const Version = "0.1.0"

// Digest tells one set of bundled buildpacks from another.
func Digest() (string, error) {
	h := sha256.New()
	err := fs.WalkDir(files, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := files.ReadFile(name)
		if err != nil {
			return err
		}
		fmt.Fprintf(h, "%s\x00%d\x00", name, len(data))
		_, err = h.Write(data)
		return err
	})
	return fmt.Sprintf("%x", h.Sum(nil)), err
}

// Programs are those that buildpacks put into images, as paths. Without one, the buildpack is there and says what it cannot do.
type Programs struct {
	Web          string // cmd/webfiles, the server of weft/static; "": that buildpack detects nothing
	Certificates string // cmd/certificates, which weft/ca-certificates runs before applications; "": only builds have bindings
}

// places tells where the programs go, below the folder of all buildpacks.
func (p Programs) places() map[string]string {
	in := func(id, name string) string { return filepath.Join(spec.EscapeID("weft/"+id), Version, name) }
	return map[string]string{in("static", "webfiles"): p.Web, in("ca-certificates", "bindings"): p.Certificates}
}

// Install writes the buildpacks below dir, once, and gives the folder that has them as ID/VERSION.
func Install(dir string, programs Programs) (string, error) {
	digest, err := Digest()
	if err != nil {
		return "", err
	}
	places := programs.places()
	for _, at := range slices.Sorted(maps.Keys(places)) {
		if places[at] == "" {
			continue
		}
		info, err := os.Stat(places[at])
		if err != nil {
			return "", err
		}
		sum := sha256.Sum256(fmt.Appendf(nil, "%s %s %d %d", digest, places[at], info.Size(), info.ModTime().UnixNano()))
		digest = fmt.Sprintf("%x", sum)
	}
	at := filepath.Join(dir, "bundled-"+digest[:16])
	if _, err := os.Stat(at); err == nil {
		return at, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	temp, err := os.MkdirTemp(dir, ".bundled-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(temp)
	if err := os.Chmod(temp, 0o755); err != nil {
		return "", err
	}
	err = fs.WalkDir(files, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := files.ReadFile(name)
		if err != nil {
			return err
		}
		id, rest, _ := strings.Cut(name, "/")
		to := filepath.Join(temp, spec.EscapeID("weft/"+id), Version, filepath.FromSlash(rest))
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		mode := fs.FileMode(0o644)
		if path.Base(path.Dir(name)) == "bin" || name == "node/lib/memory" {
			mode = 0o755
		}
		return os.WriteFile(to, data, mode)
	})
	for at, program := range places {
		if err == nil && program != "" {
			err = copyProgram(program, filepath.Join(temp, at))
		}
	}
	if err != nil {
		return "", err
	}
	if err := os.Rename(temp, at); err != nil && !errors.Is(err, fs.ErrExist) {
		if _, statErr := os.Stat(at); statErr != nil {
			return "", err
		}
	}
	return at, nil
}

func copyProgram(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o755)
}
