package buildpack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/weft-dev/weft/buildpack/lifecycle"
	"github.com/weft-dev/weft/buildpack/sandbox"
	"github.com/weft-dev/weft/buildpack/spec"
)

// sandboxUser is who the programs of buildpacks are on this machine when weft runs as root: nobody else.
const sandboxUser = 64646

// work is the folders of one build. Everything but the layers lies in a folder of its own that vanishes with the build.
type work struct {
	dir     string
	folders lifecycle.Folders
	root    sandbox.Mount
	mounts  []sandbox.Mount
	path    string // PATH of programs
	order   spec.Order
}

// prepare copies the source and sets up the folders that programs will see.
func (b *build) prepare() (*work, error) {
	parent := filepath.Join(b.opts.State, "work")
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(parent, "build-")
	if err != nil {
		return nil, err
	}
	w := &work{dir: dir}
	if err := b.fill(w); err != nil {
		w.remove()
		return nil, err
	}
	return w, nil
}

func (b *build) fill(w *work) error {
	buildpacks, order, err := b.assemble(w)
	if err != nil {
		return err
	}
	w.order = order
	layers := filepath.Join(b.state, "layers")
	if b.opts.ClearCache {
		if err := removeAll(layers); err != nil {
			return err
		}
	}
	w.folders = lifecycle.Folders{
		App:        lifecycle.Folder{Host: filepath.Join(w.dir, "app"), Inside: "/workspace"},
		Layers:     lifecycle.Folder{Host: layers, Inside: "/layers"},
		Platform:   lifecycle.Folder{Host: filepath.Join(w.dir, "platform"), Inside: "/platform"},
		Buildpacks: lifecycle.Folder{Host: buildpacks, Inside: "/cnb/buildpacks"},
		Scratch:    lifecycle.Folder{Host: filepath.Join(w.dir, "scratch"), Inside: "/cnb/scratch"},
	}
	for _, d := range []string{w.folders.App.Host, layers, filepath.Join(w.folders.Platform.Host, "env"), w.folders.Scratch.Host,
		filepath.Join(w.dir, "tmp"), filepath.Join(w.dir, "home"), filepath.Join(w.dir, "upper"), filepath.Join(w.dir, "overlay"), filepath.Join(w.dir, "skeleton")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	if err := copyTree(b.opts.Source, w.folders.App.Host, &b.project); err != nil {
		return fmt.Errorf("copy the source: %w", err)
	}
	variables, err := hostVariables()
	if err != nil {
		return err
	}
	for _, v := range b.project.Env {
		variables[v.Name] = v.Value
	}
	for name, value := range b.opts.Env {
		variables[name] = value
	}
	for name, value := range variables {
		if err := os.WriteFile(filepath.Join(w.folders.Platform.Host, "env", name), []byte(value), 0o644); err != nil {
			return err
		}
	}
	for _, d := range []string{"tmp", "home", "app"} {
		if err := give(filepath.Join(w.dir, d)); err != nil {
			return err
		}
	}
	if err := giveOne(layers); err != nil {
		return err
	}
	return w.hostImage()
}

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

// environ is the environment that programs inherit.
func (w *work) environ() []string {
	list := []string{"PATH=" + w.path, "HOME=/home/cnb"}
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"} {
		if value := os.Getenv(name); value != "" {
			list = append(list, name+"="+value)
		}
	}
	return list
}

// executor runs programs of buildpacks in the sandbox.
type executor struct {
	runner sandbox.Runner
	spec   sandbox.Spec
	forget bool // what a program writes to the root is gone after it
}

func (w *work) executor(b *build, readOnly bool) lifecycle.Executor {
	s := sandbox.Spec{Root: w.root, Mounts: slices.Clone(w.mounts), Hostname: "build", UID: userID, GID: userID, HostUID: sandboxUser,
		HostGID: sandboxUser, Network: !b.opts.NoNetwork, Limits: b.opts.Limits}
	if readOnly { // bin/detect must not change anything; several run at once
		for i := range s.Mounts {
			if t := s.Mounts[i].Target; t == w.folders.App.Inside || t == w.folders.Layers.Inside {
				s.Mounts[i].ReadOnly = true
			}
		}
	}
	return &executor{sandbox.Runner{Program: b.opts.Programs.Sandbox, Scratch: w.dir}, s, readOnly}
}

// Run implements lifecycle.Executor.
func (e *executor) Run(ctx context.Context, x lifecycle.Execution) (int, error) {
	s := e.spec
	s.Args, s.Env, s.Dir = append([]string{x.Program}, x.Args...), x.Env, x.Dir
	if e.forget {
		dir, err := os.MkdirTemp(e.runner.Scratch, "forget-")
		if err != nil {
			return 0, err
		}
		defer func() { _ = removeAll(dir) }()
		s.Root.Upper, s.Root.Work = filepath.Join(dir, "upper"), filepath.Join(dir, "work")
		if err := errors.Join(os.Mkdir(s.Root.Upper, 0o755), os.Mkdir(s.Root.Work, 0o755)); err != nil {
			return 0, err
		}
	}
	status, err := e.runner.Run(ctx, s, nil, x.Output, x.Output)
	if err == nil && status.Killed != "" {
		err = fmt.Errorf("killed: %s", status.Killed)
	}
	return status.Code, err
}

// restore prepares the kept layers: of a cached one the content and its metadata without types, of others nothing.
func (w *work) restore(group spec.Group) (string, error) {
	kept := 0
	wanted := map[string]bool{}
	for _, e := range group.Group {
		wanted[spec.EscapeID(e.ID)] = true
	}
	entries, err := os.ReadDir(w.folders.Layers.Host)
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		if !wanted[e.Name()] {
			if err := removeAll(filepath.Join(w.folders.Layers.Host, e.Name())); err != nil {
				return "", err
			}
			continue
		}
		n, err := w.eachCached(e.Name(), func(file string, content spec.LayerContent) error {
			data, err := spec.EncodeLayerContent(content.Data)
			if err != nil {
				return err
			}
			if err := os.WriteFile(file, data, 0o644); err != nil {
				return err
			}
			return giveOne(file)
		})
		if err != nil {
			return "", err
		}
		kept += n
	}
	if kept == 0 {
		return "no cache", nil
	}
	return fmt.Sprintf("%d cached layers", kept), nil
}

// keepCaches removes from the layers folder what the next build must not find.
func (w *work) keepCaches(group spec.Group) error {
	for _, e := range group.Group {
		if _, err := w.eachCached(spec.EscapeID(e.ID), func(string, spec.LayerContent) error { return nil }); err != nil {
			return err
		}
	}
	for _, name := range []string{"config", "sbom"} {
		if err := removeAll(filepath.Join(w.folders.Layers.Host, name)); err != nil {
			return err
		}
	}
	return nil
}

// eachCached calls do with the TOML file of every cached layer of a buildpack and removes all other layers.
func (w *work) eachCached(dir string, do func(file string, content spec.LayerContent) error) (int, error) {
	at := filepath.Join(w.folders.Layers.Host, dir)
	entries, err := os.ReadDir(at)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	cached := map[string]bool{"store.toml": true}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".toml")
		if !ok || !e.Type().IsRegular() {
			continue
		}
		file := filepath.Join(at, e.Name())
		data, err := os.ReadFile(file)
		if err != nil {
			return 0, err
		}
		content, err := spec.ReadLayerContent(data, file)
		if err != nil || !content.Cache {
			continue // unfinished or not to be kept
		}
		cached[name], cached[e.Name()] = true, true
		if err := do(file, content); err != nil {
			return 0, err
		}
	}
	for _, e := range entries {
		if !cached[e.Name()] {
			if err := removeAll(filepath.Join(at, e.Name())); err != nil {
				return 0, err
			}
		}
	}
	return (len(cached) - 1) / 2, nil
}

func (w *work) remove() { _ = removeAll(w.dir) }

// removeAll removes a folder although buildpacks may have made folders in it that cannot be written.
func removeAll(dir string) error {
	err := os.RemoveAll(dir)
	if err == nil || !errors.Is(err, fs.ErrPermission) {
		return err
	}
	walkErr := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if e != nil && e.IsDir() {
			if chmodErr := os.Chmod(name, 0o700); chmodErr != nil {
				return chmodErr
			}
		}
		return nil
	})
	return errors.Join(os.RemoveAll(dir), walkErr)
}

// give makes the sandbox's user own a folder and all that is in it; an ordinary user is that user already.
func give(dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	return filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(name, sandboxUser, sandboxUser)
	})
}

func giveOne(name string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	return os.Lchown(name, sandboxUser, sandboxUser)
}

// walkSource visits what of a folder is source, folders before what they have. A nil project takes all.
func walkSource(root string, p *project, visit func(rel, name string, info fs.FileInfo) error) error {
	return filepath.WalkDir(root, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		if p != nil && rel != "." && p.ignore(rel) {
			switch {
			case !e.IsDir():
				return nil
			case rel == ".git" || !p.includes():
				return fs.SkipDir
			}
			return nil // something below may be included
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		return visit(rel, name, info)
	})
}

// copyTree copies files, links and folders. What is neither is left out: sockets and pipes are no source.
func copyTree(from, to string, p *project) error {
	return walkSource(from, p, func(rel, name string, info fs.FileInfo) error {
		target := filepath.Join(to, rel)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		switch {
		case info.IsDir():
			if err := os.MkdirAll(target, 0o755); err != nil {
				return err
			}
			return os.Chmod(target, info.Mode().Perm()|0o700)
		case info.Mode()&fs.ModeSymlink != 0:
			link, err := os.Readlink(name)
			if err != nil {
				return err
			}
			return os.Symlink(link, target)
		case info.Mode().IsRegular():
			return copyFile(name, target, info.Mode().Perm())
		}
		return nil
	})
}

func copyFile(from, to string, mode fs.FileMode) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Chmod(mode), out.Close())
}
