package lifecycle

import (
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/weft-dev/weft/buildpack/layer"
	"github.com/weft-dev/weft/buildpack/spec"
)

// parents gives the folders above a folder of the image. Upstream takes their mode and owner from the disk; inside the image they
// are what the build had at these paths.
func parents(f Folder) ([]layer.Parent, error) {
	var out []layer.Parent
	host, at := path.Dir(f.Host), path.Dir(f.Inside)
	for ; at != "/" && at != "."; host, at = path.Dir(host), path.Dir(at) {
		p := layer.Parent{Path: at, Mode: 0o755}
		if f.Host == f.Inside {
			info, err := os.Stat(host)
			if err != nil {
				return nil, err
			}
			p.Mode, p.Owner = info.Mode(), ownerOf(info)
		}
		out = append(out, p)
	}
	slices.Reverse(out)
	return out, nil
}

// layersFolder is the content of a folder below the layers folder.
func (e *Exporter) layersFolder(layers *os.Root, dir string) layer.Content {
	return func(w io.Writer) error {
		at := e.Folders.Layers.Join(dir)
		above, err := parents(at)
		if err != nil {
			return err
		}
		return written(w, func(tw *layer.Writer) error {
			for _, p := range above {
				if e.Folders.Layers.Host != e.Folders.Layers.Inside && strings.HasPrefix(p.Path+"/", e.Folders.Layers.Inside+"/") {
					p.Owner = e.Owner // of the build, which on this machine has another number
				}
				if err := tw.Folder(p); err != nil {
					return err
				}
			}
			files := e.Folders.tree(layers) // each pass has one of its own: layers are made in parallel
			defer files.Close()
			return tw.Tree(files.walk(), dir, at.Inside, e.Owner)
		})
	}
}

func (e *Exporter) appFiles(app layer.Tree, files []string) layer.Content {
	return func(w io.Writer) error {
		return written(w, func(tw *layer.Writer) error {
			if len(files) == 0 {
				return nil
			}
			above, err := parents(e.Folders.App)
			if err != nil {
				return err
			}
			for _, p := range above {
				if err := tw.Folder(p); err != nil {
					return err
				}
			}
			for _, name := range files {
				if err := tw.Entry(app, name, path.Join(e.Folders.App.Inside, name), e.Owner); err != nil {
					return err
				}
			}
			return nil
		})
	}
}

// launcherLayer holds the launcher, owned by root.
func (e *Exporter) launcherLayer(w io.Writer) error {
	f, err := os.Open(e.Launcher)
	if err != nil {
		return fmt.Errorf("the launcher: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return written(w, func(tw *layer.Writer) error {
		for _, dir := range []string{"/cnb", lifecycleDir} {
			if err := tw.Folder(layer.Parent{Path: dir, Mode: 0o755}); err != nil {
				return err
			}
		}
		return tw.File(launcherPath, 0o755, layer.Owner{}, info.Size(), f)
	})
}

func processLinks(processes []spec.Process) layer.Content {
	return func(w io.Writer) error {
		return written(w, func(tw *layer.Writer) error {
			for _, dir := range []string{"/cnb", processDir} {
				if err := tw.Folder(layer.Parent{Path: dir, Mode: 0o755}); err != nil {
					return err
				}
			}
			for _, p := range processes {
				if err := tw.Link(path.Join(processDir, p.Type), launcherPath, layer.Owner{}); err != nil {
					return err
				}
			}
			return nil
		})
	}
}

func written(w io.Writer, fill func(*layer.Writer) error) error {
	tw := layer.NewWriter(w)
	if err := fill(tw); err != nil {
		return err
	}
	return tw.Close()
}
