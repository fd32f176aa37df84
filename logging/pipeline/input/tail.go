package input

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/weft-dev/weft/logging/config"
	"github.com/weft-dev/weft/logging/pipeline/flow"
	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/pipeline/parser"
	"github.com/weft-dev/weft/logging/pipeline/regex"
)

// ErrEnd ends the pipeline without a failure: the input has brought all that it was asked for.
var ErrEnd = errors.New("the input has come to its end")

// tail follows files. One goroutine reads all files of a section, with one buffer, so that many idle files cost little.
type tail struct {
	host     Host
	sink     flow.Sink
	paths    []string
	exclude  []string
	tag      string
	tagRegex *regex.Regexp

	key, pathKey, offsetKey string
	parser                  *parser.Parser
	lines                   lineMode

	fromHead, newFromHead     bool
	skipLong, truncateLong    bool
	skipEmpty                 bool
	maxLine                   int
	refresh, rotateWait, poll time.Duration
	ignoreOlder               time.Duration
	ignoreActive              bool
	exitOnEOF                 bool
	inotify                   bool
	compareName               bool
	database                  string

	store    *PositionStore
	progress chan struct{} // nil without a database
	watch    *watcher
	files    map[string]*tailed // by key
	buffer   []byte
	batch    []byte
	started  bool
}

// readSize is how much is read of a file at once; one buffer serves all files.
const readSize = 256 << 10

func newTail(o *options.Set, h Host) Input {
	t := &tail{host: h, tag: h.Tag, key: o.String("key"), pathKey: o.String("path_key"), offsetKey: o.String("offset_key"),
		fromHead: o.Bool("read_from_head"), newFromHead: o.Bool("read_newly_discovered_files_from_head"),
		skipLong: o.Bool("skip_long_lines"), truncateLong: o.Bool("truncate_long_lines"), skipEmpty: o.Bool("skip_empty_lines"),
		rotateWait: o.Duration("rotate_wait"), ignoreOlder: o.Duration("ignore_older"), ignoreActive: o.Bool("ignore_active_older_files"),
		exitOnEOF: o.Bool("exit_on_eof"), inotify: o.Bool("inotify_watcher"), poll: o.Duration("watcher_interval"),
		database: o.String("db"), compareName: o.Bool("db.compare_filename"), files: map[string]*tailed{}}
	for _, p := range o.Commas("path") {
		if _, err := filepath.Match(p, ""); err != nil {
			o.Failf("path", "Path: the pattern %q is not valid: %v", p, err)
		}
		t.paths = append(t.paths, p)
	}
	for _, p := range o.Commas("exclude_path") {
		if _, err := filepath.Match(p, ""); err != nil {
			o.Failf("exclude_path", "Exclude_Path: the pattern %q is not valid: %v", p, err)
		}
		t.exclude = append(t.exclude, p)
	}
	chunk, most := o.Size("buffer_chunk_size"), o.Size("buffer_max_size")
	if most < chunk {
		o.Failf("buffer_max_size", "Buffer_Max_Size must be at least Buffer_Chunk_Size (%d)", chunk)
	}
	t.maxLine = int(min(most, 1<<30))
	if text := o.String("tag_regex"); text != "" {
		r, err := regex.Compile(text)
		if err != nil {
			o.Failf("tag_regex", "Tag_Regex: %v", err)
		}
		t.tagRegex = r
	}
	t.refresh = refreshInterval(o)
	if name := o.String("parser"); name != "" {
		t.parser = namedParser(o, h, "parser", name)
	}
	t.lines = newLineMode(o, h)
	if t.poll < 50*time.Millisecond {
		o.Failf("watcher_interval", "watcher_interval must be 0.05 (seconds) or more")
	}
	// One transaction file is written as a whole, batches are bounded by the buffer, and the page cache is left to the kernel.
	o.Ignore("db.sync", "db.locking", "db.journal_mode", "static_batch_size", "event_batch_size", "progress_check_interval",
		"progress_check_interval_nsec", "file_cache_advise")
	return t
}

func namedParser(o *options.Set, h Host, key, name string) *parser.Parser {
	p := h.Parsers[name]
	if p == nil {
		o.Failf(key, "there is no parser %q; define it in a file that parsers_file names", name)
	}
	return p
}

// refreshInterval is a number of seconds, or seconds and nanoseconds.
func refreshInterval(o *options.Set) time.Duration {
	words := strings.Fields(o.String("refresh_interval"))
	if len(words) == 2 {
		sec, err1 := strconv.Atoi(words[0])
		nsec, err2 := strconv.Atoi(words[1])
		if err1 == nil && err2 == nil && sec >= 0 && nsec >= 0 && sec+nsec > 0 {
			return time.Duration(sec)*time.Second + time.Duration(nsec)
		}
	} else if len(words) == 1 {
		if seconds, err := config.ParseTime(words[0]); err == nil && seconds > 0 {
			return time.Duration(seconds * float64(time.Second))
		}
	}
	o.Failf("refresh_interval", "Refresh_Interval must be a number of seconds above 0")
	return time.Minute
}

func (t *tail) Run(ctx context.Context, sink flow.Sink) error {
	t.sink = sink
	store, err := t.host.Positions.Open(t.database, t.host.Name+" "+strings.Join(t.paths, ","))
	if err != nil {
		return err
	}
	t.store = store
	if t.inotify {
		if t.watch, err = newWatcher(); err != nil {
			t.host.Log.Warn("files are looked at at intervals: inotify cannot be used", "error", err)
		}
	}
	defer t.close()
	if t.database != "" {
		t.progress = make(chan struct{}, 1)
		saving, stop := context.WithCancel(context.WithoutCancel(ctx))
		var saver sync.WaitGroup
		saver.Go(func() { t.save(saving) })
		defer saver.Wait()
		defer stop()
	}
	if t.watch != nil {
		t.watchFolders()
	}
	t.scan()
	t.started = true
	return t.loop(ctx)
}

// saveInterval is how long a position that moved waits to be saved: what is killed meanwhile brings that much again.
const saveInterval = 100 * time.Millisecond

// save writes positions soon after they move; nothing is done while nothing moves.
func (t *tail) save(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.progress:
		}
		wait := time.NewTimer(saveInterval + time.Duration(t.store.Len())*100*time.Microsecond) // the whole file is written, which takes the longer the more it holds
		select {
		case <-ctx.Done():
			wait.Stop()
			return
		case <-wait.C:
		}
		if err := t.store.Save(); err != nil {
			t.host.Log.Error("positions are not saved", "error", err)
		}
	}
}

func (t *tail) loop(ctx context.Context) error {
	interval := t.poll
	if t.watch == nil {
		interval = min(interval, 250*time.Millisecond)
	}
	check := time.NewTicker(interval)
	defer check.Stop()
	refresh := time.NewTicker(t.refresh)
	defer refresh.Stop()
	var flush <-chan time.Time
	if d := t.lines.flushEvery(); d > 0 {
		ticker := time.NewTicker(d)
		defer ticker.Stop()
		flush = ticker.C
	}
	var events <-chan watchEvent
	if t.watch != nil {
		events = t.watch.events
	}
	for {
		if err := t.readAll(ctx); err != nil {
			return err
		}
		if t.exitOnEOF {
			if err := t.flushLines(ctx, true); err != nil {
				return err
			}
			return ErrEnd
		}
		select {
		case <-ctx.Done():
			return t.flushLines(context.WithoutCancel(ctx), false)
		case e, ok := <-events:
			if !ok {
				events = nil
				continue
			}
			t.noticed(e)
			for more := true; more; {
				select {
				case e, ok := <-events:
					if more = ok; ok {
						t.noticed(e)
					}
				default:
					more = false
				}
			}
		case <-check.C:
			t.check()
			if err := t.store.Save(); err != nil {
				t.host.Log.Error("positions are not saved", "error", err)
			}
		case <-refresh.C:
			t.scan()
		case <-flush:
			if err := t.flushLines(ctx, false); err != nil {
				return err
			}
		}
	}
}

func (t *tail) noticed(e watchEvent) {
	if e.overflow {
		t.scan()
		for _, f := range t.files {
			f.dirty = true
		}
		return
	}
	if e.folder {
		t.scan()
		return
	}
	for _, f := range t.files {
		if f.watch == e.watch {
			f.dirty = true
			f.moved = f.moved || e.moved
		}
	}
}

func (t *tail) close() {
	if t.watch != nil {
		t.watch.close()
	}
	for _, f := range t.files {
		f.close()
	}
	if err := t.store.Save(); err != nil {
		t.host.Log.Error("positions are not saved", "error", err)
	}
}

// scan looks for files that the patterns match and that are not followed yet.
func (t *tail) scan() {
	for _, pattern := range t.paths {
		names, err := filepath.Glob(pattern)
		if err != nil {
			continue // the pattern was checked
		}
		slices.Sort(names)
		if len(names) == 0 && !t.started {
			t.host.Log.Warn("no file matches yet", "path", pattern)
		}
		for _, name := range names {
			if !t.excluded(name) {
				t.follow(name)
			}
		}
	}
}

func (t *tail) excluded(name string) bool {
	return slices.ContainsFunc(t.exclude, func(pattern string) bool {
		ok, err := filepath.Match(pattern, name)
		if ok && err == nil {
			return true
		}
		ok, err = filepath.Match(pattern, filepath.Base(name))
		return ok && err == nil
	})
}

// follow begins with a file, unless it is followed already.
func (t *tail) follow(name string) {
	info, err := os.Stat(name)
	if err != nil || !info.Mode().IsRegular() {
		return
	}
	if t.ignoreOlder > 0 && t.host.Now().Sub(info.ModTime()) > t.ignoreOlder {
		return
	}
	key := fileKey(info)
	if t.compareName {
		key += " " + name
	}
	if f := t.files[key]; f != nil {
		if f.name != name && f.moved {
			f.name = name // the tag stays: the lines are those of the same source
		}
		return
	}
	file, err := os.Open(name)
	if err != nil {
		t.host.Log.Error("the file cannot be read", "file", name, "error", err)
		return
	}
	opened, err := file.Stat()
	if err != nil || fileKey(opened) != fileKey(info) {
		file.Close() // exchanged just now: the next scan sees the new one
		return
	}
	tag, err := t.tagOf(name)
	if err != nil {
		t.host.Log.Error("the file is left out", "error", err)
		file.Close()
		return
	}
	f := &tailed{key: key, name: name, tag: tag, file: file, dirty: true, watch: -1, store: t.store, progress: t.progress}
	t.begin(f, opened)
	t.files[key] = f
	if t.watch != nil {
		if f.watch, err = t.watch.addFile(name); err != nil {
			t.host.Log.Warn("the file is looked at at intervals", "file", name, "error", err)
			f.watch = -1
		}
	}
	t.host.Log.Info("the file is followed", "file", name, "offset", f.offset)
}

// begin says where reading begins.
func (t *tail) begin(f *tailed, info os.FileInfo) {
	if p, ok := t.store.Get(f.key); ok {
		if p.Offset <= info.Size() && f.sameHead(p) {
			f.offset = p.Offset
		} else {
			t.host.Log.Info("another file than the one whose position is known: read from its head", "file", f.name)
		}
	} else if !t.fromHead && (!t.started || !t.newFromHead) {
		f.offset = info.Size()
	}
	f.committed = f.offset
	f.stream = t.lines.newStream(t, f)
	f.remember()
}

// tagOf makes the tag of a file: the * of the section's tag is the path with dots, <name> a group of Tag_Regex.
func (t *tail) tagOf(name string) (string, error) {
	if t.tagRegex != nil {
		return t.tagFromRegex(name)
	}
	before, after, star := strings.Cut(t.tag, "*")
	if !star {
		return t.tag, nil
	}
	tag := strings.TrimLeft(before+name+after, `/\:`)
	return strings.NewReplacer("/", ".", `\`, ".", ":", ".", "*", "", " ", "").Replace(tag), nil
}

func (t *tail) tagFromRegex(name string) (string, error) {
	found, err := t.tagRegex.Find([]byte(name), nil)
	if err != nil || found == nil {
		return "", fmt.Errorf("Tag_Regex does not match the file %s", name)
	}
	groups := map[string]string{}
	for i, n := range t.tagRegex.Names() {
		if n != "" && found[2*i] >= 0 {
			groups[n] = name[found[2*i]:found[2*i+1]]
		}
	}
	var b strings.Builder
	rest := t.tag
	for {
		before, after, ok := strings.Cut(rest, "<")
		b.WriteString(before)
		if !ok {
			return b.String(), nil
		}
		key, tail, ok := strings.Cut(after, ">")
		if !ok {
			return "", fmt.Errorf("the tag %q has < without >", t.tag)
		}
		if v := groups[key]; v != "" {
			b.WriteString(v)
		} else {
			b.WriteByte('_')
		}
		rest = tail
	}
}

// check finds rotated, truncated, exchanged and removed files, and those whose watch was lost.
func (t *tail) check() {
	now := t.host.Now()
	scan := false
	for key, f := range t.files {
		info, err := f.file.Stat()
		if err != nil {
			t.host.Log.Error("the file cannot be looked at", "file", f.name, "error", err)
			t.drop(key, f)
			continue
		}
		if info.Size() != f.seen {
			f.dirty = true
		}
		current, err := os.Stat(f.name)
		away := err != nil || fileKey(current) != fileKey(info)
		switch {
		case away && f.rotated.IsZero():
			f.rotated, f.dirty, scan = now, true, true
		case away && now.Before(f.rotated): // the clock jumped back
			f.rotated = now
		case away && now.Sub(f.rotated) >= t.rotateWait && !f.dirty && f.stream.idle():
			if t.stillMatched(key) {
				continue
			}
			if f.settled() {
				t.drop(key, f)
			}
		case !away:
			f.rotated = time.Time{}
		}
		if t.ignoreActive && t.ignoreOlder > 0 && !f.dirty && now.Sub(info.ModTime()) > t.ignoreOlder && f.settled() {
			t.host.Log.Debug("the file is too old", "file", f.name)
			f.close()
			t.unwatch(f)
			delete(t.files, key)
		}
		f.remember()
	}
	if scan {
		t.scan()
	}
}

// stillMatched finds a renamed file under its new name; it is then followed under that one.
func (t *tail) stillMatched(key string) bool {
	f := t.files[key]
	for _, pattern := range t.paths {
		names, err := filepath.Glob(pattern)
		if err != nil {
			continue
		}
		for _, name := range names {
			if info, err := os.Stat(name); err == nil && fileKey(info) == strings.SplitN(key, " ", 2)[0] && !t.excluded(name) {
				f.name, f.rotated, f.moved = name, time.Time{}, false
				return true
			}
		}
	}
	return false
}

// drop ends with a file that is gone for good.
func (t *tail) drop(key string, f *tailed) {
	t.host.Log.Info("the file is not followed any more", "file", f.name)
	t.store.Delete(key)
	t.unwatch(f)
	f.file.Close()
	delete(t.files, key)
}

func (t *tail) unwatch(f *tailed) {
	if t.watch != nil && f.watch >= 0 {
		t.watch.remove(f.watch)
	}
}

// watchFolders notices new files at once where the folder of a pattern is a plain name.
func (t *tail) watchFolders() {
	for _, pattern := range t.paths {
		dir := filepath.Dir(pattern)
		if strings.ContainsAny(dir, "*?[") {
			continue
		}
		if err := t.watch.addFolder(dir); err != nil {
			t.host.Log.Debug("new files are found at Refresh_Interval only", "folder", dir, "error", err)
		}
	}
}
