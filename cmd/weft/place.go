package main

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"

	"github.com/weft-dev/weft/buildpack/target"
	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/registry"
)

// place is where an image goes.
type place struct {
	name   string // in a registry, or what stands for one
	folder string // in the OCI layout, instead of a registry
	daemon *target.Daemon
	where  string // for people
}

// placeOf finds where an image goes: oci:FOLDER, a registry that the name has, the Docker daemon if it need not be published and one
// answers, else the registry of the embedded cluster.
func (a *app) placeOf(ctx context.Context, image string, publish bool, dockerHost string) (place, error) {
	if folder, ok := strings.CutPrefix(image, "oci:"); ok {
		abs, err := filepath.Abs(folder)
		if err != nil {
			return place{}, err
		}
		return place{name: "layout.local/" + folderName(abs), folder: abs, where: "the folder " + abs}, nil
	}
	if _, err := registry.ParseReference(image); err != nil {
		return place{}, err
	}
	if !publish {
		if dockerHost == "" || dockerHost == "inherit" {
			dockerHost = a.getenv("DOCKER_HOST")
		}
		daemon, err := target.ConnectDaemon(ctx, dockerHost, a.getenv)
		if err == nil {
			return place{name: image, daemon: daemon, where: "the Docker daemon at " + daemon.String()}, nil
		}
		if dockerHost != "" || !errors.Is(err, fs.ErrNotExist) {
			return place{}, err
		}
	}
	first, rest, slash := strings.Cut(image, "/")
	named := slash && (strings.ContainsAny(first, ".:") || first == "localhost")
	if named && publish {
		return place{name: image, where: first}, nil
	}
	c, err := a.cluster()
	if err != nil {
		return place{}, err
	}
	status, err := c.Status(ctx)
	if err != nil || status.Registry == "" {
		if !publish {
			return place{}, output.Advise(fmt.Errorf("%s has no place: no Docker daemon answers and the embedded cluster does not run", image),
				"Start one of them (`weft up`), give --publish to push to a registry, or write a folder: oci:"+image)
		}
		return place{}, output.Advise(fmt.Errorf("%s names no registry, and the embedded cluster does not run", image),
			"Start it with `weft up`, name a registry as in registry.example.com/"+image+", or write a folder: oci:"+image)
	}
	if named {
		image = rest
	}
	return place{name: status.Registry + "/" + image, where: "the registry of the embedded cluster"}, nil
}

// put brings a whole image to its place.
func (a *app) put(ctx context.Context, client *registry.Client, img v1.Image, to place, tags []string) (digest string, err error) {
	d, err := img.Digest()
	if err != nil {
		return "", err
	}
	switch {
	case to.folder != "":
		return d.String(), writeFolder(img, to.folder)
	case to.daemon != nil:
		dir, err := os.MkdirTemp("", "weft-image-")
		if err != nil {
			return "", err
		}
		defer os.RemoveAll(dir)
		if err := writeFolder(img, dir); err != nil {
			return "", err
		}
		return d.String(), to.daemon.Load(ctx, dir, append([]string{to.name}, tags...))
	}
	for _, name := range append([]string{to.name}, tags...) {
		ref, err := registry.ParseReference(name)
		if err != nil {
			return "", err
		}
		if _, err := client.PushImage(ctx, ref, img, registry.PushOptions{}); err != nil {
			return "", err
		}
	}
	return d.String(), nil
}

func writeFolder(img v1.Image, dir string) error {
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	return path.AppendImage(img)
}

// registryClient makes a client with the user's credentials; plain hosts are spoken to without TLS.
func (a *app) registryClient(plain []string) *registry.Client {
	return registry.New(registry.Options{Keychain: registry.DockerCredentials(""), PlainHTTP: plain})
}

// folderName makes a repository name of a path, so that folders do not share what is known of their builds.
func folderName(path string) string {
	name := strings.Trim(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(path)), "-")
	for strings.Contains(name, "--") {
		name = strings.ReplaceAll(name, "--", "-")
	}
	if name == "" {
		return "root"
	}
	return name
}

// Limits on a source in a zip file.
const (
	maxZipFiles = 1_000_000
	maxZipSize  = 8 << 30 // bytes, unpacked
)

// unzip unpacks a zip or jar file into a new folder below the folder for temporary files. Nothing lands outside it.
func unzip(file string) (string, error) {
	z, err := zip.OpenReader(file)
	if err != nil {
		return "", fmt.Errorf("%s is neither a folder nor a zip file: %w", file, err)
	}
	defer z.Close()
	dir, err := os.MkdirTemp("", "weft-source-")
	if err != nil {
		return "", err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", err
	}
	defer root.Close()
	left := int64(maxZipSize)
	if len(z.File) > maxZipFiles {
		err = fmt.Errorf("%s has %d entries, at most %d are allowed", file, len(z.File), maxZipFiles)
	}
	for _, f := range z.File {
		if err == nil {
			err = unzipOne(root, f, &left)
		}
	}
	if err != nil {
		os.RemoveAll(dir)
		return "", fmt.Errorf("%s: %w", file, err)
	}
	return dir, nil
}

func unzipOne(root *os.Root, f *zip.File, left *int64) error {
	name := strings.TrimSuffix(filepath.FromSlash(f.Name), "/")
	if !filepath.IsLocal(name) {
		return fmt.Errorf("the entry %q leads out of the archive", f.Name)
	}
	if f.FileInfo().IsDir() {
		return root.MkdirAll(name, 0o755)
	}
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	in, err := f.Open()
	if err != nil {
		return fmt.Errorf("%s: %w", f.Name, err)
	}
	defer in.Close()
	if f.Mode()&fs.ModeSymlink != 0 {
		link, err := io.ReadAll(io.LimitReader(in, 4096))
		if err != nil {
			return err
		}
		return root.Symlink(string(link), name)
	}
	mode := fs.FileMode(0o644)
	if f.Mode()&0o111 != 0 {
		mode = 0o755
	}
	out, err := root.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	n, err := io.Copy(out, io.LimitReader(in, *left+1))
	if *left -= n; err == nil && *left < 0 {
		err = fmt.Errorf("it unpacks to more than %d bytes", int64(maxZipSize))
	}
	return errors.Join(err, out.Close())
}
