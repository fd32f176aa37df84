package engine

import (
	"encoding/json"
	"fmt"
)

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
