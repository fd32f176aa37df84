package lifecycle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/weft-dev/weft/buildpack/env"
	"github.com/weft-dev/weft/buildpack/spec"
)

// Detector finds the group of buildpacks that an application needs.
type Detector struct {
	API      spec.PlatformAPI
	Folders  Folders
	Executor Executor
	Logger   Logger
	Environ  []string         // of the lifecycle
	Target   spec.ImageTarget // what the image is made for
	ExecEnv  string

	mu   sync.Mutex
	runs map[string]*run
}

// run is one bin/detect; it is started once however many groups have the buildpack.
type run struct {
	done   chan struct{}
	result Detection
}

// Detection is what a bin/detect had to say.
type Detection struct {
	Code   int // 0 passes, 100 fails, anything else is an error; -1 is an error of ours, see Err
	Plan   spec.BuildPlan
	Output []byte
	Err    error
}

// Exit codes of bin/detect (buildpack.md, "Detection").
const (
	codePass = 0
	codeFail = 100
)

// maxGroups bounds how many groups nested orders may expand to.
const maxGroups = 10000

// maxOutput is how much of the output of a bin/detect is kept, in bytes.
const maxOutput = 1 << 20

var (
	errNotDetected  = &Error{Kind: KindNotDetected, Err: errors.New("no buildpack groups passed detection.")}
	errDetectFailed = &Error{Kind: KindDetectFailed, Err: errors.New("buildpack(s) failed with err")}
)

// member is an element of a group with the composite buildpacks that it came out of.
type member struct {
	spec.Element
	from []string
}

// expansion counts the groups of one Detect.
type expansion struct{ groups int }

// Detect tries the groups of order and gives the first that passes, with its plan.
func (d *Detector) Detect(ctx context.Context, order spec.Order) (spec.Group, spec.Plan, error) {
	d.runs = map[string]*run{}
	var x expansion
	elements, plan, err := d.order(ctx, &x, order, nil, nil, nil, false)
	if err != nil {
		return spec.Group{}, spec.Plan{}, err
	}
	return spec.Group{Group: elements}, plan, nil
}

// order tries the groups of an order, each followed by what comes after it (tail).
func (d *Detector) order(ctx context.Context, x *expansion, order spec.Order, from []string, done []spec.Element, tail []member, optional bool) ([]spec.Element, spec.Plan, error) {
	failed := error(errNotDetected)
	for _, group := range order {
		members := make([]member, 0, len(group.Group)+len(tail))
		for _, e := range group.Group {
			members = append(members, member{e, from})
		}
		elements, plan, err := d.group(ctx, x, append(members, tail...), done)
		if err == nil {
			return elements, plan, nil
		}
		switch KindOf(err) {
		case KindDetectFailed:
			failed = err
		case KindNotDetected:
		default:
			return nil, spec.Plan{}, err
		}
	}
	if optional {
		return d.group(ctx, x, tail, done)
	}
	return nil, spec.Plan{}, failed
}

// group tries one group. A composite buildpack in it is replaced by its order, and what follows goes to each group of that order.
func (d *Detector) group(ctx context.Context, x *expansion, members []member, done []spec.Element) ([]spec.Element, spec.Plan, error) {
	if x.groups++; x.groups > maxGroups {
		return nil, spec.Plan{}, fmt.Errorf("the order of buildpacks expands to more than %d groups", maxGroups)
	}
	if err := ctx.Err(); err != nil {
		return nil, spec.Plan{}, err
	}
	done = slices.Clone(done)
	for i, m := range members {
		if slices.ContainsFunc(done, func(e spec.Element) bool { return e.ID == m.ID }) {
			continue
		}
		bp, err := d.Folders.Lookup(m.ID, m.Version)
		if err != nil {
			return nil, spec.Plan{}, err
		}
		if bp.Composite() {
			if slices.Contains(m.from, m.String()) {
				return nil, spec.Plan{}, fmt.Errorf("the buildpack %s contains itself: %s", m, chain(m.from, m.String()))
			}
			from := append(slices.Clone(m.from), m.String())
			return d.order(ctx, x, bp.Order, from, done, members[i+1:], m.Optional)
		}
		element := m.Element
		element.API, element.Homepage = bp.API, bp.Buildpack.Homepage
		if d.API.RunTOML && !m.Optional && !d.targetMatches(bp) {
			done = append(done, element)
			d.remember(m.String(), Detection{Code: -1, Err: fmt.Errorf("unable to satisfy target os/arch constraints; run image: %s, buildpack: %s",
				asJSON(d.Target), asJSON(bp.Targets))})
			continue
		}
		if d.API.ExecutionEnv && bp.Behaviour.ExecutionEnv && !bp.Buildpack.ExecEnv.Match(d.ExecEnv) {
			d.Logger.Debugf("Skipping %s due to execution environment mismatch; current: %s, buildpack supports: %s", m, d.ExecEnv, bp.Buildpack.ExecEnv)
			continue
		}
		done = append(done, element)
		d.start(ctx, bp)
	}
	return d.resolve(ctx, done)
}

func chain(from []string, last string) string {
	s := ""
	for _, f := range from[slices.Index(from, last):] {
		s += f + " -> "
	}
	return s + last
}

// targetMatches compares with the run image; what either side leaves open matches.
func (d *Detector) targetMatches(bp *Buildpack) bool {
	if len(bp.Targets) == 0 {
		return true
	}
	open := func(a, b string) bool { return a == "" || b == "" || a == b }
	for _, t := range bp.Targets {
		if !open(d.Target.OS, t.OS) || !open(d.Target.Arch, t.Arch) || !open(d.Target.ArchVariant, t.ArchVariant) {
			continue
		}
		if len(t.Distros) == 0 {
			return true
		}
		if d.Target.Distro != nil && slices.ContainsFunc(t.Distros, func(one spec.Distro) bool {
			return open(one.Name, d.Target.Distro.Name) && open(one.Version, d.Target.Distro.Version)
		}) {
			return true
		}
	}
	return false
}

func (d *Detector) remember(key string, result Detection) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := &run{done: make(chan struct{}), result: result}
	close(r.done)
	d.runs[key] = r
}

// start runs bin/detect of a buildpack unless that has been done.
func (d *Detector) start(ctx context.Context, bp *Buildpack) {
	key := bp.Buildpack.ID + "@" + bp.Buildpack.Version
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.runs[key] != nil {
		return
	}
	r := &run{done: make(chan struct{})}
	d.runs[key] = r
	go func() {
		defer close(r.done)
		r.result = d.detect(ctx, bp)
	}()
}

func (d *Detector) wait(element spec.Element) Detection {
	d.mu.Lock()
	r := d.runs[element.String()]
	d.mu.Unlock()
	<-r.done
	return r.result
}

func (d *Detector) detect(ctx context.Context, bp *Buildpack) Detection {
	planFile, err := d.Folders.newFile("plan.toml", nil)
	if err != nil {
		return Detection{Code: -1, Err: err}
	}
	defer os.RemoveAll(filepath.Dir(planFile.Host))
	environ := env.ForBuild(d.Environ)
	list, err := d.Folders.environment(environ, bp)
	if err != nil {
		return Detection{Code: -1, Err: err}
	}
	list = append(list, "CNB_BUILDPACK_DIR="+bp.Dir.Inside)
	if bp.Behaviour.PathVariables {
		list = append(list, "CNB_PLATFORM_DIR="+d.Folders.Platform.Inside, "CNB_BUILD_PLAN_PATH="+planFile.Inside)
	}
	list = append(list, targetVariables(bp.Behaviour, d.Target, d.ExecEnv)...)
	var output limitedBuffer
	code, err := d.Executor.Run(ctx, Execution{
		Program: bp.Dir.Join("bin", "detect").Inside, Args: []string{d.Folders.Platform.Inside, planFile.Inside},
		Env: list, Dir: d.Folders.App.Inside, Output: &output,
	})
	result := Detection{Code: code, Output: output.Bytes()}
	if err != nil {
		result.Code, result.Err = -1, err
		return result
	}
	if code != codePass {
		return result
	}
	data, err := readFile(planFile.Host)
	if err == nil {
		result.Plan, err = spec.ReadBuildPlan(data, "the build plan of "+bp.Buildpack.ID, bp.Buildpack.ID)
	}
	if err != nil {
		result.Code, result.Err = -1, err
	}
	return result
}

// limitedBuffer keeps the beginning of what is written to it.
type limitedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *limitedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if room := maxOutput - b.Len(); room > 0 {
		b.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

// newFile makes a file in a folder of its own in the scratch folder; any user may write to it. The caller removes the folder.
func (f Folders) newFile(name string, data []byte) (Folder, error) {
	dir, err := os.MkdirTemp(f.Scratch.Host, "plan.")
	if err != nil {
		return Folder{}, err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return Folder{}, err
	}
	file := Folder{dir + "/" + name, f.Scratch.Join(dir[len(f.Scratch.Host):], name).Inside}
	if err := os.WriteFile(file.Host, data, 0o666); err != nil {
		return Folder{}, err
	}
	return file, os.Chmod(file.Host, 0o666)
}

// environment gives what a program of bp sees: user variables unless it wants none, and the operator's last.
func (f Folders) environment(e *env.Env, bp *Buildpack) ([]string, error) {
	e = e.Clone()
	if !bp.Buildpack.ClearEnv {
		if err := e.AddUser(os.DirFS(f.Platform.Host), "env"); err != nil {
			return nil, err
		}
	}
	if f.BuildConfig.Host != "" {
		if err := e.AddOperator(os.DirFS(f.BuildConfig.Host), "env"); err != nil {
			return nil, err
		}
	}
	return e.List(), nil
}

func targetVariables(b spec.BuildpackAPI, t spec.ImageTarget, execEnv string) []string {
	var out []string
	if b.Targets {
		out = append(out, "CNB_TARGET_OS="+t.OS, "CNB_TARGET_ARCH="+t.Arch)
		if t.ArchVariant != "" {
			out = append(out, "CNB_TARGET_ARCH_VARIANT="+t.ArchVariant)
		}
		if t.Distro != nil && t.Distro.Name != "" {
			out = append(out, "CNB_TARGET_DISTRO_NAME="+t.Distro.Name)
		}
		if t.Distro != nil && t.Distro.Version != "" {
			out = append(out, "CNB_TARGET_DISTRO_VERSION="+t.Distro.Version)
		}
	}
	if b.ExecutionEnv && execEnv != "" {
		out = append(out, "CNB_EXEC_ENV="+execEnv)
	}
	return out
}

// CheckOrder looks up every buildpack that an order names, so that a mistake shows before anything runs.
func (d *Detector) CheckOrder(order spec.Order) error {
	for _, g := range order {
		for _, e := range g.Group {
			if _, err := d.Folders.Lookup(e.ID, e.Version); err != nil {
				return err
			}
		}
	}
	return nil
}

// WithSystem puts the operator's buildpacks before and after those of each group, unless the group names them itself.
func WithSystem(order spec.Order, pre, post []spec.Element) spec.Order {
	var out spec.Order
	for _, g := range order {
		missing := func(list []spec.Element) []spec.Element {
			var add []spec.Element
			for _, e := range list {
				if !slices.ContainsFunc(g.Group, func(have spec.Element) bool { return have.ID == e.ID }) {
					add = append(add, spec.Element{ID: e.ID, Version: e.Version})
				}
			}
			return add
		}
		before, after := missing(pre), missing(post)
		g.Group = slices.Concat(before, g.Group, after)
		out = append(out, g)
	}
	return out
}
