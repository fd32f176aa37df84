package input

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/weft-dev/weft/logging/pipeline/options"
)

// Positions keeps where inputs stopped reading, in files or in memory, for all inputs of a process. It outlives a reload of the
// configuration.
type Positions struct {
	mu     sync.Mutex
	stores map[string]*PositionStore
}

// NewPositions begins without any.
func NewPositions() *Positions { return &Positions{stores: map[string]*PositionStore{}} }

// databaseOptions reads what tunes Fluent Bit's SQLite: here a database is a file that is replaced as a whole, and not forced to the disk.
func databaseOptions(o *options.Set) {
	switch strings.ToLower(o.String("db.sync")) {
	case "full", "extra":
		o.Tell("db.sync")
	}
	o.Pass("db.locking", "db.journal_mode")
}

// Position is where reading of one file goes on.
type Position struct {
	Name   string `json:"name"`
	Offset int64  `json:"offset"`
	Sum    uint64 `json:"sum,omitempty"` // of the first Head bytes, to know another file under a used inode
	Head   int64  `json:"head,omitempty"`
	At     int64  `json:"at,omitempty"` // of an event: when it happened last, in seconds since 1970
}

// PositionStore is the positions of one database, by a key of the input's choice. It may be used by several inputs.
type PositionStore struct {
	saving sync.Mutex // taken before mu: nobody waits for the disk who only sets a position

	mu    sync.Mutex
	path  string // "" in memory
	all   map[string]Position
	dirty bool
}

// databaseMark begins the files, so that no other file is taken for one and overwritten.
const databaseMark = "weft positions 1\n"

const maxDatabase = 256 << 20

// Open gives the store of a file, read from the disk the first time. An empty path is a store in memory under the input's name.
func (p *Positions) Open(path, name string) (*PositionStore, error) {
	key := "memory:" + name
	if path != "" {
		absolute, err := filepath.Abs(path)
		if err != nil {
			return nil, err
		}
		key, path = "file:"+absolute, absolute
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.stores[key]; s != nil {
		return s, nil
	}
	s := &PositionStore{path: path, all: map[string]Position{}}
	if path != "" {
		if err := s.load(); err != nil {
			return nil, err
		}
	}
	p.stores[key] = s
	return s, nil
}

// Save writes what changed in all stores.
func (p *Positions) Save() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var failed []error
	for _, s := range p.stores {
		failed = append(failed, s.Save())
	}
	return errors.Join(failed...)
}

func (s *PositionStore) load() error {
	info, err := os.Stat(s.path)
	if errors.Is(err, os.ErrNotExist) {
		if err := s.write([]byte("{}")); err != nil {
			return fmt.Errorf("the database %s cannot be written: %w", s.path, err)
		}
		return nil
	}
	if err != nil {
		return err
	}
	if info.Size() > maxDatabase {
		return fmt.Errorf("the database %s has %d bytes, more than the limit of %d", s.path, info.Size(), int64(maxDatabase))
	}
	data, err := os.ReadFile(s.path)
	if err != nil {
		return err
	}
	if len(data) == 0 {
		return nil
	}
	return s.decode(data)
}

func (s *PositionStore) decode(data []byte) error {
	rest, ok := strings.CutPrefix(string(data), databaseMark)
	switch {
	case strings.HasPrefix(string(data), "SQLite format 3\x00"):
		return fmt.Errorf("the database %s was written by Fluent Bit; name another file in DB, or remove it to begin anew", s.path)
	case !ok:
		return fmt.Errorf("the database %s is not one of logagent; name another file in DB", s.path)
	}
	all := map[string]Position{}
	if err := json.Unmarshal([]byte(rest), &all); err != nil {
		return fmt.Errorf("the database %s is damaged (%w); remove it to begin anew", s.path, err)
	}
	for _, p := range all {
		if p.Offset < 0 || p.Head < 0 {
			return fmt.Errorf("the database %s is damaged: a position is negative; remove it to begin anew", s.path)
		}
	}
	s.all = all
	return nil
}

// Get is the position under a key.
func (s *PositionStore) Get(key string) (Position, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.all[key]
	return p, ok
}

// Len is how many positions there are.
func (s *PositionStore) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.all)
}

// Set changes a position; Save writes it.
func (s *PositionStore) Set(key string, p Position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all[key] != p {
		s.all[key] = p
		s.dirty = true
	}
}

// Delete forgets a position.
func (s *PositionStore) Delete(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.all[key]; ok {
		delete(s.all, key)
		s.dirty = true
	}
}

// DeleteWhere forgets the positions that drop chooses.
func (s *PositionStore) DeleteWhere(drop func(key string, p Position) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, p := range s.all {
		if drop(key, p) {
			delete(s.all, key)
			s.dirty = true
		}
	}
}

// Save writes what changed; the old file is replaced as a whole.
func (s *PositionStore) Save() error {
	s.saving.Lock()
	defer s.saving.Unlock()
	s.mu.Lock()
	if !s.dirty || s.path == "" {
		s.mu.Unlock()
		return nil
	}
	data, err := json.Marshal(s.all)
	s.dirty = false
	s.mu.Unlock()
	if err == nil {
		err = s.write(data)
	}
	if err != nil {
		s.mu.Lock()
		s.dirty = true
		s.mu.Unlock()
		return fmt.Errorf("saving positions: %w", err)
	}
	return nil
}

func (s *PositionStore) write(data []byte) error {
	temporary := s.path + ".new"
	if err := os.WriteFile(temporary, append([]byte(databaseMark), data...), 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, s.path)
}
