package engine

import (
	"encoding/json"
	"errors"
)

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
