package fluentd

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// braces is {a,b}.
var braces = regexp.MustCompile(`\{.*,.*\}`)

// glob gives the names that a pattern of Ruby's Dir.glob matches, sorted: *, ?, [...], {a,b}, and **/ for any number of folders. What begins with a
// dot is matched by a pattern that does. A pattern that is not valid matches nothing.
func glob(pattern string) []string {
	patterns, err := expandGlob(pattern)
	if err != nil {
		return nil
	}
	var all []string
	for _, p := range patterns {
		root := ""
		if strings.HasPrefix(p, "/") {
			root, p = "/", strings.TrimLeft(p, "/")
		}
		all = globIn(all, root, strings.Split(p, "/"))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// globIn adds what matches below a folder, "" for the one that the process is in.
func globIn(all []string, folder string, parts []string) []string {
	if len(parts) == 0 {
		return append(all, folder)
	}
	part, rest := parts[0], parts[1:]
	switch {
	case part == "" && len(rest) > 0: // a//b
		return globIn(all, folder, rest)
	case part == "**" && len(rest) > 0:
		all = globIn(all, folder, rest)
		for _, e := range entries(folder) {
			if e.IsDir() && !strings.HasPrefix(e.Name(), ".") { // a link to a folder is not followed: it may lead back
				all = globIn(all, join(folder, e.Name()), parts)
			}
		}
		return all
	case !strings.ContainsAny(part, `*?[\`):
		name := join(folder, part)
		if _, err := os.Stat(name); err != nil {
			return all
		}
		return globIn(all, name, rest)
	}
	for _, e := range entries(folder) {
		if strings.HasPrefix(e.Name(), ".") && !strings.HasPrefix(part, ".") {
			continue
		}
		if ok, err := filepath.Match(part, e.Name()); err != nil || !ok {
			continue
		}
		all = globIn(all, join(folder, e.Name()), rest)
	}
	return all
}

// join keeps the path as it is written.
func join(folder, name string) string {
	if folder == "" || strings.HasSuffix(folder, "/") {
		return folder + name
	}
	return folder + "/" + name
}

func entries(folder string) []fs.DirEntry {
	if folder == "" {
		folder = "."
	}
	found, err := os.ReadDir(folder)
	if err != nil {
		return nil
	}
	return found
}

// mostAlternatives bounds what {a,b} may multiply to.
const mostAlternatives = 1024

// expandGlob gives the patterns that {a,b} stands for.
func expandGlob(pattern string) ([]string, error) {
	done, open := []string(nil), []string{pattern}
	for len(open) > 0 {
		p := open[0]
		open = open[1:]
		before, words, after, found := cutBraces(p)
		if !found {
			if _, err := filepath.Match(p, ""); err != nil {
				return nil, err
			}
			done = append(done, p)
			continue
		}
		for _, w := range words {
			open = append(open, before+w+after)
		}
		if len(open)+len(done) > mostAlternatives {
			return nil, errors.New("{a,b} stands for too many names")
		}
	}
	return done, nil
}

// cutBraces takes the first {...} apart, at the commas that no inner braces enclose.
func cutBraces(p string) (before string, words []string, after string, found bool) {
	start := strings.IndexByte(p, '{')
	if start < 0 {
		return "", nil, "", false
	}
	depth, word := 0, start+1
	for i := start; i < len(p); i++ {
		switch p[i] {
		case '{':
			depth++
		case ',':
			if depth == 1 {
				words = append(words, p[word:i])
				word = i + 1
			}
		case '}':
			if depth--; depth == 0 {
				return p[:start], append(words, p[word:i]), p[i+1:], true
			}
		}
	}
	return "", nil, "", false
}
