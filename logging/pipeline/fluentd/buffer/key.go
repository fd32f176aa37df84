package buffer

import (
	"encoding/json"
	"fmt"
)

// Key tells chunks apart: records with different keys are never in one chunk.
type Key struct {
	Time int64             `json:"time,omitempty"` // the beginning of the span of time, in seconds since 1970; only with Timed
	Tag  string            `json:"tag,omitempty"`
	Vars map[string]string `json:"keys,omitempty"` // fields of the record

	Timed bool `json:"timed,omitempty"`
}

// maxKey is how long an encoded key may be, in bytes: it stands in the head of a chunk's file.
const maxKey = 4096

// Encode makes text of a key: that of equal keys is equal.
func (k Key) Encode() (string, error) {
	text, err := json.Marshal(k)
	if err == nil && len(text) > maxKey {
		err = fmt.Errorf("tag and chunk keys have %d bytes, more than the limit of %d", len(text), maxKey)
	}
	return string(text), err
}

// DecodeKey reads what Encode made.
func DecodeKey(text string) (Key, error) {
	var k Key
	if len(text) > maxKey {
		return k, fmt.Errorf("a key of %d bytes, more than the limit of %d", len(text), maxKey)
	}
	err := json.Unmarshal([]byte(text), &k)
	return k, err
}
