package debian

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// Source is an archive: one suite of one mirror.
type Source struct {
	Mirror     string   // URL, without a slash at the end
	Suite      string   // bookworm, bookworm-updates ...
	Components []string // main ...
	Keyring    string   // file with the keys that may sign it; "" is those that apt trusts
}

// HostSources gives the archives of the distribution that this machine runs, as apt is told of them below root (usually "/"). Archives
// of others than the distribution are left out: what is built should not depend on them.
func HostSources(root string) ([]Source, error) {
	release, err := osRelease(root)
	if err != nil {
		return nil, err
	}
	codename := release["VERSION_CODENAME"]
	if codename == "" {
		return nil, fmt.Errorf("%s names no VERSION_CODENAME: this machine runs no Debian release; name a mirror and a suite", filepath.Join(root, "etc/os-release"))
	}
	files := []string{filepath.Join(root, "etc/apt/sources.list")}
	for _, pattern := range []string{"*.list", "*.sources"} {
		more, err := filepath.Glob(filepath.Join(root, "etc/apt/sources.list.d", pattern))
		if err != nil {
			return nil, err
		}
		files = append(files, more...)
	}
	var out []Source
	for _, file := range files {
		data, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		read := readList
		if strings.HasSuffix(file, ".sources") {
			read = readDeb822
		}
		list, err := read(string(data), file)
		if err != nil {
			return nil, err
		}
		for _, s := range list {
			if s.Suite == codename || strings.HasPrefix(s.Suite, codename+"-") && !strings.HasSuffix(s.Suite, "-backports") {
				out = append(out, s)
			}
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("apt's sources below %s have no archive of %s; name a mirror and a suite", filepath.Join(root, "etc/apt"), codename)
	}
	return out, nil
}

func osRelease(root string) (map[string]string, error) {
	data, err := os.ReadFile(filepath.Join(root, "etc/os-release"))
	if err != nil {
		return nil, fmt.Errorf("this machine runs no Debian: %w; name a mirror and a suite", err)
	}
	out := map[string]string{}
	for line := range strings.Lines(string(data)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			out[name] = strings.Trim(value, `"'`)
		}
	}
	return out, nil
}

// readList reads the one-line style of sources.list(5).
func readList(text, file string) ([]Source, error) {
	var out []Source
	number := 0
	for line := range strings.Lines(text) {
		number++
		line, _, _ = strings.Cut(line, "#")
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), "deb ")
		if !ok {
			continue
		}
		rest = strings.TrimSpace(rest)
		options := ""
		if strings.HasPrefix(rest, "[") {
			var closed bool
			if options, rest, closed = strings.Cut(rest[1:], "]"); !closed {
				return nil, fmt.Errorf("%s:%d: the options are not closed by a bracket", file, number)
			}
		}
		fields := strings.Fields(rest)
		if len(fields) < 2 {
			return nil, fmt.Errorf("%s:%d: expected \"deb URL SUITE COMPONENT...\"", file, number)
		}
		if !isWeb(fields[0]) || len(fields) == 2 {
			continue // a disc, or a flat archive
		}
		s := Source{Mirror: strings.TrimRight(fields[0], "/"), Suite: fields[1], Components: fields[2:]}
		for _, o := range strings.Fields(options) {
			if keyring, ok := strings.CutPrefix(o, "signed-by="); ok {
				s.Keyring = keyring
			}
			if archs, ok := strings.CutPrefix(o, "arch="); ok && !slices.Contains(strings.Split(archs, ","), runtime.GOARCH) {
				s.Suite = ""
			}
		}
		if s.Suite != "" {
			out = append(out, s)
		}
	}
	return out, nil
}

// readDeb822 reads the deb822 style of sources.list(5).
func readDeb822(text, file string) ([]Source, error) {
	var out []Source
	err := eachStanza(strings.NewReader(text), file, func(s stanza) error {
		if !slices.Contains(strings.Fields(s["types"]), "deb") || s["enabled"] == "no" {
			return nil
		}
		keyring := s["signed-by"]
		if strings.Contains(keyring, "\n") {
			keyring = "" // a key in the file itself
		}
		for _, mirror := range strings.Fields(s["uris"]) {
			if !isWeb(mirror) {
				continue
			}
			for _, suite := range strings.Fields(s["suites"]) {
				if components := strings.Fields(s["components"]); len(components) > 0 {
					out = append(out, Source{strings.TrimRight(mirror, "/"), suite, components, keyring})
				}
			}
		}
		return nil
	})
	return out, err
}

func isWeb(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
}

// NamedSources gives the archives of a suite on a mirror that the user names, main only.
func NamedSources(mirror, suite, keyring string) ([]Source, error) {
	if !isWeb(mirror) {
		return nil, fmt.Errorf("the mirror %q is no URL of http or https", mirror)
	}
	if badPath(suite) {
		return nil, fmt.Errorf("the suite %q cannot be used", suite)
	}
	return []Source{{strings.TrimRight(mirror, "/"), suite, []string{"main"}, keyring}}, nil
}
