package fluentd

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/weft-dev/weft/logging/pipeline/fluentd/buffer"
	"github.com/weft-dev/weft/logging/pipeline/fluentd/format"
	"github.com/weft-dev/weft/logging/pipeline/record"
)

// fileWriter writes chunks to files that are named after their time, tag and fields (lib/fluent/plugin/out_file.rb).
type fileWriter struct {
	part   *part
	path   *template
	format *format.Formatter
	inject *injector
	add    bool // to a file that is there
	gzip   bool
	link   *template // nil for none
	// relative says that the link leads to the file from where it lies.
	relative bool
	mu       sync.Mutex
}

const day = 24 * time.Hour

func newFile(b *builder, p *part) target {
	p.only("format", "inject", "buffer", "secondary")
	d := bufferDefaults{kind: "file", keys: []string{"time"}, timekey: day, path: p.section.Value("path")}
	if p.child("buffer") == nil {
		p.log.Warn("default timekey interval (1d) will be used because of missing <buffer> section. To change the output frequency, please modify the timekey value")
	}
	made, ok := b.buffer(p, nil, d).(*buffered)
	if ok {
		made.writer = newFileWriter(b, p, made.keys)
	}
	return made
}

func newFileWriter(b *builder, p *part, keys *chunking) writer {
	o := p.set
	f := &fileWriter{part: p, format: b.formatter(p, "out_file"), inject: b.injector(p), add: o.Bool("append")}
	switch how := strings.ToLower(o.String("compress")); how {
	case "", "text":
	case "gz", "gzip":
		f.gzip = true
	default:
		o.Failf("compress", "the compression %q is not built into logagent; there are text and gzip", how)
	}
	f.relative = o.Bool("symlink_path_use_relative")
	o.Pass("recompress") // chunks are not compressed while they wait
	path := o.String("path")
	if path == "" {
		o.Failf("", "file needs the option path")
		return f
	}
	suffix := ""
	if o.Bool("add_path_suffix") {
		suffix = o.String("path_suffix")
	} else {
		o.Ignore("path_suffix")
	}
	text, err := pathTemplate(path, keys, f.add, suffix, f.gzip)
	if err != nil {
		o.Failf("path", "path %q: %v", path, err)
	}
	f.path = keys.template(p, "path", text, p.kind != "secondary" && err == nil)
	if link := o.String("symlink_path"); link != "" {
		f.link = keys.template(p, "symlink_path", link, false)
	}
	return f
}

// index and dotted stand for the number of a file that is not appended to.
const (
	index  = "_**"
	dotted = ".**"
)

// pathTemplate puts the time, the number and the suffix into a path, as far as they are not there.
func pathTemplate(path string, keys *chunking, add bool, suffix string, gzip bool) (string, error) {
	number, compressed, form := index, "", ""
	if add {
		number = ""
	}
	if gzip {
		compressed = ".gz"
	}
	if keys.time {
		switch {
		case keys.timekey < time.Minute:
			form = "%Y%m%d%H%M%S"
		case keys.timekey < time.Hour:
			form = "%Y%m%d%H%M"
		case keys.timekey < day:
			form = "%Y%m%d%H"
		default:
			form = "%Y%m%d"
		}
	}
	if strings.Contains(path, "*") {
		if !keys.time {
			return path, errors.New("* stands for the time, but time is no chunk key; write <buffer time>")
		}
		return strings.ReplaceAll(path, "*", form+number) + compressed, nil
	}
	if form == "" {
		return path + number + suffix + compressed, nil
	}
	some, all := false, true
	for i := 0; i < len(form); i += 2 {
		has := strings.Contains(path, form[i:i+2])
		some, all = some || has, all && has
	}
	switch {
	case some && !all:
		return path, fmt.Errorf("it needs all of %s for a timekey of %s", form, keys.timekey)
	case some:
		return path + number + suffix + compressed, nil
	}
	return path + "." + form + number + suffix + compressed, nil
}

func (f *fileWriter) write(_ context.Context, c *delivery) error {
	path, err := f.path.expand(c.Chunk)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	var text []byte
	for r := record.NewReader(c.data); r.Next(); {
		tag := c.tag(&r.Event)
		text = f.format.Append(text, tag, r.Time, f.inject.apply(tag, r.Time, r.Body))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.add {
		err = f.append(path, text)
	} else {
		path, err = f.create(path, text)
	}
	if err == nil && f.link != nil {
		err = f.symlink(c.Chunk, path)
	}
	return err
}

// append adds text at the end of a file: all of it, or nothing.
func (f *fileWriter) append(path string, text []byte) error {
	out, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	before, statErr := out.Stat()
	if err = f.fill(out, text); err != nil && statErr == nil && before.Mode().IsRegular() {
		if cut := out.Truncate(before.Size()); cut != nil {
			err = fmt.Errorf("%w; and what was written stays: %w", err, cut)
		}
	}
	if closed := out.Close(); err == nil {
		err = closed
	}
	return err
}

func (f *fileWriter) fill(out io.Writer, text []byte) error {
	if !f.gzip {
		_, err := out.Write(text)
		return err
	}
	z := gzip.NewWriter(out)
	_, err := z.Write(text)
	return errors.Join(err, z.Close())
}

// create writes a new file with the first number that is free.
func (f *fileWriter) create(path string, text []byte) (string, error) {
	for n := 0; ; n++ {
		name := strings.Replace(strings.Replace(path, index, "_"+strconv.Itoa(n), 1), dotted, "."+strconv.Itoa(n), 1)
		out, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
		if os.IsExist(err) && name != path {
			continue
		}
		if err != nil {
			return "", err
		}
		err = f.fill(out, text)
		if closed := out.Close(); err == nil {
			err = closed
		}
		if err != nil {
			return "", errors.Join(err, os.Remove(name)) // the chunk comes again
		}
		return name, nil
	}
}

// symlink leads to the file that was written last.
func (f *fileWriter) symlink(c *buffer.Chunk, path string) error {
	link, err := f.link.expand(c)
	if err != nil {
		return err
	}
	if link == path {
		return nil
	}
	if path, err = filepath.Abs(path); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
		return err
	}
	fresh := link + ".tmp"
	if err := os.Remove(fresh); err != nil && !os.IsNotExist(err) {
		return err
	}
	if f.relative {
		from, err := filepath.Abs(filepath.Dir(link))
		if err != nil {
			return err
		}
		if path, err = filepath.Rel(from, path); err != nil {
			return err
		}
	}
	if err := os.Symlink(path, fresh); err != nil {
		return err
	}
	return os.Rename(fresh, link)
}

func (f *fileWriter) close() error { return nil }

// secondaryFile keeps the chunks of an output that fails, as MessagePack.
type secondaryFile struct {
	directory, name *template
	add             bool
	gzip            bool
}

func newSecondaryFile(_ *builder, p *part, keys *chunking) writer {
	o := p.set
	if o.String("directory") == "" {
		o.Failf("", "secondary_file needs the option directory")
	}
	s := &secondaryFile{directory: keys.template(p, "directory", o.String("directory"), false), name: keys.template(p, "basename", o.StringOr("basename", "dump.bin"), false),
		add: o.Bool("append"), gzip: strings.HasPrefix(strings.ToLower(o.String("compress")), "gz")}
	p.only()
	return s
}

func (s *secondaryFile) write(_ context.Context, c *delivery) error {
	dir, err := s.directory.expand(c.Chunk)
	if err != nil {
		return err
	}
	name, err := s.name.expand(c.Chunk)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f := &fileWriter{gzip: s.gzip}
	suffix := ""
	if s.gzip {
		suffix = ".gz"
	}
	path := filepath.Join(dir, name)
	var events []byte
	for r := record.NewReader(c.data); r.Next(); {
		events = append(record.AppendTime(append(events, 0x92), r.Time), r.Body...)
	}
	if s.add {
		return f.append(path+suffix, events)
	}
	_, err = f.create(path+dotted+suffix, events)
	return err
}

func (s *secondaryFile) close() error { return nil }
