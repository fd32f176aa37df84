package buildpack

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/weft-dev/weft/buildpack/debian"
	"github.com/weft-dev/weft/buildpack/sandbox"
	"github.com/weft-dev/weft/buildpack/spec"
)

func readOnly(source, target string) sandbox.Mount {
	return sandbox.Mount{Kind: sandbox.Bind, Source: source, Target: target, ReadOnly: true}
}

// defaultPath is the search path of programs where an image has none.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// setRoot puts together what programs see: the build image, or what of this machine stands for one, and the folders of the build.
func (b *build) setRoot(w *work) error {
	skeleton := filepath.Join(w.dir, "skeleton")
	if err := errors.Join(removeAll(skeleton), os.Mkdir(skeleton, 0o755)); err != nil {
		return err
	}
	w.root = sandbox.Mount{Kind: sandbox.Overlay, Lower: []string{skeleton}, Upper: filepath.Join(w.dir, "upper"), Work: filepath.Join(w.dir, "overlay")}
	w.mounts, w.env = nil, nil
	err := b.setCertificates(w)
	switch {
	case err != nil:
	case b.base.root == "":
		err = w.hostImage(skeleton)
	default:
		err = w.image(skeleton, b.base)
	}
	if err != nil {
		return err
	}
	f := w.folders
	if b.base.builder == nil || b.base.builder.Has("weft/go", "") {
		w.addGo()
	}
	if b.base.builder == nil { // the home folder of a foreign image may have something in it
		w.mounts = append(w.mounts, sandbox.Mount{Kind: sandbox.Bind, Source: filepath.Join(w.dir, "home"), Target: "/home/cnb"})
	}
	buildpacks, err := w.buildpackMounts()
	if err != nil {
		return err
	}
	w.mounts = append(w.mounts, buildpacks...)
	w.mounts = append(w.mounts, readOnly(f.Platform.Host, f.Platform.Inside),
		sandbox.Mount{Kind: sandbox.Bind, Source: f.Scratch.Host, Target: f.Scratch.Inside},
		sandbox.Mount{Kind: sandbox.Bind, Source: f.App.Host, Target: f.App.Inside},
		sandbox.Mount{Kind: sandbox.Bind, Source: f.Layers.Host, Target: f.Layers.Inside},
		sandbox.Mount{Kind: sandbox.Bind, Source: filepath.Join(w.dir, "tmp"), Target: "/tmp"})
	for _, v := range b.opts.Volumes {
		if err := w.mountPoint(v); err != nil {
			return fmt.Errorf("the volume %s: %w", v.Target, err)
		}
		w.mounts = append(w.mounts, sandbox.Mount{Kind: sandbox.Bind, Source: v.Source, Target: v.Target, ReadOnly: !v.Writable})
	}
	return nil
}

// mountPoint makes the place of a volume in the platform folder, for example of a binding: the sandbox sees that folder read-only.
func (w *work) mountPoint(v Volume) error {
	rel, ok := strings.CutPrefix(v.Target, w.folders.Platform.Inside+"/")
	if !ok {
		return nil
	}
	info, err := os.Stat(v.Source)
	if err != nil {
		return err
	}
	at := w.folders.Platform.Join(rel).Host
	if info.IsDir() {
		return os.MkdirAll(at, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(at, os.O_CREATE|os.O_RDONLY, 0o644)
	if err != nil {
		return err
	}
	return f.Close()
}

// setCertificates tells programs where the certificates are if this machine stands for the build image: then not all of them know. The
// user's own setting stays. An image has its own, and a variable of the platform would go before those of buildpacks.
func (b *build) setCertificates(w *work) error {
	if _, own := b.opts.Env["SSL_CERT_FILE"]; own || slices.ContainsFunc(b.project.Env, func(v spec.ProjectVariable) bool { return v.Name == "SSL_CERT_FILE" }) {
		return nil
	}
	file := filepath.Join(w.folders.Platform.Host, "env", "SSL_CERT_FILE")
	if b.base.root != "" {
		return os.RemoveAll(file)
	}
	return os.WriteFile(file, []byte("/etc/ssl/certs/ca-certificates.crt"), 0o644)
}

// image makes an unpacked image the root, with this machine's names of hosts and certificates above it.
func (w *work) image(skeleton string, on base) error {
	w.root.Lower = append(w.root.Lower, on.root)
	w.env = on.env
	etc := filepath.Join(skeleton, "etc")
	if err := copyEtc(etc, "resolv.conf", "hosts"); err != nil {
		return err
	}
	ca, err := certificates()
	if err != nil || ca == nil {
		return err
	}
	files := map[string][]byte{"ssl/certs/ca-certificates.crt": ca}
	if _, err := os.Stat(filepath.Join(on.root, "etc/ssl/certs/java/cacerts")); err == nil {
		files["ssl/certs/java/cacerts"] = debian.KeyStore(ca)
	}
	for name, data := range files {
		at := filepath.Join(etc, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, data, 0o644)); err != nil {
			return err
		}
	}
	return nil
}

// hostImage makes this machine the build image: its /usr, read-only, below a root with nothing else of it.
func (w *work) hostImage(skeleton string) error {
	w.mounts = append(w.mounts, readOnly("/usr", "/usr"))
	for _, name := range []string{"bin", "sbin", "lib", "lib32", "lib64", "libx32"} {
		info, err := os.Lstat("/" + name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			w.mounts = append(w.mounts, readOnly("/"+name, "/"+name))
			continue
		}
		link, err := os.Readlink("/" + name)
		if err != nil {
			return err
		}
		if err := os.Symlink(link, filepath.Join(skeleton, name)); err != nil {
			return err
		}
	}
	if err := writeEtc(filepath.Join(skeleton, "etc")); err != nil {
		return err
	}
	if _, err := os.Stat("/etc/alternatives"); err == nil {
		w.mounts = append(w.mounts, readOnly("/etc/alternatives", "/etc/alternatives"))
	}
	return nil
}

// addGo adds this machine's Go toolchain, which is good for any build image since it is static.
func (w *work) addGo() {
	path := defaultPath
	for _, kv := range w.env {
		if value, ok := strings.CutPrefix(kv, "PATH="); ok {
			path = value
		}
	}
	if root := goroot(); root != "" {
		w.mounts = append(w.mounts, readOnly(root, "/opt/go"))
		path = "/opt/go/bin:" + path
	}
	w.env = append(slices.Clone(w.env), "PATH="+path)
}
