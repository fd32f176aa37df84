// Package schema holds the KCL schemas of Kusion's application model (kam) and of the modules that are built in, written anew with
// the fields of KusionStack/kam 0.2 and KusionStack/catalog, so that a project needs nothing from the network.
package schema

import (
	"embed"
	"errors"
	"io/fs"
	"path"
	"strings"

	"github.com/weft-dev/weft/kcl/value"
)

//go:embed kcl
var files embed.FS

// Root is the folder under which Over shows the schemas. No file of a machine has such a name.
const Root = "/(built in)"

// Has says whether a module's schemas are here.
func Has(name string) bool {
	_, err := fs.Stat(files, path.Join("kcl", name))
	return name != "" && fs.ValidPath(name) && !strings.Contains(name, "/") && err == nil
}

// Folder is where Over shows a module's schemas.
func Folder(name string) string { return path.Join(Root, name) }

// Names are the modules.
func Names() []string {
	entries, err := files.ReadDir("kcl")
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// Over shows the schemas besides another file system.
func Over(under value.FileSystem) value.FileSystem { return overlay{under} }

type overlay struct{ under value.FileSystem }

// inner is the name of a file of this package.
func inner(name string) (string, bool) {
	rest, ok := strings.CutPrefix(path.Clean(name), Root)
	if !ok || rest != "" && rest[0] != '/' {
		return "", false
	}
	return path.Join("kcl", rest), true
}

func (o overlay) Open(name string) (fs.File, error) {
	if in, ok := inner(name); ok {
		return files.Open(in)
	}
	return o.under.Open(name)
}

func (o overlay) Stat(name string) (fs.FileInfo, error) {
	if in, ok := inner(name); ok {
		return fs.Stat(files, in)
	}
	return o.under.Stat(name)
}

func (o overlay) ReadFile(name string) ([]byte, error) {
	if in, ok := inner(name); ok {
		return files.ReadFile(in)
	}
	return o.under.ReadFile(name)
}

func (o overlay) ReadDir(name string) ([]fs.DirEntry, error) {
	if in, ok := inner(name); ok {
		return files.ReadDir(in)
	}
	return o.under.ReadDir(name)
}

// RealPath resolves symbolic links where the other file system can.
func (o overlay) RealPath(name string) (string, error) {
	if _, ok := inner(name); ok {
		return name, nil
	}
	if r, ok := o.under.(interface{ RealPath(string) (string, error) }); ok {
		return r.RealPath(name)
	}
	return "", errors.New("symbolic links are not resolved here")
}
