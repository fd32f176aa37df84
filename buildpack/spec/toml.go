package spec

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/BurntSushi/toml"
)

// Limits on files that buildpacks and users write.
const (
	MaxFile  = 4 << 20 // bytes
	maxDepth = 1000    // nested arrays and tables
)

// Decode reads a TOML file into v. Errors name the file, the line and the column.
func Decode(data []byte, file string, v any) (toml.MetaData, error) {
	if len(data) > MaxFile {
		return toml.MetaData{}, fmt.Errorf("%s: the file is %d bytes long, at most %d are allowed", file, len(data), MaxFile)
	}
	if deep(data) {
		return toml.MetaData{}, fmt.Errorf("%s: more than %d nested brackets", file, maxDepth)
	}
	md, err := toml.Decode(string(data), v)
	var parse toml.ParseError
	if errors.As(err, &parse) {
		message := parse.Message
		if message == "" {
			message = parse.Error()
		}
		if parse.LastKey != "" {
			message += fmt.Sprintf(" (after the key %s)", parse.LastKey)
		}
		line := parse.Position.Line
		if strings.Contains(message, `got '\n'`) && line > 1 {
			line-- // the decoder has gone beyond the end of the line by then
		}
		return md, fmt.Errorf("%s:%d:%d: %s", file, line, parse.Position.Col, message)
	}
	if err != nil {
		if m := wrongType.FindStringSubmatch(err.Error()); m != nil {
			return md, fmt.Errorf("%s:%s: %s: %s", file, m[1], m[2], m[3])
		}
		return md, fmt.Errorf("%s: %w", file, err)
	}
	return md, nil
}

// wrongType is how the decoder tells of a value of another type than expected.
var wrongType = regexp.MustCompile(`^toml: line (\d+) \(last key "([^"]*)"\): (?:incompatible types: )?(.*)$`)

// deep protects the recursive decoder. Brackets in strings count too, which does no harm at this limit.
func deep(data []byte) bool {
	depth := 0
	for _, b := range data {
		switch b {
		case '[', '{':
			depth++
		case ']', '}':
			depth--
		case '\n':
			if depth < 0 {
				depth = 0
			}
		}
		if depth > maxDepth {
			return true
		}
	}
	return false
}

// Encode writes v as upstream does, indented by two spaces.
func Encode(v any) ([]byte, error) {
	var buf bytes.Buffer
	if err := toml.NewEncoder(&buf).Encode(v); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}
