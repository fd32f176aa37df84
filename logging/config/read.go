package config

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
)

// Limits that keep a configuration from eating the machine.
const (
	maxFileSize = 32 << 20
	maxFiles    = 1000
	maxDepth    = 64 // of sections, values and inclusions
)

// Options say how files are found. The zero value reads from the disk.
type Options struct {
	Format Format // "" means by the name's ending and the content
	// Open gives a file's content.
	Open func(name string) ([]byte, error)
	// Glob gives the names that match a pattern, sorted.
	Glob func(pattern string) ([]string, error)
	// Parsers also reads the files named by parsers_file in the service section of Fluent Bit. A file that is not there is
	// passed over if MissingParsers says so.
	Parsers        bool
	MissingParsers func(name string) bool
}

func (o Options) open(name string) ([]byte, error) {
	if o.Open != nil {
		return o.Open(name)
	}
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxFileSize {
		return nil, fmt.Errorf("%s has %d bytes, more than the limit of %d", name, info.Size(), maxFileSize)
	}
	return os.ReadFile(name)
}

func (o Options) glob(pattern string) ([]string, error) {
	if o.Glob != nil {
		return o.Glob(pattern)
	}
	names, err := filepath.Glob(pattern)
	sort.Strings(names)
	return names, err
}

// Load reads a file and everything that it includes. Faults are *Error; several come joined (errors.Join).
func Load(name string, options Options) (*File, error) {
	data, err := options.open(name)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	return Parse(name, data, options)
}

// Parse reads a configuration that is at hand; name is for positions and for finding included files.
func Parse(name string, data []byte, options Options) (*File, error) {
	format := options.Format
	if format == "" {
		format = Detect(name, data)
	}
	r := &reader{options: options, file: &File{Format: format}, open: map[string]bool{}}
	r.read(name, data)
	if options.Parsers && format != Fluentd {
		r.parserFiles(filepath.Dir(name))
	}
	if len(r.faults) > 0 {
		return nil, errors.Join(r.faults...)
	}
	return r.file, nil
}

// Detect tells the format by the name's ending, or by the first line that says something. YAML of Fluentd is Fluentd: it has config or system
// at its top, which Fluent Bit's has not.
func Detect(name string, data []byte) Format {
	if isYAML(name) {
		if fluentdTop.Match(data) && !fluentBitTop.Match(data) {
			return Fluentd
		}
		return YAML
	}
	for _, line := range bytes.Split(data, []byte("\n")) {
		line = bytes.TrimSpace(line)
		switch {
		case len(line) == 0 || line[0] == '#':
		case line[0] == '<' || bytes.HasPrefix(line, []byte("@include ")):
			return Fluentd
		case line[0] == '[' || line[0] == '@':
			return Classic
		default:
			return YAML
		}
	}
	return Classic
}

var (
	fluentdTop   = regexp.MustCompile(`(?m)^(config|system):(\s|$)`)
	fluentBitTop = regexp.MustCompile(`(?m)^(service|pipeline|parsers|multiline_parsers|includes|env|plugins|customs):(\s|$)`)
)

type reader struct {
	options Options
	file    *File
	faults  []error
	open    map[string]bool // files being read, to find circles
	depth   int
}

func (r *reader) fault(pos Position, format string, args ...any) {
	if len(r.faults) < 100 {
		r.faults = append(r.faults, fault(pos, format, args...))
	}
}

func (r *reader) read(name string, data []byte) {
	r.file.Read = append(r.file.Read, name)
	if len(data) > maxFileSize {
		r.fault(Position{File: name}, "the file has %d bytes, more than the limit of %d", len(data), maxFileSize)
		return
	}
	r.open[name] = true
	r.depth++
	switch r.file.Format {
	case YAML:
		r.yaml(name, data)
	case Fluentd:
		if isYAML(name) {
			r.fluentdYAML(name, data)
			break
		}
		p := &fluentdParser{reader: r, name: name, data: string(data), line: 1}
		properties, sections := p.body("", 0)
		r.file.Properties = append(r.file.Properties, properties...)
		r.file.Sections = append(r.file.Sections, sections...)
	default:
		r.classic(name, data)
	}
	r.depth--
	delete(r.open, name)
}

// include finds the files of a pattern next to the file that names it, and reads each.
func (r *reader) include(from Position, pattern string, each func(name string, data []byte)) {
	path := pattern
	if !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(from.File), path)
	}
	names := []string{path}
	if strings.ContainsAny(pattern, "*?[") {
		var err error
		if names, err = r.options.glob(path); err != nil {
			r.fault(from, "the pattern %q of included files: %v", pattern, err)
			return
		}
		if len(names) == 0 && r.file.Format != Fluentd {
			r.fault(from, "no file matches %q", pattern)
		}
	}
	for _, name := range names {
		if r.open[name] {
			r.fault(from, "%s includes itself", name)
			continue
		}
		if len(r.file.Read) >= maxFiles || r.depth >= maxDepth {
			r.fault(from, "more than %d included files, or included more than %d deep", maxFiles, maxDepth)
			return
		}
		data, err := r.options.open(name)
		if err != nil {
			r.fault(from, "the included file cannot be read: %v", err)
			continue
		}
		each(name, data)
	}
}

// parserFiles reads what the service section names by parsers_file.
func (r *reader) parserFiles(folder string) {
	for _, service := range r.file.All(Service) {
		for _, p := range service.Properties {
			if !strings.EqualFold(p.Key, "parsers_file") || p.Value == "" {
				continue
			}
			name := p.Value
			if !filepath.IsAbs(name) {
				name = filepath.Join(folder, name)
			}
			data, err := r.options.open(name)
			if err != nil {
				if r.options.MissingParsers == nil || !r.options.MissingParsers(name) {
					r.fault(p.ValuePos, "the parsers file cannot be read: %v", err)
				}
				continue
			}
			if r.open[name] || len(r.file.Read) >= maxFiles {
				continue
			}
			format := r.file.Format
			r.file.Format = Detect(name, data)
			r.read(name, data)
			r.file.Format = format
		}
	}
}
