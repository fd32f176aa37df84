package input

import (
	"context"
	"errors"
	"path/filepath"
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
	set                       string // path, as it is written

	hooks    TailHooks
	denied   map[string]bool // files that could not be read, once told
	store    *PositionStore
	progress chan struct{} // nil without a database
	watch    *watcher
	files    map[string]*tailed // by key
	buffer   []byte
	batch    []byte
	started  bool
}

// TailHooks change which files are followed and how fast they are read. All are called by one goroutine.
type TailHooks struct {
	// Files gives the names of the files that are to be followed, sorted; nil: those that path names and exclude_path does not. A file that is not among them any more
	// is read to its end, and left after rotate_wait.
	Files func() []string
	// Folders are those in which new files are noticed at once.
	Folders []string
	// Pace bounds reading; nil reads as fast as records are taken.
	Pace TailPace
	// Late leaves files alone until refresh_interval has passed once.
	Late bool
	// DeniedOnce says that a file that cannot be read is told once.
	DeniedOnce bool
	// Compact is how often positions of files that are gone are forgotten, besides at the start; 0 for never.
	Compact time.Duration
}

// TailPace bounds how fast files are read.
type TailPace interface {
	// Allow gives the number of lines that may be read of a file at a time, -1 for any number.
	Allow(name string, now time.Time) int
	// Took tells how much was read.
	Took(name string, lines, bytes int, now time.Time)
	// Left tells that a file is not followed any more.
	Left(name string)
}

// readSize is how much is read of a file at once; one buffer serves all files.
const readSize = 256 << 10

func newTail(o *options.Set, h Host) Input { return NewTail(o, h, TailHooks{}) }

// NewTail makes the input tail.
func NewTail(o *options.Set, h Host, hooks TailHooks) Input {
	t := &tail{host: h, hooks: hooks, denied: map[string]bool{}, tag: h.Tag, key: o.String("key"), pathKey: o.String("path_key"), offsetKey: o.String("offset_key"),
		fromHead: o.Bool("read_from_head"), newFromHead: o.Bool("read_newly_discovered_files_from_head"),
		skipLong: o.Bool("skip_long_lines"), truncateLong: o.Bool("truncate_long_lines"), skipEmpty: o.Bool("skip_empty_lines"),
		rotateWait: o.Duration("rotate_wait"), ignoreOlder: o.Duration("ignore_older"), ignoreActive: o.Bool("ignore_active_older_files"),
		exitOnEOF: o.Bool("exit_on_eof"), inotify: o.Bool("inotify_watcher"), poll: o.Duration("watcher_interval"),
		database: o.String("db"), set: o.String("path"), compareName: o.Bool("db.compare_filename"), files: map[string]*tailed{}}
	paths := o.Commas("path")
	if hooks.Files != nil {
		paths = nil
	}
	for _, p := range paths {
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
	databaseOptions(o)
	// Batches are bounded by the buffer, and the page cache is left to the kernel.
	o.Pass("static_batch_size", "event_batch_size", "progress_check_interval",
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
	store, err := t.host.Positions.Open(t.database, t.host.Name+" "+t.set)
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
	if !t.hooks.Late {
		t.scan()
		t.compact()
	}
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
	var flush, compact <-chan time.Time
	if t.hooks.Compact > 0 {
		ticker := time.NewTicker(t.hooks.Compact)
		defer ticker.Stop()
		compact = ticker.C
	}
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
		case <-compact:
			t.compact()
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
