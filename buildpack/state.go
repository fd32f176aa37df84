package buildpack

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/weft-dev/weft/buildpack/spec"
	"github.com/weft-dev/weft/store"
)

// recordVersion is the format of buildRecord on disk.
const recordVersion = 1

// buildRecord is what is remembered of the last build of an image.
type buildRecord struct {
	Version     int            `json:"version"`
	Fingerprint string         `json:"fingerprint"`
	Digest      string         `json:"digest"`
	Image       string         `json:"image"`
	Buildpacks  []spec.Element `json:"buildpacks"`
	Processes   []spec.Process `json:"processes"`
	Language    string         `json:"language,omitempty"` // what the buildpacks stood on
}

// imageState is the folder of what is known about a repository; tags share it.
func imageState(state, repository string) string {
	return filepath.Join(state, "images", folderOf(repository))
}

// folderOf makes a name of a folder of any name.
func folderOf(name string) string {
	readable := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '.' || r == '-' {
			return r
		}
		return '-'
	}, strings.ToLower(name))
	sum := sha256.Sum256([]byte(name))
	return fmt.Sprintf("%.60s-%x", readable, sum[:6])
}

// lock lets one build of an image run at a time on this machine.
func (b *build) lock(ctx context.Context) (unlock func(), err error) {
	if err := os.MkdirAll(b.state, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(b.state, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	for told := false; ; told = true {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		if !told {
			b.log.Infof("waiting for another build of %s", b.opts.Image)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// recordFile is where the last build of the image's name is remembered.
func (b *build) recordFile() string {
	sum := sha256.Sum256([]byte(b.opts.Image))
	return filepath.Join(b.state, fmt.Sprintf("build-%x.json", sum[:6]))
}

// analyze compares with the last build. If nothing has changed the result is complete.
func (b *build) analyze(ctx context.Context) (v1.Image, buildRecord, error) {
	var err error
	record := readRecord(b.recordFile())
	if err = b.openBase(ctx, record.Language); err != nil {
		return nil, record, err
	}
	if err := b.selectBuildpacks(ctx); err != nil {
		return nil, record, err
	}
	var previous v1.Image
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		var err error
		previous, err = b.target.Previous(ctx, cmp.Or(b.opts.PreviousImage, b.opts.Image))
		return err
	})
	g.Go(func() error {
		var err error
		b.fingerprint, err = b.computeFingerprint(gctx)
		return err
	})
	if err := g.Wait(); err != nil {
		return nil, record, err
	}
	if previous == nil || record.Fingerprint != b.fingerprint || b.opts.ClearCache {
		return previous, record, nil
	}
	digest, err := previous.Digest()
	if err != nil {
		return nil, record, err
	}
	if digest.String() != record.Digest {
		return previous, record, nil
	}
	b.result.Unchanged, b.result.Digest, b.result.Ref = true, record.Digest, b.repository+"@"+record.Digest
	b.result.Buildpacks, b.result.Processes = record.Buildpacks, record.Processes
	return previous, record, nil
}

// readRecord gives the record of the last build; one that cannot be read or is of a newer format counts for nothing.
func readRecord(file string) buildRecord {
	var r buildRecord
	data, err := os.ReadFile(file)
	if err != nil || json.Unmarshal(data, &r) != nil || r.Version != recordVersion {
		return buildRecord{}
	}
	return r
}

func (b *build) remember() error {
	data, err := json.Marshal(buildRecord{Version: recordVersion, Fingerprint: b.fingerprint, Digest: b.result.Digest, Image: b.opts.Image,
		Buildpacks: b.result.Buildpacks, Processes: b.result.Processes, Language: b.rememberedLanguage()})
	if err != nil {
		return err
	}
	file := b.recordFile()
	if err := os.WriteFile(file+".new", data, 0o644); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

// rememberedLanguage is what the next build begins with.
func (b *build) rememberedLanguage() string {
	if b.base.chosen || b.base.builder != nil {
		return ""
	}
	return b.base.language
}

// computeFingerprint sums up everything that an image depends on: the source, the settings, the buildpacks, the launcher, the run
// image and the toolchain of this machine.
func (b *build) computeFingerprint(ctx context.Context) (string, error) {
	h := sha256.New()
	item := func(parts ...string) {
		for _, p := range parts {
			fmt.Fprintf(h, "%d:%s", len(p), p)
		}
		h.Write([]byte{'\n'})
	}
	names := make([]string, 0, len(b.opts.Env))
	for name := range b.opts.Env {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		item("env", name, b.opts.Env[name])
	}
	item("options", b.opts.Image, strings.Join(b.opts.Tags, " "), b.opts.DefaultProcess, string(b.opts.Compression), fmt.Sprint(b.opts.NoNetwork),
		fmt.Sprintf("%q", b.opts.Buildpacks), b.opts.Layout)
	item("build", b.opts.Workspace, b.opts.ExecEnv, fmt.Sprint(b.base.uid, b.base.gid), b.opts.Created.String(), b.opts.PreviousImage,
		fmt.Sprintf("%v", b.opts.Volumes), b.base.root, b.base.run.name.Image)
	for _, v := range b.opts.Volumes {
		if v.Writable {
			continue // builds change it themselves, as they do a cache
		}
		source, err := filepath.EvalSymlinks(v.Source)
		if err != nil {
			return "", fmt.Errorf("the volume %s: %w", v.Source, err)
		}
		sum, err := store.Mark(source) // as with buildpacks
		if err != nil {
			return "", fmt.Errorf("the volume %s: %w", v.Source, err)
		}
		item("volume", v.Target, sum)
	}
	runDigest, err := b.base.run.image.Digest()
	if err != nil {
		return "", err
	}
	item("run image", runDigest.String())
	item("project", fmt.Sprintf("%q", b.project.Project))
	item("order", fmt.Sprintf("%v", b.selection.order))
	for _, m := range b.selection.modules {
		sum, err := store.Mark(m.Dir) // it may be large: times will do
		if err != nil {
			return "", fmt.Errorf("the buildpack %s: %w", m, err)
		}
		item("buildpack", m.String(), sum)
	}
	launcher, err := hashFile(b.opts.Programs.Launcher)
	if err != nil {
		return "", fmt.Errorf("the launcher: %w", err)
	}
	item("launcher", launcher)
	toolchain, err := os.ReadFile(filepath.Join(goroot(), "VERSION"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	item("toolchain", string(toolchain))
	source, err := hashTree(ctx, b.opts.Source, &b.project)
	if err != nil {
		return "", fmt.Errorf("read the source: %w", err)
	}
	item("source", source)
	return fmt.Sprintf("%x", h.Sum(nil)), nil
}

// hashTree sums up names, modes and contents of a folder.
func hashTree(ctx context.Context, root string, p *project) (string, error) {
	var lines []string
	var files []int // of lines
	var paths []string
	err := walkSource(root, p, func(rel, name string, info fs.FileInfo) error {
		line := fmt.Sprintf("%q %o", rel, info.Mode())
		switch {
		case info.Mode()&fs.ModeSymlink != 0:
			link, err := os.Readlink(name)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %q", link)
		case info.Mode().IsRegular():
			files, paths = append(files, len(lines)), append(paths, name)
		}
		lines = append(lines, line)
		return nil
	})
	if err != nil {
		return "", err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for i, at := range files {
		g.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			sum, err := hashFile(paths[i])
			lines[at] += " " + sum
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(strings.Join(lines, "\n")))
	return fmt.Sprintf("%x", sum), nil
}

func hashFile(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", h.Sum(nil)), nil
}
