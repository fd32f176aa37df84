package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/image"
	"github.com/weft-dev/weft/image/chunk"
	"github.com/weft-dev/weft/lazy/snapshotter/nydusconfig"
	"github.com/weft-dev/weft/registry"
)

// nydusBackend is what nydus-image's options say about where blobs lie.
type nydusBackend struct {
	config               string // file of nydusd's configuration
	kind, text, textFile string // one backend of it
}

func (b *nydusBackend) configOption() nydusOption {
	return nydusOption{name: "config", short: "C", to: &b.config, usage: "nydusd's configuration, a `file` in JSON or TOML: where the blobs lie, localfs or registry"}
}

func (b *nydusBackend) options() nydusOptions {
	return nydusOptions{
		{name: "backend-type", to: &b.kind, usage: "where the blobs lie: localfs or registry. Blobs in oss, s3, localdisk and behind http-proxy are not read: fetch them into a folder"},
		{name: "backend-config", to: &b.text, usage: "`JSON` with dir, alt_dirs or blob_file of localfs; host, repo, scheme, auth, skip_verify and the like of a registry"},
		{name: "backend-config-file", to: &b.textFile, usage: "`file` with that JSON"},
	}
}

// blobs finds blobs where the options say, or in a folder; nil if they say nothing.
func (b *nydusBackend) blobs(ctx context.Context, a *app, dir, dirOption string) (image.Blobs, error) {
	var where *nydusconfig.Blobs
	var notes []string
	var err error
	switch {
	case dir != "" && b.config != "":
		return nil, output.Usagef("--config and --%s exclude each other", dirOption)
	case dir != "" && b.kind != "":
		return nil, output.Usagef("--backend-type and --%s exclude each other", dirOption)
	case b.text != "" && b.textFile != "":
		return nil, output.Usagef("--backend-config and --backend-config-file exclude each other")
	case b.kind == "" && (b.text != "" || b.textFile != ""):
		return nil, output.Usagef("--backend-type is missing: localfs or registry")
	case b.kind != "" && b.kind != "localfs" && b.kind != "registry":
		return nil, output.Usagef("--backend-type %s is not answered here: fetch the blobs into a folder and name it with --blob-dir, or push the image to a registry", b.kind)
	case b.config != "":
		where, notes, err = nydusconfig.ReadBlobs(b.config)
	case b.textFile != "":
		where, notes, err = nydusconfig.ReadBackend(b.kind, b.textFile)
	case b.text != "":
		where, notes, err = nydusconfig.Backend(b.kind, "--backend-config", []byte(b.text))
	case b.kind != "":
		return nil, output.Usagef("--backend-config or --backend-config-file is missing")
	case dir != "":
		return image.BlobFolder(dir), nil
	default:
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, n := range notes {
		a.print().Remark("%s", n)
	}
	switch {
	case where.Kind == "registry":
		return a.nydusRepository(ctx, where)
	case where.File != "":
		return image.BlobFile(where.File), nil
	}
	return blobFolders(where.Folders), nil
}

// nydusRepository finds blobs in the repository of a configuration.
func (a *app) nydusRepository(ctx context.Context, where *nydusconfig.Blobs) (image.Blobs, error) {
	repo, err := registry.ParseRepository(where.Host + "/" + where.Repository)
	if err != nil {
		return nil, output.Usagef("host and repo of the registry: %w", err)
	}
	o := registry.Options{Keychain: registry.DockerCredentials(a.getenv("DOCKER_CONFIG")), Retry: registry.Retry{Attempts: where.Attempts}}
	if where.Auth != "" || where.Token != "" {
		o.Keychain = registry.Explicit(map[string]authn.AuthConfig{repo.Host: {Auth: where.Auth, RegistryToken: where.Token}})
	}
	h := registry.Host{Name: repo.Host, Scheme: where.Scheme, Base: "/v2", TLS: registry.TLS{CA: where.CA, SkipVerify: where.SkipVerify}, DialTimeout: where.Timeout}
	if h.Scheme == "" {
		h.Scheme = "https"
	}
	o.Mirrors = onlyHost(h)
	return image.RepositoryBlobs(ctx, registry.New(o), repo), nil
}

// onlyHost asks one host for everything.
type onlyHost registry.Host

// Hosts is that host.
func (h onlyHost) Hosts(context.Context, string) ([]registry.Host, error) {
	return []registry.Host{registry.Host(h)}, nil
}

// blobFolders are folders of blobs, searched in their order. An empty file is no blob there, as for nydusd.
type blobFolders []string

// Open opens the blob of a device.
func (f blobFolders) Open(d *chunk.Device) (image.Blob, error) {
	for _, dir := range f {
		st, err := os.Stat(filepath.Join(dir, d.Name()))
		if err == nil && st.Size() > 0 {
			return image.BlobFolder(dir).Open(d)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return nil, fs.ErrNotExist
}
