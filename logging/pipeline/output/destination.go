package output

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/pipeline/record"
)

// destination says to which files records go: one, one for each tag, or with fields ($key) and times (%Y, with enable_strftime) in Path and File one for
// each of their values. Neither tags nor fields lead out of the folder that Path begins with.
type destination struct {
	path, file string
	dynamic    bool
	pathParts  *record.Template
	fileParts  *record.Template
	times      bool
	fallback   string // a file, "" if there is none
	missing    string // error, drop, fallback: for records without the fields
	full       string // the same: for one file more than limit
	limit      int    // 0 is none
	seen       map[string]bool
}

func newDestination(o *options.Set) destination {
	d := destination{path: o.String("path"), file: o.String("file"), limit: o.Int("max_dynamic_files"), seen: map[string]bool{}}
	template := func(key, text string) *record.Template {
		if !strings.Contains(text, "$") {
			return nil
		}
		t, err := record.ParseTemplate(text)
		if err != nil {
			o.Failf(key, "%s: %v", key, err)
		}
		return &t
	}
	d.pathParts, d.fileParts = template("path", d.path), template("file", d.file)
	if strings.HasPrefix(d.path, "$") {
		o.Failf("path", "Path begins with a field, so that records could go anywhere; begin with a folder")
	}
	d.times = o.Bool("enable_strftime") && strings.Contains(d.path+d.file, "%")
	d.dynamic = d.pathParts != nil || d.fileParts != nil || d.times
	if name := o.String("fallback_file"); name != "" {
		d.fallback = filepath.Join(o.String("fallback_path"), name)
	} else {
		if d.dynamic {
			o.Failf("fallback_file", "Path or File depend on records: set Fallback_File, for those that have no place")
		}
		o.Tell("fallback_path")
	}
	action := func(key string) string {
		v := strings.ToLower(o.StringOr(key, "error"))
		switch v {
		case "error", "drop":
		case "fallback":
			if d.fallback == "" {
				o.Failf(key, "%s fallback needs Fallback_File", key)
			}
		default:
			o.Failf(key, "there is no %s %q; there are error, drop and fallback", key, v)
		}
		return v
	}
	d.missing, d.full = action("on_missing_field"), action("on_limit_reached")
	if d.limit < 0 {
		o.Failf("max_dynamic_files", "max_dynamic_files must not be below 0; 0 is no limit")
	}
	return d
}

// name is the file for all records with a tag.
func (d *destination) name(tag string) string {
	file := d.file
	if file == "" {
		file = fileOfTag(tag)
	}
	return filepath.Join(d.path, file)
}

// fileOfTag makes a relative path of a tag: its slashes stay, other bytes that are no letters, digits, -, _ or . become _.
func fileOfTag(tag string) string {
	var parts []string
	for part := range strings.FieldsFuncSeq(tag, func(r rune) bool { return r == '/' || r == '\\' }) {
		b := []byte(part)
		for i, c := range b {
			if !(c == '-' || c == '_' || c == '.' || c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z') {
				b[i] = '_'
			}
		}
		if part == "." || part == ".." {
			b = []byte{'_'}
		}
		parts = append(parts, string(b))
	}
	if len(parts) == 0 {
		return "_"
	}
	return filepath.Join(parts...)
}

var errNoPlace = errors.New("a record lacks a field that Path or File name, or what it holds is no name of a file")

// of is the file for one record.
func (d *destination) of(tag string, e *record.Event) (string, error) {
	fill := func(text string, t *record.Template) (string, error) {
		if d.times {
			text = strftime(text, e.Time.Std())
		}
		if t == nil {
			return text, nil
		}
		if d.times {
			// Times come first: what a record holds is no format.
			again, err := record.ParseTemplate(text)
			if err != nil {
				return "", err
			}
			t = &again
		}
		b, complete := t.Append(nil, record.Scope{Tag: tag, Body: e.Body})
		if !complete {
			return "", errNoPlace
		}
		return string(b), nil
	}
	path, err := fill(d.path, d.pathParts)
	if err != nil {
		return "", err
	}
	file := fileOfTag(tag)
	if d.file != "" {
		if file, err = fill(d.file, d.fileParts); err != nil {
			return "", err
		}
	}
	if (d.pathParts != nil || d.times) && !isSafePath(path) || (d.fileParts != nil || d.times && d.file != "") && !isSafeFile(file) {
		return "", errNoPlace
	}
	return filepath.Join(path, file), nil
}

func isSafePath(path string) bool {
	if strings.ContainsFunc(path, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return false
	}
	for part := range strings.FieldsFuncSeq(path, func(r rune) bool { return r == '/' || r == '\\' }) {
		if part == "." || part == ".." {
			return false
		}
	}
	return path != ""
}

func isSafeFile(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f || strings.ContainsRune(`/\:*?"<>|`, r) })
}

// split gives the records of a chunk to their files, in order.
func (d *destination) split(c Chunk, h Host) (names []string, parts []Chunk, err error) {
	if c.Metrics {
		return []string{d.fallback}, []Chunk{c}, nil
	}
	at := map[string]int{}
	for r := record.NewReader(c.Data); r.Next(); {
		name, err := d.of(c.Tag, &r.Event)
		action := d.missing
		if err == nil && !d.seen[name] {
			if d.limit > 0 && len(d.seen) >= d.limit {
				err, action = fmt.Errorf("there are %d files already, as many as max_dynamic_files allows", len(d.seen)), d.full
			} else {
				d.seen[name] = true
			}
		}
		if err != nil {
			switch action {
			case "drop":
				h.Log.Warn("a record is dropped", "tag", c.Tag, "error", err)
				continue
			case "fallback":
				name = d.fallback
			default:
				return nil, nil, err
			}
		}
		i, ok := at[name]
		if !ok {
			i = len(names)
			at[name] = i
			names = append(names, name)
			parts = append(parts, Chunk{Tag: c.Tag})
		}
		parts[i].Data = append(parts[i].Data, r.Raw...)
		parts[i].Count++
	}
	return names, parts, nil
}
