package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

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
