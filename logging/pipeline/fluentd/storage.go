package fluentd

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/weft-dev/weft/logging/pipeline/options"
	"github.com/weft-dev/weft/logging/plugin"
)

// localStore keeps numbers of a plugin in a file of JSON, in the form of upstream's storage local (lib/fluent/plugin/storage_local.rb). It is used by
// one goroutine.
type localStore struct {
	part       *part
	path       string // "" in memory
	mode       fs.FileMode
	dirMode    fs.FileMode
	pretty     bool
	persistent bool          // each change is saved at once
	interval   time.Duration // between saves, 0 for none
	atEnd      bool
	values     map[string]json.RawMessage
	saved      time.Time
	changed    bool
}

// storage reads a <storage> section; nil if there is none.
func (b *builder) storage(p *part) *localStore {
	s := p.child("storage")
	if s == nil {
		return nil
	}
	o := options.New(s, plugin.Fluentd().Groups["storage"], nil)
	defer p.finish(o)
	if kind := o.String("@type"); kind != "local" {
		o.Failf("@type", "the storage %q is not built into logagent, which has local", kind)
	}
	st := &localStore{part: p, path: o.String("path"), pretty: o.Bool("pretty_print"), persistent: o.Bool("persistent"), atEnd: o.Bool("save_at_shutdown"),
		mode: fileMode(o, "mode", 0o600), dirMode: fileMode(o, "dir_mode", 0o700), values: map[string]json.RawMessage{}}
	if o.Bool("autosave") {
		st.interval = o.Duration("autosave_interval")
	}
	o.Ignore("@id", "autosave_interval")
	id, worker := p.section.Value("@id"), "worker"+strconv.Itoa(p.worker.id)
	info, err := os.Stat(st.path)
	switch {
	case st.path == "" && b.root != "" && id != "":
		st.path = filepath.Join(b.root, worker, id, "storage.json")
		if arg := strings.TrimSpace(s.Arg); arg != "" {
			st.path = filepath.Join(b.root, worker, id, "storage."+filepath.Base(arg)+".json")
		}
	case st.path == "" && st.persistent:
		o.Failf("persistent", "persistent needs path, or root_dir in <system> and an @id of the plugin")
	case st.path == "":
		p.log.Warn("both of Plugin @id and path for <storage> are not specified. Using on-memory store.")
	case err == nil && info.IsDir() || err != nil && !strings.HasSuffix(st.path, ".json"):
		st.path = filepath.Join(st.path, worker, "storage.json")
	}
	return st
}

// fileMode reads the mode of a file, in octal.
func fileMode(o *options.Set, key string, other fs.FileMode) fs.FileMode {
	text := o.String(key)
	if text == "" {
		return other
	}
	n, err := strconv.ParseUint(text, 8, 12)
	if err != nil {
		o.Failf(key, "%s %q is no octal mode such as 0600", key, text)
		return other
	}
	return fs.FileMode(n)
}

// largestStore bounds the file, in bytes.
const largestStore = 1 << 20

// open reads what an earlier run saved.
func (s *localStore) open() error {
	if s.path == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(s.path), s.dirMode); err != nil {
		return fmt.Errorf("storage: %w", err)
	}
	info, err := os.Stat(s.path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
		return nil
	}
	if err == nil && info.Size() > largestStore {
		return fmt.Errorf("storage: %s has %d bytes, more than the limit of %d", s.path, info.Size(), largestStore)
	}
	data, err := os.ReadFile(s.path)
	if err != nil {
		return fmt.Errorf("storage: %w", err)
	}
	if err := json.Unmarshal(data, &s.values); err != nil || s.values == nil {
		return fmt.Errorf("storage: %s holds no JSON object; remove it to begin anew", s.path)
	}
	return nil
}

// get gives a number, if there is one under the key.
func (s *localStore) get(key string) (n int64, ok bool) {
	raw, ok := s.values[key]
	ok = ok && json.Unmarshal(raw, &n) == nil
	return n, ok
}

// put changes a value; it is saved when its time has come.
func (s *localStore) put(key string, value int64, now time.Time) {
	s.values[key], s.changed = strconv.AppendInt(nil, value, 10), true
	if since := now.Sub(s.saved); s.persistent || s.interval > 0 && (since >= s.interval || since < 0) {
		s.saved = now
		s.save()
	}
}

func (s *localStore) save() {
	if s.path == "" || !s.changed {
		return
	}
	if err := s.write(); err != nil {
		s.part.log.Error("the storage is not saved", "error", err)
		return
	}
	s.changed = false
}

// write replaces the file as a whole.
func (s *localStore) write() error {
	text, err := json.Marshal(s.values)
	if s.pretty && err == nil {
		text, err = json.MarshalIndent(s.values, "", "  ")
	}
	if err != nil {
		return err
	}
	out, err := os.CreateTemp(filepath.Dir(s.path), filepath.Base(s.path)+".tmp.*")
	if err != nil {
		return err
	}
	_, err = out.Write(text)
	err = errors.Join(err, out.Chmod(s.mode), out.Sync(), out.Close())
	if err == nil {
		err = os.Rename(out.Name(), s.path)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(out.Name()))
	}
	return err
}

// close saves at the end, if that is asked for.
func (s *localStore) close() {
	if s.atEnd {
		s.save()
	}
}
