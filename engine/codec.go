package engine

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
)

// Sealer encrypts sensitive values before they are written to a state or a plan file.
type Sealer interface {
	Seal(plain []byte) (string, error)
	Open(sealed string) ([]byte, error)
}

// ErrNoSealer says that a sensitive value would have been written in the clear.
var ErrNoSealer = errors.New("a sensitive value cannot be kept: no key to encrypt it with is configured")

// Marks in written trees. A map of a user that looks like one is wrapped in another.
const (
	sensitiveMark = "$sensitive"
	unknownMark   = "$unknown"
	referenceMark = "$reference"
	externalMark  = "$external"
	literalMark   = "$literal"
)

func isMark(m map[string]any) bool {
	if len(m) != 1 {
		return false
	}
	for k := range m {
		return k == sensitiveMark || k == unknownMark || k == referenceMark || k == externalMark || k == literalMark
	}
	return false
}

// encodeTree turns marks into maps that JSON can hold, with sensitive values sealed.
func encodeTree(v any, s Sealer) (any, error) {
	switch v := v.(type) {
	case Sensitive:
		if s == nil {
			return nil, ErrNoSealer
		}
		inner, err := encodeTree(v.Value, s)
		if err != nil {
			return nil, err
		}
		plain, err := json.Marshal(inner)
		if err != nil {
			return nil, err
		}
		sealed, err := s.Seal(plain)
		return map[string]any{sensitiveMark: sealed}, err
	case Unknown:
		return map[string]any{unknownMark: true}, nil
	case Reference:
		return map[string]any{referenceMark: map[string]any{"resource": string(v.Resource), "path": v.Path}}, nil
	case External:
		m := map[string]any{"url": v.URL}
		if v.Store != nil {
			m["store"] = v.Store
		}
		return map[string]any{externalMark: m}, nil
	case map[string]any:
		m := make(map[string]any, len(v))
		for k, e := range v {
			var err error
			if m[k], err = encodeTree(e, s); err != nil {
				return nil, err
			}
		}
		if isMark(v) {
			return map[string]any{literalMark: m}, nil
		}
		return m, nil
	case []any:
		list := make([]any, len(v))
		for i, e := range v {
			var err error
			if list[i], err = encodeTree(e, s); err != nil {
				return nil, err
			}
		}
		return list, nil
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, fmt.Errorf("%v cannot be written", v)
		}
	}
	return v, nil
}

// decodeTree is the inverse of encodeTree on what decodeJSON gives.
func decodeTree(v any, s Sealer) (any, error) {
	switch v := v.(type) {
	case map[string]any:
		if isMark(v) {
			return decodeMark(v, s)
		}
		return decodeMap(v, s)
	case []any:
		for i, e := range v {
			var err error
			if v[i], err = decodeTree(e, s); err != nil {
				return nil, err
			}
		}
	}
	return v, nil
}

func decodeMap(m map[string]any, s Sealer) (any, error) {
	for k, e := range m {
		var err error
		if m[k], err = decodeTree(e, s); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func decodeMark(m map[string]any, s Sealer) (any, error) {
	if sealed, ok := m[sensitiveMark].(string); ok {
		if s == nil {
			return nil, errors.New("the state holds encrypted values and no key is configured")
		}
		plain, err := s.Open(sealed)
		if err != nil {
			return nil, &SealedError{err}
		}
		inner, err := decodeJSON(plain)
		if err != nil {
			return nil, err
		}
		inner, err = decodeTree(inner, s)
		return Sensitive{inner}, err
	}
	if m[unknownMark] == true {
		return Unknown{}, nil
	}
	if literal, ok := m[literalMark].(map[string]any); ok {
		return decodeMap(literal, s)
	}
	if e, ok := m[externalMark].(map[string]any); ok {
		url, isString := e["url"].(string)
		store, isMap := e["store"].(map[string]any)
		if isString && (isMap || e["store"] == nil) {
			return External{url, store}, nil
		}
	}
	if r, ok := m[referenceMark].(map[string]any); ok {
		id, _ := r["resource"].(string)
		list, _ := r["path"].([]any)
		var path []string
		for _, p := range list {
			key, ok := p.(string)
			if !ok {
				return nil, errors.New("a reference's path has to be a list of strings")
			}
			path = append(path, key)
		}
		return Reference{ID(id), path}, nil
	}
	return nil, fmt.Errorf("a mark in the state cannot be read: %v", m)
}

// decodeJSON reads numbers as int64 where they are whole and fit, else as float64.
func decodeJSON(data []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	return numbers(v)
}

func numbers(v any) (any, error) {
	var err error
	switch v := v.(type) {
	case json.Number:
		if i, err := v.Int64(); err == nil {
			return i, nil
		}
		return v.Float64()
	case map[string]any:
		for k, e := range v {
			if v[k], err = numbers(e); err != nil {
				return nil, err
			}
		}
	case []any:
		for i, e := range v {
			if v[i], err = numbers(e); err != nil {
				return nil, err
			}
		}
	}
	return v, nil
}
