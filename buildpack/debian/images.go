package debian

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Images makes the build and run images of languages on this machine. Each has a lock, made the first time, so that it stays the same until
// it is refreshed.
type Images struct {
	Dir     string   // folder for locks, packages and layers
	Sources []Source // nil: those of this machine
	Root    string   // where apt's sources and keys lie; "" is "/"
	Refresh bool     // make locks anew
	Offline bool     // nothing is fetched: what is not there is an error
	Note    func(string)
}

// Archive gives the archive that packages come from.
func (i Images) Archive() *Archive {
	return &Archive{Cache: filepath.Join(i.Dir, "cache"), Root: i.Root, Note: i.Note}
}

// Language gives the images to build and to run applications of a language ("node", or several joined by +), with more packages in each.
func (i Images) Language(ctx context.Context, language string, moreBuild, moreRun []string) (build, run v1.Image, err error) {
	lock, err := i.lock(ctx, language, moreBuild, moreRun)
	if err != nil {
		return nil, nil, err
	}
	return i.FromLock(ctx, lock, language)
}

// FromLock gives the images of a lock.
func (i Images) FromLock(ctx context.Context, lock *Lock, language string) (build, run v1.Image, err error) {
	a := i.Archive()
	env := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/home/cnb"}
	labels := map[string]string{"io.buildpacks.base.distro.name": lock.Distro.Name, "io.buildpacks.base.distro.version": lock.Distro.Version,
		"io.buildpacks.base.id": "weft-debian-" + language}
	if strings.Contains("+"+language+"+", "+java+") || language == Full {
		env = append(env, "JAVA_HOME=/usr/lib/jvm/default-java", "LANG=C.UTF-8") // Java takes the encoding of files from the locale
	}
	users := []string{fmt.Sprintf("CNB_USER_ID=%d", UserID), fmt.Sprintf("CNB_GROUP_ID=%d", UserID)}
	build, err = a.Image(ctx, lock, BuildLayer(language), Config{Env: append(users, env...), Labels: labels})
	if err != nil {
		return nil, nil, err
	}
	run, err = a.Image(ctx, lock, RunLayer(language), Config{Env: env, Labels: labels})
	return build, run, err
}

// lock reads the lock of a language or makes it.
func (i Images) lock(ctx context.Context, language string, moreBuild, moreRun []string) (*Lock, error) {
	wanted, ok := WantedFor(language, moreBuild, moreRun)
	if !ok {
		return nil, fmt.Errorf("%q is none of %s", language, strings.Join(Languages(), ", "))
	}
	name := language
	if len(moreBuild)+len(moreRun) > 0 {
		sum := sha256.Sum256(fmt.Appendf(nil, "%q %q", moreBuild, moreRun))
		name += fmt.Sprintf("-%x", sum[:4])
	}
	file := filepath.Join(i.Dir, "locks", name+"-"+runtime.GOARCH+".json")
	data, err := os.ReadFile(file)
	if err == nil && !i.Refresh {
		return ReadLock(data, file)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if i.Offline {
		return nil, errors.New("they have never been fetched on this machine, and the pull policy is never")
	}
	lock, err := i.MakeLock(ctx, wanted)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return nil, err
	}
	return lock, lock.Write(file)
}

// MakeLock reads the indexes of the archives and resolves layers.
func (i Images) MakeLock(ctx context.Context, wanted []Wanted) (*Lock, error) {
	root := i.Root
	if root == "" {
		root = "/"
	}
	sources, distro := i.Sources, Distro{Name: "debian"}
	if sources == nil {
		release, err := osRelease(root)
		if err != nil {
			return nil, err
		}
		distro = Distro{release["ID"], release["VERSION_ID"]}
		if sources, err = HostSources(root); err != nil {
			return nil, err
		}
	}
	index, err := i.Archive().LoadIndex(ctx, sources, runtime.GOARCH)
	if err != nil {
		return nil, err
	}
	if distro.Version == "" {
		distro.Version = sources[0].Suite
	}
	return index.MakeLock(runtime.GOARCH, distro, wanted, without)
}
