package debian

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
)

// LockVersion is the version of the format of a Lock on disk.
const LockVersion = 1

// Lock pins the packages of some images: the same lock gives the same bytes.
type Lock struct {
	Version int      `json:"version"`
	Arch    string   `json:"arch"`
	Distro  Distro   `json:"distro"`
	Layers  []Layer  `json:"layers"`
	Without []string `json:"without"` // packages that dependencies name and that are left out
}

// Distro is the distribution, as in os-release.
type Distro struct {
	Name    string `json:"name"`    // debian
	Version string `json:"version"` // 12
}

// Layer is a layer of packages above those it names.
type Layer struct {
	Name     string   `json:"name"`
	On       string   `json:"on,omitempty"` // the layer below
	Wanted   []string `json:"wanted"`
	Packages []Locked `json:"packages"`
}

// Locked is a package of a lock.
type Locked struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Arch    string `json:"arch"`
	URL     string `json:"url"`
	SHA256  string `json:"sha256"`
	Size    int64  `json:"size"` // bytes
}

// Wanted is a layer to be: packages to install above another layer.
type Wanted struct {
	Name     string
	On       string
	Packages []string
}

// MakeLock resolves layers, each of them after the one that it stands on.
func (x *Index) MakeLock(arch string, distro Distro, wanted []Wanted, without []string) (*Lock, error) {
	lock := &Lock{Version: LockVersion, Arch: arch, Distro: distro, Without: without}
	chosen := map[string][]*Package{} // all packages up to a layer
	for _, w := range wanted {
		below, ok := chosen[w.On]
		if w.On != "" && !ok {
			return nil, fmt.Errorf("the layer %s stands on %s, which is not before it", w.Name, w.On)
		}
		packages, err := x.Resolve(w.Packages, without, below)
		if err != nil {
			return nil, fmt.Errorf("the layer %s: %w", w.Name, err)
		}
		chosen[w.Name] = append(append([]*Package(nil), below...), packages...)
		l := Layer{Name: w.Name, On: w.On, Wanted: w.Packages}
		for _, p := range packages {
			l.Packages = append(l.Packages, Locked{p.Name, p.Version, p.Arch, p.Mirror + "/" + p.Filename, p.SHA256, p.Size})
		}
		lock.Layers = append(lock.Layers, l)
	}
	return lock, nil
}

// ReadLock reads and checks a lock.
func ReadLock(data []byte, file string) (*Lock, error) {
	var l Lock
	d := json.NewDecoder(bytes.NewReader(data))
	if err := d.Decode(&l); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			return nil, fmt.Errorf("%s:%d: %w", file, 1+bytes.Count(data[:min(int(syntax.Offset), len(data))], []byte("\n")), err)
		}
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if l.Version != LockVersion {
		return nil, fmt.Errorf("%s: version is %d, this program reads %d", file, l.Version, LockVersion)
	}
	names := map[string]bool{"": true}
	for _, layer := range l.Layers {
		if !names[layer.On] || layer.Name == "" || names[layer.Name] {
			return nil, fmt.Errorf("%s: the layer %q on %q: a layer has a name of its own and stands on one before it", file, layer.Name, layer.On)
		}
		names[layer.Name] = true
		for _, p := range layer.Packages {
			if !validName(p.Name) || len(p.SHA256) != 64 || strings.Trim(p.SHA256, "0123456789abcdef") != "" || p.Size <= 0 || !isWeb(p.URL) {
				return nil, fmt.Errorf("%s: layer %s: the package %q needs a name, a url, a sha256 of 64 digits and a size", file, layer.Name, p.Name)
			}
		}
	}
	return &l, nil
}

// Write writes the lock, whole or not at all.
func (l *Lock) Write(file string) error {
	data, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(file+".new", append(data, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

// stack gives the layer of a name with those below it, the lowest first.
func (l *Lock) stack(name string) ([]Layer, error) {
	var out []Layer
	for name != "" {
		at := -1
		for i := range l.Layers {
			if l.Layers[i].Name == name {
				at = i
			}
		}
		if at < 0 {
			return nil, fmt.Errorf("the lock has no layer %s", name)
		}
		out = append([]Layer{l.Layers[at]}, out...)
		name = l.Layers[at].On
	}
	return out, nil
}
