package buildpack

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/weft-dev/weft/buildpack/sandbox"
)

// hostImage makes this machine the build image: its /usr, read-only, below a root with nothing else of it.
func (w *work) hostImage() error {
	skeleton := filepath.Join(w.dir, "skeleton")
	w.root = sandbox.Mount{Kind: sandbox.Overlay, Lower: []string{skeleton}, Upper: filepath.Join(w.dir, "upper"), Work: filepath.Join(w.dir, "overlay")}
	readOnly := func(source, target string) sandbox.Mount {
		return sandbox.Mount{Kind: sandbox.Bind, Source: source, Target: target, ReadOnly: true}
	}
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
	w.path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	if root := goroot(); root != "" {
		at := root
		if !strings.HasPrefix(root, "/usr/") {
			at = "/opt/go"
			w.mounts = append(w.mounts, readOnly(root, at))
		}
		w.path = at + "/bin:" + w.path
	}
	f := w.folders
	buildpacks, err := w.buildpackMounts()
	if err != nil {
		return err
	}
	w.mounts = append(w.mounts, buildpacks...)
	w.mounts = append(w.mounts, readOnly(f.Platform.Host, f.Platform.Inside),
		sandbox.Mount{Kind: sandbox.Bind, Source: f.Scratch.Host, Target: f.Scratch.Inside},
		sandbox.Mount{Kind: sandbox.Bind, Source: f.App.Host, Target: f.App.Inside},
		sandbox.Mount{Kind: sandbox.Bind, Source: f.Layers.Host, Target: f.Layers.Inside},
		sandbox.Mount{Kind: sandbox.Bind, Source: filepath.Join(w.dir, "home"), Target: "/home/cnb"},
		sandbox.Mount{Kind: sandbox.Bind, Source: filepath.Join(w.dir, "tmp"), Target: "/tmp"})
	return nil
}

// writeEtc makes the few files of /etc that programs need: names, certificates and where to find libraries.
func writeEtc(etc string) error {
	if err := os.MkdirAll(filepath.Join(etc, "ssl", "certs"), 0o755); err != nil {
		return err
	}
	files := map[string][]byte{"passwd": []byte(passwdFile), "group": []byte(groupFile), "nsswitch.conf": []byte("hosts: files dns\n")}
	ca, err := certificates()
	if err != nil {
		return err
	}
	files["ssl/certs/ca-certificates.crt"] = ca
	for _, name := range []string{"resolv.conf", "hosts", "ld.so.cache", "os-release", "debian_version", "mime.types", "localtime"} {
		data, err := os.ReadFile("/etc/" + name)
		if err == nil {
			files[name] = data
		} else if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
			return err
		}
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(etc, name), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// goroot is the Go toolchain of this machine, "" if there is none.
func goroot() string {
	if root := os.Getenv("GOROOT"); root != "" {
		return root
	}
	path, err := exec.LookPath("go")
	if err != nil {
		if _, err := os.Stat("/usr/local/go/bin/go"); err == nil {
			return "/usr/local/go"
		}
		return ""
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return ""
	}
	return filepath.Dir(filepath.Dir(path))
}

// passed variables of this machine's user reach buildpacks: how to get at dependencies.
var passed = []string{"GOPROXY", "GOFLAGS", "GOSUMDB", "GONOSUMDB", "GONOSUMCHECK", "GOPRIVATE", "GONOPROXY", "GOINSECURE", "GOTOOLCHAIN"}

// hostVariables gives them, settings made by `go env -w` included.
func hostVariables() (map[string]string, error) {
	vars := map[string]string{"SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt"}
	config, err := os.UserConfigDir()
	if err == nil {
		data, err := os.ReadFile(filepath.Join(config, "go", "env"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for line := range strings.Lines(string(data)) {
			if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && slices.Contains(passed, name) {
				vars[name] = value
			}
		}
	}
	for _, name := range passed {
		if value := os.Getenv(name); value != "" {
			vars[name] = value
		}
	}
	return vars, nil
}
