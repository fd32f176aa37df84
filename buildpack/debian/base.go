package debian

import (
	"slices"
	"strings"
)

// The layers that weft's own builders have. Buildpacks name them; see the field "base" of their images.

// without are packages that dependencies name and that only scripts of packages need, which are not run.
var without = []string{"adduser", "ca-certificates-java", "debconf", "debconf-2.0", "dpkg", "init-system-helpers", "install-info", "libdebconfclient0",
	"openssl", "perl", "perl-base", "sensible-utils", "systemd", "util-linux"}

// Without gives a copy of the packages that are left out although others depend on them.
func Without() []string { return slices.Clone(without) }

// essentials are in every image: a shell and what scripts expect, certificates, time zones.
var essentials = []string{"base-files", "base-passwd", "bash", "ca-certificates", "coreutils", "dash", "debianutils", "diffutils", "findutils", "grep", "gzip",
	"hostname", "libc-bin", "mawk", "netbase", "sed", "tar", "tzdata"}

// languages have packages for building and for running.
var languages = []struct {
	name       string
	build, run []string
}{
	{"node", []string{"nodejs", "npm"}, []string{"nodejs"}},
	{"python", []string{"python3", "python3-venv"}, []string{"python3"}},
	{"java", []string{"default-jdk-headless", "maven"}, []string{"default-jre-headless"}},
}

// tools are what the build image of a whole builder has besides, for scripts of users.
var tools = []string{"bzip2", "curl", "git", "jq", "patch", "procps", "unzip", "xz-utils", "zip"}

// Names of layers.
const (
	Base = "base" // what every image has; alone it is the run image for programs that need a shell
	Full = "full" // every language and the tools
)

// BuildLayer and RunLayer give the names of the layers of a language.
func BuildLayer(language string) string {
	if language == Base {
		return Base
	}
	return language + "-build"
}

// RunLayer is the name of the layer to run a language on.
func RunLayer(language string) string {
	if language == Base {
		return Base
	}
	return language + "-run"
}

// Languages lists the languages that there are layers for, with Base and Full.
func Languages() []string {
	out := []string{Base}
	for _, l := range languages {
		out = append(out, l.name)
	}
	return append(out, Full)
}

// WantedFor gives the layers to build and run applications of a language (several are joined by +), Base or Full, with more packages in
// each.
func WantedFor(language string, moreBuild, moreRun []string) ([]Wanted, bool) {
	out := []Wanted{{Name: Base, Packages: essentials}}
	if language == Base {
		out[0].Packages = slices.Concat(essentials, moreBuild, moreRun)
		return out, true
	}
	var build, run []string
	for name := range strings.SplitSeq(language, "+") {
		known := name == Full
		for _, l := range languages {
			if l.name == name || name == Full {
				build, run, known = append(build, l.build...), append(run, l.run...), true
			}
		}
		if !known {
			return nil, false
		}
		if name == Full {
			build = append(build, tools...)
		}
	}
	return append(out, Wanted{Name: BuildLayer(language), On: Base, Packages: append(build, moreBuild...)},
		Wanted{Name: RunLayer(language), On: Base, Packages: append(run, moreRun...)}), true
}
