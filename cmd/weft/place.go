package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/spf13/pflag"

	"github.com/weft-dev/weft/buildpack/containerd"
	"github.com/weft-dev/weft/buildpack/target"
	"github.com/weft-dev/weft/cmd/internal/output"
	"github.com/weft-dev/weft/registry"
	"github.com/weft-dev/weft/supervise/control"
)

// Names of images that are in no registry begin with one of these.
const (
	inFolder     = "oci:"           // a folder in the OCI image layout
	inContainerd = "containerd:"    // a running containerd
	inDaemon     = "docker-daemon:" // a Docker daemon, also where images are published otherwise
)

// placeFlags say where images are that have no registry in their names.
type placeFlags struct {
	publish                                        bool
	dockerHost, containerd, namespace, snapshotter string
	unpack                                         bool
}

// add adds the flags; publish is the default of the one that has that name.
func (f *placeFlags) add(flags *pflag.FlagSet, publish bool) {
	flags.BoolVar(&f.publish, "publish", publish, "use a registry, and not a Docker daemon")
	flags.StringVar(&f.dockerHost, "docker-host", "", "`ADDRESS` of the Docker daemon, inherit for the one of DOCKER_HOST, which is the default")
	flags.StringVar(&f.containerd, "containerd-address", "", "`SOCKET` of the containerd of images called containerd:NAME (default $CONTAINERD_ADDRESS, else the embedded cluster's, else "+containerd.DefaultAddress+")")
	flags.StringVar(&f.namespace, "containerd-namespace", "", "`NAMESPACE` of images in containerd (default $CONTAINERD_NAMESPACE, else "+containerd.KubernetesImages+", which the kubelet sees)")
}

// addUnpack adds the flags for what containerd does with an image that it gets.
func (f *placeFlags) addUnpack(flags *pflag.FlagSet) {
	flags.BoolVar(&f.unpack, "unpack", false, "let containerd unpack the layers now, and not when the first container starts")
	flags.StringVar(&f.snapshotter, "snapshotter", "", "`NAME` of the snapshotter that layers are unpacked with (default $CONTAINERD_SNAPSHOTTER, else "+containerd.DefaultSnapshotter+")")
}

// place is where an image is or goes.
type place struct {
	name       string // in a registry, or what stands for one
	folder     string // in the OCI layout, instead of a registry
	daemon     *target.Daemon
	containerd *containerd.Client
	snapshots  string // snapshotter for what containerd gets, "" for none
	where      string // for people
}

// Close ends connections.
func (p place) Close() {
	if p.daemon != nil {
		p.daemon.Close()
	}
	if p.containerd != nil {
		_ = p.containerd.Close() // nothing is under way
	}
}

// placeOf finds where an image is or goes: what its prefix says, a registry that the name has, the Docker daemon if it need not be
// published and one answers, else the registry of the embedded cluster.
func (a *app) placeOf(ctx context.Context, image string, f placeFlags) (place, error) {
	if folder, ok := strings.CutPrefix(image, inFolder); ok {
		abs, err := filepath.Abs(folder)
		if err != nil {
			return place{}, err
		}
		return place{name: "layout.local/" + folderName(abs), folder: abs, where: "the folder " + abs}, nil
	}
	if name, ok := strings.CutPrefix(image, inContainerd); ok {
		return a.placeInContainerd(ctx, name, f)
	}
	name, inDaemon := strings.CutPrefix(image, inDaemon)
	if _, err := registry.ParseReference(name); err != nil {
		return place{}, output.Usagef("%w", err)
	}
	if inDaemon || !f.publish {
		if f.dockerHost == "" || f.dockerHost == "inherit" {
			f.dockerHost = a.getenv("DOCKER_HOST")
		}
		daemon, err := target.ConnectDaemon(ctx, f.dockerHost, a.getenv)
		if err == nil {
			return place{name: name, daemon: daemon, where: "the Docker daemon at " + daemon.String()}, nil
		}
		if inDaemon || f.dockerHost != "" || !errors.Is(err, fs.ErrNotExist) {
			return place{}, err
		}
	}
	return a.placeInRegistry(ctx, image, f.publish)
}

// namesRegistry says whether a name begins with a registry.
func namesRegistry(image string) bool {
	for _, prefix := range []string{inFolder, inContainerd, inDaemon} {
		if strings.HasPrefix(image, prefix) {
			return false
		}
	}
	first, _, slash := strings.Cut(image, "/")
	return slash && (strings.ContainsAny(first, ".:") || first == "localhost")
}

func (a *app) placeInRegistry(ctx context.Context, image string, publish bool) (place, error) {
	first, rest, _ := strings.Cut(image, "/")
	named := namesRegistry(image)
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
				"Start one of them (`weft up`), give --publish to use a registry, or a folder: "+inFolder+image)
		}
		return place{}, output.Advise(fmt.Errorf("%s names no registry, and the embedded cluster does not run", image),
			"Start it with `weft up`, name a registry as in registry.example.com/"+image+", or a folder: "+inFolder+image)
	}
	if named {
		image = rest
	}
	return place{name: status.Registry + "/" + image, where: "the registry of the embedded cluster"}, nil
}

// placeInContainerd connects to the containerd that is named, else the embedded cluster's if that runs, else the machine's.
func (a *app) placeInContainerd(ctx context.Context, name string, f placeFlags) (place, error) {
	if _, err := registry.ParseReference(name); err != nil {
		return place{}, output.Usagef("%w", err)
	}
	address, whose := cmp.Or(f.containerd, a.getenv("CONTAINERD_ADDRESS")), ""
	if address == "" {
		c, err := a.cluster()
		if err != nil {
			return place{}, err
		}
		if status, err := c.Status(ctx); err == nil && status.Phase != control.Stopped {
			address, whose = filepath.Join(c.State, "run", "containerd.sock"), " of the embedded cluster"
		}
	}
	client, err := containerd.Connect(ctx, address, cmp.Or(f.namespace, a.getenv("CONTAINERD_NAMESPACE")))
	switch {
	case errors.Is(err, fs.ErrPermission):
		return place{}, output.Advise(err, "Its socket belongs to root: run this as root, or give your user the right to the socket.")
	case errors.Is(err, fs.ErrNotExist):
		return place{}, output.Advise(err, "Start it (`weft up` has one), or name its socket with --containerd-address or CONTAINERD_ADDRESS.")
	case err != nil:
		return place{}, err
	}
	to := place{name: name, containerd: client, where: fmt.Sprintf("containerd%s at %s, namespace %s", whose, client, client.Namespace())}
	if f.unpack || f.snapshotter != "" {
		to.snapshots = cmp.Or(f.snapshotter, a.getenv("CONTAINERD_SNAPSHOTTER"), containerd.DefaultSnapshotter)
	}
	return to, nil
}

// put brings a whole image to its place.
func (a *app) put(ctx context.Context, client *registry.Client, img v1.Image, to place, tags []string) (digest string, err error) {
	d, err := img.Digest()
	if err != nil {
		return "", err
	}
	names := append([]string{to.name}, tags...)
	switch {
	case to.folder != "":
		return d.String(), writeFolder(img, to.folder)
	case to.containerd != nil:
		t := to.containerd.NewTarget(to.snapshots)
		defer func() { err = errors.Join(err, t.Close()) }()
		return d.String(), t.Put(ctx, img, names)
	case to.daemon != nil:
		dir, err := os.MkdirTemp("", "weft-image-")
		if err != nil {
			return "", err
		}
		defer os.RemoveAll(dir)
		if err := writeFolder(img, dir); err != nil {
			return "", err
		}
		return d.String(), to.daemon.Load(ctx, dir, names)
	}
	for _, name := range names {
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
