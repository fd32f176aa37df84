package input

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/weft-dev/weft/logging/pipeline/flow"
	"github.com/weft-dev/weft/logging/pipeline/journal"
	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/pipeline/record"
)

// systemd follows the journal: all files of a folder, also after they were rotated.
type systemd struct {
	host       Host
	folders    []string
	database   string
	filters    [][]byte // NAME=value
	all        bool     // every filter has to match
	fromTail   bool
	strip      bool
	lower      bool
	maxFields  int
	maxEntries int

	store   *PositionStore
	files   map[string]*journalFile // by name
	started bool
}

type journalFile struct {
	file *journal.File
	key  string
	bad  int // errors in a row
}

// journalFolders are where the journal lies if no path is set.
var journalFolders = []string{"/var/log/journal", "/run/log/journal"}

func newSystemd(o *options.Set, h Host) Input {
	s := &systemd{host: h, database: o.String("db"), fromTail: o.Bool("read_from_tail"), strip: o.Bool("strip_underscores"), lower: o.Bool("lowercase"),
		maxFields: max(o.Int("max_fields"), 1), maxEntries: max(o.Int("max_entries"), 1), files: map[string]*journalFile{}, folders: journalFolders}
	if path := o.String("path"); path != "" {
		s.folders = []string{path}
	}
	for _, p := range o.All("systemd_filter") {
		if !strings.Contains(p.Value, "=") {
			o.Fail(p, "Systemd_Filter %q is not FIELD=value", p.Value)
		}
		s.filters = append(s.filters, []byte(p.Value))
	}
	switch v := strings.ToLower(o.String("systemd_filter_type")); v {
	case "", "or":
	case "and":
		s.all = true
	default:
		o.Failf("systemd_filter_type", "Systemd_Filter_Type must be And or Or")
	}
	databaseOptions(o)
	return s
}

func (s *systemd) Run(ctx context.Context, sink flow.Sink) error {
	store, err := s.host.Positions.Open(s.database, s.host.Name+" journal "+strings.Join(s.folders, ","))
	if err != nil {
		return err
	}
	s.store = store
	defer func() {
		for _, f := range s.files {
			f.file.Close()
		}
		if err := store.Save(); err != nil {
			s.host.Log.Error("positions are not saved", "error", err)
		}
	}()
	ticker := time.NewTicker(500 * time.Millisecond)
	defer ticker.Stop()
	for {
		s.scan()
		s.started = true
		if err := s.read(ctx, sink); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		if err := store.Save(); err != nil {
			s.host.Log.Error("positions are not saved", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// scan opens files that are new.
func (s *systemd) scan() {
	var names []string
	for _, folder := range s.folders {
		for _, pattern := range []string{"*.journal", "*/*.journal"} {
			found, err := filepath.Glob(filepath.Join(folder, pattern))
			if err == nil {
				names = append(names, found...)
			}
		}
	}
	sort.Strings(names)
	open := map[string]bool{}
	for name, f := range s.files {
		open[f.key] = true
		if _, err := os.Stat(name); err != nil && f.bad > 0 {
			f.file.Close()
			delete(s.files, name)
		}
	}
	for _, name := range names {
		if f := s.files[name]; f != nil && f.current(name) {
			continue
		}
		file, err := journal.Open(name)
		if err != nil {
			if !s.started {
				s.host.Log.Error("a file of the journal is left out", "error", err)
			}
			continue
		}
		s.begin(name, file, open[file.ID])
	}
}

// current tells whether a name still leads to the file that is open under it.
func (f *journalFile) current(name string) bool {
	file, err := journal.Open(name)
	if err != nil {
		return true
	}
	defer file.Close()
	return file.ID == f.key
}

func (s *systemd) begin(name string, file *journal.File, open bool) {
	if open { // renamed: it is read on under its old name
		for old, f := range s.files {
			if f.key == file.ID {
				delete(s.files, old)
				s.files[name] = f
			}
		}
		file.Close()
		return
	}
	f := &journalFile{file: file, key: file.ID}
	if old := s.files[name]; old != nil {
		s.files[name+" "+old.key] = old // replaced by a new file under the same name; its last entries are read
	}
	s.files[name] = f
	skip := uint64(0)
	if p, ok := s.store.Get(f.key); ok {
		skip = uint64(p.Offset)
	} else if s.fromTail && !s.started {
		skip = 1<<63 - 1
	}
	if skip > 0 {
		if err := file.Skip(skip); err != nil {
			s.host.Log.Error("the journal's position is not found", "file", name, "error", err)
		}
	}
	s.host.Log.Info("the journal's file is followed", "file", name)
}

func (s *systemd) read(ctx context.Context, sink flow.Sink) error {
	names := make([]string, 0, len(s.files))
	for name := range s.files {
		names = append(names, name)
	}
	// Archived files hold what is older, and come first: NAME@... sorts before NAME.journal.
	slices.Sort(names)
	for _, name := range names {
		for {
			more, err := s.take(ctx, sink, name, s.files[name])
			if err != nil {
				return err
			}
			if !more {
				break
			}
		}
	}
	return nil
}

// take reads entries of one file, Max_Entries at once.
func (s *systemd) take(ctx context.Context, sink flow.Sink, name string, f *journalFile) (more bool, err error) {
	if f.bad > 100 {
		return false, nil
	}
	if err := f.file.Refresh(); err != nil {
		f.bad++
		return false, nil
	}
	batches := map[string]*flow.Batch{}
	var tags []string
	last := uint64(0)
	n := 0
	for ; n < s.maxEntries; n++ {
		e, err := f.file.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			if f.bad++; f.bad == 1 || f.bad == 101 {
				s.host.Log.Error("an entry of the journal cannot be read and is left out", "file", name, "error", err)
			}
			break
		}
		f.bad = 0
		last = e.Seqnum
		if !s.wanted(e) {
			continue
		}
		tag := s.tag(e)
		b := batches[tag]
		if b == nil {
			b = &flow.Batch{Tag: tag}
			batches[tag] = b
			tags = append(tags, tag)
		}
		at := record.Time{Sec: int64(e.Realtime / 1e6), Nsec: uint32(e.Realtime%1e6) * 1000}
		b.Data = s.body(record.AppendEventHead(b.Data, at, nil), e)
		b.Count++
	}
	if last == 0 {
		return n > 0 && n == s.maxEntries, nil
	}
	// The position moves when all of it is safe.
	ack := flow.NewAck(func() {
		if p, _ := s.store.Get(f.key); p.Offset < int64(last) {
			s.store.Set(f.key, Position{Name: name, Offset: int64(last)})
		}
	})
	for _, tag := range tags {
		b := batches[tag]
		b.Ack = ack
		if err := sink.Append(ctx, *b); err != nil {
			return false, err
		}
	}
	ack.Release()
	return n == s.maxEntries, nil
}

func (s *systemd) wanted(e *journal.Entry) bool {
	if len(s.filters) == 0 {
		return true
	}
	for _, want := range s.filters {
		found := slices.ContainsFunc(e.Fields, func(f []byte) bool { return bytes.Equal(f, want) })
		if found != s.all {
			return found
		}
	}
	return s.all
}

// tag puts the unit in the place of a star.
func (s *systemd) tag(e *journal.Entry) string {
	if !strings.Contains(s.host.Tag, "*") {
		return s.host.Tag
	}
	unit := "unknown"
	for _, f := range e.Fields {
		if v, ok := bytes.CutPrefix(f, []byte("_SYSTEMD_UNIT=")); ok {
			unit = string(v)
		}
	}
	return strings.Replace(s.host.Tag, "*", unit, 1)
}

// body appends the fields; one that stands several times becomes an array.
func (s *systemd) body(b []byte, e *journal.Entry) []byte {
	start, n := len(b), 0
	b = append(b, 0x80)
	done := map[string]bool{}
	for i, f := range e.Fields {
		name, value, ok := bytes.Cut(f, []byte{'='})
		if !ok || n >= s.maxFields || done[string(name)] {
			continue
		}
		same := 0
		for _, other := range e.Fields[i+1:] {
			if bytes.HasPrefix(other, f[:len(name)+1]) {
				same++
			}
		}
		done[string(name)] = true
		key := string(name)
		if s.strip {
			key = strings.TrimLeft(key, "_")
		}
		if s.lower {
			key = strings.ToLower(key)
		}
		b = record.AppendString(b, key)
		n++
		if same == 0 {
			b = record.AppendString(b, value)
			continue
		}
		b = record.AppendArrayHead(b, same+1)
		b = record.AppendString(b, value)
		for _, other := range e.Fields[i+1:] {
			if v, ok := bytes.CutPrefix(other, f[:len(name)+1]); ok {
				b = record.AppendString(b, v)
			}
		}
	}
	return record.CloseMap(b, start, n)
}
