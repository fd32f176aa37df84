package engine

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// StateVersion is the version of what the journal's records and snapshots say, the form of sealed values included. Newer ones are refused.
// A state of an older version gets this one with the first record that is written to it.
const StateVersion = 3

// ErrLockLost is what a Log returns when its lock went to somebody else: nothing that was not written before is safe to begin.
var ErrLockLost = errors.New("the lock on the state was lost; somebody else may work on it")

// Log is where a state is kept: every record is durable when Append returns, and Compact replaces all of them by one that
// says the same. Package journal implements it in a folder.
type Log interface {
	Append(record []byte) (number uint64, err error)
	// Post writes a record that need not be durable yet: it becomes so with the next Append, and what it says can be found out again.
	Post(record []byte) (number uint64, err error)
	Compact(snapshot []byte) error
}

// State is what is known of a set of resources, kept in a log. It may be used by several goroutines.
type State struct {
	log    Log
	sealer Sealer

	mu      sync.RWMutex
	version int
	lineage string
	salt    string
	serial  uint64 // number of the last record
	secret  string // salt for sensitive values, empty until there are any

	recipients []string // whom sensitive values are encrypted to, as names

	since   int // records since the last snapshot
	records map[ID]*Record
	deposed map[ID]*Record    // replaced and still to be deleted
	pending map[ID]*Operation // begun and not known to have ended

	revisions []*Revision                // the oldest first
	blobs     map[string]json.RawMessage // what was wanted in revisions, by fingerprint, encoded
}

// Operation is something that was begun.
type Operation struct {
	ID     ID        `json:"id"`
	Action Action    `json:"action"`
	Record *Record   `json:"record"` // what it was to lead to; for a deletion what was to go
	Begun  time.Time `json:"begun"`
}

// entry is one record of the log.
type entry struct {
	Op      string     `json:"op"` // init, format, keys, salt, run, begin, end, ran, move
	Version int        `json:"version,omitempty"`
	Lineage string     `json:"lineage,omitempty"`
	Salt    string     `json:"salt,omitempty"`
	Begin   *Operation `json:"begin,omitempty"`
	ID      ID         `json:"id,omitempty"`
	Action  Action     `json:"action,omitempty"`
	Record  *Record    `json:"record,omitempty"` // nil when nothing exists any more
	Begun   bool       `json:"begun,omitempty"`  // the record's inputs are those of the operation's begin record, and are not written again
	Error   string     `json:"error,omitempty"`  // why it failed; the record is then what was left
	To      ID         `json:"to,omitempty"`     // new id

	Recipients []string                   `json:"recipients,omitempty"`
	SecretSalt string                     `json:"secretSalt,omitempty"` // sealed
	Run        *Revision                  `json:"run,omitempty"`
	Blobs      map[string]json.RawMessage `json:"blobs,omitempty"` // that the revision needs and the state has not yet
}

// snapshot is everything at once.
type snapshot struct {
	Version int               `json:"version"`
	Lineage string            `json:"lineage"`
	Salt    string            `json:"salt"`
	Records map[ID]*Record    `json:"records"`
	Deposed map[ID]*Record    `json:"deposed,omitempty"`
	Pending map[ID]*Operation `json:"pending,omitempty"`

	Recipients []string                   `json:"recipients,omitempty"`
	SecretSalt string                     `json:"secretSalt,omitempty"` // sealed
	Revisions  []*Revision                `json:"revisions,omitempty"`
	Blobs      map[string]json.RawMessage `json:"blobs,omitempty"`
}

// Load reads a state from what its log held, and begins a new one if that is nothing. The sealer may be nil as long as
// nothing is sensitive.
func Load(log Log, snap []byte, records [][]byte, last uint64, sealer Sealer) (*State, error) {
	s := &State{log: log, sealer: sealer, records: map[ID]*Record{}, deposed: map[ID]*Record{}, pending: map[ID]*Operation{}, blobs: map[string]json.RawMessage{}, serial: last, since: len(records)}
	if snap == nil && len(records) == 0 {
		return s, s.append(&entry{Op: "init", Version: StateVersion, Lineage: rand.Text(), Salt: rand.Text()})
	}
	if snap != nil {
		var all snapshot
		if err := json.Unmarshal(snap, &all); err != nil {
			return nil, fmt.Errorf("the state's snapshot cannot be read: %w", err)
		}
		s.recipients = all.Recipients
		if err := s.forWhom(s.restore(&all)); err != nil {
			return nil, err
		}
	}
	for i, data := range records {
		var e entry
		if err := json.Unmarshal(data, &e); err != nil {
			return nil, fmt.Errorf("record %d of the state cannot be read: %w", last-uint64(len(records)-1-i), err)
		}
		if err := s.forWhom(s.decodeEntry(&e)); err != nil {
			return nil, fmt.Errorf("record %d of the state cannot be read: %w", last-uint64(len(records)-1-i), err)
		}
		if err := s.fold(&e); err != nil {
			return nil, err
		}
	}
	if s.lineage == "" {
		return nil, errors.New("the state has no beginning: its first records are missing")
	}
	for _, r := range s.revisions {
		if r.Outcome == Running { // whoever ran it has lost the lock
			r.Outcome = Interrupted
		}
	}
	return s, nil
}

func (s *State) restore(all *snapshot) error {
	if err := s.begin(all.Version, all.Lineage, all.Salt); err != nil {
		return err
	}
	for _, group := range []map[ID]*Record{all.Records, all.Deposed} {
		for id, r := range group {
			if r == nil {
				return fmt.Errorf("the state's snapshot says nothing about %q", id)
			}
			if err := s.decodeRecord(r); err != nil {
				return err
			}
		}
	}
	for id, p := range all.Pending {
		if p == nil || p.Record == nil {
			return fmt.Errorf("the state's snapshot does not say what was begun for %q", id)
		}
		if err := s.decodeRecord(p.Record); err != nil {
			return err
		}
	}
	for _, r := range all.Revisions {
		if r == nil {
			return errors.New("the state's snapshot has an empty revision")
		}
	}
	secret, err := s.unseal(all.SecretSalt)
	if err != nil {
		return err
	}
	s.secret, s.revisions = secret, all.Revisions
	maps.Copy(s.blobs, all.Blobs)
	maps.Copy(s.records, all.Records)
	maps.Copy(s.deposed, all.Deposed)
	maps.Copy(s.pending, all.Pending)
	return nil
}

func (s *State) begin(version int, lineage, salt string) error {
	if err := checkVersion(version); err != nil {
		return err
	}
	s.version, s.lineage, s.salt = version, lineage, salt
	return nil
}

func checkVersion(version int) error {
	if version < 1 || version > StateVersion {
		return fmt.Errorf("the state has version %d, this program knows up to %d: use a newer weft", version, StateVersion)
	}
	return nil
}

// fold brings the state to what it is after the entry. It must not fail half way.
func (s *State) fold(e *entry) error {
	switch e.Op {
	case "init":
		return s.begin(e.Version, e.Lineage, e.Salt)
	case "format":
		if err := checkVersion(e.Version); err != nil {
			return err
		}
		s.version = e.Version
	case "begin":
		if e.Begin == nil || e.Begin.Record == nil {
			return errors.New("the state has a begin record that begins nothing")
		}
		s.pending[e.Begin.ID] = e.Begin
	case "end":
		if e.Begun && e.Record != nil && e.Record.Inputs == nil {
			op := s.pending[e.ID]
			if op == nil {
				return fmt.Errorf("the state has the end of an operation on %q that was not begun", e.ID)
			}
			e.Record.Inputs = op.Record.Inputs
		}
		s.end(e)
	case "keys":
		s.recipients = e.Recipients
	case "salt":
		s.secret = e.SecretSalt
	case "run", "ran":
		if e.Run == nil {
			return fmt.Errorf("the state has a record of kind %q without a revision", e.Op)
		}
		s.foldRevision(e)
	case "move":
		s.move(e.ID, e.To)
	default:
		return fmt.Errorf("the state has a record of kind %q, which this program does not know: use a newer weft", e.Op)
	}
	return nil
}

func (s *State) end(e *entry) {
	delete(s.pending, e.ID)
	switch {
	case e.Action == DeleteDeposed:
		if e.Record == nil {
			delete(s.deposed, e.ID)
		} else {
			s.deposed[e.ID] = e.Record
		}
		return
	case e.Action == CreateReplacement && e.Error == "":
		if old := s.records[e.ID]; old != nil {
			s.deposed[e.ID] = old
		}
	}
	if e.Record == nil {
		delete(s.records, e.ID)
	} else {
		s.records[e.ID] = e.Record
	}
}

// move gives a record another id, also where others depend on it.
func (s *State) move(from, to ID) {
	if r := s.records[from]; r != nil {
		moved := *r
		moved.ID = to
		delete(s.records, from)
		s.records[to] = &moved
	}
	for id, r := range s.records {
		if i := slices.Index(r.DependsOn, from); i >= 0 {
			changed := *r
			changed.DependsOn = slices.Clone(r.DependsOn)
			changed.DependsOn[i] = to
			s.records[id] = &changed
		}
	}
}

// Move gives what the state knows another id: its resource was renamed and is the same.
func (s *State) Move(from, to ID) error {
	switch {
	case s.Record(from) == nil:
		return fmt.Errorf("the state has no %q", from)
	case s.Record(to) != nil:
		return fmt.Errorf("the state has a %q already", to)
	case s.Pending()[from] != nil:
		return fmt.Errorf("an operation on %q is pending; plan or apply first, which finds out what became of it", from)
	}
	return s.append(&entry{Op: "move", ID: from, To: to})
}

// Forget drops what the state knows of a resource and leaves the resource itself alone.
func (s *State) Forget(id ID) error {
	if s.Record(id) == nil {
		return fmt.Errorf("the state has no %q", id)
	}
	return s.append(&entry{Op: "end", ID: id, Action: Forget})
}

// Lineage tells states apart that were begun separately.
func (s *State) Lineage() string { return s.lineage }

// Serial grows with everything that is written.
func (s *State) Serial() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.serial
}

// Record returns what is known of a resource, nil if nothing. The caller must not change it.
func (s *State) Record(id ID) *Record {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.records[id]
}

// Records returns everything that is known. The caller may change the map and not the records.
func (s *State) Records() map[ID]*Record {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return maps.Clone(s.records)
}

// Pending returns the operations that were begun and of which no end is known.
func (s *State) Pending() map[ID]*Operation {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return maps.Clone(s.pending)
}

func (s *State) deposedRecords() map[ID]*Record {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return maps.Clone(s.deposed)
}
