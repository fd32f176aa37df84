package buildpack

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weft-dev/weft/buildpack/lifecycle"
	"github.com/weft-dev/weft/buildpack/sandbox"
	"github.com/weft-dev/weft/buildpack/spec"
)

// sandboxUser is who the programs of buildpacks are on this machine when weft runs as root: nobody else.
const sandboxUser = 64646

// work is the folders of one build. Everything but the layers lies in a folder of its own that vanishes with the build.
type work struct {
	dir     string
	alive   *os.File // locked as long as the build runs
	folders lifecycle.Folders
	root    sandbox.Mount
	mounts  []sandbox.Mount
	env     []string // of the build image
	order   spec.Order
}

// prepare copies the source and sets up the folders that programs will see.
func (b *build) prepare() (*work, error) {
	parent := filepath.Join(b.opts.State, "work")
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return nil, err
	}
	dropDead(parent)
	dir, err := os.MkdirTemp(parent, "build-")
	if err != nil {
		return nil, err
	}
	w := &work{dir: dir}
	if w.alive, err = lockDir(dir); err != nil {
		w.remove()
		return nil, err
	}
	if err := b.fill(w); err != nil {
		w.remove()
		return nil, err
	}
	return w, nil
}

func (b *build) fill(w *work) error {
	buildpacks, err := b.placeBuildpacks(w)
	if err != nil {
		return err
	}
	w.order = b.selection.order
	layers := filepath.Join(w.dir, "layers")
	w.folders = lifecycle.Folders{
		App:        lifecycle.Folder{Host: filepath.Join(w.dir, "app"), Inside: b.opts.Workspace},
		Layers:     lifecycle.Folder{Host: layers, Inside: "/layers"},
		Platform:   lifecycle.Folder{Host: filepath.Join(w.dir, "platform"), Inside: "/platform"},
		Buildpacks: lifecycle.Folder{Host: buildpacks, Inside: "/cnb/buildpacks"},
		Scratch:    lifecycle.Folder{Host: filepath.Join(w.dir, "scratch"), Inside: "/cnb/scratch"},
		Below:      lifecycle.Below{},
	}
	for _, d := range []string{w.folders.App.Host, layers, filepath.Join(w.folders.Platform.Host, "env"), w.folders.Scratch.Host,
		filepath.Join(w.dir, "tmp"), filepath.Join(w.dir, "home"), filepath.Join(w.dir, "upper"), filepath.Join(w.dir, "overlay"), filepath.Join(w.dir, "skeleton"), filepath.Join(w.dir, "layers-overlay")} {
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
	if b.base.builder != nil {
		w.folders.BuildConfig = lifecycle.Folder{Host: filepath.Join(b.base.root, "cnb", "build-config"), Inside: "/cnb/build-config"}
	}
	return b.setRoot(w)
}

// environ is the environment that programs inherit.
func (w *work) environ() []string {
	list := append([]string{"PATH=" + defaultPath, "HOME=/home/cnb"}, w.env...)
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
	work   *work
}

func (w *work) executor(b *build, readOnly bool) lifecycle.Executor {
	s := sandbox.Spec{Root: w.root, Mounts: slices.Clone(w.mounts), Hostname: "build", UID: b.base.uid, GID: b.base.gid, HostUID: sandboxUser,
		HostGID: sandboxUser, Network: !b.opts.NoNetwork, Limits: b.opts.Limits}
	if readOnly { // bin/detect must not change anything; several run at once
		for i := range s.Mounts {
			if t := s.Mounts[i].Target; t == w.folders.App.Inside || t == w.folders.Layers.Inside {
				s.Mounts[i].ReadOnly = true
			}
		}
	}
	return &executor{sandbox.Runner{Program: b.opts.Programs.Sandbox, Scratch: w.dir}, s, readOnly, w}
}

// layersMount is the layers folder as the next program will see it: above the layers that came back.
func (w *work) layersMount(m sandbox.Mount) sandbox.Mount {
	lower := w.folders.Below.Lower()
	if len(lower) == 0 || m.ReadOnly {
		return m
	}
	return sandbox.Mount{Kind: sandbox.Overlay, Target: m.Target, Lower: lower, Upper: m.Source, Work: filepath.Join(w.dir, "layers-overlay")}
}

// Run implements lifecycle.Executor.
func (e *executor) Run(ctx context.Context, x lifecycle.Execution) (int, error) {
	s := e.spec
	s.Args, s.Env, s.Dir = append([]string{x.Program}, x.Args...), x.Env, x.Dir
	s.Mounts = slices.Clone(s.Mounts)
	for i, m := range s.Mounts {
		if m.Target == e.work.folders.Layers.Inside {
			s.Mounts[i] = e.work.layersMount(m)
		}
	}
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

func (w *work) remove() {
	_ = removeAll(w.dir)
	if w.alive != nil {
		w.alive.Close()
	}
}

// lockDir says that a folder belongs to a process that lives: the kernel takes the lock from one that dies.
func lockDir(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// dropDead removes what builds that were killed have left. One that has just made its folder and not locked it yet is spared.
func dropDead(parent string) {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || time.Since(info.ModTime()) < time.Second {
			continue
		}
		dir := filepath.Join(parent, e.Name())
		if f, err := lockDir(dir); err == nil {
			_ = removeAll(dir)
			f.Close()
		}
	}
}

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
