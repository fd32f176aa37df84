package fluentd

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/weft-dev/weft/logging/pipeline/clock"
	"github.com/weft-dev/weft/logging/pipeline/options"
)

// How a path is read (glob_policy).
const (
	globCompatible = "backward_compatible" // * makes a pattern of it
	globExtended   = "extended"            // and so do ? and [...]
	globAlways     = "always"              // and {a,b}
)

// tailFiles are the files that a source tail follows: path and exclude_path, with the time in them, as they are now.
type tailFiles struct {
	paths, exclude []string
	policy         string
	zone           *time.Location
	recent         time.Duration // of patterns, only files that changed within this time; 0 for all
	now            func() time.Time
}

func newTailFiles(b *builder, p *part) *tailFiles {
	o := p.set
	f := &tailFiles{policy: o.StringOr("glob_policy", globCompatible), zone: time.Local, recent: o.Duration("limit_recently_modified"), exclude: o.Array("exclude_path"), now: b.options.Now}
	delimiter := o.StringOr("path_delimiter", ",")
	switch {
	case delimiter == "/" || delimiter == "*" || delimiter == "%":
		o.Failf("path_delimiter", "path_delimiter must not be /, * or %%, which stand in paths")
	case f.policy == globAlways && delimiter == ",":
		o.Failf("glob_policy", "glob_policy always takes the comma for {a,b}; set another path_delimiter")
	}
	text := o.String("path")
	for path := range strings.SplitSeq(text, delimiter) {
		if path = strings.TrimSpace(path); path != "" && !slices.Contains(f.paths, path) {
			f.paths = append(f.paths, path)
		}
	}
	if len(f.paths) == 0 {
		o.Failf("path", "tail needs the option path")
	}
	if f.policy == globExtended && braces.MatchString(text) && strings.ContainsAny(text, "*?[") {
		o.Failf("path", "{a,b} beside a pattern needs glob_policy always")
	}
	if zone := o.String("path_timezone"); zone != "" {
		found, err := clock.Zone(zone)
		if err != nil {
			o.Failf("path_timezone", "path_timezone: %v", err)
		} else {
			f.zone = found
		}
	}
	f.check(o, "path", f.paths)
	f.check(o, "exclude_path", f.exclude)
	return f
}

func (f *tailFiles) check(o *options.Set, key string, patterns []string) {
	for _, p := range patterns {
		if f.isPattern(p) {
			if _, err := expandGlob(p); err != nil {
				o.Failf(key, "%s: the pattern %q is not valid: %v", key, p, err)
			}
		}
	}
}

func (f *tailFiles) isPattern(path string) bool {
	switch f.policy {
	case globAlways:
		return strings.ContainsAny(path, "*?[") || braces.MatchString(path)
	case globExtended:
		return strings.ContainsAny(path, "*?[")
	}
	return strings.Contains(path, "*")
}

// list are the files as they are now, sorted within each path.
func (f *tailFiles) list() []string {
	now := f.now()
	dated := func(path string) string { return string(clock.Format(nil, path, now.In(f.zone))) }
	var all []string
	for _, path := range f.paths {
		path = dated(path)
		if !f.isPattern(path) {
			all = append(all, path)
			continue
		}
		for _, name := range glob(path) {
			info, err := os.Stat(name)
			if err != nil || info.IsDir() || f.recent > 0 && now.Sub(info.ModTime()) > f.recent {
				continue
			}
			all = append(all, name)
		}
	}
	excluded := map[string]bool{}
	for _, path := range f.exclude {
		path = dated(path)
		if !f.isPattern(path) {
			excluded[path] = true
			continue
		}
		for _, name := range glob(path) {
			excluded[name] = true
		}
	}
	return slices.DeleteFunc(all, func(name string) bool { return excluded[name] })
}

// folders are those in which a new file may be one to follow, as far as they are plain names.
func (f *tailFiles) folders() []string {
	var all []string
	for _, path := range f.paths {
		if dir := filepath.Dir(path); !strings.ContainsAny(dir, "*?[{%") && !slices.Contains(all, dir) {
			all = append(all, dir)
		}
	}
	return all
}
