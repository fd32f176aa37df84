package debian

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Limits on control files.
const (
	maxLine   = 1 << 20 // bytes
	maxStanza = 8 << 20 // bytes; a Release file is one stanza
)

// stanza is a paragraph of a control file: values by field name in lower case. Continuation lines are joined by newlines.
type stanza map[string]string

// eachStanza reads a control file (deb-control(5), deb822(5)) and calls do with each paragraph.
func eachStanza(r io.Reader, file string, do func(stanza) error) error {
	in := bufio.NewScanner(r)
	in.Buffer(make([]byte, 64<<10), maxLine)
	current, last, size, number := stanza{}, "", 0, 0
	flush := func() error {
		if len(current) == 0 {
			return nil
		}
		s := current
		current, last, size = stanza{}, "", 0
		return do(s)
	}
	for in.Scan() {
		number++
		line := strings.TrimRight(in.Text(), "\r")
		if size += len(line); size > maxStanza {
			return fmt.Errorf("%s:%d: a paragraph of more than %d bytes", file, number, maxStanza)
		}
		switch {
		case strings.TrimSpace(line) == "":
			if err := flush(); err != nil {
				return err
			}
		case line[0] == '#':
		case line[0] == ' ' || line[0] == '\t':
			if last == "" {
				return fmt.Errorf("%s:%d: a continuation without a field", file, number)
			}
			current[last] += "\n" + strings.TrimSpace(line)
		default:
			name, value, ok := strings.Cut(line, ":")
			if !ok || name == "" || strings.ContainsAny(name, " \t") {
				return fmt.Errorf("%s:%d: expected \"Field: value\", found %.60q", file, number, line)
			}
			last = strings.ToLower(name)
			current[last] = strings.TrimSpace(value)
		}
	}
	if err := in.Err(); err != nil {
		if errors.Is(err, bufio.ErrTooLong) {
			return fmt.Errorf("%s:%d: a line of more than %d bytes", file, number+1, maxLine)
		}
		return fmt.Errorf("%s: %w", file, err)
	}
	return flush()
}

// Package is a package as an index of the archive describes it.
type Package struct {
	Name      string
	Version   string
	Arch      string
	Filename  string // below the mirror
	SHA256    string // hexadecimal
	Size      int64  // bytes
	Mirror    string // URL that Filename is relative to
	Essential bool

	depends  [][]relation // Pre-Depends and Depends: all of them, of each any
	provides []relation
	clashes  []relation // Conflicts and Breaks
}

// relation is "name (op version)".
type relation struct{ name, op, version string }

func (r relation) String() string {
	if r.op == "" {
		return r.name
	}
	return fmt.Sprintf("%s (%s %s)", r.name, r.op, r.version)
}

// admits reports whether a version satisfies the relation.
func (r relation) admits(version string) bool {
	if r.op == "" {
		return true
	}
	c := Compare(version, r.version)
	switch r.op {
	case "<<":
		return c < 0
	case "<=", "<":
		return c <= 0
	case "=":
		return c == 0
	case ">=", ">":
		return c >= 0
	case ">>":
		return c > 0
	}
	return false
}

// parseRelation reads "name[:arch] [(op version)]".
func parseRelation(s string) (relation, error) {
	s = strings.TrimSpace(s)
	name, rest, versioned := strings.Cut(s, "(")
	name = strings.TrimSpace(name)
	if i := strings.IndexAny(name, ":[< \t"); i >= 0 {
		name = name[:i]
	}
	if !validName(name) {
		return relation{}, fmt.Errorf("%.80q is no package", s)
	}
	r := relation{name: name}
	if !versioned {
		return r, nil
	}
	inside, _, closed := strings.Cut(rest, ")")
	inside = strings.TrimSpace(inside)
	n := 0
	for n < len(inside) && strings.IndexByte("<>=", inside[n]) >= 0 {
		n++
	}
	r.op, r.version = inside[:n], strings.TrimSpace(inside[n:])
	switch r.op {
	case "<<", "<=", "=", ">=", ">>", "<", ">":
	default:
		closed = false
	}
	if !closed || r.version == "" {
		return relation{}, fmt.Errorf("%.80q is no relation to a version", s)
	}
	return r, nil
}

func validName(s string) bool {
	if s == "" {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || isDigit(c) || i > 0 && (c == '+' || c == '-' || c == '.')) {
			return false
		}
	}
	return true
}

func parseRelations(s string) ([]relation, error) {
	if strings.TrimSpace(s) == "" {
		return nil, nil
	}
	var out []relation
	for part := range strings.SplitSeq(s, ",") {
		if strings.TrimSpace(part) == "" {
			continue
		}
		r, err := parseRelation(part)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

func parseDepends(s string) ([][]relation, error) {
	var out [][]relation
	for part := range strings.SplitSeq(s, ",") {
		if strings.TrimSpace(part) == "" {
			continue
		}
		var any []relation
		for alternative := range strings.SplitSeq(part, "|") {
			r, err := parseRelation(alternative)
			if err != nil {
				return nil, err
			}
			any = append(any, r)
		}
		out = append(out, any)
	}
	return out, nil
}

// readPackages reads a Packages index.
func readPackages(r io.Reader, file, mirror string, add func(*Package)) error {
	return eachStanza(r, file, func(s stanza) error {
		p, err := packageOf(s)
		if err != nil {
			return fmt.Errorf("%s: package %q: %w", file, s["package"], err)
		}
		p.Mirror = mirror
		add(p)
		return nil
	})
}

func packageOf(s stanza) (*Package, error) {
	p := &Package{Name: s["package"], Version: s["version"], Arch: s["architecture"], Filename: s["filename"], SHA256: s["sha256"],
		Essential: s["essential"] == "yes"}
	var err error
	switch {
	case !validName(p.Name):
		return nil, errors.New("the field Package is missing or wrong")
	case p.Version == "":
		return nil, errors.New("the field Version is missing")
	case len(p.SHA256) != 64 || strings.Trim(p.SHA256, "0123456789abcdef") != "":
		return nil, errors.New("the field SHA256 is missing or wrong")
	case badPath(p.Filename):
		return nil, fmt.Errorf("the field Filename is %q", p.Filename)
	}
	if p.Size, err = strconv.ParseInt(s["size"], 10, 64); err != nil || p.Size < 0 {
		return nil, fmt.Errorf("the field Size is %q", s["size"])
	}
	if p.depends, err = parseDepends(s["pre-depends"] + "," + s["depends"]); err != nil {
		return nil, fmt.Errorf("the field Depends: %w", err)
	}
	if p.provides, err = parseRelations(s["provides"]); err != nil {
		return nil, fmt.Errorf("the field Provides: %w", err)
	}
	if p.clashes, err = parseRelations(s["conflicts"] + "," + s["breaks"]); err != nil {
		return nil, fmt.Errorf("the field Conflicts or Breaks: %w", err)
	}
	return p, nil
}

// badPath reports whether a path of an index could lead out of its mirror.
func badPath(p string) bool {
	if p == "" || strings.HasPrefix(p, "/") || strings.ContainsAny(p, "\\?#\x00") {
		return true
	}
	for part := range strings.SplitSeq(p, "/") {
		if part == ".." {
			return true
		}
	}
	return false
}
