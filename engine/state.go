package engine

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
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

// forWhom adds to an error about values that cannot be decrypted whom they are for.
func (s *State) forWhom(err error) error {
	var sealed *SealedError
	if errors.As(err, &sealed) && len(s.recipients) > 0 {
		return fmt.Errorf("%w; the state is encrypted to %s", err, strings.Join(s.recipients, ", "))
	}
	return err
}

// SealedError says that a value cannot be decrypted.
type SealedError struct{ Err error }

// Error is that of the sealer.
func (e *SealedError) Error() string { return e.Err.Error() }

// Unwrap returns the sealer's error.
func (e *SealedError) Unwrap() error { return e.Err }

// Recipients are the names of those whom sensitive values are encrypted to; none as long as nobody has said.
func (s *State) Recipients() []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Clone(s.recipients)
}

// SetRecipients has sensitive values that are written from now on encrypted by the sealer, and remembers for whom that is. Rekey
// encrypts also those that are there.
func (s *State) SetRecipients(sealer Sealer, names []string) error {
	s.mu.Lock()
	s.sealer = sealer
	same := slices.Equal(s.recipients, names)
	s.mu.Unlock()
	if same {
		return nil
	}
	return s.append(&entry{Op: "keys", Recipients: names})
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

// compactAfter is how many records are written before a snapshot replaces them; at least as many as there are resources,
// so that the cost of snapshots stays in proportion.
const compactAfter = 1000

// append writes an entry and then takes it in. Entries of different resources may be written at once; they do not
// depend on each other's order.
func (s *State) append(e *entry) error { return s.write(e, s.log.Append) }

// post writes the end of an operation. Should it be lost the operation is read back.
func (s *State) post(e *entry) error { return s.write(e, s.log.Post) }

func (s *State) write(e *entry, put func([]byte) (uint64, error)) error {
	if err := s.upgrade(e); err != nil {
		return err
	}
	written, err := s.encodeEntry(e)
	if err != nil {
		return err
	}
	data, err := json.Marshal(written)
	if err != nil {
		return err
	}
	number, err := put(data)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serial = max(s.serial, number)
	s.since++
	return s.fold(e)
}

// upgrade has programs that know only the state's older version refuse what is written from now on.
func (s *State) upgrade(e *entry) error {
	s.mu.RLock()
	current := e.Op == "init" || e.Op == "format" || s.version == StateVersion
	s.mu.RUnlock()
	if current {
		return nil
	}
	return s.write(&entry{Op: "format", Version: StateVersion}, s.log.Append)
}

// Compact writes a snapshot if enough has gathered, or always if forced. No operation may be under way.
func (s *State) Compact(force bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.since == 0 || !force && s.since < max(compactAfter, len(s.records)) {
		return nil
	}
	s.trimRevisions()
	all := snapshot{Version: StateVersion, Lineage: s.lineage, Salt: s.salt, Records: map[ID]*Record{}, Deposed: map[ID]*Record{}, Pending: map[ID]*Operation{},
		Recipients: s.recipients, Revisions: s.revisions, Blobs: s.blobs}
	var err error
	if all.SecretSalt, err = s.seal(s.secret); err != nil {
		return err
	}
	encode := func(r *Record) *Record {
		out, encodeErr := s.encodeRecord(r)
		err = errors.Join(err, encodeErr)
		return out
	}
	for id, r := range s.records {
		all.Records[id] = encode(r)
	}
	for id, r := range s.deposed {
		all.Deposed[id] = encode(r)
	}
	for id, p := range s.pending {
		op := *p
		op.Record = encode(p.Record)
		all.Pending[id] = &op
	}
	if err != nil {
		return err
	}
	data, err := json.Marshal(all)
	if err != nil {
		return err
	}
	if err := s.log.Compact(data); err != nil {
		return err
	}
	s.since, s.version = 0, StateVersion
	return nil
}

func (s *State) encodeEntry(e *entry) (*entry, error) {
	out := *e
	if e.Begun {
		record := *e.Record
		record.Inputs, out.Record = nil, &record
	}
	var err error
	if out.Record, err = s.encodeRecord(out.Record); err != nil {
		return nil, err
	}
	if e.SecretSalt != "" {
		if out.SecretSalt, err = s.seal(e.SecretSalt); err != nil {
			return nil, err
		}
	}
	if e.Begin != nil {
		op := *e.Begin
		if op.Record, err = s.encodeRecord(op.Record); err != nil {
			return nil, err
		}
		out.Begin = &op
	}
	return &out, nil
}

func (s *State) decodeEntry(e *entry) error {
	if err := s.decodeRecord(e.Record); err != nil {
		return err
	}
	if e.SecretSalt != "" {
		var err error
		if e.SecretSalt, err = s.unseal(e.SecretSalt); err != nil {
			return err
		}
	}
	if e.Begin != nil {
		return s.decodeRecord(e.Begin.Record)
	}
	return nil
}

// seal encrypts a text of the state itself; nothing stays nothing.
func (s *State) seal(text string) (string, error) {
	switch {
	case text == "":
		return "", nil
	case s.sealer == nil:
		return "", ErrNoSealer
	}
	return s.sealer.Seal([]byte(text))
}

func (s *State) unseal(sealed string) (string, error) {
	switch {
	case sealed == "":
		return "", nil
	case s.sealer == nil:
		return "", errors.New("the state holds encrypted values and no key is configured")
	}
	plain, err := s.sealer.Open(sealed)
	if err != nil {
		return "", &SealedError{err}
	}
	return string(plain), nil
}

// Rekey encrypts everything anew with other keys and writes a snapshot. No operation may be under way.
func (s *State) Rekey(sealer Sealer, names []string) error {
	blobs := make(map[string]json.RawMessage, len(s.blobs))
	for print, data := range s.blobs {
		r, err := decodeResource(data, s.sealer)
		if err != nil {
			return err
		}
		if blobs[print], err = encodeResource(r, sealer); err != nil {
			return err
		}
	}
	s.mu.Lock()
	s.sealer, s.blobs, s.recipients = sealer, blobs, names
	s.since++ // the snapshot is due
	s.mu.Unlock()
	return s.Compact(true)
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

func (s *State) encodeRecord(r *Record) (*Record, error) {
	if r == nil {
		return nil, nil
	}
	out := *r
	for _, tree := range []*map[string]any{&out.Inputs, &out.Outputs} {
		encoded, err := encodeTop(*tree, s.sealer)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.ID, err)
		}
		*tree = encoded
	}
	return &out, nil
}

// encodeTop encodes a tree whose root is never taken for a mark.
func encodeTop(m map[string]any, s Sealer) (map[string]any, error) {
	if m == nil {
		return nil, nil
	}
	out := make(map[string]any, len(m))
	for k, e := range m {
		var err error
		if out[k], err = encodeTree(e, s); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (s *State) decodeRecord(r *Record) error {
	if r == nil {
		return nil
	}
	for _, tree := range []map[string]any{r.Inputs, r.Outputs} {
		if _, err := decodeMap(tree, s.sealer); err != nil {
			return fmt.Errorf("%s: %w", r.ID, err)
		}
	}
	return nil
}

// UnmarshalJSON reads a record with whole numbers kept whole.
func (r *Record) UnmarshalJSON(data []byte) error {
	type plain Record
	var raw struct {
		plain
		Inputs  json.RawMessage `json:"inputs"`
		Outputs json.RawMessage `json:"outputs"`
	}
	if err := json.Unmarshal(data, &raw); err != nil {
		return err
	}
	*r = Record(raw.plain)
	for _, tree := range []struct {
		data json.RawMessage
		into *map[string]any
	}{{raw.Inputs, &r.Inputs}, {raw.Outputs, &r.Outputs}} {
		if len(tree.data) == 0 || string(tree.data) == "null" {
			*tree.into = nil
			continue
		}
		v, err := decodeJSON(tree.data)
		if err != nil {
			return err
		}
		m, ok := v.(map[string]any)
		if !ok {
			return fmt.Errorf("%s: inputs and outputs have to be maps", r.ID)
		}
		*tree.into = m
	}
	return nil
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
